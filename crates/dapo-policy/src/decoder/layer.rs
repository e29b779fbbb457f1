//! One layer of the decoder: attention and SwiGLU, each after a norm and around a residual.

use super::Decoder;
use super::parameter::{Parameter, Source, Tracking};
use super::projection::Projection;
use crate::lora::{LoraTarget, module};
use crate::{ModelConfig, PolicyError, Segments};
use candle_core::Tensor;
use dapo_kernels::attention::{KvCache, attention, decode_attention};
use dapo_kernels::{RotaryTable, norm_rope, rms_norm, swiglu, with_slice};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) input_norm: Parameter,
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    pub(super) query_norm: Option<Parameter>,
    pub(super) key_norm: Option<Parameter>,
    pub(super) mlp_norm: Parameter,
    gate: Projection,
    up: Projection,
    down: Projection,
}

/// How a layer's tokens see each other.
pub(crate) enum Attend<'a> {
    /// Packed sequences.
    Packed(&'a Arc<Segments>),
    /// Packed sequences without parents, whose keys and values are also appended to one cache each.
    Prefill(&'a Arc<Segments>, &'a mut [KvCache]),
    /// One new token per cache.
    Decode(&'a mut [&'a mut KvCache]),
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
}

impl Decoder {
    /// One layer, `[T, H]` → `[T, H]`.
    pub(crate) fn layer(
        &self,
        index: usize,
        x: &Tensor,
        table: &Arc<RotaryTable>,
        attend: &mut Attend<'_>,
        tracking: Tracking,
    ) -> Result<Tensor, PolicyError> {
        let (layer, heads, eps) = (&self.layers[index], self.heads(), self.config.rms_norm_eps as f32);
        let base = self.base_tracking(tracking);
        let project = |projection: &Projection, x: &Tensor| projection.forward(x, tracking, base);
        let h = rms_norm(x, &layer.input_norm.tensor(base), eps)?;
        let rotate = |x: Tensor, norm: &Option<Parameter>| {
            let norm = norm.as_ref().map(|n| n.tensor(base));
            norm_rope(&x, norm.as_ref().map(|n| (n, eps)), table)
        };
        let q = rotate(project(&layer.query, &h)?, &layer.query_norm)?;
        let k = rotate(project(&layer.key, &h)?, &layer.key_norm)?;
        let v = project(&layer.value, &h)?;
        let attended = match attend {
            Attend::Packed(segments) => attention(&q, &k, &v, heads, segments)?,
            Attend::Prefill(segments, caches) => {
                fill(caches, segments, &k, &v)?;
                attention(&q, &k, &v, heads, segments)?
            }
            Attend::Decode(caches) => decode_attention(&q, &k, &v, heads, caches)?,
        };
        let x = (x + project(&layer.output, &attended)?)?;
        let h = rms_norm(&x, &layer.mlp_norm.tensor(base), eps)?;
        let h = swiglu(&project(&layer.gate, &h)?, &project(&layer.up, &h)?)?;
        Ok((x + project(&layer.down, &h)?)?)
    }
}

fn fill(caches: &mut [KvCache], segments: &Segments, k: &Tensor, v: &Tensor) -> Result<(), PolicyError> {
    let width = k.dim(1)?;
    with_slice(k, |k| {
        with_slice(v, |v| {
            for (cache, segment) in caches.iter_mut().zip(segments.list()) {
                let rows = segment.start * width..(segment.start + segment.len) * width;
                cache.append(&k[rows.clone()], &v[rows])?;
            }
            Ok(())
        })
    })?;
    Ok(())
}
