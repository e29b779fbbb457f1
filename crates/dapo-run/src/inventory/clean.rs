//! What of a run folder may go: only what the program wrote itself, under the names that it gives.

use super::files::{RunFiles, check_sizes};
use super::{opened, size};
use crate::best::Scores;
use crate::folder::RunFolder;
use crate::run_error::RunError;
use crate::settings::Tracker;
use dapo_trainer::{Manifest, durable};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Something that a run does not need any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// The file or folder.
    pub path: PathBuf,
    /// What it is.
    pub kind: LeftoverKind,
    /// Size of the files, in bytes.
    pub bytes: u64,
}

/// What is left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftoverKind {
    /// Of a start, a write or a deletion that was interrupted: its name ends in `.part`.
    Part,
    /// The completions of a step that failed.
    FailedStep,
    /// A checkpoint that is neither the last one nor the best.
    Checkpoint,
}

impl LeftoverKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Part => "interrupted write",
            Self::FailedStep => "failed step",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl Leftover {
    fn new(path: PathBuf, kind: LeftoverKind) -> Self {
        let bytes = size(&path).0;
        Self { path, kind, bytes }
    }
}

/// What of a run may go; with `checkpoints` also all of these but the last one and the best: by `output.keep_best`, else by
/// `eval/avg_at_k`. Nothing is written.
///
/// # Errors
/// When it is no run folder or being trained, when its logs are damaged, or with `checkpoints` when the last one is.
pub fn leftovers(dir: &Path, checkpoints: bool) -> Result<Vec<Leftover>, RunError> {
    let folder = opened(dir)?;
    if folder.is_locked() {
        return Err(RunError::folder(dir, "a run that another process is training", "one that no process trains"));
    }
    found(&folder, checkpoints)
}

/// Deletes the [`leftovers`] of a run, and gives what was deleted.
///
/// # Errors
/// As there, and when one cannot be deleted.
pub fn clean(dir: &Path, checkpoints: bool) -> Result<Vec<Leftover>, RunError> {
    let folder = opened(dir)?;
    let _lock = folder.lock()?;
    let leftovers = found(&folder, checkpoints)?;
    for Leftover { path, kind, .. } in &leftovers {
        match kind {
            LeftoverKind::Checkpoint => durable::remove_dir(path)?,
            _ if path.is_dir() => fs::remove_dir_all(path).map_err(RunError::io(path))?,
            _ => fs::remove_file(path).map_err(RunError::io(path))?,
        }
    }
    Ok(leftovers)
}

fn found(folder: &RunFolder, checkpoints: bool) -> Result<Vec<Leftover>, RunError> {
    let files = RunFiles::read(folder);
    let mut paths: Vec<(PathBuf, LeftoverKind)> = Vec::new();
    let torn = folder.torn_checkpoints()?.into_iter().map(|(_, path)| path).filter(|path| is_own(path, true));
    paths.extend(torn.map(|path| (path, LeftoverKind::Part)));
    let all = folder.checkpoints()?;
    let trackers = Path::new(RunFolder::TRACKERS);
    let written = [Path::new(RunFolder::CONFIG).to_owned(), trackers.join(Tracker::Csv.file())]
        .map(|file| folder.path().join(file));
    let manifests = all.iter().map(|(_, path)| path.join(Manifest::FILE));
    let asides =
        written.into_iter().chain(manifests).map(|file| durable::aside(&file)).filter(|path| is_own(path, false));
    paths.extend(asides.map(|path| (path, LeftoverKind::Part)));
    if let Some(damage) = files.damage.first() {
        return Err(RunError::folder(folder.path(), damage, "an intact run, to tell what it does not need"));
    }
    let last = all.last().map_or(0, |(steps, _)| *steps).max(files.steps());
    let failed = folder.completions_files()?.into_iter().filter(|(step, path)| *step > last && is_own(path, false));
    paths.extend(failed.map(|(_, path)| (path, LeftoverKind::FailedStep)));
    if checkpoints && let Some((newest, path)) = all.last() {
        check_sizes(folder, path)
            .map_err(|damage| RunError::folder(folder.path(), damage, "an intact last checkpoint, to delete others"))?;
        let mut scores = Scores::by(Some(files.setting("output.keep_best").unwrap_or("eval/avg_at_k")));
        for line in &files.evaluations {
            // An evaluation without the figure has no best.
            let _ = scores.add_line(line);
        }
        let best = scores.best_of(all.iter().map(|(steps, _)| *steps));
        let old = all.iter().filter(|(steps, path)| steps != newest && Some(*steps) != best && is_own(path, true));
        paths.extend(old.map(|(_, path)| (path.clone(), LeftoverKind::Checkpoint)));
    }
    Ok(paths.into_iter().map(|(path, kind)| Leftover::new(path, kind)).collect())
}

/// Whether there is a folder or file under a name that the program gives; a link is somebody else's.
fn is_own(path: &Path, is_dir: bool) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| if is_dir { metadata.is_dir() } else { metadata.is_file() })
}

/// The folders directly in `dir` that starts of runs left when they were interrupted before their first step; with `delete`
/// they are deleted. A folder with anything else in it is none.
///
/// # Errors
/// When the folder cannot be read, or one cannot be deleted.
pub fn interrupted_starts(dir: &Path, delete: bool) -> Result<Vec<Leftover>, RunError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(RunError::io(dir))? {
        let path = entry.map_err(RunError::io(dir))?.path();
        let folder = RunFolder::at(&path);
        let is_part = path.extension().is_some_and(|extension| extension == "part") && is_own(&path, true);
        // The lock is what every start leaves.
        if !is_part
            || !is_own(&path.join(RunFolder::LOCK), false)
            || folder.is_locked()
            || folder.check_is_free().is_err()
        {
            continue;
        }
        found.push(Leftover::new(path.clone(), LeftoverKind::Part));
        if delete {
            let _lock = folder.lock()?;
            fs::remove_dir_all(&path).map_err(RunError::io(&path))?;
        }
    }
    Ok(found)
}
