//! A run folder as far as it can be read.

use crate::blocks::{Block, Budget, block};
use crate::log::{Log, read};
use crate::report_error::ReportError;
use crate::settings::{Settings, is_edited, parse};
use crate::steps::{gaps, ranges};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.resolved.toml";
const METRICS: &str = "metrics.jsonl";
const TIMINGS: &str = "timings.jsonl";
const EVALUATIONS: &str = "evaluations.jsonl";

/// What a run folder holds, without its completions.
#[derive(Debug)]
pub(crate) struct Run {
    pub metrics: Log,
    pub timings: Log,
    pub evaluations: Log,
    pub settings: Option<Settings>,
    /// The completions files by their steps.
    pub files: BTreeMap<u64, PathBuf>,
    /// What is wrong with the run.
    pub warnings: Vec<String>,
}

impl Run {
    /// The folder of the completions files.
    pub(crate) const COMPLETIONS: &str = "completions";

    /// Reads a folder.
    ///
    /// # Errors
    /// When it is none of a run, or a file of it cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Self, ReportError> {
        let log = |name: &str| Log::read(&folder.join(name), name);
        let (metrics, timings, evaluations) = (log(METRICS)?, log(TIMINGS)?, log(EVALUATIONS)?);
        let config = read(&folder.join(CONFIG))?;
        let files = completions_files(&folder.join(Self::COMPLETIONS))?;
        if !metrics.exists && config.is_none() && files.is_empty() {
            let found = if folder.is_dir() { "a folder without a run's files" } else { "no folder" };
            return Err(ReportError::Folder { path: folder.to_owned(), found });
        }
        let mut warnings = Vec::new();
        let settings = match config.as_deref().map(parse) {
            Some(Ok(settings)) => Some(settings),
            Some(Err(error)) => {
                warnings.push(format!("{CONFIG}: damaged ({error}); settings are not shown"));
                None
            }
            None => {
                warnings.push(format!("{CONFIG}: missing; settings are not shown"));
                None
            }
        };
        if config.as_deref().is_some_and(is_edited) {
            warnings.push(format!("{CONFIG}: changed after the run wrote it; the run may have had other settings"));
        }
        let mut run = Self { metrics, timings, evaluations, settings, files, warnings };
        let found = run.all_warnings();
        run.warnings.extend(found);
        Ok(run)
    }

    /// Steps that the settings ask for.
    pub(crate) fn planned(&self) -> Option<u64> {
        self.setting("train.steps")?.parse().ok()
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.settings.as_ref()?.get(key).map(String::as_str)
    }

    /// What the files say of themselves and of each other.
    fn all_warnings(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (log, name) in [(&mut self.metrics, METRICS), (&mut self.timings, TIMINGS)] {
            if !log.exists {
                warnings.push(format!("{name}: missing"));
            }
            warnings.append(&mut log.warnings);
            let gaps = gaps(log.rows.keys().copied());
            if !gaps.is_empty() {
                warnings.push(format!("{name}: no line for step {gaps}"));
            }
        }
        warnings.append(&mut self.evaluations.warnings);
        let steps: BTreeSet<u64> = self.metrics.rows.keys().copied().collect();
        let timed: BTreeSet<u64> = self.timings.rows.keys().copied().collect();
        if self.timings.exists && timed.last() < steps.last() {
            warnings.push(format!("{TIMINGS}: ends before {METRICS}"));
        }
        let evaluates = self.setting("eval.every").is_some_and(|every| every != "0");
        if !self.evaluations.exists && evaluates {
            warnings.push(format!("{EVALUATIONS}: missing"));
        }
        if self.setting("output.completions") != Some("false") {
            let missing = ranges(steps.iter().copied().filter(|step| !self.files.contains_key(step)));
            if !missing.is_empty() {
                warnings.push(format!("{}: no file for step {missing}", Self::COMPLETIONS));
            }
        }
        let extra = ranges(self.files.keys().copied().filter(|step| !steps.contains(step)));
        if !extra.is_empty() && self.metrics.exists {
            warnings.push(format!("step {extra} left completions and no metrics: it failed or was interrupted"));
        }
        let made = steps.last().copied().unwrap_or(0);
        if let Some(planned) = self.planned().filter(|planned| made < *planned) {
            warnings.push(format!("unfinished: {made} of {planned} steps"));
        }
        warnings
    }

    /// The blocks of all steps, in their order, and what is wrong with the files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn blocks(&self, budget: &mut Budget) -> Result<(Vec<Block>, Vec<String>), ReportError> {
        let (mut blocks, mut warnings) = (Vec::new(), Vec::new());
        for (step, file) in &self.files {
            let text = read(file)?.unwrap_or_default();
            let (block, found) = block(file, &file_name(*step), *step, &text, budget)?;
            blocks.push(block);
            warnings.extend(found);
        }
        Ok((blocks, warnings))
    }
}

/// The name of a step's completions file within its run.
pub(crate) fn file_name(step: u64) -> String {
    format!("{}/step-{step}.jsonl", Run::COMPLETIONS)
}

/// Files named `step-N.jsonl`, by N.
fn completions_files(dir: &Path) -> Result<BTreeMap<u64, PathBuf>, ReportError> {
    let mut files = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(files),
        Err(error) => return Err(ReportError::io(dir)(error)),
    };
    for entry in entries {
        let path = entry.map_err(ReportError::io(dir))?.path();
        let step = path.file_name().and_then(|name| name.to_str()).and_then(step_of);
        if let Some(step) = step.filter(|_| path.is_file()) {
            files.insert(step, path);
        }
    }
    Ok(files)
}

fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?.strip_suffix(".jsonl")?;
    let step: u64 = digits.parse().ok()?;
    (step.to_string() == digits && step < 1 << 53).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_a_run_writes_are_completions() {
        assert_eq!(step_of("step-12.jsonl"), Some(12));
        for name in ["step-012.jsonl", "step-+1.jsonl", "step-1.json", "step-.jsonl", "step-99999999999999999.jsonl"] {
            assert_eq!(step_of(name), None, "{name}");
        }
    }
}
