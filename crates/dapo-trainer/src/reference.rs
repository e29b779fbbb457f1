//! The reference model of a KL term: what the policy was before training, or a copy that follows it.

use crate::error::TrainerError;
use crate::optimizer::AdamW;
use crate::team::Team;
use dapo_policy::{Decoder, Policy, PolicyError, TokenBatch, TokenLogprobs};
use serde::{Deserialize, Serialize};

/// When the reference moves towards the policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReferenceSync {
    /// Steps between two updates of the reference; by default it is never updated.
    pub every: Option<u64>,
    /// How far: reference = mixup · policy + (1 − mixup) · reference.
    pub mixup: f64,
}

impl Default for ReferenceSync {
    /// It stays where it is.
    fn default() -> Self {
        Self { every: None, mixup: 1.0 }
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
    /// The policy as it is now: itself without its adapters where it has some, else a copy.
    pub(crate) fn of(policy: &Decoder, sync: ReferenceSync) -> Result<Self, TrainerError> {
        if policy.lora().is_none() {
            return Ok(Self::Copy(Box::new(policy.frozen_copy()?)));
        }
        if let Some(every) = sync.every {
            let expected = "unset with low-rank adapters: the reference is the model without them";
            return Err(TrainerError::setting("reference_sync.every", &every, expected));
        }
        Ok(Self::Base)
    }

    /// Log-probs and entropies of a batch's targets.
    pub(crate) fn logprobs(
        &self,
        policy: &Decoder,
        batch: &TokenBatch,
        temperature: f32,
    ) -> Result<TokenLogprobs, PolicyError> {
        match self {
            Self::Base => policy.base_logprobs(batch, temperature),
            Self::Copy(copy) => copy.logprobs(batch, temperature),
        }
    }

    /// Moves towards the policy where this is due after `steps` steps. Every rank calls it.
    pub(crate) fn sync(
        &mut self,
        policy: &Decoder,
        optimizer: &AdamW,
        team: &Team,
        sync: ReferenceSync,
        steps: u64,
    ) -> Result<(), TrainerError> {
        if let Self::Copy(copy) = self
            && sync.every.is_some_and(|every| steps.is_multiple_of(every))
        {
            match optimizer.gather_weights(policy, team)? {
                Some(tensors) => copy.mix_from_tensors(&tensors, sync.mixup)?,
                None => copy.mix_from(policy, sync.mixup)?,
            }
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
