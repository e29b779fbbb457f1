//! CSV files, a header and a row a problem.

use crate::error::DataError;
use crate::options::{Misfit, Reason};
use crate::source::{Source, Take};
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};
use std::io::Read;

/// Hands over the rows' problems. Cells are text, and empty ones null; a row's number is that of its first line.
pub(super) fn visit(source: &mut Source<'_>, file: impl Read, take: Take<'_>) -> Result<(), DataError> {
    let mut reader = ReaderBuilder::new().from_reader(file);
    let header = reader.headers().map(|names| names.iter().map(|name| name.trim().to_owned()).collect::<Vec<_>>());
    let header = header.map_err(|error| fault(source, &error))?;
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    if let Some((_, twice)) = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
        let found = format!("two columns named {twice:?}");
        return Err(source.misfit(1, Misfit::new(Reason::Layout, found, "a header of distinct names")));
    }
    source.check_columns(&names)?;
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let line = record.position().map_or(0, csv::Position::line) as usize;
                source.take(object(&names, &record), line, take)?;
            }
            Err(error) => skip(source, &reader, &error)?,
        }
    }
}

fn object(names: &[&str], record: &StringRecord) -> Value {
    let cell = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    Value::Object(names.iter().zip(record).map(|(name, text)| ((*name).to_owned(), cell(text))).collect::<Map<_, _>>())
}

/// Leaves out a row that cannot be read.
fn skip<R: Read>(source: &mut Source<'_>, reader: &Reader<R>, error: &csv::Error) -> Result<(), DataError> {
    let line = error.position().unwrap_or(reader.position()).line() as usize;
    let misfit = match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Misfit::new(Reason::Syntax, format!("a row of {len} columns"), format!("{expected_len}, as the header has"))
        }
        ErrorKind::Utf8 { .. } => Misfit::new(Reason::Syntax, "a row that is not in UTF-8", "UTF-8"),
        _ => return Err(fault(source, error)),
    };
    source.leave_out(line, misfit)
}

fn fault(source: &Source<'_>, error: &csv::Error) -> DataError {
    source.unfit(format!("invalid CSV ({error})"))
}
