//! One layer of the decoder: attention and SwiGLU, each after a norm and around a residual.

use super::parameter::{Parameter, Source};
use super::projection::Projection;
use crate::config::ModelConfig;
use crate::error::PolicyError;
use crate::lora::{LoraConfig, LoraTarget, module};

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) input_norm: Parameter,
    pub(super) query: Projection,
    pub(super) key: Projection,
    pub(super) value: Projection,
    pub(super) output: Projection,
    pub(super) query_norm: Option<Parameter>,
    pub(super) key_norm: Option<Parameter>,
    pub(super) mlp_norm: Parameter,
    pub(super) gate: Projection,
    pub(super) up: Projection,
    pub(super) down: Projection,
}

impl Layer {
    pub(super) fn new(source: &mut Source, config: &ModelConfig, i: usize) -> Result<Self, PolicyError> {
        let p = format!("model.layers.{i}");
        let projection =
            |source: &mut Source, target: LoraTarget, bias: bool| Projection::new(source, &module(i, target), bias);
        let qk_norm = |source: &mut Source, name: &str| {
            if config.qk_norm { source.take(&format!("{p}.self_attn.{name}.weight")).map(Some) } else { Ok(None) }
        };
        Ok(Self {
            input_norm: source.take(&format!("{p}.input_layernorm.weight"))?,
            query: projection(source, LoraTarget::Query, config.qkv_bias)?,
            key: projection(source, LoraTarget::Key, config.qkv_bias)?,
            value: projection(source, LoraTarget::Value, config.qkv_bias)?,
            output: projection(source, LoraTarget::Output, config.o_bias)?,
            query_norm: qk_norm(source, "q_norm")?,
            key_norm: qk_norm(source, "k_norm")?,
            mlp_norm: source.take(&format!("{p}.post_attention_layernorm.weight"))?,
            gate: projection(source, LoraTarget::Gate, config.mlp_bias)?,
            up: projection(source, LoraTarget::Up, config.mlp_bias)?,
            down: projection(source, LoraTarget::Down, config.mlp_bias)?,
        })
    }

    /// In the order of [`LoraTarget::ALL`].
    pub(super) fn projections(&self) -> [&Projection; 7] {
        [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down]
    }

    /// In the order of [`LoraTarget::ALL`].
    pub(super) fn projections_mut(&mut self) -> [&mut Projection; 7] {
        let Self { query, key, value, output, gate, up, down, .. } = self;
        [query, key, value, output, gate, up, down]
    }

    /// Puts layer i's adapters on the projections that get one.
    pub(super) fn put_on(&mut self, source: &mut Source, lora: &LoraConfig, i: usize) -> Result<(), PolicyError> {
        for (target, projection) in LoraTarget::ALL.into_iter().zip(self.projections_mut()) {
            if lora.targets.contains(&target) {
                projection.put_on(source, &module(i, target), lora.scale())?;
            }
        }
        Ok(())
    }

    /// The layer's tensors, without adapters.
    pub(super) fn own(&self) -> impl Iterator<Item = &Parameter> {
        let norms = [&self.input_norm, &self.mlp_norm].into_iter().chain(&self.query_norm).chain(&self.key_norm);
        norms.chain(self.projections().into_iter().flat_map(Projection::own))
    }

    /// The same, to be changed.
    pub(super) fn own_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let Self { input_norm, query, key, value, output, query_norm, key_norm, mlp_norm, gate, up, down } = self;
        let norms = [input_norm, mlp_norm].into_iter().chain(query_norm).chain(key_norm);
        norms.chain([query, key, value, output, gate, up, down].into_iter().flat_map(Projection::own_mut))
    }
}
