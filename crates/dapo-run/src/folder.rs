//! The folder of a run.
//!
//! ```text
//! config.resolved.toml      every setting
//! metrics.jsonl             a line a step
//! timings.jsonl             a line a step: what differs between repetitions
//! evaluations.jsonl         a line an evaluation
//! completions/step-N.jsonl  every completion of step N, with its rewards and what became of it
//! checkpoints/step-N/       everything to go on from after N steps
//! ```
//!
//! Steps count from 1: line N of a log, completions/step-N and the checkpoint step-N, made after it, belong together.

use crate::run_error::RunError;
use dapo_policy::read_file;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder's settings file.
    pub const CONFIG: &str = "config.resolved.toml";
    /// A line a step.
    pub const METRICS: &str = "metrics.jsonl";
    /// A line a step.
    pub const TIMINGS: &str = "timings.jsonl";
    /// A line an evaluation.
    pub const EVALUATIONS: &str = "evaluations.jsonl";
    /// A file a step.
    pub const COMPLETIONS: &str = "completions";
    /// A folder a checkpoint.
    pub const CHECKPOINTS: &str = "checkpoints";
    const LOCK: &str = ".lock";

    /// The folder at a path, which need not exist.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder, which must be new or empty: a run never writes over what is there.
    ///
    /// # Errors
    /// When it is not, or cannot be made.
    pub fn create(&self) -> Result<(), RunError> {
        self.check_is_free()?;
        for part in [Self::COMPLETIONS, Self::CHECKPOINTS] {
            let dir = self.path.join(part);
            fs::create_dir_all(&dir).map_err(RunError::io(&dir))?;
        }
        Ok(())
    }

    /// Checks that the folder is new or empty.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_is_free(&self) -> Result<(), RunError> {
        match fs::read_dir(&self.path) {
            Ok(mut entries) => match entries.next() {
                Some(_) => Err(RunError::folder(&self.path, "not empty", "a new or empty folder")),
                None => Ok(()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(RunError::io(&self.path)(error)),
        }
    }

    /// Keeps other processes from training in the folder for as long as the file is open.
    pub(crate) fn lock(&self) -> Result<File, RunError> {
        let file = self.path.join(Self::LOCK);
        let lock = File::create(&file).map_err(RunError::io(&file))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(fs::TryLockError::WouldBlock) => Err(RunError::folder(
                &self.path,
                "a run that another process is training",
                "one that no process trains",
            )),
            Err(fs::TryLockError::Error(source)) => Err(RunError::io(&file)(source)),
        }
    }

    /// The settings file.
    pub fn config_file(&self) -> PathBuf {
        self.path.join(Self::CONFIG)
    }

    /// Writes a whole file: aside first, then renamed.
    pub(crate) fn write(&self, name: &str, text: &[u8]) -> Result<(), RunError> {
        let file = self.path.join(name);
        let aside = self.path.join(format!("{name}.part"));
        fs::write(&aside, text).map_err(RunError::io(&aside))?;
        fs::rename(&aside, &file).map_err(RunError::io(&file))
    }

    /// Adds a line to one of the logs.
    pub(crate) fn append(&self, name: &str, line: &impl Serialize) -> Result<(), RunError> {
        let file = self.path.join(name);
        let mut text = serde_json::to_vec(line).map_err(std::io::Error::from).map_err(RunError::io(&file))?;
        text.push(b'\n');
        let mut handle = OpenOptions::new().create(true).append(true).open(&file).map_err(RunError::io(&file))?;
        handle.write_all(&text).map_err(RunError::io(&file))
    }

    /// The lines of one of the logs; none where it does not exist.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, RunError> {
        let file = self.path.join(name);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RunError::io(&file)(error)),
        };
        let lines = text.split_inclusive(|byte| *byte == b'\n').enumerate();
        lines
            .map(|(index, line)| {
                serde_json::from_slice(line).map_err(|error| {
                    RunError::folder(&file, format!("line {} ({error})", index + 1), "a line as a run writes it")
                })
            })
            .collect()
    }

    /// The completions file of a step.
    pub fn completions_file(&self, step: u64) -> PathBuf {
        self.path.join(Self::COMPLETIONS).join(format!("step-{step}.jsonl"))
    }

    /// The checkpoint made after so many steps.
    pub fn checkpoint(&self, steps: u64) -> PathBuf {
        self.path.join(Self::CHECKPOINTS).join(format!("step-{steps}"))
    }

    /// All checkpoints by the steps made, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>, RunError> {
        let dir = self.path.join(Self::CHECKPOINTS);
        let mut found = Vec::new();
        for (name, path) in entries(&dir)? {
            if let Some(steps) = name.strip_prefix("step-").and_then(|steps| steps.parse().ok()) {
                found.push((steps, path));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The checkpoint with the most steps.
    ///
    /// # Errors
    /// As [`checkpoints`](Self::checkpoints).
    pub fn last_checkpoint(&self) -> Result<Option<(u64, PathBuf)>, RunError> {
        Ok(self.checkpoints()?.pop())
    }

    /// Removes all but the last `keep` checkpoints; 0 keeps all.
    pub(crate) fn prune(&self, keep: usize) -> Result<(), RunError> {
        let checkpoints = self.checkpoints()?;
        let surplus = if keep == 0 { 0 } else { checkpoints.len().saturating_sub(keep) };
        for (_, path) in &checkpoints[..surplus] {
            fs::remove_dir_all(path).map_err(RunError::io(path))?;
        }
        Ok(())
    }

    /// Takes the logs back to the end of `steps` steps. Lines and completions of later steps are removed, and lines that
    /// were not written to their end. So are evaluations that are not due by the present settings, such as the last one of
    /// a run that now continues.
    pub(crate) fn rewind(&self, steps: u64, is_evaluated: impl Fn(u64) -> bool) -> Result<(), RunError> {
        for name in [Self::METRICS, Self::TIMINGS] {
            self.keep_lines(name, |step| step <= steps)?;
        }
        // An evaluation after the last of these steps comes before the checkpoint; without one it is made again.
        self.keep_lines(Self::EVALUATIONS, |step| step <= steps && steps > 0 && is_evaluated(step))?;
        for (name, path) in entries(&self.path.join(Self::COMPLETIONS))? {
            let step = name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".jsonl"));
            if step.and_then(|step| step.parse().ok()).is_none_or(|step: u64| step > steps) {
                fs::remove_file(&path).map_err(RunError::io(&path))?;
            }
        }
        for (_, path) in entries(&self.path.join(Self::CHECKPOINTS))? {
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_dir_all(&path).map_err(RunError::io(&path))?;
            }
        }
        Ok(())
    }

    /// Whether the log has an evaluation made after so many steps.
    pub(crate) fn has_evaluation(&self, steps: u64) -> Result<bool, RunError> {
        let file = self.path.join(Self::EVALUATIONS);
        match read_file(&file) {
            Ok(text) => Ok(text.split(|byte| *byte == b'\n').any(|line| step_of(line) == Some(steps))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(RunError::io(&file)(error)),
        }
    }

    /// Keeps the whole lines of a log whose step passes.
    fn keep_lines(&self, name: &str, keep: impl Fn(u64) -> bool) -> Result<(), RunError> {
        let file = self.path.join(name);
        if !file.exists() {
            return Ok(());
        }
        let text = read_file(&file).map_err(RunError::io(&file))?;
        let mut kept = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            if step_of(line).is_some_and(&keep) {
                kept.extend_from_slice(line);
            }
        }
        self.write(name, &kept)
    }

    /// Writes the completions of a step.
    pub(crate) fn write_completions(
        &self,
        step: u64,
        lines: impl Iterator<Item = impl Serialize>,
    ) -> Result<(), RunError> {
        let file = self.completions_file(step);
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line).map_err(std::io::Error::from).map_err(RunError::io(&file))?;
            text.push(b'\n');
        }
        let mut handle = File::create(&file).map_err(RunError::io(&file))?;
        handle.write_all(&text).map_err(RunError::io(&file))
    }
}

/// The step of a line of a log.
fn step_of(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Line {
        step: u64,
    }
    serde_json::from_slice::<Line>(line).ok().map(|line| line.step)
}

/// Names and paths in a folder, in the order of their names; none where it does not exist.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, RunError> {
    let mut found = Vec::new();
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(RunError::io(dir))?;
                found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(RunError::io(dir)(error)),
    }
    found.sort_unstable();
    Ok(found)
}
