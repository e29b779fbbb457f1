//! The backward of a packed batch on the device, written out: gradients go straight to where they are accumulated.
//!
//! Shapes as in the forward; d_x is the gradient of x.

use super::array::Array;
use super::compute::Compute;
use super::forward::{Attend, Pass};
use super::gradients::CudaGradients;
use super::model::Model;
use super::slabs::Linear;
use super::workspace::{LowRank, Saved, Scratch, Workspace};
use crate::backend::LayerMemory;
use candle_core::Result;
use dapo_kernels::cuda::attention::{self, Plan};
use dapo_kernels::cuda::gemm::{Form, Matrix, Output, gemm};
use dapo_kernels::cuda::rms_norm::{InputGradient, WeightGradient};
use dapo_kernels::cuda::rope::{self, QkNormGradient};
use dapo_kernels::cuda::{In, Out, bias, embedding, rms_norm, swiglu};

impl<T: Compute> Model<T> {
    /// The way back through projections that read the same: dx from their gradient dy, and the gradients of what is trained of
    /// them. x `[T, in]`, dy `[T, out]`; `low` is scratch.
    fn linear_backward(
        &self,
        x: &In<'_, T>,
        dy: &In<'_, T>,
        linear: &Linear,
        low: &mut LowRank<T>,
        dx: &mut Array<T>,
        width: usize,
        gradients: &mut CudaGradients,
    ) -> Result<()> {
        let (gpu, rows, out) = (&self.gpu, x.len() / width, self.slabs.lens[linear.weight] / width);
        if self.slabs.trains(linear.weight) {
            let (dw, into) = gradients.target(linear.weight);
            let (a, b) = (Matrix::rows(dy.clone(), out), Matrix::rows(x.clone(), width));
            gemm(gpu, Form::LeftTransposed, [out, width, rows], a, b, dw, width, into)?;
            if let Some(bias) = linear.bias {
                bias::accumulate(gpu, dy.clone(), gradients.adding(gpu, bias)?)?;
            }
        }
        let weight = Matrix::rows(self.compute[linear.weight].view(), width);
        let to = dx.sized(gpu, rows * width)?;
        gemm(gpu, Form::Plain, [rows, width, out], Matrix::rows(dy.clone(), out), weight, to, width, Output::Write)?;
        match &linear.adapters {
            Some(of) => self.low_rank_backward(x, dy, of, width, out, low, dx, gradients),
            None => Ok(()),
        }
    }

    /// The gradients of a norm's input and, where it is trained, of its weight.
    pub(super) fn norm_backward(
        &self,
        x: In<'_, T>,
        weight: usize,
        d_normed: In<'_, T>,
        dx: InputGradient<'_, T>,
        scratch: &mut Array<f32>,
        gradients: &mut CudaGradients,
    ) -> Result<()> {
        let (gpu, width) = (&self.gpu, self.config.hidden_size);
        let d_weight = if self.slabs.trains(weight) {
            let scratch = scratch.sized(gpu, rms_norm::scratch_len(x.len() / width, width))?;
            Some(WeightGradient { weight: gradients.adding(gpu, weight)?, scratch })
        } else {
            None
        };
        rms_norm::backward(gpu, x, self.compute[weight].view(), self.eps(), d_normed, dx, d_weight)
    }

    /// One layer: turns the gradient `d_x` of its output into that of its input, and adds up those of its parameters. Uses up
    /// what was saved.
    fn layer_backward(
        &self,
        index: usize,
        input: In<'_, T>,
        pass: &Pass<'_>,
        plan: &Plan,
        saved: &mut Saved<T>,
        scratch: &mut Scratch<T>,
        d_x: &mut Array<T>,
        gradients: &mut CudaGradients,
    ) -> Result<()> {
        let (gpu, layer, c) = (&self.gpu, &self.slabs.layers[index], &self.config);
        let (width, inner, tokens) = (c.hidden_size, c.intermediate_size, input.len() / c.hidden_size);
        let heads = self.heads();
        let attended_width = heads.query * heads.dim;

        let Scratch { activated, d_activated, normed, projected, d_attended, delta, d_qkv, norm, low, .. } = scratch;
        swiglu::forward(gpu, saved.gate_up.view()?, inner, activated.sized(gpu, tokens * inner)?)?;
        self.linear_backward(&activated.view()?, &d_x.view()?, &layer.down, low, d_activated, inner, gradients)?;
        swiglu::backward_in_place(gpu, saved.gate_up.view_mut()?, inner, d_activated.view()?)?;
        self.norm(saved.middle.view()?, layer.mlp_norm, normed.sized(gpu, tokens * width)?)?;
        let d_gate_up = saved.gate_up.view()?;
        self.linear_backward(&normed.view()?, &d_gate_up, &layer.gate_up, low, projected, width, gradients)?;
        let into = InputGradient::Add(d_x.view_mut()?);
        self.norm_backward(saved.middle.view()?, layer.mlp_norm, projected.view()?, into, norm, gradients)?;

        let attended = saved.attended.view()?;
        self.linear_backward(&attended, &d_x.view()?, &layer.output, low, d_attended, attended_width, gradients)?;
        let delta = delta.sized(gpu, tokens * heads.query)?;
        let kept = attention::Saved { qkv: saved.qkv.view()?, out: saved.attended.view()?, lse: saved.lse.view()? };
        let to = d_qkv.sized(gpu, saved.qkv.view()?.len())?;
        attention::backward(gpu, plan, kept, d_attended.view()?, delta, to)?;
        self.rotate_backward(index, &pass.positions, tokens, saved, scratch, gradients)?;

        let Scratch { normed, projected, d_qkv, norm, low, .. } = scratch;
        self.norm(input.clone(), layer.input_norm, normed.sized(gpu, tokens * width)?)?;
        self.linear_backward(&normed.view()?, &d_qkv.view()?, &layer.qkv, low, projected, width, gradients)?;
        let into = InputGradient::Add(d_x.view_mut()?);
        self.norm_backward(input, layer.input_norm, projected.view()?, into, norm, gradients)
    }

    /// Undoes the rotation and QK-norm of queries' and keys' gradients, in place.
    fn rotate_backward(
        &self,
        index: usize,
        positions: &In<'_, i32>,
        tokens: usize,
        saved: &Saved<T>,
        scratch: &mut Scratch<T>,
        gradients: &mut CudaGradients,
    ) -> Result<()> {
        let (gpu, shape) = (&self.gpu, self.head_shape(tokens));
        let Scratch { d_qkv, head_norms, sums, .. } = scratch;
        let rotary = self.rotary(positions);
        let Some((query, key)) = self.slabs.layers[index].head_norms else {
            return rope::backward_in_place::<T>(gpu, shape, saved.qkv.view()?, None, rotary, d_qkv.view_mut()?, None);
        };
        let into = if self.slabs.trains(query) {
            let scratch = head_norms.sized(gpu, rope::scratch_len::<T>(&shape))?;
            let sums = sums.sized(gpu, 2 * shape.head_dim)?;
            let (q_weight, k_weight) = gradients.adding_two(gpu, query, key)?;
            Some(QkNormGradient { q_weight, k_weight, scratch, sums })
        } else {
            None
        };
        let plain = saved.plain_qkv.view()?;
        rope::backward_in_place(gpu, shape, plain, self.qk_norm(index), rotary, d_qkv.view_mut()?, into)
    }

    /// All layers of a forward that kept what a backward needs: turns the gradient of the last one's output, in the workspace's
    /// `x`, into that of the embeddings' rows.
    pub(super) fn layers_backward(
        &self,
        pass: &Pass<'_>,
        plan: &Plan,
        memory: LayerMemory,
        workspace: &mut Workspace<T>,
        gradients: &mut CudaGradients,
    ) -> Result<()> {
        let Workspace { inputs, saved, scratch, x: d_x, .. } = workspace;
        let gpu = &self.gpu;
        for index in (0..self.slabs.layers.len()).rev() {
            let input = inputs[index].view()?;
            let saved = &mut saved[if memory == LayerMemory::Keep { index } else { 0 }];
            if memory == LayerMemory::Recompute {
                let normed = scratch.normed.sized(gpu, input.len())?;
                self.norm(input.clone(), self.slabs.layers[index].input_norm, normed)?;
                let attend = &mut Attend::Packed(plan);
                self.layer_forward(index, input.clone(), pass, attend, saved, scratch, true, false)?;
            }
            self.layer_backward(index, input, pass, plan, saved, scratch, d_x, gradients)?;
        }
        Ok(())
    }

    /// Adds the gradient of the embeddings' rows to the table's.
    pub(super) fn embeddings_backward(
        &self,
        token_ids: &[u32],
        d_x: In<'_, T>,
        gradients: &mut CudaGradients,
    ) -> Result<()> {
        let occurrences = embedding::Occurrences::of(token_ids).upload(&self.gpu)?;
        let sum: Out<'_, f32> = gradients.adding(&self.gpu, self.slabs.embeddings)?;
        embedding::accumulate(&self.gpu, d_x, &occurrences, self.config.hidden_size, sum)
    }
}
