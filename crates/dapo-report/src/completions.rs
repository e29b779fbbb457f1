//! The completions of a run, step by step.

use crate::log::{Row, read, rows};
use crate::report_error::ReportError;
use crate::run::{Run, file_name};
use crate::steps::ranges;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The completions files of a run folder, read one at a time.
#[derive(Debug)]
pub struct RunCompletions {
    files: BTreeMap<u64, PathBuf>,
    /// What is wrong with the run: damage, gaps, edited settings, an early end.
    pub warnings: Vec<String>,
}

/// The completions of a step.
#[derive(Debug)]
pub struct StepCompletions {
    /// The lines that can be read, with their numbers in the file, from 1.
    pub lines: Vec<(usize, Row)>,
    /// What is wrong with the file.
    pub warnings: Vec<String>,
}

impl RunCompletions {
    /// Looks at a run folder.
    ///
    /// # Errors
    /// [`ReportError::Folder`] for a folder that holds no run, [`ReportError::Io`] for a file that cannot be read.
    pub fn open(folder: &Path) -> Result<Self, ReportError> {
        let Run { files, warnings, .. } = Run::read(folder)?;
        Ok(Self { files, warnings })
    }

    /// The last step that left completions.
    pub fn last_step(&self) -> Option<u64> {
        self.files.keys().next_back().copied()
    }

    /// The steps that left completions, in words: `1 to 8, 10`.
    pub fn steps_in_words(&self) -> String {
        ranges(self.files.keys().copied())
    }

    /// The completions of a step; `None` where it left none.
    ///
    /// # Errors
    /// [`ReportError::Io`] when the file cannot be read.
    pub fn step(&self, step: u64) -> Result<Option<StepCompletions>, ReportError> {
        let Some(file) = self.files.get(&step) else { return Ok(None) };
        let Some(text) = read(file)? else { return Ok(None) };
        let (lines, damaged) = rows(&text);
        Ok(Some(StepCompletions { lines, warnings: damaged.warnings(&file_name(step)) }))
    }
}
