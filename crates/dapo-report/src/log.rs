//! The logs of a run as far as they can be read.

use crate::report_error::ReportError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// A line of a log or of a completions file: a JSON object.
pub type Row = Map<String, Value>;

/// The last step a browser's numbers can tell from its neighbours.
const MAX_STEP: u64 = (1 << 53) - 1;

/// A log of one line a step.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The lines by their steps.
    pub rows: BTreeMap<u64, Row>,
    /// What is wrong with the file.
    pub warnings: Vec<String>,
    /// Whether there is a file.
    pub exists: bool,
}

impl Log {
    /// Reads a log. Lines that cannot be read become warnings; of two lines of a step the later one stays.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn read(file: &Path, name: &str) -> Result<Self, ReportError> {
        let Some(text) = read(file)? else { return Ok(Self::default()) };
        let mut log = Self { exists: true, ..Self::default() };
        let (mut damaged, mut repeated) = (Damaged::default(), Vec::new());
        for (number, line) in lines(&text) {
            let row = object(line.text);
            let step = row.as_ref().and_then(|row| row.get("step")?.as_u64()).filter(|step| *step <= MAX_STEP);
            match (row, step) {
                (Some(row), Some(step)) => {
                    if log.rows.insert(step, row).is_some() {
                        repeated.push(step);
                    }
                }
                _ => damaged.add(number, &line),
            }
        }
        log.warnings.extend(damaged.warnings(name));
        if !repeated.is_empty() {
            repeated.sort_unstable();
            repeated.dedup();
            let steps = crate::steps::ranges(repeated);
            log.warnings.push(format!("{name}: several lines are of step {steps}; the last of each is shown"));
        }
        Ok(log)
    }

    /// The values of every number that the lines hold, in the order of the steps; `None` where a line lacks it.
    pub(crate) fn columns(&self) -> BTreeMap<&str, Vec<Option<f64>>> {
        let mut columns = BTreeMap::new();
        for (place, row) in self.rows.values().enumerate() {
            for (key, value) in row.iter().filter(|(key, value)| *key != "step" && value.is_number()) {
                let column = columns.entry(key.as_str()).or_insert_with(|| vec![None; self.rows.len()]);
                column[place] = value.as_f64();
            }
        }
        columns
    }
}

/// Lines that cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Damaged {
    lines: Vec<usize>,
    torn: bool,
}

impl Damaged {
    /// Notes a line; numbers count from 1.
    pub(crate) fn add(&mut self, number: usize, line: &Line<'_>) {
        if line.is_whole {
            self.lines.push(number);
        } else {
            self.torn = true;
        }
    }

    /// What is wrong with the file of that name.
    pub(crate) fn warnings(&self, name: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.lines.is_empty() {
            let numbers = crate::steps::ranges(self.lines.iter().map(|number| *number as u64));
            warnings.push(format!("{name}: damaged and left out: line {numbers}"));
        }
        if self.torn {
            warnings.push(format!("{name}: the last line is torn and left out"));
        }
        warnings
    }
}

/// A line of a file.
pub(crate) struct Line<'a> {
    /// Without its end.
    pub text: &'a [u8],
    /// Whether it has an end.
    pub is_whole: bool,
}

/// The lines of a file that are not blank, numbered from 1.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, Line<'_>)> {
    let lines = text.split_inclusive(|byte| *byte == b'\n').map(|line| match line.strip_suffix(b"\n") {
        Some(text) => Line { text, is_whole: true },
        None => Line { text: line, is_whole: false },
    });
    (1..).zip(lines).filter(|(_, line)| !line.text.trim_ascii().is_empty())
}

/// The lines of a completions file with their numbers, and those that cannot be read.
pub(crate) fn rows(text: &[u8]) -> (Vec<(usize, Row)>, Damaged) {
    let (mut damaged, mut rows) = (Damaged::default(), Vec::new());
    for (number, line) in lines(text) {
        match object(line.text) {
            Some(row) => rows.push((number, row)),
            None => damaged.add(number, &line),
        }
    }
    (rows, damaged)
}

/// A line's JSON object.
pub(crate) fn object(line: &[u8]) -> Option<Row> {
    serde_json::from_slice(line).ok()
}

/// A file's bytes; `None` where the file is missing. A pipe or device is no file of a run.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(file: &Path) -> Result<Option<Vec<u8>>, ReportError> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => fs::read(file).map(Some).map_err(ReportError::io(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReportError::io(file)(error)),
    }
}
