//! The decoder: embeddings, layers of attention and SwiGLU, final norm and language-model head.
//!
//! T tokens of a packed batch, H hidden size, V vocabulary.

mod adapters;
mod backward;
mod forward;
mod layer;
mod parameter;
mod placement;
mod projection;
mod reference;
mod weights;
mod workspace;

pub(crate) use forward::{Attend, Context};
pub(crate) use parameter::Parameter;
pub(crate) use projection::Adapters;
pub use workspace::KEPT_BYTES;
pub(crate) use workspace::{Rows, Saved, Scratch, Workspace, sized};

use crate::engine::Engine;
use crate::lora::LoraConfig;
use crate::{Gradients, ModelConfig, PolicyError, Segments};
use candle_core::Tensor;
use dapo_kernels::attention::Heads;
use dapo_kernels::logprobs::Head;
use dapo_kernels::{RotaryTable, rms_norm};
use layer::Layer;
use parameter::Source;
use projection::Packed;
use std::collections::BTreeMap;
use std::sync::Arc;
use workspace::Store;

/// What a backward pass keeps of each layer's forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerMemory {
    /// All intermediate values.
    #[default]
    Keep,
    /// The layer's input only; the rest is computed again (about a third more work, a fraction of the memory).
    Recompute,
}

/// Which tensors are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trained {
    /// The model's own.
    Base,
    /// Its adapters.
    Adapters,
    /// None: a reference.
    Nothing,
}

/// A Qwen3, Qwen2.5 or Llama decoder in f32 whose weights, or low-rank adapters, can be trained.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    lora: Option<LoraConfig>,
    trained: Trained,
    embeddings: Parameter,
    layers: Vec<Layer>,
    norm: Parameter,
    /// `None`: the embeddings serve as head.
    head: Option<Parameter>,
    packed_head: Packed,
    layer_memory: LayerMemory,
    store: Store,
    /// The model on a device; the tensors above that are trained are then those it began with.
    engine: Option<Box<dyn Engine>>,
}

impl Decoder {
    /// A decoder with the given weights, by their Hugging Face names; all of them are trainable. Values are copied.
    ///
    /// # Errors
    /// When the configuration is invalid, or a tensor is missing, of another shape or not f32.
    pub fn new(config: ModelConfig, tensors: BTreeMap<String, Tensor>) -> Result<Self, PolicyError> {
        config.validate()?;
        let mut source = Source::new(config.parameter_shapes(), tensors)?;
        let embeddings = source.take("model.embed_tokens.weight")?;
        let layers =
            (0..config.num_hidden_layers).map(|i| Layer::new(&mut source, &config, i)).collect::<Result<_, _>>()?;
        let norm = source.take("model.norm.weight")?;
        let head = if config.tie_word_embeddings { None } else { Some(source.take("lm_head.weight")?) };
        let packed_head = Packed::default();
        let (lora, trained, layer_memory) = (None, Trained::Base, LayerMemory::Keep);
        let store = Store::default();
        let engine = None;
        Ok(Self { config, lora, trained, embeddings, layers, norm, head, packed_head, layer_memory, store, engine })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Sets what backward passes keep.
    pub fn set_layer_memory(&mut self, layer_memory: LayerMemory) {
        self.layer_memory = layer_memory;
    }

    pub(crate) fn layer_memory(&self) -> LayerMemory {
        self.layer_memory
    }

    pub(crate) fn heads(&self) -> Heads {
        let c = &self.config;
        Heads { query: c.num_attention_heads, key_value: c.num_key_value_heads, dim: c.head_dim }
    }

    pub(crate) fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// Memory for passes over packed batches.
    pub(crate) fn workspace(&self) -> &Store {
        &self.store
    }

    pub(crate) fn rotary_table(&self, positions: &[u32]) -> RotaryTable {
        RotaryTable::new(positions, self.config.head_dim, self.config.rope_theta)
    }

    /// Rows of the embedding matrix, `[T, H]`, in place of what `rows` held.
    pub(crate) fn embed(&self, token_ids: &[u32], rows: &mut Vec<f32>) -> Result<(), PolicyError> {
        let (vocab, width) = (self.config.vocab_size, self.config.hidden_size);
        check_ids("token_ids", token_ids, vocab)?;
        let table = self.embeddings.values()?;
        rows.clear();
        for token in token_ids {
            rows.extend_from_slice(&table[*token as usize * width..][..width]);
        }
        Ok(())
    }

    /// The final norm of rows of width H, in place of what `normed` held.
    pub(crate) fn final_norm(&self, x: &[f32], normed: &mut Vec<f32>) -> Result<(), PolicyError> {
        let normed = sized(normed, x.len());
        rms_norm::forward(x, &self.norm.values()?, self.config.rms_norm_eps as f32, normed);
        Ok(())
    }

    /// Adds the gradient of the final norm's input to `d_x`, and that of its weight where it is trained.
    pub(crate) fn final_norm_backward(
        &self,
        x: &[f32],
        d_normed: &[f32],
        d_x: &mut [f32],
        gradients: &mut Gradients,
    ) -> Result<(), PolicyError> {
        let eps = self.config.rms_norm_eps as f32;
        backward::norm_backward(x, &self.norm, d_normed, eps, d_x, self.trained, gradients)
    }

    /// Runs `f` with the language-model head.
    pub(crate) fn with_head<T>(
        &self,
        temperature: f32,
        f: impl FnOnce(Head<'_>) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
        let parameter = self.head_parameter();
        let (weight, packed) = (parameter.values()?, self.packed_head.of(&parameter.var)?);
        f(Head { weight: &weight, packed, temperature })
    }

    pub(crate) fn head_parameter(&self) -> &Parameter {
        self.head.as_ref().unwrap_or(&self.embeddings)
    }

    pub(crate) fn embedding_parameter(&self) -> &Parameter {
        &self.embeddings
    }

    /// Logits of every token of a packed batch, `[T, V]`: for inspection and tests; training never forms them.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or the ids do not fill the segments.
    pub fn logits(&self, token_ids: &[u32], segments: &Arc<Segments>) -> Result<Tensor, PolicyError> {
        let shape = (token_ids.len(), self.config.vocab_size);
        if let Some(engine) = &self.engine {
            check_total(token_ids, segments)?;
            check_ids("token_ids", token_ids, self.config.vocab_size)?;
            return Ok(Tensor::from_vec(engine.logits(token_ids, segments)?, shape, self.embeddings.var.device())?);
        }
        let hidden = self.hidden_states(token_ids, segments)?.pop();
        let hidden = hidden.ok_or_else(|| PolicyError::Internal("no hidden states".into()))?;
        let mut logits = Vec::new();
        self.with_head(1.0, |head| {
            let (vocab, stride) = (self.config.vocab_size, head.stride());
            head.logits(&dapo_kernels::values(&hidden)?, &mut logits);
            for row in 0..token_ids.len() {
                logits.copy_within(row * stride..row * stride + vocab, row * vocab);
            }
            logits.truncate(token_ids.len() * vocab);
            Ok(())
        })?;
        Ok(Tensor::from_vec(logits, shape, hidden.device())?)
    }

    /// The embeddings, the output of every layer but the last, and the final norm's output, each `[T, H]`.
    ///
    /// # Errors
    /// As [`Decoder::logits`], and when the decoder is on a device.
    pub fn hidden_states(&self, token_ids: &[u32], segments: &Arc<Segments>) -> Result<Vec<Tensor>, PolicyError> {
        if self.engine.is_some() {
            return Err(PolicyError::Setting {
                field: "device".into(),
                found: "a GPU".into(),
                expected: "cpu, to look at hidden states".into(),
            });
        }
        let (mut states, mut normed) = (Vec::new(), Vec::new());
        self.forward(
            token_ids,
            segments,
            Adapters::On,
            |x| states.push(x.to_vec()),
            |x| self.final_norm(x, &mut normed),
        )?;
        // The last layer's output is seen after the norm.
        states.pop();
        states.push(normed);
        let shape = (token_ids.len(), self.config.hidden_size);
        let tensor = |x| Ok(Tensor::from_vec(x, shape, self.embeddings.var.device())?);
        states.into_iter().map(tensor).collect()
    }

    /// A forward that keeps nothing: `each` sees the embeddings and every layer's output, `last` the last of them again.
    pub(crate) fn forward<T>(
        &self,
        token_ids: &[u32],
        segments: &Segments,
        adapters: Adapters,
        mut each: impl FnMut(&[f32]),
        last: impl FnOnce(&[f32]) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
        check_total(token_ids, segments)?;
        let table = self.rotary_table(&segments.positions());
        let mut workspace = self.store.take();
        self.embed(token_ids, &mut workspace.x)?;
        each(&workspace.x);
        let context = Context { table: &table, adapters };
        self.layers_forward(context, segments, &mut workspace, None, each)?;
        let last = last(&workspace.x);
        self.store.put(workspace);
        last
    }
}

/// Fails where an id is outside the vocabulary.
pub(crate) fn check_ids(field: &str, ids: &[u32], vocab: usize) -> Result<(), PolicyError> {
    match ids.iter().position(|id| *id as usize >= vocab) {
        None => Ok(()),
        Some(i) => Err(PolicyError::Setting {
            field: format!("{field}[{i}]"),
            found: ids[i].to_string(),
            expected: format!("an id below the vocabulary size, {vocab}"),
        }),
    }
}

/// Fails when the tokens do not fill the segments.
pub(crate) fn check_total(token_ids: &[u32], segments: &Segments) -> Result<(), PolicyError> {
    if token_ids.len() == segments.total() {
        return Ok(());
    }
    Err(PolicyError::Setting {
        field: "token_ids".into(),
        found: format!("{} tokens", token_ids.len()),
        expected: format!("the segments' {}", segments.total()),
    })
}
