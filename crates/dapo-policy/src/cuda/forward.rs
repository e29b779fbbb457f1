//! The forward of a packed batch on the device, and of one new token for each of many sequences.
//!
//! T tokens, H hidden size, I width of the MLP, d width of a head.

use super::array::Array;
use super::cache::{Cache, Places};
use super::compute::Compute;
use super::model::Model;
use super::slabs::Linear;
use super::workspace::{Saved, Scratch, Workspace};
use crate::backend::{Adapters, LayerMemory};

use candle_core::Result;
use dapo_kernels::cuda::attention::{self, Plan};
use dapo_kernels::cuda::gemm::{Form, Matrix, Output, gemm};
use dapo_kernels::cuda::rope::{self, HeadShape, QkNorm, Rotary};
use dapo_kernels::cuda::{In, Out, bias, embedding, rms_norm, swiglu};

/// How a layer's tokens see each other.
pub(super) enum Attend<'a, T> {
    /// Packed sequences.
    Packed(&'a Plan),
    /// Packed sequences, whose keys and values also go to the cache.
    Prefill { plan: &'a Plan, cache: &'a mut Cache<T>, places: Places<'a> },
    /// One new token per sequence.
    Decode { cache: &'a mut Cache<T>, places: Places<'a>, lengths: In<'a, u32>, max_len: usize },
}

/// What a pass is over.
pub(super) struct Pass<'a> {
    pub(super) ids: In<'a, u32>,
    pub(super) positions: In<'a, i32>,
    /// Whether adapters take part.
    pub(super) adapters: Adapters,
}

impl<T: Compute> Model<T> {
    /// y = x · Wᵀ + b, and the adapters' addition. x `[T, in]`; `low` is scratch.
    pub(super) fn linear(
        &self,
        x: In<'_, T>,
        linear: &Linear,
        adapters: Adapters,
        low: &mut Array<T>,
        y: &mut Array<T>,
        width: usize,
    ) -> Result<()> {
        let (gpu, rows) = (&self.gpu, x.len() / width);
        let weight = self.compute[linear.weight].view();
        let out = weight.len() / width;
        let (from, weight) = (Matrix::rows(x.clone(), width), Matrix::rows(weight, width));
        gemm(
            gpu,
            Form::RightTransposed,
            [rows, out, width],
            from,
            weight,
            y.sized(gpu, rows * out)?,
            out,
            Output::Write,
        )?;
        if let Some(bias) = linear.bias {
            bias::add(gpu, y.view_mut()?, self.compute[bias].view())?;
        }
        match &linear.adapters {
            Some(of) if adapters == Adapters::On => self.add_low_rank(x, of, width, low, y, out),
            _ => Ok(()),
        }
    }

    pub(super) fn head_shape(&self, rows: usize) -> HeadShape {
        let heads = self.heads();
        HeadShape { rows, q_heads: heads.query, kv_heads: heads.key_value, head_dim: heads.dim }
    }

    pub(super) fn qk_norm(&self, layer: usize) -> Option<QkNorm<'_, T>> {
        let (query, key) = self.slabs.layers[layer].head_norms?;
        let (q_weight, k_weight) = (self.compute[query].view(), self.compute[key].view());
        Some(QkNorm { q_weight, k_weight, eps: self.eps() })
    }

    pub(super) fn rotary<'a>(&'a self, positions: &In<'a, i32>) -> Rotary<'a> {
        Rotary { table: self.rotary.view(), positions: Some(positions.clone()) }
    }

    pub(super) fn norm(&self, x: In<'_, T>, weight: usize, y: Out<'_, T>) -> Result<()> {
        rms_norm::forward(&self.gpu, x, self.compute[weight].view(), self.eps(), y)
    }

    /// One layer, from its input and that under its first norm in `scratch.normed`: to what the MLP adds to `saved.middle`, in
    /// `scratch.projected`. Without an output, only what a backward needs is computed; `keep` keeps it.
    pub(super) fn layer_forward(
        &self,
        index: usize,
        input: In<'_, T>,
        pass: &Pass<'_>,
        attend: &mut Attend<'_, T>,
        saved: &mut Saved<T>,
        scratch: &mut Scratch<T>,
        keep: bool,
        output: bool,
    ) -> Result<()> {
        let (gpu, layer, width) = (&self.gpu, &self.slabs.layers[index], self.config.hidden_size);
        let tokens = input.len() / width;
        let (adapters, low) = (pass.adapters, &mut scratch.low.t);
        self.linear(scratch.normed.view()?, &layer.qkv, adapters, low, &mut saved.qkv, width)?;
        if keep && layer.head_norms.is_some() {
            let plain = saved.plain_qkv.sized(gpu, saved.qkv.view()?.len())?;
            gpu.copy(saved.qkv.view()?, plain)?;
        }
        let (shape, norm) = (self.head_shape(tokens), self.qk_norm(index));
        rope::forward_in_place(gpu, shape, saved.qkv.view_mut()?, norm, self.rotary(&pass.positions))?;
        self.attend(index, tokens, attend, saved, &mut scratch.decode)?;
        let attended_width = self.heads().query * self.heads().dim;
        let attended = saved.attended.view()?;
        self.linear(attended, &layer.output, adapters, low, &mut scratch.projected, attended_width)?;
        let middle = saved.middle.sized(gpu, tokens * width)?;
        let normed = scratch.normed.sized(gpu, tokens * width)?;
        let weight = self.compute[layer.mlp_norm].view();
        rms_norm::forward_add(gpu, input, scratch.projected.view()?, weight, self.eps(), middle, normed)?;
        self.linear(scratch.normed.view()?, &layer.gate_up, adapters, low, &mut saved.gate_up, width)?;
        if !output {
            return Ok(());
        }
        let inner = self.config.intermediate_size;
        let activated = scratch.activated.sized(gpu, tokens * inner)?;
        swiglu::forward(gpu, saved.gate_up.view()?, inner, activated)?;
        self.linear(scratch.activated.view()?, &layer.down, adapters, low, &mut scratch.projected, inner)
    }

    fn attend(
        &self,
        index: usize,
        tokens: usize,
        attend: &mut Attend<'_, T>,
        saved: &mut Saved<T>,
        decode: &mut Array<f32>,
    ) -> Result<()> {
        let (gpu, heads) = (&self.gpu, self.heads());
        let qkv = saved.qkv.view()?;
        let attended = saved.attended.sized(gpu, tokens * heads.query * heads.dim)?;
        match attend {
            Attend::Packed(plan) => {
                attention::forward(gpu, plan, qkv, attended, saved.lse.sized(gpu, tokens * heads.query)?)
            }
            Attend::Prefill { plan, cache, places } => {
                cache.append(gpu, index, qkv.clone(), places)?;
                attention::forward(gpu, plan, qkv, attended, saved.lse.sized(gpu, tokens * heads.query)?)
            }
            Attend::Decode { cache, places, lengths, max_len } => {
                cache.append(gpu, index, qkv.clone(), places)?;
                let scratch = decode.sized(gpu, attention::scratch_len(heads, tokens, *max_len))?;
                let (k, v) = cache.layer(index)?;
                let table = &places.table;
                attention::decode(gpu, cache.shape, qkv, k, v, table, lengths.clone(), *max_len, scratch, attended)
            }
        }
    }

    /// All layers: the last one's output is in the workspace's `x`; what a backward needs stays where `memory` asks for it.
    pub(super) fn forward(
        &self,
        pass: &Pass<'_>,
        attend: &mut Attend<'_, T>,
        memory: Option<LayerMemory>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let (gpu, width, layers) = (&self.gpu, self.config.hidden_size, self.slabs.layers.len());
        let Workspace { inputs, saved, scratch, x, .. } = workspace;
        let keep_all = memory == Some(LayerMemory::Keep);
        let slot = |kept: bool, layer: usize| if kept { layer } else { 0 };
        inputs.resize_with((slot(memory.is_some(), layers - 1) + 1).max(inputs.len()), Array::default);
        saved.resize_with((slot(keep_all, layers - 1) + 1).max(saved.len()), Saved::default);
        let len = pass.ids.len() * width;
        let table = self.compute[self.slabs.embeddings].view();
        embedding::gather(gpu, table, pass.ids.clone(), width, inputs[0].sized(gpu, len)?)?;
        let first = self.slabs.layers[0].input_norm;
        self.norm(inputs[0].view()?, first, scratch.normed.sized(gpu, len)?)?;
        for index in 0..layers {
            let saved = &mut saved[slot(keep_all, index)];
            let input = inputs[slot(memory.is_some(), index)].view()?;
            self.layer_forward(index, input, pass, attend, saved, scratch, memory.is_some(), true)?;
            let (middle, projected) = (saved.middle.view()?, scratch.projected.view()?);
            if let Some(next) = self.slabs.layers.get(index + 1) {
                let sum = inputs[slot(memory.is_some(), index + 1)].sized(gpu, len)?;
                let weight = self.compute[next.input_norm].view();
                rms_norm::forward_add(
                    gpu,
                    middle,
                    projected,
                    weight,
                    self.eps(),
                    sum,
                    scratch.normed.sized(gpu, len)?,
                )?;
            } else {
                gpu.copy(middle, x.sized(gpu, len)?)?;
                dapo_kernels::cuda::elementwise::axpy(gpu, 1.0, projected, x.view_mut()?)?;
            }
        }
        Ok(())
    }
}
