//! The checkpoints of a run folder: which of them are intact, and which of them stay.

use crate::best::Scores;
use crate::folder::RunFolder;
use crate::logs::LogState;
use crate::run_error::RunError;
use crate::trust::Trust;
use dapo_trainer::{Manifest, RunState, durable};
use std::fs;
use std::path::Path;

/// Reads the manifest of a checkpoint and checks the files of it that pass.
///
/// # Errors
/// When a file is not as the manifest says, or there is no manifest and there must be one.
pub(crate) fn check_files(
    checkpoint: &Path,
    trust: Trust,
    which: impl Fn(&str) -> bool,
) -> Result<Option<Manifest>, RunError> {
    let Some(manifest) = Manifest::read(checkpoint)? else {
        if trust == Trust::Unverified {
            return Ok(None);
        }
        let expected = "the sizes and hashes of the checkpoint's files; --trust-unverified accepts a checkpoint of an older version";
        return Err(RunError::folder(&checkpoint.join(Manifest::FILE), "missing", expected));
    };
    manifest.check_files(checkpoint, which)?;
    Ok(Some(manifest))
}

impl RunFolder {
    /// Checks a checkpoint and the logs up to it; `settings` is the hash of those that the run cannot change.
    ///
    /// # Errors
    /// Names what is not as the checkpoint's manifest says.
    pub(crate) fn verify(
        &self,
        steps: u64,
        settings: &str,
        trust: Trust,
    ) -> Result<(Option<Manifest>, LogState), RunError> {
        let checkpoint = self.checkpoint(steps);
        let manifest = check_files(&checkpoint, trust, |_| true)?;
        let Some(run) = manifest.as_ref().and_then(|manifest| manifest.run.as_ref()) else {
            let state = LogState::found(self, steps)?;
            return Ok((manifest, state));
        };
        let file = checkpoint.join(Manifest::FILE);
        if run.settings != settings {
            let found = format!("of a run with another seed, other adapters or data settings (hash {})", run.settings);
            return Err(RunError::folder(&file, found, format!("of this run (hash {settings})")));
        }
        let state = LogState::verified(self, steps, &run.logs, &file)?;
        Ok((manifest, state))
    }

    /// The error that a damaged checkpoint is, with the newest intact one where there is one.
    pub(crate) fn damaged(&self, error: RunError, steps: u64, settings: &str) -> RunError {
        let others = self.checkpoints().unwrap_or_default();
        let mut others = others.into_iter().rev().map(|(other, _)| other).filter(|other| *other != steps);
        let intact = others.find(|other| self.verify(*other, settings, Trust::Verified).is_ok());
        let resume = |steps| format!("dapo train --resume {} --from-step {steps}", self.path().display());
        let hint = match intact {
            Some(intact) => format!("the newest intact checkpoint is step-{intact}: {}", resume(intact)),
            None => format!("no other checkpoint is intact: {} starts again", resume(0)),
        };
        RunError::Damaged { source: Box::new(error), hint }
    }

    /// Removes the checkpoints after `steps` steps, the last one first.
    pub(crate) fn remove_later(&self, steps: u64) -> Result<(), RunError> {
        let later = self.checkpoints()?.into_iter().rev().filter(|(other, _)| *other > steps);
        later.into_iter().try_for_each(|(_, path)| Ok(durable::remove_dir(&path)?))
    }

    /// Finishes what an interruption left: checkpoints that were not written, or not deleted, to their end.
    pub(crate) fn tidy(&self) -> Result<(), RunError> {
        let torn = self.torn_checkpoints()?;
        torn.iter().try_for_each(|(_, path)| fs::remove_dir_all(path).map_err(RunError::io(path)))
    }

    /// Removes checkpoints that need not stay: of the scheduled ones all but the last `keep` (0 keeps all), and once a
    /// scheduled one is complete, all unscheduled ones. The last checkpoint stays, the last one whose next step succeeded,
    /// and of the scheduled ones the best.
    pub(crate) fn prune(&self, keep: usize, scores: &Scores) -> Result<(), RunError> {
        self.tidy()?;
        let mut checkpoints = Vec::new();
        for (steps, path) in self.checkpoints()? {
            // What cannot be read is kept by the number of steps alone; it is not for pruning to judge it.
            let manifest = Manifest::read(&path).ok().flatten();
            let unscheduled = manifest.and_then(|manifest| manifest.run).is_some_and(|run| run.unscheduled);
            checkpoints.push((steps, path, unscheduled));
        }
        let newest_is_scheduled = checkpoints.last().is_some_and(|(.., unscheduled)| !unscheduled);
        let candidates = checkpoints.iter().filter(|(.., unscheduled)| !unscheduled);
        let best = scores.best_of(candidates.map(|(steps, ..)| *steps));
        let (mut scheduled, mut newest) = (0, 0);
        for (steps, path, unscheduled) in checkpoints.iter().rev() {
            scheduled += usize::from(!unscheduled);
            // Among the two newest that count, the last has none after it, and the other's next step succeeded.
            let counts = !(newest_is_scheduled && *unscheduled);
            newest += usize::from(counts);
            let stays = counts && (newest <= 2 || (!unscheduled && (keep == 0 || scheduled <= keep)));
            if !stays && best != Some(*steps) {
                durable::remove_dir(path)?;
            }
        }
        Ok(())
    }

    /// Makes an unscheduled checkpoint the scheduled one of its step, and a checkpoint the last one of a run that has ended.
    pub(crate) fn make_scheduled(&self, steps: u64, run: RunState) -> Result<(), RunError> {
        let path = self.checkpoint(steps);
        if let Some(mut manifest) = Manifest::read(&path)?
            && manifest.run.as_ref().is_some_and(|before| before.unscheduled || (run.ended && !before.ended))
        {
            manifest.run = Some(run);
            manifest.write(&path)?;
        }
        Ok(())
    }
}
