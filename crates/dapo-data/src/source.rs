//! A data file and the problems that are read from it.

use crate::error::DataError;
use crate::layout::Layout;
use crate::options::{LeftOut, Misfit, OnBadLine, ReadOptions, Reason};
use crate::problem::{Problem, problem};
use dapo_files::open_file;
use serde_json::Value;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Takes the problems of a file one after the other.
pub(super) type Take<'a> = &'a mut dyn FnMut(Problem);

/// A file being read.
pub(super) struct Source<'a> {
    path: &'a Path,
    /// Before the number of an entry that has no id of its own.
    prefix: String,
    options: &'a ReadOptions,
    layout: Layout<'a>,
    /// Problems found so far.
    count: usize,
    /// Entries left out so far.
    left_out: LeftOut,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, prefix: String, options: &'a ReadOptions) -> Self {
        let layout = Layout::new(options);
        Self { path, prefix, options, layout, count: 0, left_out: LeftOut::default() }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Hands over the problem that an entry states.
    pub(super) fn take(&mut self, value: Value, number: usize, take: Take<'_>) -> Result<(), DataError> {
        let name = || format!("{}{number}", self.prefix);
        match problem(value, name, &self.layout, self.options) {
            Ok(problem) => {
                take(problem);
                self.count += 1;
                Ok(())
            }
            Err(misfit) => self.leave_out(number, misfit),
        }
    }

    /// Counts an entry that is no problem, or fails.
    pub(super) fn leave_out(&mut self, number: usize, misfit: Misfit) -> Result<(), DataError> {
        let is_placeholder = misfit.reason == Reason::Placeholder && self.options.leave_out_placeholders;
        if !is_placeholder && self.options.on_bad_line == OnBadLine::Error {
            return Err(self.misfit(number, misfit));
        }
        self.left_out.count(misfit.reason);
        Ok(())
    }

    /// Refuses a table whose columns hold no problems.
    pub(super) fn check_columns(&self, names: &[&str]) -> Result<(), DataError> {
        self.layout.check_columns(names).map_err(|misfit| self.misfit(1, misfit))
    }

    /// What was left out; fails where no problem was found.
    pub(super) fn finish(self) -> Result<LeftOut, DataError> {
        if self.count > 0 {
            return Ok(self.left_out);
        }
        let found = match self.left_out.total() {
            0 => "no problems".to_owned(),
            _ => format!("no problems ({})", self.left_out),
        };
        Err(self.misfit(1, Misfit::new(Reason::Layout, found, self.layout.describe())))
    }

    pub(super) fn open(&self) -> Result<File, DataError> {
        open_file(self.path).map_err(|error| self.io(error))
    }

    pub(super) fn io(&self, source: io::Error) -> DataError {
        DataError::Io { path: self.path.into(), source }
    }

    /// An error about the whole file.
    pub(super) fn unfit(&self, message: impl Into<String>) -> DataError {
        self.io(io::Error::new(ErrorKind::InvalidData, message.into()))
    }

    /// An error about one entry.
    pub(super) fn misfit(&self, number: usize, Misfit { found, expected, .. }: Misfit) -> DataError {
        DataError::Entry { path: self.path.into(), line: number, found, expected }
    }
}
