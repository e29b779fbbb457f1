//! What a decoder asks of the device that it is on: the CPU and CUDA answer as equals.
//!
//! A backend owns the model's weights; they are read and written through it alone, so that nobody holds a stale copy.
//! Gradients and moments are made by the backend that fills them, and opaque to everybody else.

use crate::batch::{Inputs, Loss, TokenLogprobs};
use crate::config::ModelConfig;
use crate::device::Device;
use crate::error::PolicyError;
use crate::generator::Generator;
use crate::gradients::Gradients;
use crate::lora::LoraConfig;
use crate::moments::Moments;
use crate::request::{GenerationConfig, Request};
use crate::value_head::{ValueHead, ValueLossFn};
use candle_core::Tensor;
use dapo_kernels::adamw::AdamWStep;
use dapo_kernels::attention::Segments;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a backward pass keeps of each layer's forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LayerMemory {
    /// All intermediate values.
    #[default]
    Keep,
    /// The layer's input only; the rest is computed again (about a third more work, a fraction of the memory).
    Recompute,
}

/// In what format the CPU computes with the model's own weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WeightFormat {
    /// As they are.
    #[default]
    F32,
    /// Rounded to the nearest bf16, in rollouts and in training: norms and biases, too, as in a model in bf16 of torch.
    /// Updates change f32 values, which are rounded again; of weights that are not trained the rounded ones alone are kept.
    /// Adapters, activations, gradients and sums are in f32.
    Bf16,
}

/// In what format the CPU multiplies in the model's own linear layers and head, forward and backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Compute {
    /// f32.
    #[default]
    F32,
    /// bf16: inputs and gradients are rounded to the nearest bf16 as the weights are, and products of pairs of numbers are
    /// summed in f32. Needs [`WeightFormat::Bf16`] and a CPU with AVX512-BF16. Attention, norms and adapters are in f32.
    Bf16,
}

impl Compute {
    /// Whether this CPU can compute so.
    pub fn is_supported(self) -> bool {
        self == Self::F32 || dapo_kernels::bf16::has_products()
    }
}

/// Which tensors are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trained {
    /// The model's own.
    Base,
    /// The adapters.
    Adapters,
    /// None: a reference.
    Nothing,
}

impl Trained {
    /// The set of tensors that are trained.
    pub(crate) fn set(self) -> Option<ParameterSet> {
        match self {
            Self::Base => Some(ParameterSet::Own),
            Self::Adapters => Some(ParameterSet::Adapters),
            Self::Nothing => None,
        }
    }
}

/// Whether adapters take part in a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adapters {
    /// They do, where there are any.
    On,
    /// The model without them.
    Off,
}

/// Tensors that are numbered together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterSet {
    /// The model's own, in the order of [`ModelConfig::parameter_shapes`].
    Own,
    /// The adapters' factors, in the order of [`LoraConfig::parameter_shapes`].
    Adapters,
}

/// A tensor of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParameterId {
    pub(crate) set: ParameterSet,
    /// Its number in the set.
    pub(crate) index: usize,
}

/// What a model consists of, whatever its weights.
#[derive(Clone, Debug)]
pub(crate) struct ModelSpec {
    pub(crate) config: ModelConfig,
    pub(crate) lora: Option<LoraConfig>,
    pub(crate) trained: Trained,
    /// Of the model's own tensors on the CPU.
    pub(crate) weights: WeightFormat,
    /// Of products with them.
    pub(crate) compute: Compute,
}

impl ModelSpec {
    /// Names and shapes of a set's tensors.
    pub(crate) fn shapes(&self, set: ParameterSet) -> Result<Vec<(String, Vec<usize>)>, PolicyError> {
        match (set, &self.lora) {
            (ParameterSet::Own, _) => Ok(self.config.parameter_shapes()),
            (ParameterSet::Adapters, Some(lora)) => lora.parameter_shapes(&self.config),
            (ParameterSet::Adapters, None) => Ok(Vec::new()),
        }
    }
}

/// Log-probs and entropies of the targets, shown to a loss chunk by chunk.
pub(crate) struct LogprobPass<'a> {
    pub(crate) temperature: f32,
    pub(crate) loss: &'a mut Loss<'a>,
}

/// Values of the states that the targets are chosen in, shown to a loss all at once.
pub(crate) struct ValuePass<'a> {
    pub(crate) head: &'a mut ValueHead,
    pub(crate) loss: &'a mut ValueLossFn<'a>,
}

/// What a backward pass starts from.
pub(crate) struct Outputs<'a> {
    pub(crate) logprobs: Option<LogprobPass<'a>>,
    pub(crate) values: Option<ValuePass<'a>>,
}

/// What is done with a generator.
pub(crate) type Generation<'a> = dyn FnMut(&mut dyn Generator) -> Result<(), PolicyError> + Send + 'a;

/// A model on a device.
///
/// Arguments have been checked: token ids are in the vocabulary and fill their segments, temperatures are positive,
/// requests fit the model. A gradient or moment is named by its parameter's number among those that are trained.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// Where it computes.
    fn device(&self) -> Device;

    /// Whether a completion's log-probs are those of its score, bit for bit.
    fn exact_rollout(&self) -> bool;

    /// Puts adapters on the model, which alone are trained from now on. `factors` by name.
    fn adapt(&mut self, lora: &LoraConfig, factors: BTreeMap<String, Tensor>) -> Result<(), PolicyError>;

    /// Computes with the model's own tensors in another format, and multiplies in another one. A GPU computes in its own.
    fn set_formats(&mut self, weights: WeightFormat, compute: Compute) -> Result<(), PolicyError>;

    /// A model of the same configuration on the same device that trains nothing, with these weights of its own, by name.
    fn frozen(&self, tensors: BTreeMap<String, Tensor>) -> Result<Box<dyn Backend>, PolicyError>;

    /// A tensor's present values, in f32 on the host: a handle where they are there as they were given, a copy otherwise. Of
    /// weights that are kept in bf16 alone the rounded values.
    fn read(&self, parameter: ParameterId) -> Result<Tensor, PolicyError>;

    /// Gives a tensor other values.
    fn write(&mut self, parameter: ParameterId, values: &[f32]) -> Result<(), PolicyError>;

    /// The same, and keeps the rounded ones alone where it computes with values rounded from others that it can do without.
    fn write_rounded(&mut self, parameter: ParameterId, values: &[f32]) -> Result<(), PolicyError> {
        self.write(parameter, values)
    }

    /// Log-probs and entropies of the targets, of which there is at least one.
    fn score(&self, inputs: &Inputs, temperature: f32, adapters: Adapters) -> Result<TokenLogprobs, PolicyError>;

    /// A value head's values of the states that the targets are chosen in.
    fn values(&self, inputs: &Inputs, head: &ValueHead) -> Result<Vec<f32>, PolicyError>;

    /// A forward whose outputs are shown to their losses, and the way back.
    fn backward(
        &self,
        inputs: &Inputs,
        memory: LayerMemory,
        gradients: &mut Gradients,
        outputs: Outputs<'_>,
    ) -> Result<(), PolicyError>;

    /// Lets `work` generate with memory that is planned for these requests, of which at least one has samples.
    fn generate(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        work: &mut Generation<'_>,
    ) -> Result<(), PolicyError>;

    /// Gives up the activations that generation kept of completions which are not wanted, by draw and sample. Without effect
    /// where none are kept.
    fn release_activations(&self, _is_wanted: &dyn Fn(u64, usize) -> bool) {}

    /// Tokens whose activations are kept.
    fn kept_tokens(&self) -> usize {
        0
    }

    /// Logits of every token of a packed batch, `[T, V]`.
    fn logits(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<f32>, PolicyError>;

    /// The embeddings, the output of every layer but the last, and the final norm's output, each `[T, H]`.
    fn hidden_states(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<Vec<f32>>, PolicyError>;

    /// A gradient on the host; `None` before any was added.
    fn gradient(&self, gradients: &Gradients, index: usize) -> Result<Option<Tensor>, PolicyError>;

    /// Replaces a gradient; fails where a length differs.
    fn set_gradient(&self, gradients: &mut Gradients, index: usize, values: &[f32]) -> Result<(), PolicyError>;

    /// Zeros for everything that is trained.
    fn moments(&self) -> Result<Moments, PolicyError>;

    fn read_moments(&self, moments: &Moments, index: usize) -> Result<(Vec<f32>, Vec<f32>), PolicyError>;

    /// Fails where a length differs.
    fn write_moments(&self, moments: &mut Moments, index: usize, m: &[f32], v: &[f32]) -> Result<(), PolicyError>;

    /// √Σ w² over everything that is trained.
    fn weights_norm(&self) -> Result<f64, PolicyError>;

    /// Clips the gradients by their global norm and updates every tensor that has one; returns the norm before clipping.
    /// Nothing changes where that is not finite. `beside` is Σ g² of gradients kept elsewhere that the norm includes.
    fn adamw(
        &mut self,
        gradients: &Gradients,
        moments: &mut Moments,
        step: &AdamWStep,
        max_norm: f64,
        beside: f64,
    ) -> Result<f64, PolicyError>;
}
