//! Parquet files in the layouts of published data sets.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "parquet")]

use dapo_data::{Duplicates, read_distinct, read_problems};
use dapo_policy::Message;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A column's values with the definition level of each slot and, in lists, its repetition level.
struct Column {
    values: Values,
    definition: Vec<i16>,
    repetition: Option<Vec<i16>>,
}

enum Values {
    Text(Vec<String>),
    Integer(Vec<i64>),
    Real(Vec<f64>),
}

fn text<T: AsRef<str>>(values: impl IntoIterator<Item = T>, depth: i16) -> Column {
    let values: Vec<String> = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
    Column { definition: vec![depth; values.len()], values: Values::Text(values), repetition: None }
}

fn write(path: &Path, schema: &str, groups: &[Vec<Column>], compression: Compression) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let mut out = group.next_column().unwrap().unwrap();
            let (definition, repetition) = (Some(&column.definition[..]), column.repetition.as_deref());
            match &column.values {
                Values::Text(values) => {
                    let values: Vec<ByteArray> = values.iter().map(|value| value.as_str().into()).collect();
                    out.typed::<ByteArrayType>().write_batch(&values, definition, repetition)
                }
                Values::Integer(values) => out.typed::<Int64Type>().write_batch(values, definition, repetition),
                Values::Real(values) => out.typed::<DoubleType>().write_batch(values, definition, repetition),
            }
            .unwrap();
            out.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// As pyarrow writes DAPO-Math-17k.
const DAPO: &str = "message schema {
    optional binary data_source (UTF8);
    optional group prompt (LIST) {
        repeated group list {
            optional group element { optional binary content (UTF8); optional binary role (UTF8); }
        }
    }
    optional binary ability (UTF8);
    optional group reward_model { optional binary ground_truth (UTF8); optional binary style (UTF8); }
    optional group extra_info { optional binary index (UTF8); }
}";

/// A conversation of (content, role), the gold answer, the index.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

/// A row group.
fn dapo_rows(rows: &[Row<'_>]) -> Vec<Column> {
    let turns = || rows.iter().flat_map(|(turns, ..)| *turns);
    let starts = || rows.iter().flat_map(|(turns, ..)| (0..turns.len()).map(|i| i16::from(i > 0))).collect();
    let list = |column| Column { repetition: Some(starts()), ..column };
    vec![
        text(rows.iter().map(|_| "math_dapo"), 1),
        list(text(turns().map(|turn| turn.0), 4)),
        list(text(turns().map(|turn| turn.1), 4)),
        text(rows.iter().map(|_| "MATH"), 1),
        text(rows.iter().map(|row| row.1), 2),
        text(rows.iter().map(|_| "rule-lighteval/MATH_v2"), 2),
        text(rows.iter().map(|row| row.2), 2),
    ]
}

fn temporary(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    (dir, path)
}

fn error(path: &Path) -> String {
    let error = read_problems(path).unwrap_err().to_string();
    error.strip_prefix(&format!("{}/", path.parent().unwrap().display())).unwrap().to_owned()
}

fn dapo_groups() -> [Vec<Column>; 2] {
    let (one, two): (&[_], &[_]) = (&[("Find $x$ – né", "user")], &[("Think.", "system"), ("Find $y$.", "user")]);
    [
        dapo_rows(&[(one, "34", "9a9b-8c"), (two, "-1", "1c2d-00"), (one, "34", "9a9b-8c")]),
        dapo_rows(&[(two, "1", "ffff-ff"), (one, "34", "9a9b-8c")]),
    ]
}

#[test]
fn reads_dapo_math_17k_and_drops_its_repeats() {
    let (_dir, path) = temporary("dapo-math-17k.parquet");
    let gzip = Compression::GZIP(GzipLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default()), gzip] {
        write(&path, DAPO, &dapo_groups(), compression);
        let all = read_problems(&path).unwrap();
        assert_eq!(all.len(), 5);
        assert_eq!(all[3].messages, [Message::system("Think."), Message::user("Find $y$.")]);
        let (problems, duplicates) = read_distinct(&path).unwrap();
        assert_eq!(problems, all[..2]);
        assert_eq!((problems[0].id.as_str(), problems[0].answer.as_str()), ("9a9b-8c", "34"));
        assert_eq!(problems[0].messages, [Message::user("Find $x$ – né")]);
        assert_eq!(duplicates, Duplicates { dropped: 3, conflicting: 1 });
    }
}

#[test]
fn reads_the_aime_layouts() {
    let (dir, path) = temporary("maxwell-jia.parquet");
    let schema = "message schema { optional binary ID (UTF8); optional binary Problem (UTF8);
        optional binary Solution (UTF8); optional int64 Answer; }";
    let answers = Column { values: Values::Integer(vec![33, 7]), definition: vec![1; 2], repetition: None };
    let columns = vec![text(["2024-II-4", "2024-I-1"], 1), text(["p", "q"], 1), text(["s", "t"], 1), answers];
    write(&path, schema, &[columns], Compression::SNAPPY);
    let problems = read_problems(&path).unwrap();
    assert_eq!((problems[0].id.as_str(), problems[0].answer.as_str()), ("2024-II-4", "33"));
    assert_eq!(problems[1].messages, [Message::user("q")]);

    let path = dir.path().join("math-ai.parquet");
    let schema =
        "message schema { required int64 id; optional binary problem (UTF8); optional binary solution (UTF8); }";
    let ids = Column { values: Values::Integer(vec![60]), definition: vec![0], repetition: None };
    write(&path, schema, &[vec![ids, text(["p"], 1), text(["\\boxed{204}"], 1)]], Compression::SNAPPY);
    let problems = read_problems(&path).unwrap();
    assert_eq!((problems[0].id.as_str(), problems[0].answer.as_str()), ("60", "204"));

    // BytedTsinghua-SIA/AIME-2024: the index is a number, and the split is unknown.
    let path = dir.path().join("aime-2024.parquet");
    let extra = "optional int64 index; optional binary raw_problem (UTF8); optional binary split (UTF8);";
    let mut columns = dapo_rows(&[(&[("p", "user")], "540", "")]);
    columns[6] = Column { values: Values::Integer(vec![24]), definition: vec![2], repetition: None };
    columns.push(text(["raw"], 2));
    columns.push(Column { values: Values::Text(vec![]), definition: vec![1], repetition: None });
    write(&path, &DAPO.replace("optional binary index (UTF8);", extra), &[columns], Compression::SNAPPY);
    let problems = read_problems(&path).unwrap();
    assert_eq!((problems[0].id.as_str(), problems[0].answer.as_str()), ("24", "540"));
}

#[test]
fn text_that_is_not_marked_as_text_is_read() {
    let (_dir, path) = temporary("old.parquet");
    let schema = "message schema { optional binary question; optional double answer; }";
    let answers = Column { values: Values::Real(vec![43.0, 0.5]), definition: vec![1; 2], repetition: None };
    write(&path, schema, &[vec![text(["q – né", "r"], 1), answers]], Compression::UNCOMPRESSED);
    let problems = read_problems(&path).unwrap();
    assert_eq!(problems[0].messages, [Message::user("q – né")]);
    assert_eq!([&problems[0].answer, &problems[1].answer], ["43", "0.5"]);
}

#[test]
fn errors_name_the_row_or_the_columns() {
    let (_dir, path) = temporary("a.parquet");
    let one: &[_] = &[("p", "user")];
    let missing = "expected question/answer, problem/answer,";
    let mut columns = dapo_rows(&[(one, "34", "1"), (one, "", "2")]);
    write(&path, DAPO, &[columns], Compression::SNAPPY);
    assert_eq!(error(&path), "a.parquet:2: an empty answer, expected a gold answer");
    // The second row has no reward_model at all.
    columns = dapo_rows(&[(one, "34", "1"), (one, "35", "2")]);
    columns[4] = Column { definition: vec![2, 0], ..text(["34"], 2) };
    columns[5] = Column { definition: vec![2, 0], ..text(["rule"], 2) };
    write(&path, DAPO, &[columns], Compression::SNAPPY);
    let found = "a.parquet:2: reward_model, which is null, expected a value: a problem has a question and an answer";
    assert_eq!(error(&path), found);
    let schema = "message schema { optional binary question (UTF8); optional binary text (UTF8); }";
    write(&path, schema, &[vec![text(["q"], 1), text(["t"], 1)]], Compression::SNAPPY);
    let found = "a.parquet:1: a table with the columns question, text (to train on others, set data.fields.prompt and \
                 data.fields.answer), ";
    assert!(error(&path).starts_with(&format!("{found}{missing}")), "{}", error(&path));
    write(&path, DAPO, &[], Compression::SNAPPY);
    assert!(error(&path).starts_with("a.parquet:1: no problems, expected question/answer"), "{}", error(&path));
}

#[test]
fn damaged_files_are_errors() {
    let (_dir, path) = temporary("a.parquet");
    for text in ["", "PAR1", "<html>Not found</html>"] {
        fs::write(&path, text).unwrap();
        assert!(error(&path).starts_with("a.parquet: not a sound Parquet file: "), "{}", error(&path));
    }
    write(&path, DAPO, &dapo_groups(), Compression::SNAPPY);
    let whole = fs::read(&path).unwrap();
    for end in [1, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(error(&path).starts_with("a.parquet: not a sound Parquet file: "), "{}", error(&path));
    }
    // Damage inside is found, or alters what is read; it never ends the program.
    let mut found = 0;
    for place in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        found += usize::from(read_problems(&path).is_err());
    }
    assert!(found > 50, "{found}");
}
