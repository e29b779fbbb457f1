//! Steps that find too little to learn from.

use crate::config::OnMastered;
use crate::error::TrainerError;
use crate::no_signal::NoSignal;
use crate::record::records_so_far;
use crate::sample::Group;
use crate::trainer::Trainer;
use dapo_sampler::{Shortage, TakenBatch};
use std::sync::Arc;

impl Trainer {
    /// What a step does that found no group with a signal, or fewer than it must have: an empty batch where it is skipped, else
    /// an error that shows its groups.
    pub(crate) fn without_signal(&mut self, shortage: Shortage) -> Result<TakenBatch<Arc<Group>>, TrainerError> {
        let groups = records_so_far(&self.sampler);
        let mut end = NoSignal { step: self.step + 1, shortage, groups, ends_well: false };
        let outcomes = end.outcomes();
        if end.is_mastered() {
            // A small step may find nothing by chance: it takes groups as many as four batches, or all problems, to be sure.
            let enough = self.prompts.len().min(4 * self.config().sampler.train_batch) as u64;
            let is_sure = self.mastered_groups + outcomes.groups() >= enough;
            match self.config().on_mastered {
                OnMastered::Stop if is_sure => end.ends_well = true,
                OnMastered::Stop | OnMastered::Skip => return Ok(self.sampler.skip_step()?),
                OnMastered::Error => {}
            }
        }
        Err(TrainerError::NoSignal(Box::new(end)))
    }
}
