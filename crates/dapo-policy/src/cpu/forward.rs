//! The forward of a layer, of a packed batch, and of one new token for each of many sequences.
//!
//! T tokens, H hidden size, I width of the MLP, d width of a head.

use super::model::Model;
use super::parameter::Parameter;
use super::workspace::{Saved, Scratch, Workspace};
use crate::backend::{Adapters, LayerMemory};
use crate::error::PolicyError;
use dapo_kernels::attention::{self, KvCache, Segments};
use dapo_kernels::buffer::{emptied, sized};
use dapo_kernels::{RotaryTable, rms_norm, rope, swiglu};

/// How a layer's tokens see each other.
pub(super) enum Attend<'a> {
    /// Packed sequences.
    Packed(&'a Segments),
    /// Packed sequences without parents, whose keys and values are also appended to one cache each.
    Prefill(&'a Segments, &'a mut [KvCache]),
    /// One new token per cache.
    Decode(&'a mut [KvCache]),
    /// Several new tokens per cache, and how many of each.
    Extend(&'a mut [KvCache], &'a [usize]),
}

/// What is the same for all layers of a forward.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) table: &'a RotaryTable,
    pub(super) adapters: Adapters,
}

impl Model {
    /// One layer: from `saved.input` to `output`, both `[T, H]`. Without an output, only what a backward needs is computed.
    pub(super) fn layer_forward(
        &self,
        index: usize,
        context: Context<'_>,
        attend: &mut Attend<'_>,
        saved: &mut Saved,
        scratch: &mut Scratch,
        output: Option<&mut Vec<f32>>,
    ) -> Result<(), PolicyError> {
        let (layer, heads, eps) = (&self.layers[index], self.heads(), self.eps());
        let Context { table, adapters } = context;
        let normed = sized(&mut scratch.normed, saved.input.len());
        rms_norm::forward(&saved.input, &layer.input_norm.values()?, eps, normed);
        layer.query.forward(normed, adapters, &mut saved.queries)?;
        layer.key.forward(normed, adapters, &mut saved.keys)?;
        layer.value.forward(normed, adapters, &mut saved.values)?;
        rotate(&mut saved.queries, layer.query_norm.as_ref(), eps, table, &mut saved.plain_queries)?;
        rotate(&mut saved.keys, layer.key_norm.as_ref(), eps, table, &mut saved.plain_keys)?;
        let (queries, keys, values) = (&saved.queries, &saved.keys, &saved.values);
        let attended = sized(&mut saved.attended, queries.len());
        match attend {
            Attend::Packed(segments) => attention::forward(queries, keys, values, heads, segments, attended),
            Attend::Prefill(segments, caches) => {
                let width = heads.key_value * heads.dim;
                for (cache, segment) in caches.iter_mut().zip(segments.list()) {
                    let rows = segment.start * width..(segment.start + segment.len) * width;
                    cache.append(&keys[rows.clone()], &values[rows])?;
                }
                attention::forward(queries, keys, values, heads, segments, attended);
            }
            Attend::Decode(caches) => attention::decode(queries, keys, values, heads, caches, attended)?,
            Attend::Extend(caches, counts) => {
                attention::extend(queries, keys, values, heads, caches, counts, attended)?;
            }
        }
        layer.output.forward(attended, adapters, &mut scratch.projected)?;
        emptied(&mut saved.middle, saved.input.len()).extend_from_slice(&saved.input);
        rms_norm::add_forward(&mut saved.middle, &scratch.projected, &layer.mlp_norm.values()?, eps, normed);
        layer.gate.forward(normed, adapters, &mut saved.gate)?;
        layer.up.forward(normed, adapters, &mut saved.up)?;
        let Some(output) = output else { return Ok(()) };
        let activated = sized(&mut scratch.activated, saved.gate.len());
        swiglu::forward(&saved.gate, &saved.up, activated);
        layer.down.forward(activated, adapters, &mut scratch.projected)?;
        let output = emptied(output, saved.middle.len());
        output.extend(saved.middle.iter().zip(&scratch.projected).map(|(x, y)| x + y));
        Ok(())
    }

    /// All layers over a packed batch, from the embeddings in the workspace's `x` to the last layer's output in the same place.
    /// `each` sees every layer's output; what a backward needs stays in the workspace where `memory` asks for it.
    pub(super) fn layers_forward(
        &self,
        context: Context<'_>,
        segments: &Segments,
        workspace: &mut Workspace,
        memory: Option<LayerMemory>,
        mut each: impl FnMut(&[f32]),
    ) -> Result<(), PolicyError> {
        let Workspace { saved, scratch, inputs, x, .. } = workspace;
        let keep = memory == Some(LayerMemory::Keep);
        let layers = if keep { self.layers.len() } else { 1 };
        saved.resize_with(layers.max(saved.len()), Saved::default);
        inputs.resize_with(if memory == Some(LayerMemory::Recompute) { self.layers.len() } else { 0 }, Vec::new);
        for index in 0..self.layers.len() {
            let saved = &mut saved[if keep { index } else { 0 }];
            std::mem::swap(&mut saved.input, x);
            self.layer_forward(index, context, &mut Attend::Packed(segments), saved, scratch, Some(x))?;
            if let Some(input) = inputs.get_mut(index) {
                std::mem::swap(&mut saved.input, input);
            }
            each(x);
        }
        Ok(())
    }

    /// A forward that keeps nothing: `each` sees the embeddings and every layer's output, `last` the last of them again.
    pub(super) fn forward<T>(
        &self,
        token_ids: &[u32],
        segments: &Segments,
        adapters: Adapters,
        mut each: impl FnMut(&[f32]),
        last: impl FnOnce(&[f32]) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
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

/// Rotates heads in place, after QK-norm where there is one; what they were before it goes to `plain`.
fn rotate(
    x: &mut [f32],
    norm: Option<&Parameter>,
    eps: f32,
    table: &RotaryTable,
    plain: &mut Vec<f32>,
) -> Result<(), PolicyError> {
    let Some(norm) = norm else {
        rope::forward(x, None, table);
        return Ok(());
    };
    emptied(plain, x.len()).extend_from_slice(x);
    rope::forward(x, Some((&norm.values()?, eps)), table);
    Ok(())
}
