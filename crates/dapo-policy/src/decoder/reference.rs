//! The decoder as, or with, the reference of a KL term.

use super::Decoder;
use crate::backend::{Adapters, ModelSpec, ParameterId, ParameterSet, Trained};
use crate::batch::{TokenBatch, TokenLogprobs};
use crate::error::PolicyError;
use dapo_kernels::values;

impl Decoder {
    /// Scores the targets of a batch as [`Policy::logprobs`](crate::Policy::logprobs) does, with the adapters switched
    /// off: the log-probs of the model that the adapters were put on, bit for bit, without a second copy of its
    /// weights.
    ///
    /// # Errors
    /// When there are no adapters, the batch is inconsistent, or the temperature is not positive.
    pub fn base_logprobs(&self, batch: &TokenBatch, temperature: f32) -> Result<TokenLogprobs, PolicyError> {
        if self.lora().is_none() {
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
    /// trains nothing. Without adapters its log-probs are equal bit for bit, with adapters to rounding. Of weights in bf16 it
    /// has the rounded values alone, until it moves.
    ///
    /// A policy with adapters needs no copy for its base model: see [`base_logprobs`](Decoder::base_logprobs).
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn frozen_copy(&self) -> Result<Self, PolicyError> {
        let (config, weights) = (self.config().clone(), self.spec.weights);
        let spec = ModelSpec { config, lora: None, trained: Trained::Nothing, weights };
        Self::on(spec, self.backend.frozen(self.tensors()?)?)
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
        if self.lora().is_some() {
            return bad("reference", "a model with adapters".into(), "one without, such as a frozen copy");
        }
        if self.own != policy.own {
            return bad("policy", "a model of another shape".into(), "one with the tensors of the reference");
        }
        let (share, rest) = (mixup as f32, (1.0 - mixup) as f32);
        for index in 0..self.own.len() {
            let (id, theirs) = (ParameterId { set: ParameterSet::Own, index }, policy.merged(index)?);
            if mixup == 1.0 {
                self.backend.write(id, &values(&theirs)?)?;
                continue;
            }
            let own = self.backend.read(id)?;
            let (own, theirs) = (values(&own)?, values(&theirs)?);
            let mixed: Vec<f32> = own.iter().zip(&*theirs).map(|(own, theirs)| share * theirs + rest * *own).collect();
            drop(own);
            self.backend.write(id, &mixed)?;
        }
        Ok(())
    }
}
