//! Data files, read one problem at a time.

use super::problem::{Misfit, Problem, forms, problem};
use crate::TrainerError;
use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::Path;

/// Takes the problems of a file one after the other.
pub(super) type Take<'a> = &'a mut dyn FnMut(Problem);

/// Reads the problems of a file, or of all data files of a folder in the order of their names.
///
/// - `.jsonl`: one JSON object a line; empty lines are passed over.
/// - `.json`: the same, or one array of objects.
/// - `.parquet`: a row a problem; needs the feature `parquet`.
///
/// Known layouts, by their fields (dots lead into objects): `question`/`answer` (GSM8K: what follows `####` is the
/// answer), `problem`/`answer`, `Problem`/`Answer`, `Body`+`Question`/`Answer` (SVAMP), `input`/`target`,
/// `prompt`/`reward_model.ground_truth` (DAPO-Math-17k and whatever else verl reads), `prompt`/`answer`, and
/// `problem`/`solution` with the answer in the last `\boxed{}`. Questions are text or chat messages. Hidden files,
/// subfolders and files of other kinds are not a folder's data files.
///
/// # Errors
/// Names the file and its line (in an array the element, in a Parquet file the row, each counted from 1), what was found
/// and what was expected. Nothing is left out: one entry that is no problem is an error.
pub fn read_problems(path: &Path) -> Result<Vec<Problem>, TrainerError> {
    let mut problems = Vec::new();
    visit(path, &mut |problem| problems.push(problem))?;
    Ok(problems)
}

/// Reads problems from a file of JSON lines, whatever its name; see [`read_problems`].
///
/// # Errors
/// As [`read_problems`].
pub fn read_jsonl(path: &Path) -> Result<Vec<Problem>, TrainerError> {
    let mut problems = Vec::new();
    Source::new(path, String::new()).visit_lines(&mut |problem| problems.push(problem))?;
    Ok(problems)
}

/// Hands over the problems of a file or a folder without holding more than one.
pub(super) fn visit(path: &Path, take: Take<'_>) -> Result<(), TrainerError> {
    let io = |source| TrainerError::Io { path: path.into(), source };
    if !fs::metadata(path).map_err(io)?.is_dir() {
        return Source::new(path, String::new()).visit(take);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') && Format::of(&file).is_some() && !file.is_dir() {
            files.push((name, file));
        }
    }
    if files.is_empty() {
        let message = format!("a folder without data files, expected {EXTENSIONS}");
        return Err(io(io::Error::new(ErrorKind::NotFound, message)));
    }
    files.sort();
    files.iter().try_for_each(|(name, file)| Source::new(file, format!("{name}:")).visit(take))
}

const EXTENSIONS: &str = "files named .jsonl, .json or .parquet";

#[derive(Clone, Copy)]
enum Format {
    Lines,
    Json,
    Parquet,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" => Some(Self::Lines),
            "json" => Some(Self::Json),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A file being read.
pub(super) struct Source<'a> {
    path: &'a Path,
    /// Before the number of an entry that has no id of its own.
    prefix: String,
    /// Problems found so far.
    count: usize,
}

impl<'a> Source<'a> {
    fn new(path: &'a Path, prefix: String) -> Self {
        Self { path, prefix, count: 0 }
    }

    fn visit(mut self, take: Take<'_>) -> Result<(), TrainerError> {
        match Format::of(self.path) {
            Some(Format::Lines) => self.visit_lines(take),
            Some(Format::Json) => self.visit_json(take),
            #[cfg(feature = "parquet")]
            Some(Format::Parquet) => {
                super::parquet::visit(&mut self, take)?;
                self.finish()
            }
            #[cfg(not(feature = "parquet"))]
            Some(Format::Parquet) => {
                self.count = 0;
                Err(self.unfit("Parquet files need the feature `parquet`, which this program was built without"))
            }
            None => Err(self.unfit(format!("a file of an unknown kind, expected {EXTENSIONS}"))),
        }
    }

    fn visit_lines(mut self, take: Take<'_>) -> Result<(), TrainerError> {
        let mut reader = BufReader::new(self.open()?);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(|error| self.io(error))? == 0 {
                break;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let value: Value = serde_json::from_slice(&line)
                .map_err(|error| self.misfit(number, Misfit::new(format!("invalid JSON ({error})"), "one object")))?;
            self.take(&value, number, take)?;
        }
        self.finish()
    }

    fn visit_json(mut self, take: Take<'_>) -> Result<(), TrainerError> {
        let mut reader = BufReader::new(self.open()?);
        let start = reader.fill_buf().map_err(|error| self.io(error))?;
        if start.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
            return self.visit_lines(take);
        }
        let mut json = serde_json::Deserializer::from_reader(reader);
        let mut elements = Elements { source: &mut self, take, error: None };
        let end = json.deserialize_seq(&mut elements).and_then(|()| json.end());
        if let Some(error) = elements.error {
            return Err(error);
        }
        end.map_err(|error| {
            let found = format!("invalid JSON ({error})");
            self.misfit(error.line(), Misfit::new(found, "an array of objects"))
        })?;
        self.finish()
    }

    /// Hands over the problem that an entry states.
    pub(super) fn take(&mut self, value: &Value, number: usize, take: Take<'_>) -> Result<(), TrainerError> {
        let name = || format!("{}{number}", self.prefix);
        take(problem(value, name).map_err(|misfit| self.misfit(number, misfit))?);
        self.count += 1;
        Ok(())
    }

    fn finish(&self) -> Result<(), TrainerError> {
        if self.count > 0 { Ok(()) } else { Err(self.misfit(1, Misfit::new("no problems", forms()))) }
    }

    pub(super) fn open(&self) -> Result<File, TrainerError> {
        File::open(self.path).map_err(|error| self.io(error))
    }

    fn io(&self, source: io::Error) -> TrainerError {
        TrainerError::Io { path: self.path.into(), source }
    }

    /// An error about the whole file.
    pub(super) fn unfit(&self, message: impl Into<String>) -> TrainerError {
        self.io(io::Error::new(ErrorKind::InvalidData, message.into()))
    }

    /// An error about one entry.
    pub(super) fn misfit(&self, number: usize, Misfit { found, expected }: Misfit) -> TrainerError {
        TrainerError::Data { path: self.path.into(), line: number, found, expected }
    }
}

/// The elements of an array, taken as they are parsed.
struct Elements<'a, 'b> {
    source: &'a mut Source<'b>,
    take: Take<'a>,
    error: Option<TrainerError>,
}

impl<'de> Visitor<'de> for &mut Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        for number in 1.. {
            let Some(value) = elements.next_element::<Value>()? else { break };
            if let Err(error) = self.source.take(&value, number, self.take) {
                self.error = Some(error);
                return Err(A::Error::custom("not a problem"));
            }
        }
        Ok(())
    }
}
