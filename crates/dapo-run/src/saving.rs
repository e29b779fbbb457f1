//! The checkpoints of a run as it goes. The rank that keeps the run writes them.

use crate::folder::RunFolder;
use crate::machine::check_space;
use crate::ranks::KEEPER;
use crate::run::Run;
use crate::run_error::{Rescue, RunError};
use dapo_trainer::{Activity, RunState};
use std::path::PathBuf;
use std::time::Instant;

impl Run {
    /// Writes a checkpoint of the present state, unless it exists, and removes those that need not stay.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&mut self) -> Result<PathBuf, RunError> {
        let saved = self.keep(|run, path| {
            if path.exists() {
                run.folder.make_scheduled(run.trainer.steps(), run.state(false))?;
            } else {
                run.write_checkpoint(false)?;
            }
            run.folder.prune(run.config.output.keep_checkpoints, &run.scores)
        });
        self.ranks.agree(saved)
    }

    /// Writes a checkpoint that the schedule does not have, unless there is one of the present state. The next scheduled
    /// one replaces it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_unscheduled(&mut self) -> Result<PathBuf, RunError> {
        let saved = self.keep(|run, path| {
            if path.exists() {
                return Ok(());
            }
            run.write_checkpoint(true)?;
            run.folder.prune(run.config.output.keep_checkpoints, &run.scores)
        });
        self.ranks.agree(saved)
    }

    /// Whether a checkpoint beside the schedule is due: the clock of the rank that keeps the run counts.
    pub(crate) fn is_due(&self) -> Result<bool, RunError> {
        let Some(minutes) = self.config.output.checkpoint_minutes else { return Ok(false) };
        self.ranks.decide(self.saved.elapsed().as_secs_f64() >= 60.0 * minutes)
    }

    /// Saves the steps made so far, where that is possible. Older checkpoints all stay: this one may be the result of what
    /// went wrong. `are_together`: the ranks still hear each other, so that they can give what they hold.
    pub(crate) fn rescue(&mut self, are_together: bool) -> Rescue {
        let (steps, path) = (self.trainer.steps(), self.folder.checkpoint(self.trainer.steps()));
        if are_together {
            let can_save = steps > 0 && self.trainer.is_whole() && !path.exists();
            if let Err(error) = self.gather_for_checkpoint(can_save) {
                return Rescue::Failed(error.to_string());
            }
        }
        match steps {
            0 => Rescue::Nothing,
            // Another rank sees to it.
            _ if !self.ranks.keeps() => Rescue::Nothing,
            _ if !self.trainer.is_whole() => Rescue::Torn,
            _ if path.exists() => Rescue::Saved(path),
            _ => match self.write_checkpoint(true) {
                Ok(()) => Rescue::Saved(path),
                Err(error) => Rescue::Failed(error.to_string()),
            },
        }
    }

    /// Gives the rank that keeps the run what the others hold of a checkpoint, where that one is going to write it.
    fn gather_for_checkpoint(&mut self, is_to_be_written: bool) -> Result<(), RunError> {
        if self.ranks.are_several() && self.ranks.decide(is_to_be_written)? {
            self.trainer.gather_moments(KEEPER)?;
        }
        Ok(())
    }

    /// Does something with the checkpoint of the present state, on the rank that keeps the run.
    fn keep(&mut self, work: impl FnOnce(&mut Self, &PathBuf) -> Result<(), RunError>) -> Result<PathBuf, RunError> {
        let path = self.folder.checkpoint(self.trainer.steps());
        self.gather_for_checkpoint(!path.exists())?;
        if self.ranks.keeps() {
            work(self, &path)?;
        }
        self.trainer.forget_moments();
        Ok(path)
    }

    /// Writes a checkpoint, after everything that it relies on has reached the disk.
    fn write_checkpoint(&mut self, unscheduled: bool) -> Result<(), RunError> {
        self.watcher.see(Activity::Checkpoint);
        let steps = self.trainer.steps();
        let path = self.folder.checkpoint(steps);
        check_space(&self.folder.path().join(RunFolder::CHECKPOINTS), self.trainer.checkpoint_bytes())?;
        self.logs.sync()?;
        self.externals.checkpoint(steps)?;
        let state = self.state(unscheduled);
        self.ranks.alive_during(|| self.trainer.save_of_run(&path, &self.base_model, Some(state)))?;
        self.saved = Instant::now();
        Ok(())
    }

    /// What of the run belongs to a checkpoint.
    pub(crate) fn state(&self, unscheduled: bool) -> RunState {
        RunState {
            settings: self.settings_hash.clone(),
            validation: self.validation_fingerprint.clone(),
            unscheduled,
            ended: self.is_finished(),
            logs: self.logs.digests(self.trainer.steps()),
            pending: self.logs.pending().clone(),
        }
    }
}
