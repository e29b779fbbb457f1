//! The folder of a run.
//!
//! ```text
//! config.resolved.toml      every setting
//! metrics.jsonl             a line a step
//! timings.jsonl             a line a step: what differs between repetitions
//! evaluations.jsonl         a line an evaluation
//! completions/step-N.jsonl  every completion of step N, with its rewards and what became of it
//! reward_cache/NAME.jsonl   every answer of a reward that is computed elsewhere
//! log-NAME.txt              what its process writes to stderr
//! log-failed-step-N.jsonl   what step N computed with before it failed
//! checkpoints/step-N/       everything to continue after N steps
//! trackers/                 copies of the figures for other tools
//! ```
//!
//! Steps count from 1: line N of a log, completions/step-N and the checkpoint step-N, made after it, belong together.

use crate::run_error::RunError;
use dapo_files::check_is_file;
use dapo_trainer::{durable, step_of_name};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// The folder of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// Keeps other processes from training in a folder, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The folder itself, where the system can lock one: its lock outlives the deletion of the file.
    _folder: Option<File>,
    _file: File,
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
    /// A file a tracker.
    pub const TRACKERS: &str = "trackers";
    pub(crate) const REWARD_CACHE: &str = "reward_cache";
    pub(crate) const LOCK: &str = ".lock";

    /// The folder at a path, which need not exist.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder, which must be new or empty: a run never writes over what is there. It is made aside, with its
    /// settings, and renamed; where it exists, its settings come last. So a start that is interrupted leaves a folder that
    /// can be resumed, or one that counts as empty.
    ///
    /// # Errors
    /// When it is not new or empty, or cannot be made.
    pub(crate) fn create(&self, settings: &str) -> Result<Lock, RunError> {
        self.check_is_free()?;
        if self.path.exists() {
            return self.fill(settings);
        }
        let aside = Self::at(&durable::aside(&self.path));
        aside.check_is_free()?;
        let lock = aside.fill(settings)?;
        durable::rename(&aside.path, &self.path)?;
        Ok(lock)
    }

    /// Makes the parts of a folder, the settings last.
    fn fill(&self, settings: &str) -> Result<Lock, RunError> {
        for part in [Self::COMPLETIONS, Self::CHECKPOINTS] {
            let dir = self.path.join(part);
            fs::create_dir_all(&dir).map_err(RunError::io(&dir))?;
        }
        let lock = self.lock()?;
        self.write_settings(settings)?;
        durable::sync_tree(&self.path)?;
        Ok(lock)
    }

    /// Writes the settings file.
    pub(crate) fn write_settings(&self, settings: &str) -> Result<(), RunError> {
        Ok(durable::write(&self.config_file(), settings.as_bytes())?)
    }

    /// Checks that the folder is new or empty, or holds nothing but what an interrupted start leaves.
    ///
    /// # Errors
    /// When it is not, or another process is starting a run in it.
    pub fn check_is_free(&self) -> Result<(), RunError> {
        let names = match fs::read_dir(&self.path) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(RunError::io(&self.path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(RunError::io(&self.path)(error)),
        };
        let is_part = self.path.extension().is_some_and(|extension| extension == "part");
        let is_rest = |entry: &fs::DirEntry| {
            let path = entry.path();
            let is_empty_dir = || fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
            match entry.file_name().to_str() {
                Some(Self::COMPLETIONS | Self::CHECKPOINTS) => is_empty_dir(),
                Some(Self::LOCK) => true,
                // Under its last name a folder with settings is a run.
                Some(Self::CONFIG) => is_part,
                Some(name) => Some(name) == durable::aside(Path::new(Self::CONFIG)).to_str(),
                None => false,
            }
        };
        if !names.iter().all(is_rest) {
            let path = self.path.display();
            let to_continue = match self.config_file().exists() {
                false => String::new(),
                true if self.has_steps() => format!("; to continue the run in it: dapo train --resume {path}"),
                true => format!(
                    "; the run in it has finished no step: to start it again with other settings: dapo train --resume \
                     {path} KEY=VALUE"
                ),
            };
            return Err(RunError::folder(&self.path, "not empty", format!("a new or empty folder{to_continue}")));
        }
        if names.is_empty() { Ok(()) } else { self.lock().map(|_| ()) }
    }

    /// Whether its run has finished a step.
    fn has_steps(&self) -> bool {
        let is_empty = |path: PathBuf| fs::metadata(path).map_or(true, |file| file.len() == 0);
        !is_empty(self.path.join(Self::METRICS)) || self.last_checkpoint().map_or(true, |last| last.is_some())
    }

    /// Keeps other processes from training in the folder.
    pub(crate) fn lock(&self) -> Result<Lock, RunError> {
        let held = || RunError::Busy { path: self.path.clone() };
        let folder = File::open(&self.path).ok();
        let folder = match folder.as_ref().map(File::try_lock) {
            Some(Ok(())) => folder,
            Some(Err(TryLockError::WouldBlock)) => return Err(held()),
            // Folders cannot be opened or locked everywhere.
            Some(Err(TryLockError::Error(_))) | None => None,
        };
        let path = self.path.join(Self::LOCK);
        check_is_file(&path).map_err(RunError::io(&path))?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(RunError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _folder: folder, _file: file }),
            Err(TryLockError::WouldBlock) => Err(held()),
            Err(TryLockError::Error(source)) => Err(RunError::io(&path)(source)),
        }
    }

    /// Whether another process trains in the folder at this moment. Nothing is written.
    pub(crate) fn is_locked(&self) -> bool {
        let is_held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        [self.path.clone(), self.path.join(Self::LOCK)].iter().filter_map(|path| File::open(path).ok()).any(is_held)
    }

    /// The settings file.
    pub fn config_file(&self) -> PathBuf {
        self.path.join(Self::CONFIG)
    }

    /// The dump of a step that failed. As every `log` it belongs to no checkpoint.
    pub fn failed_step_file(&self, step: u64) -> PathBuf {
        self.path.join(format!("log-failed-step-{step}.jsonl"))
    }

    /// The completions file of a step.
    pub fn completions_file(&self, step: u64) -> PathBuf {
        self.path.join(Self::COMPLETIONS).join(format!("step-{step}.jsonl"))
    }

    /// The completions files that the program wrote, by their steps; whatever else is there is somebody else's.
    pub(crate) fn completions_files(&self) -> Result<Vec<(u64, PathBuf)>, RunError> {
        let named = |name: &str| step_of_name(name.strip_suffix(".jsonl")?);
        let mut found = numbered(&self.path.join(Self::COMPLETIONS), named)?;
        found.retain(|(_, path)| path.is_file());
        Ok(found)
    }

    /// The checkpoint made after `steps` steps.
    pub fn checkpoint(&self, steps: u64) -> PathBuf {
        self.path.join(Self::CHECKPOINTS).join(format!("step-{steps}"))
    }

    /// All checkpoints by the steps made, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>, RunError> {
        numbered(&self.path.join(Self::CHECKPOINTS), step_of_name)
    }

    /// The checkpoint with the most steps.
    ///
    /// # Errors
    /// As [`checkpoints`](Self::checkpoints).
    pub fn last_checkpoint(&self) -> Result<Option<(u64, PathBuf)>, RunError> {
        Ok(self.checkpoints()?.pop())
    }

    /// Checkpoints that were not written, or not deleted, to their end.
    pub(crate) fn torn_checkpoints(&self) -> Result<Vec<(u64, PathBuf)>, RunError> {
        numbered(&self.path.join(Self::CHECKPOINTS), |name| step_of_name(name.strip_suffix(".part")?))
    }
}

/// The files in a folder and the folders in it, by their paths in it, in order; none where it does not exist.
pub(crate) fn files_in(dir: &Path) -> Result<Vec<String>, RunError> {
    fn collect(dir: &Path, prefix: &str, found: &mut Vec<String>) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                collect(&entry.path(), &format!("{name}/"), found)?;
            } else {
                found.push(name);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    match collect(dir, "", &mut found) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(RunError::io(dir)(error)),
        _ => found.sort(),
    }
    Ok(found)
}

/// The entries of a folder with a step in their name, in the order of the steps; none where it does not exist.
fn numbered(dir: &Path, step: impl Fn(&str) -> Option<u64>) -> Result<Vec<(u64, PathBuf)>, RunError> {
    let mut found = Vec::new();
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(RunError::io(dir))?;
                if let Some(step) = entry.file_name().to_str().and_then(&step) {
                    found.push((step, entry.path()));
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(RunError::io(dir)(error)),
    }
    found.sort_unstable();
    Ok(found)
}
