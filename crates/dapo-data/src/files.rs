//! Data files, read one problem at a time.

use crate::csv;
use crate::distinct::{Distinct, Duplicates};
use crate::error::DataError;
use crate::exact::Exact;
use crate::lines::{Bounded, LONGEST_LINE, read_line};
use crate::options::{LeftOut, Misfit, ReadOptions, Reason};
#[cfg(feature = "parquet")]
use crate::parquet;
use crate::problem::Problem;
use crate::source::{Source, Take};
use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use std::cell::Cell;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

/// What was read from a file or a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The problems in the order of the files and their entries.
    pub problems: Vec<Problem>,
    /// Problems that were left out as repeats of others; none where repeats are kept.
    pub duplicates: Duplicates,
    /// Entries that were left out because they are no problems.
    pub left_out: LeftOut,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads the problems of a file, or of all data files of a folder in the order of their names, as `options` say; the
/// formats are those of [`read_problems`].
///
/// Where repeats are dropped, memory holds the distinct problems only: DAPO-Math-17k has 1.79 million rows, of which one
/// in a hundred is distinct.
///
/// # Errors
/// As [`read_problems`], but for entries that `options` leave out. A file without any problem is an error.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Reading, DataError> {
    let (mut all, mut distinct) = (Vec::new(), Distinct::default());
    let mut reading = Reading::default();
    let mut take = |problem| if options.deduplicate { distinct.add(problem) } else { all.push(problem) };
    let (files, is_folder) = files_of(path)?;
    for file in files {
        let name = if is_folder { file.file_name() } else { None };
        let prefix = name.map(|name| format!("{}:", name.to_string_lossy())).unwrap_or_default();
        reading.left_out += visit_file(Source::new(&file, prefix, options), &mut take)?;
        reading.files.push(file);
    }
    reading.problems = if options.deduplicate { distinct.problems } else { all };
    reading.duplicates = distinct.duplicates;
    Ok(reading)
}

/// Reads the problems of a file, or of all data files of a folder in the order of their names.
///
/// - `.jsonl`: one JSON object a line; empty lines are passed over.
/// - `.json`: the same, or one array of objects.
/// - `.csv`: a header of column names, then a row a problem; an empty cell is null.
/// - `.parquet`: a row a problem; needs the feature `parquet`.
///
/// Known layouts, by their fields (dots lead into objects):
///
/// - `question`/`answer` (GSM8K: what follows `####` is the answer), `question`/`Answer`, `input`/`target`;
/// - `problem`/`answer`, `Problem`/`Answer`, `Body`+`Question`/`Answer` (SVAMP);
/// - `prompt`/`reward_model.ground_truth` (DAPO-Math-17k, and the other data of verl);
/// - `prompt` with `answer`, `ground_truth`, `label` or `solution` (slime, TRL);
/// - `messages` with `answer` or `solution` (ms-swift);
/// - `problem`, `question` or `query` with `solution` or `final_answer`.
///
/// A solution's answer is its last `\boxed{}`, or else what follows `####`, or all of it. Questions are text or chat
/// messages; objects and messages may also be given as JSON text. A `body`, `passage` or `context` beside a question
/// comes before it. An answer may be a list, of which any one is enough; those of an entry with `is_multiple_answer`
/// (OlympiadBench) are one answer together.
///
/// The whole entry stays with its problem, for rewards. [`read`] takes columns of other names.
///
/// Numbers keep their digits, and a byte order mark is passed over. Hidden files, subfolders and files of other kinds are
/// not a folder's data files. A line, or an element of an array, has at most [`LONGEST_LINE`] bytes.
///
/// # Errors
/// Names the file and its line (in an array the element, in a Parquet file the row, each counted from 1), what was found
/// and what was expected. Nothing is left out: one entry that is no problem is an error, as is one whose `choices` or
/// `options` the question would lack.
pub fn read_problems(path: &Path) -> Result<Vec<Problem>, DataError> {
    Ok(read(path, &ReadOptions::default())?.problems)
}

/// Reads problems as [`read_problems`] does and keeps the first of those with the same messages.
///
/// # Errors
/// As [`read_problems`].
pub fn read_distinct(path: &Path) -> Result<(Vec<Problem>, Duplicates), DataError> {
    let reading = read(path, &ReadOptions { deduplicate: true, ..ReadOptions::default() })?;
    Ok((reading.problems, reading.duplicates))
}

/// Reads problems from a file of JSON lines, whatever its name; see [`read_problems`].
///
/// # Errors
/// As [`read_problems`].
pub fn read_jsonl(path: &Path) -> Result<Vec<Problem>, DataError> {
    let (mut problems, options) = (Vec::new(), ReadOptions::default());
    let mut source = Source::new(path, String::new(), &options);
    visit_lines(&mut source, &mut |problem| problems.push(problem))?;
    source.finish()?;
    Ok(problems)
}

/// A file, or the data files of a folder in the order of their names, and whether it is a folder.
fn files_of(path: &Path) -> Result<(Vec<PathBuf>, bool), DataError> {
    let io = |source| DataError::Io { path: path.into(), source };
    if !fs::metadata(path).map_err(io)?.is_dir() {
        return Ok((vec![path.to_owned()], false));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') && Format::of(&file).is_some() && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        let message = format!("a folder without data files, expected {EXTENSIONS}");
        return Err(io(io::Error::new(ErrorKind::NotFound, message)));
    }
    files.sort();
    Ok((files, true))
}

const EXTENSIONS: &str = "files named .jsonl, .json, .csv or .parquet";

#[derive(Clone, Copy)]
enum Format {
    Lines,
    Json,
    Csv,
    Parquet,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" => Some(Self::Lines),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// Hands over the problems of a file in the format that its name says.
fn visit_file(mut source: Source<'_>, take: Take<'_>) -> Result<LeftOut, DataError> {
    match Format::of(source.path()) {
        Some(Format::Lines) => visit_lines(&mut source, take)?,
        Some(Format::Json) => visit_json(&mut source, take)?,
        Some(Format::Csv) => {
            let mut reader = BufReader::new(source.open()?);
            refuse_utf16(&source, &mut reader)?;
            csv::visit(&mut source, reader, take)?;
        }
        #[cfg(feature = "parquet")]
        Some(Format::Parquet) => parquet::visit(&mut source, take)?,
        #[cfg(not(feature = "parquet"))]
        Some(Format::Parquet) => {
            let message = "Parquet files need the feature `parquet`, which this program was built without";
            return Err(source.unfit(message));
        }
        None => return Err(source.unfit(format!("a file of an unknown kind, expected {EXTENSIONS}"))),
    }
    source.finish()
}

fn visit_lines(source: &mut Source<'_>, take: Take<'_>) -> Result<(), DataError> {
    let mut reader = BufReader::new(source.open()?);
    refuse_utf16(source, &mut reader)?;
    let mut line = Vec::new();
    for number in 1.. {
        let length = read_line(&mut reader, &mut line).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => source.misfit(number, too_long()),
            _ => source.io(error),
        })?;
        if length == 0 {
            break;
        }
        if without_mark(&line, number).iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(without_mark(&line, number)) {
            Ok(Exact(value)) => source.take(value, number, take)?,
            Err(error) => source.leave_out(number, invalid(&error, "one object"))?,
        }
    }
    Ok(())
}

fn visit_json(source: &mut Source<'_>, take: Take<'_>) -> Result<(), DataError> {
    let mut reader = BufReader::new(source.open()?);
    refuse_utf16(source, &mut reader)?;
    let start = reader.fill_buf().map_err(|error| source.io(error))?;
    let is_marked = start.starts_with(MARK);
    if start[if is_marked { MARK.len() } else { 0 }..].iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return visit_lines(source, take);
    }
    if is_marked {
        reader.consume(MARK.len());
    }
    let left = Cell::new(LONGEST_LINE);
    let mut json = serde_json::Deserializer::from_reader(Bounded { reader, left: &left });
    let mut elements = Elements { source, take, left: &left, error: None };
    let end = json.deserialize_seq(&mut elements).and_then(|()| json.end());
    let Elements { source, error, .. } = elements;
    if let Some(error) = error {
        return Err(error);
    }
    // Nothing after it can be told apart, so that it cannot be left out.
    end.map_err(|error| source.misfit(error.line(), invalid(&error, "an array of objects")))
}

fn invalid(error: &serde_json::Error, expected: &str) -> Misfit {
    Misfit::new(Reason::Syntax, format!("not JSON ({error})"), expected)
}

fn too_long() -> Misfit {
    let size = LONGEST_LINE >> 20;
    Misfit::new(Reason::Syntax, format!("a line of more than {size} MiB"), format!("at most {size} MiB"))
}

/// The byte order mark that some editors put before UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A line, the first one without the mark.
fn without_mark(line: &[u8], number: usize) -> &[u8] {
    line.strip_prefix(MARK).filter(|_| number == 1).unwrap_or(line)
}

fn refuse_utf16(source: &Source<'_>, reader: &mut impl BufRead) -> Result<(), DataError> {
    let start = reader.fill_buf().map_err(|error| source.io(error))?;
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return Err(source.unfit("a file in UTF-16, expected UTF-8"));
    }
    Ok(())
}

/// The elements of an array, taken as they are parsed.
struct Elements<'a, 'b> {
    source: &'a mut Source<'b>,
    take: Take<'a>,
    /// Bytes that the next element may have.
    left: &'a Cell<usize>,
    error: Option<DataError>,
}

impl<'de> Visitor<'de> for &mut Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        for number in 1.. {
            self.left.set(LONGEST_LINE);
            let Some(Exact(value)) = elements.next_element()? else { break };
            if let Err(error) = self.source.take(value, number, self.take) {
                self.error = Some(error);
                return Err(A::Error::custom("not a problem"));
            }
        }
        Ok(())
    }
}
