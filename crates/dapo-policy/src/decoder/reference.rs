//! The decoder as, or with, the reference of a KL term.

use super::Decoder;
use crate::backend::{Adapters, ModelSpec, ParameterId, ParameterSet, Trained};
use crate::batch::{TokenBatch, TokenLogprobs};
use crate::check::check_tensor;
use crate::error::PolicyError;
use candle_core::{Shape, Tensor};
use dapo_kernels::values;
use std::collections::BTreeMap;

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
        let spec = ModelSpec { lora: None, trained: Trained::Nothing, ..self.spec.clone() };
        Self::on(spec, self.backend.frozen(self.tensors()?)?)
    }

    /// Moves this reference towards a policy: self = mixup · policy + (1 − mixup) · self, weight by weight, the
    /// policy's adapters merged; with `mixup` = 1 an exact copy of [`tensors`](Decoder::tensors).
    ///
    /// # Errors
    /// When `mixup` is outside 0..=1, the models have other tensors, or this one has adapters, whose factors do not
    /// mix.
    pub fn mix_from(&mut self, policy: &Self, mixup: f64) -> Result<(), PolicyError> {
        if self.own != policy.own {
            let expected = "one with the tensors of the reference";
            return Err(unfit("policy", "a model of another shape".into(), expected));
        }
        self.mix(mixup, |index| policy.merged(index))
    }

    /// [`mix_from`](Decoder::mix_from) the tensors of a policy, by name: of one whose f32 values are elsewhere.
    ///
    /// # Errors
    /// As there, and when a tensor is missing or of another shape or type.
    pub fn mix_from_tensors(&mut self, tensors: &BTreeMap<String, Tensor>, mixup: f64) -> Result<(), PolicyError> {
        let find = |(name, shape): &(String, Shape)| {
            check_tensor(name, shape.dims(), tensors.get(name))?;
            Ok(tensors[name].clone())
        };
        let theirs = self.own.iter().map(find).collect::<Result<Vec<_>, PolicyError>>()?;
        self.mix(mixup, |index| Ok(theirs[index].clone()))
    }

    /// Mixes into each of the model's own tensors what `theirs` gives by its number.
    fn mix(&mut self, mixup: f64, theirs: impl Fn(usize) -> Result<Tensor, PolicyError>) -> Result<(), PolicyError> {
        if !(0.0..=1.0).contains(&mixup) {
            return Err(unfit("mixup", mixup.to_string(), "a number from 0 to 1"));
        }
        if self.lora().is_some() {
            return Err(unfit("reference", "a model with adapters".into(), "one without, such as a frozen copy"));
        }
        let (share, rest) = (mixup as f32, (1.0 - mixup) as f32);
        for index in 0..self.own.len() {
            let (id, theirs) = (ParameterId { set: ParameterSet::Own, index }, theirs(index)?);
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

fn unfit(field: &str, found: String, expected: &str) -> PolicyError {
    PolicyError::Setting { field: field.into(), found, expected: expected.into() }
}
