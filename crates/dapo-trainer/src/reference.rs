//! The reference model of a KL term: what the policy was before training, or a copy that follows it.

use crate::{TrainerConfig, TrainerError, TrainingGroup, pack};
use dapo_policy::{Decoder, Policy};

/// When the reference moves towards the policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReferenceSync {
    /// Steps after which it moves; 0: never.
    pub every: u64,
    /// How far: reference = mixup · policy + (1 − mixup) · reference.
    pub mixup: f64,
}

impl Default for ReferenceSync {
    /// It stays where it is.
    fn default() -> Self {
        Self { every: 0, mixup: 1.0 }
    }
}

/// A frozen model.
#[derive(Debug)]
pub(crate) enum Reference {
    /// The policy itself with its adapters switched off.
    Base,
    /// A model of its own.
    Copy(Box<Decoder>),
}

impl Reference {
    /// The policy as it is now, where the settings need a reference at all.
    pub(crate) fn of(policy: &Decoder, config: &TrainerConfig) -> Result<Option<Self>, TrainerError> {
        if config.loss.kl.coef == 0.0 && config.kl_in_reward == 0.0 {
            return Ok(None);
        }
        if policy.lora().is_some() {
            if config.reference_sync.every > 0 {
                let expected = "0 with low-rank adapters: the reference is the model without them";
                return Err(TrainerError::setting("reference_sync.every", &config.reference_sync.every, expected));
            }
            return Ok(Some(Self::Base));
        }
        Ok(Some(Self::Copy(Box::new(policy.frozen_copy()?))))
    }

    /// The log-probs of every sequence of the groups that is in the loss, in order.
    pub(crate) fn logprobs(
        &self,
        policy: &Decoder,
        groups: &[TrainingGroup],
        config: &TrainerConfig,
    ) -> Result<Vec<Vec<f32>>, TrainerError> {
        let mut sequences = Vec::new();
        for batch in pack(groups, config.micro_batch_tokens)? {
            let temperature = config.sampling.temperature;
            let logprobs = match self {
                Self::Base => policy.base_logprobs(&batch.tokens, temperature)?,
                Self::Copy(copy) => copy.logprobs(&batch.tokens, temperature)?,
            };
            let ends = batch.cu_seqlens.windows(2);
            sequences.extend(ends.map(|ends| logprobs.logprobs[ends[0]..ends[1]].to_vec()));
        }
        Ok(sequences)
    }

    /// Moves towards the policy where this is due after `steps` steps.
    pub(crate) fn sync(&mut self, policy: &Decoder, sync: ReferenceSync, steps: u64) -> Result<(), TrainerError> {
        if let Self::Copy(copy) = self
            && sync.every > 0
            && steps.is_multiple_of(sync.every)
        {
            copy.mix_from(policy, sync.mixup)?;
        }
        Ok(())
    }

    /// The model, where it is one of its own.
    pub(crate) fn copy(&self) -> Option<&Decoder> {
        match self {
            Self::Base => None,
            Self::Copy(copy) => Some(copy),
        }
    }
}
