//! A data file and the problems that are read from it.

use super::problem::{Misfit, Problem, forms, problem};
use crate::error::TrainerError;
use dapo_policy::open_file;
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
    /// Problems found so far.
    count: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, prefix: String) -> Self {
        Self { path, prefix, count: 0 }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Hands over the problem that an entry states.
    pub(super) fn take(&mut self, value: &Value, number: usize, take: Take<'_>) -> Result<(), TrainerError> {
        let name = || format!("{}{number}", self.prefix);
        take(problem(value, name).map_err(|misfit| self.misfit(number, misfit))?);
        self.count += 1;
        Ok(())
    }

    /// Fails where no problem was found.
    pub(super) fn finish(&self) -> Result<(), TrainerError> {
        if self.count > 0 { Ok(()) } else { Err(self.misfit(1, Misfit::new("no problems", forms()))) }
    }

    pub(super) fn open(&self) -> Result<File, TrainerError> {
        open_file(self.path).map_err(|error| self.io(error))
    }

    pub(super) fn io(&self, source: io::Error) -> TrainerError {
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
