//! The decoder: a configuration, and the backend that has its weights and computes with them.
//!
//! T tokens of a packed batch, H hidden size, V vocabulary.

mod activations;
mod adapters;
mod placement;
mod policy;
mod random;
mod reference;
mod update;
mod values;
mod vars;
mod weights;

use crate::backend::{Adapters, Backend, Compute, LayerMemory, ModelSpec, ParameterSet, Trained, WeightFormat};
use crate::batch::{TokenBatch, TokenLogprobs};
use crate::check::{check_ids, check_temperature, check_total};
use crate::config::ModelConfig;
use crate::cpu;
use crate::error::PolicyError;
use candle_core::{Device, Shape, Tensor};
use dapo_kernels::attention::Segments;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A Qwen3, Qwen2.5 or Llama decoder whose weights, or low-rank adapters, can be trained.
#[derive(Debug)]
pub struct Decoder {
    spec: ModelSpec,
    /// Names and shapes of the model's own tensors.
    own: Vec<(String, Shape)>,
    /// Those of the adapters' factors.
    factors: Vec<(String, Shape)>,
    layer_memory: LayerMemory,
    backend: Box<dyn Backend>,
}

impl Decoder {
    /// A decoder with the given weights, by their Hugging Face names; all of them are trainable. Values are copied.
    ///
    /// # Errors
    /// When the configuration is invalid, or a tensor is missing, of another shape or not f32.
    pub fn new(config: ModelConfig, tensors: BTreeMap<String, Tensor>) -> Result<Self, PolicyError> {
        config.validate()?;
        let (weights, compute) = (WeightFormat::F32, Compute::F32);
        let spec = ModelSpec { config, lora: None, trained: Trained::Base, weights, compute };
        let backend = Box::new(cpu::Model::new(spec.clone(), tensors)?);
        Self::on(spec, backend)
    }

    /// A decoder of this kind on a backend that has its weights.
    fn on(spec: ModelSpec, backend: Box<dyn Backend>) -> Result<Self, PolicyError> {
        let own = named(spec.shapes(ParameterSet::Own)?);
        let factors = named(spec.shapes(ParameterSet::Adapters)?);
        Ok(Self { spec, own, factors, layer_memory: LayerMemory::Keep, backend })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.spec.config
    }

    /// Sets what backward passes keep.
    pub fn set_layer_memory(&mut self, layer_memory: LayerMemory) {
        self.layer_memory = layer_memory;
    }

    /// Computes with the model's own weights in another format on the CPU; on a GPU they are in bf16 in any case. Where the
    /// decoder has adapters or is a frozen copy, bf16 keeps the rounded weights alone.
    ///
    /// With weights in bf16 every result has the bits of a decoder in f32 whose weights were rounded before.
    ///
    /// # Errors
    /// When a tensor cannot be read, or f32 is asked for while products are [in bf16](Decoder::set_compute).
    ///
    /// ```
    /// use dapo_policy::{Decoder, ModelConfig, WeightFormat};
    /// let config = ModelConfig { num_hidden_layers: 1, vocab_size: 100, ..ModelConfig::qwen3_0_6b() };
    /// let mut policy = Decoder::random(config, 7)?;
    /// policy.set_weight_format(WeightFormat::Bf16)?;
    /// # Ok::<(), dapo_policy::PolicyError>(())
    /// ```
    pub fn set_weight_format(&mut self, format: WeightFormat) -> Result<(), PolicyError> {
        self.set_formats(format, self.spec.compute)
    }

    /// Multiplies in another format on the CPU; on a GPU products are of numbers in bf16 in any case.
    ///
    /// With products in bf16, too, a log-prob of a rollout equals that of its score bit for bit. Results differ slightly
    /// from those of f32 products.
    ///
    /// # Errors
    /// When the CPU lacks AVX512-BF16, or the weights are not in bf16. Nothing has changed then.
    ///
    /// ```
    /// use dapo_policy::{Compute, Decoder, ModelConfig, WeightFormat};
    /// let config = ModelConfig { num_hidden_layers: 1, vocab_size: 100, ..ModelConfig::qwen3_0_6b() };
    /// let mut policy = Decoder::random(config, 7)?;
    /// policy.set_weight_format(WeightFormat::Bf16)?;
    /// if Compute::Bf16.is_supported() {
    ///     policy.set_compute(Compute::Bf16)?;
    /// }
    /// # Ok::<(), dapo_policy::PolicyError>(())
    /// ```
    pub fn set_compute(&mut self, compute: Compute) -> Result<(), PolicyError> {
        self.set_formats(self.spec.weights, compute)
    }

    fn set_formats(&mut self, weights: WeightFormat, compute: Compute) -> Result<(), PolicyError> {
        let in_bf16 = compute == Compute::Bf16;
        let refused = |found: &str, expected: &str| {
            let (field, found, expected) = ("compute".into(), found.into(), expected.into());
            Err(PolicyError::Setting { field, found, expected })
        };
        if in_bf16 && weights == WeightFormat::F32 {
            return refused("bf16 with weights in f32", "f32, or weights in bf16");
        }
        if !self.is_on_device() && !compute.is_supported() {
            return refused("bf16 on a CPU without AVX512-BF16", "f32, or a CPU with AVX512-BF16");
        }
        self.backend.set_formats(weights, compute)?;
        (self.spec.weights, self.spec.compute) = (weights, compute);
        Ok(())
    }

    /// What backward passes keep.
    pub fn layer_memory(&self) -> LayerMemory {
        self.layer_memory
    }

    /// Log-probs and entropies of the targets, nothing recorded.
    fn score(&self, batch: &TokenBatch, temperature: f32, adapters: Adapters) -> Result<TokenLogprobs, PolicyError> {
        let inputs = batch.inputs(self.config().vocab_size)?;
        check_temperature(temperature)?;
        if inputs.targets.is_empty() {
            return Ok(TokenLogprobs::default());
        }
        self.backend.score(&inputs, temperature, adapters)
    }

    fn check_tokens(&self, token_ids: &[u32], segments: &Segments) -> Result<(), PolicyError> {
        check_total(token_ids, segments)?;
        check_ids("token_ids", token_ids, self.config().vocab_size)
    }

    /// Logits of every token of a packed batch, `[T, V]`: for inspection and tests; training never forms them.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or the ids do not fill the segments.
    pub fn logits(&self, token_ids: &[u32], segments: &Arc<Segments>) -> Result<Tensor, PolicyError> {
        self.check_tokens(token_ids, segments)?;
        let shape = (token_ids.len(), self.config().vocab_size);
        Ok(Tensor::from_vec(self.backend.logits(token_ids, segments)?, shape, &Device::Cpu)?)
    }

    /// The embeddings, the output of every layer but the last, and the final norm's output, each `[T, H]`.
    ///
    /// # Errors
    /// As [`Decoder::logits`], and when the decoder is on a device.
    pub fn hidden_states(&self, token_ids: &[u32], segments: &Arc<Segments>) -> Result<Vec<Tensor>, PolicyError> {
        self.check_tokens(token_ids, segments)?;
        let shape = (token_ids.len(), self.config().hidden_size);
        let states = self.backend.hidden_states(token_ids, segments)?.into_iter();
        states.map(|state| Ok(Tensor::from_vec(state, shape, &Device::Cpu)?)).collect()
    }
}

fn named(shapes: Vec<(String, Vec<usize>)>) -> Vec<(String, Shape)> {
    shapes.into_iter().map(|(name, shape)| (name, shape.into())).collect()
}
