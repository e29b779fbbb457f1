//! Runs as objects: which there are, how far they are, how they differ, and what may go.

mod card;
mod clean;
mod difference;
mod files;

pub use card::model_card;
pub use clean::{Leftover, LeftoverKind, clean, interrupted_starts, leftovers};
pub use difference::{Difference, difference};

use crate::figures::{TRAIN, of_evaluation, of_step};
use crate::folder::RunFolder;
use crate::run_error::RunError;
use files::{Line, RunFiles, check_sizes, step};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Folders below the given one in which runs are looked for.
const DEPTH: usize = 4;

/// What a run folder comes to.
#[derive(Clone, Debug, Serialize)]
pub struct RunSummary {
    /// The folder.
    pub path: PathBuf,
    /// How it stands.
    pub state: RunStatus,
    /// Steps made.
    pub steps: u64,
    /// Steps that the settings ask for; `None` where they count passes or cannot be read.
    pub planned: Option<u64>,
    /// Steps made before the last checkpoint; `None` without one.
    pub checkpoint: Option<u64>,
    /// The best accuracy.
    pub best: Option<BestAccuracy>,
    /// Bytes of all files.
    pub bytes: u64,
    /// When a file of it was last written, in seconds since 1970.
    pub changed: u64,
    /// What is damaged, in words.
    pub damage: Vec<String>,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// A process trains in it.
    Running,
    /// All steps are made, or there was nothing left to learn.
    Finished,
    /// It can be resumed.
    Stopped,
    /// A file is not as it was written.
    Damaged,
}

impl RunStatus {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Damaged => "damaged",
        }
    }
}

/// The best accuracy of a run: of its evaluations, or without any of its steps' own completions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BestAccuracy {
    /// `eval/avg_at_k` or `train/accuracy`.
    pub figure: String,
    /// The highest value of the figure.
    pub value: f64,
    /// The step at which it was first reached.
    pub step: u64,
}

/// The run folders at or below a folder, in the order of their paths. Links are not followed.
///
/// # Errors
/// When the folder cannot be read.
pub fn find_runs(dir: &Path) -> Result<Vec<PathBuf>, RunError> {
    fn look(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
        if dir.join(RunFolder::CONFIG).is_file() {
            // What ends so is a start that was interrupted.
            if dir.extension().is_none_or(|extension| extension != "part") {
                found.push(dir.to_owned());
            }
            return Ok(());
        }
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if depth > 0 && !is_hidden && entry.file_type()?.is_dir() {
                // A folder that may not be read holds no run of this user.
                let _ = look(&entry.path(), depth - 1, found);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    look(dir, DEPTH, &mut found).map_err(RunError::io(dir))?;
    found.sort();
    Ok(found)
}

/// What a run folder comes to. Nothing is written, and no file is hashed.
///
/// # Errors
/// When it is no run folder, or cannot be read.
pub fn summarize(dir: &Path) -> Result<RunSummary, RunError> {
    let folder = opened(dir)?;
    let mut files = RunFiles::read(&folder);
    let last = folder.last_checkpoint()?;
    let mut has_ended = false;
    if let Some((_, path)) = &last {
        match check_sizes(&folder, path) {
            Ok(manifest) => {
                has_ended = manifest.and_then(|manifest| manifest.run).is_some_and(|run| run.ended && !run.unscheduled);
            }
            Err(damage) => files.damage.push(damage),
        }
    }
    let (steps, planned) = (files.steps(), files.setting("train.steps").and_then(|steps| steps.parse().ok()));
    let checkpoint = last.map(|(steps, _)| steps);
    let has_all = checkpoint == Some(steps) && (has_ended || planned.is_some_and(|planned| steps >= planned));
    let state = match () {
        () if folder.is_locked() => RunStatus::Running,
        () if !files.damage.is_empty() => RunStatus::Damaged,
        () if has_all => RunStatus::Finished,
        () => RunStatus::Stopped,
    };
    let (bytes, changed) = size(dir);
    let best = best(&files);
    Ok(RunSummary {
        path: dir.to_owned(),
        state,
        steps,
        planned,
        checkpoint,
        best,
        bytes,
        changed,
        damage: files.damage,
    })
}

/// The folder at a path, which must be a run's.
fn opened(dir: &Path) -> Result<RunFolder, RunError> {
    let folder = RunFolder::at(dir);
    if folder.config_file().is_file() {
        return Ok(folder);
    }
    let found = if dir.is_dir() { "not a run folder" } else { "no folder" };
    Err(RunError::folder(dir, found, format!("a run folder, with its {}", RunFolder::CONFIG)))
}

fn best(files: &RunFiles) -> Option<BestAccuracy> {
    let of_evaluation = |line: &Line| {
        let (figure, value) = of_evaluation(line).into_iter().find(|(name, _)| name == "eval/avg_at_k")?;
        Some(BestAccuracy { figure, value, step: step(line)? })
    };
    let of_step = |line: &Line| {
        let (figure, value) = of_step(line).into_iter().find(|(name, _)| *name == format!("{TRAIN}accuracy"))?;
        Some(BestAccuracy { figure, value: value?, step: step(line)? })
    };
    let highest = |best: BestAccuracy, next: BestAccuracy| if next.value > best.value { next } else { best };
    let evaluated = files.evaluations.iter().filter_map(of_evaluation).reduce(highest);
    evaluated.or_else(|| files.metrics.iter().filter_map(of_step).reduce(highest))
}

/// Bytes of all files, and when one of them was last written. Links count as such.
fn size(path: &Path) -> (u64, u64) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return (0, 0) };
    if !metadata.is_dir() {
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        return (metadata.len(), metadata.modified().map_or(0, since));
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).fold((0, 0), |all, one| (all.0 + one.0, all.1.max(one.1)))
}
