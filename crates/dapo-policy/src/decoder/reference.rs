//! The decoder as, or with, the reference of a KL term.

use super::{Adapters, Decoder, Trained};
use crate::{PolicyError, TokenBatch, TokenLogprobs};
use dapo_kernels::{with_slice, with_slice_mut};

impl Decoder {
    /// Scores the targets of a batch as [`Policy::logprobs`](crate::Policy::logprobs) does, with the adapters switched
    /// off: the log-probs of the model that the adapters were put on, bit for bit, without a second copy of its
    /// weights.
    ///
    /// # Errors
    /// When there are no adapters, the batch is inconsistent, or the temperature is not positive.
    pub fn base_logprobs(&self, batch: &TokenBatch, temperature: f32) -> Result<TokenLogprobs, PolicyError> {
        if self.lora.is_none() {
            let expected = "a model with adapters: without, base and policy are one".into();
            return Err(PolicyError::Setting {
                field: "policy".into(),
                found: "a model without adapters".into(),
                expected,
            });
        }
        self.score(batch, temperature, Adapters::Off)
    }

    /// A copy for use as the reference of a KL term: it shares nothing with this decoder, has its adapters merged, and
    /// trains nothing. Without adapters its log-probs are equal bit for bit, with adapters to rounding.
    ///
    /// A policy with adapters needs no copy for its base model: see [`base_logprobs`](Decoder::base_logprobs).
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn frozen_copy(&self) -> Result<Self, PolicyError> {
        let mut copy = Self::new(self.config.clone(), self.tensors()?)?;
        copy.trained = Trained::Nothing;
        copy.join(self)?;
        Ok(copy)
    }

    /// Moves this reference towards a policy: self = mixup · policy + (1 − mixup) · self, weight by weight, the
    /// policy's adapters merged; with `mixup` = 1 an exact copy of [`tensors`](Decoder::tensors).
    ///
    /// # Errors
    /// When `mixup` is outside 0..=1, the models have other tensors, or this one has adapters, whose factors do not
    /// mix.
    pub fn mix_from(&mut self, policy: &Self, mixup: f64) -> Result<(), PolicyError> {
        let bad = |field: &str, found: String, expected: &str| {
            Err(PolicyError::Setting { field: field.into(), found, expected: expected.into() })
        };
        if !(0.0..=1.0).contains(&mixup) {
            return bad("mixup", mixup.to_string(), "a number from 0 to 1");
        }
        if self.lora.is_some() {
            return bad("reference", "a model with adapters".into(), "one without, such as a frozen copy");
        }
        if self.config.parameter_shapes() != policy.config.parameter_shapes() {
            return bad("policy", "a model of another shape".into(), "one with the tensors of the reference");
        }
        self.refresh_host()?;
        let (share, rest) = (mixup as f32, (1.0 - mixup) as f32);
        for ((own, _), theirs) in self.own().into_iter().zip(policy.merged()?) {
            let (_, theirs) = theirs?;
            with_slice(&theirs, |theirs| {
                with_slice_mut(&own.var, |own| {
                    if mixup == 1.0 {
                        own.copy_from_slice(theirs);
                    } else {
                        own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own = share * theirs + rest * *own);
                    }
                    Ok(())
                })
            })?;
        }
        self.repack_own()?;
        self.refresh_device()
    }
}
