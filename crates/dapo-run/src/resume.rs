//! A run's folder as it is found when the run is resumed.

use crate::folder::{Lock, RunFolder, files_in};
use crate::identity::{changed_for_good, check_seal, settings_hash};
use crate::layers::{Layer, resolve};
use crate::logs::LogState;
use crate::ranks::Ranks;
use crate::run_error::RunError;
use crate::settings::RunConfig;
use crate::trust::Trust;
use dapo_trainer::Manifest;
use std::path::Path;

/// From where a run is resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The checkpoint, by the steps made before it; 0 is the start. By default the last one.
    pub from_step: Option<u64>,
    /// What is accepted without a hash.
    pub trust: Trust,
}

/// What is there of a run that is resumed.
pub(crate) struct Found {
    pub(crate) folder: RunFolder,
    pub(crate) lock: Lock,
    /// Steps of the checkpoint; 0: the start.
    pub(crate) steps: u64,
    pub(crate) manifest: Option<Manifest>,
    /// The logs as they were after these steps.
    pub(crate) logs: LogState,
    /// The settings as they are in the folder, and whether they have their hash.
    pub(crate) before: RunConfig,
    pub(crate) is_sealed: bool,
}

impl Found {
    /// Looks at the folder, and verifies the checkpoint and the logs up to it. Nothing is changed.
    ///
    /// # Errors
    /// When the folder is not a run's, another process trains in it, or a setting is changed that a run cannot change. When
    /// the checkpoint is missing or damaged.
    pub(crate) fn in_folder(config: &RunConfig, dir: &Path, how: Resume) -> Result<Self, RunError> {
        let folder = RunFolder::at(dir);
        let is_sealed = check_seal(&folder.config_file(), how.trust)?;
        let before = resolve(&[Layer::File(folder.config_file())])?.config;
        if let Some((key, was, is)) = changed_for_good(&before, config) {
            let expected = format!("{was} as it was: start a new run, from this one's checkpoint if you like");
            return Err(RunError::setting(&key, is, expected));
        }
        let lock = folder.lock()?;
        let steps = match how.from_step {
            Some(steps) => steps,
            None => folder.last_checkpoint()?.map_or(0, |(steps, _)| steps),
        };
        let (path, settings) = (folder.checkpoint(steps), settings_hash(&before)?);
        let (manifest, logs) = match steps {
            0 => (None, LogState::default()),
            _ if !path.exists() => {
                let steps: Vec<String> = folder.checkpoints()?.iter().map(|(steps, _)| steps.to_string()).collect();
                let expected = match &steps[..] {
                    [] => "a checkpoint: the run has none".to_owned(),
                    steps => format!("one of the run's checkpoints, those of step {}", steps.join(", ")),
                };
                return Err(RunError::folder(&path, "missing", expected));
            }
            _ => {
                let verified = folder.verify(steps, &settings, how.trust);
                verified.map_err(|error| folder.damaged(error, steps, &settings))?
            }
        };
        Ok(Self { folder, lock, steps, manifest, logs, before, is_sealed })
    }
}

/// Sends the checkpoint of a run, and the answers of rewards that are known, to the ranks that keep nothing. Returns the
/// steps of the checkpoint; 0 for a run without one.
///
/// # Errors
/// When a file cannot be read or written, and [`RunError::Dist`].
pub(crate) fn send_folder(ranks: &Ranks, folder: &RunFolder, steps: u64) -> Result<u64, RunError> {
    if !ranks.are_several() {
        return Ok(steps);
    }
    let steps = ranks.tell(steps)?;
    for dir in [folder.checkpoint(steps), folder.path().join(RunFolder::REWARD_CACHE)] {
        let names = if ranks.keeps() { files_in(&dir)? } else { Vec::new() };
        ranks.send_files(&dir, &ranks.send_names(&names)?)?;
    }
    Ok(steps)
}
