//! The weights and memory of the model on the CPU.

use super::kept::KeptStore;
use super::layer::Layer;
use super::parameter::{Format, Parameter, Source};
use super::projection::Projection;
use super::workspace::Store;
use crate::backend::{ModelSpec, ParameterSet};
use crate::check::check_ids;
use crate::error::PolicyError;
use crate::lora::LoraConfig;
use candle_core::Tensor;
use dapo_kernels::attention::Heads;
use dapo_kernels::buffer::{emptied, sized};
use dapo_kernels::logprobs::Head;
use dapo_kernels::{RotaryTable, rms_norm};
use std::collections::BTreeMap;

/// The decoder: embeddings, layers of attention and SwiGLU, final norm and language-model head.
#[derive(Debug)]
pub(crate) struct Model {
    pub(super) spec: ModelSpec,
    pub(super) embeddings: Parameter,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Parameter,
    /// `None`: the embeddings serve as head.
    head: Option<Parameter>,
    /// Memory for passes over packed batches.
    pub(super) store: Store,
    /// What generation keeps for backward passes.
    pub(super) kept: KeptStore,
    /// How many values the model's own tensors have.
    pub(super) size: usize,
}

impl Model {
    /// A model with the given weights, by name. Values are copied.
    pub(crate) fn new(spec: ModelSpec, tensors: BTreeMap<String, Tensor>) -> Result<Self, PolicyError> {
        let config = &spec.config;
        let trains_own = spec.trained.set() == Some(ParameterSet::Own);
        let mut source = Source::new(config.parameter_shapes(), tensors, Format::of(&spec), trains_own)?;
        let embeddings = "model.embed_tokens.weight";
        let embeddings =
            if config.tie_word_embeddings { source.take_packed(embeddings)? } else { source.take(embeddings)? };
        let layers =
            (0..config.num_hidden_layers).map(|i| Layer::new(&mut source, config, i)).collect::<Result<_, _>>()?;
        let norm = source.take("model.norm.weight")?;
        let head = if config.tie_word_embeddings { None } else { Some(source.take_packed("lm_head.weight")?) };
        let lora = spec.lora.clone();
        let kept = KeptStore::new(&spec.config);
        let size = spec.config.parameter_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let mut model = Self { spec, embeddings, layers, norm, head, store: Store::default(), kept, size };
        if let Some(lora) = lora {
            model.put_on(&lora, source.rest())?;
        }
        Ok(model)
    }

    /// Computes with the model's own tensors in the format that the specification says, and gives up what is not needed of
    /// them. Adapters stay in f32.
    pub(super) fn apply_formats(&mut self) -> Result<(), PolicyError> {
        let (format, trains_own) = (Format::of(&self.spec), self.trains_own());
        for parameter in self.parameters_mut(ParameterSet::Own) {
            parameter.set_format(format)?;
            if !trains_own {
                parameter.release_values();
            }
        }
        Ok(())
    }

    /// Puts adapters on the projections.
    pub(super) fn put_on(&mut self, lora: &LoraConfig, factors: BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
        self.kept.clear();
        let mut source = Source::new(lora.parameter_shapes(&self.spec.config)?, factors, Format::F32, true)?;
        self.layers.iter_mut().enumerate().try_for_each(|(i, layer)| layer.put_on(&mut source, lora, i))
    }

    pub(super) fn heads(&self) -> Heads {
        let c = &self.spec.config;
        Heads { query: c.num_attention_heads, key_value: c.num_key_value_heads, dim: c.head_dim }
    }

    pub(super) fn eps(&self) -> f32 {
        self.spec.config.rms_norm_eps as f32
    }

    /// Whether the model's own tensors are trained.
    pub(super) fn trains_own(&self) -> bool {
        self.spec.trained.set() == Some(ParameterSet::Own)
    }

    pub(super) fn rotary_table(&self, positions: &[u32]) -> RotaryTable {
        self.spec.config.rotary_table(positions)
    }

    /// Rows of the embedding matrix, `[T, H]`, in place of what `rows` held.
    pub(super) fn embed(&self, token_ids: &[u32], rows: &mut Vec<f32>) -> Result<(), PolicyError> {
        check_ids("token_ids", token_ids, self.spec.config.vocab_size)?;
        let rows = emptied(rows, token_ids.len() * self.spec.config.hidden_size);
        self.embeddings.append_rows(token_ids, rows)
    }

    /// The final norm of rows of width H, in place of what `normed` held.
    pub(super) fn final_norm(&self, x: &[f32], normed: &mut Vec<f32>) -> Result<(), PolicyError> {
        let normed = sized(normed, x.len());
        rms_norm::forward(x, &self.norm.values()?, self.eps(), normed);
        Ok(())
    }

    /// Runs `f` with the language-model head.
    pub(super) fn with_head<T>(
        &self,
        temperature: f32,
        f: impl FnOnce(Head<'_>) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
        f(Head { packed: self.head().packed()?, temperature })
    }

    pub(super) fn head(&self) -> &Parameter {
        self.head.as_ref().unwrap_or(&self.embeddings)
    }

    /// The tensors of a set, in no order.
    pub(super) fn parameters(&self, set: ParameterSet) -> Vec<&Parameter> {
        match set {
            ParameterSet::Own => {
                let layers = self.layers.iter().flat_map(Layer::own);
                [&self.embeddings, &self.norm].into_iter().chain(&self.head).chain(layers).collect()
            }
            ParameterSet::Adapters => {
                let projections = self.layers.iter().flat_map(Layer::projections);
                projections.flat_map(Projection::factors).collect()
            }
        }
    }

    /// The same, to be changed: what generation has kept no longer holds.
    pub(super) fn parameters_mut(&mut self, set: ParameterSet) -> Vec<&mut Parameter> {
        self.kept.clear();
        match set {
            ParameterSet::Own => {
                let layers = self.layers.iter_mut().flat_map(Layer::own_mut);
                [&mut self.embeddings, &mut self.norm].into_iter().chain(&mut self.head).chain(layers).collect()
            }
            ParameterSet::Adapters => {
                let projections = self.layers.iter_mut().flat_map(Layer::projections_mut);
                projections.flat_map(Projection::factors_mut).collect()
            }
        }
    }

    /// How many tensors are trained.
    pub(super) fn trained_len(&self) -> usize {
        self.spec.trained.set().map_or(0, |set| self.parameters(set).len())
    }
}
