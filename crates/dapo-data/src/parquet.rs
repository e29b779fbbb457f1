//! Parquet files, a row a problem.

use crate::error::DataError;
use crate::source::{Source, Take};
use dapo_policy::guarded;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Number, Value};

pub(super) fn visit(source: &mut Source<'_>, take: Take<'_>) -> Result<(), DataError> {
    let file = source.open()?;
    // The library asserts what a damaged file may break.
    let outcome = guarded(|| {
        let reader = SerializedFileReader::new(file)?;
        read(&reader, source, take)
    });
    let damaged = |error: &dyn std::fmt::Display| source.unfit(format!("not a sound Parquet file: {error}"));
    match outcome {
        Some(Ok(())) => Ok(()),
        Some(Err(Failure::Problem(error))) => Err(error),
        Some(Err(Failure::Parquet(error))) => Err(damaged(&error)),
        None => Err(damaged(&"its pages do not fit together")),
    }
}

enum Failure {
    Problem(DataError),
    Parquet(ParquetError),
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::Problem(error)
    }
}

impl From<ParquetError> for Failure {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

fn read(reader: &SerializedFileReader<std::fs::File>, source: &mut Source<'_>, take: Take<'_>) -> Result<(), Failure> {
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    source.check_columns(&names)?;
    for (row, number) in reader.get_row_iter(None)?.zip(1..) {
        source.take(object(row?), number, take)?;
    }
    Ok(())
}

fn object(row: Row) -> Value {
    Value::Object(row.into_columns().into_iter().map(|(name, field)| (name, json(field))).collect())
}

fn json(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => Number::from_f64(value.into()).map_or(Value::Null, Value::Number),
        Field::Double(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Field::Str(text) => text.into(),
        // Some writers do not mark text as text. Images and the like are of no use here.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().cloned().map(json).collect(),
        other => other.to_string().into(),
    }
}
