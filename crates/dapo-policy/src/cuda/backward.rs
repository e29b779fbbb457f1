//! The backward of a packed batch on the device, written out: gradients go straight to where they are accumulated.
//!
//! Shapes as in the forward; d_x is the gradient of x.

use super::array::Array;
use super::compute::Compute;
use super::forward::{Attend, Tokens};
use super::gradients::DeviceGradients;
use super::model::Model;
use super::workspace::{Saved, Scratch, Workspace};
use crate::LayerMemory;
use candle_core::Result;
use dapo_kernels::cuda::attention::{self, Plan};
use dapo_kernels::cuda::gemm::{Form, Matrix, Output, gemm};
use dapo_kernels::cuda::rms_norm::InputGradient;
use dapo_kernels::cuda::rope::{self, QkNormGradient};
use dapo_kernels::cuda::{In, Out, bias, embedding, rms_norm, swiglu};

impl<T: Compute> Model<T> {
    /// dx = dy · W, with W `[out, width]`.
    pub(super) fn linear_input(&self, dy: In<'_, T>, weight: usize, width: usize, dx: &mut Array<T>) -> Result<()> {
        let weight = self.compute[weight].view();
        let out = weight.len() / width;
        let rows = dy.len() / out;
        let dx = dx.sized(&self.gpu, rows * width)?;
        let (dy, weight) = (Matrix::rows(dy, out), Matrix::rows(weight, width));
        gemm(&self.gpu, Form::Plain, [rows, width, out], dy, weight, dx, width, Output::Write)
    }

    /// The gradients of W and b, for the input and the gradient of the output.
    fn linear_weights(
        &self,
        x: In<'_, T>,
        dy: In<'_, T>,
        (weight, bias): (usize, Option<usize>),
        width: usize,
        gradients: &mut DeviceGradients,
    ) -> Result<()> {
        let (rows, out) = (x.len() / width, self.slabs.lens[weight] / width);
        let (dw, into) = gradients.target(weight);
        let (a, b) = (Matrix::rows(dy.clone(), out), Matrix::rows(x, width));
        gemm(&self.gpu, Form::LeftTransposed, [out, width, rows], a, b, dw, width, into)?;
        match bias {
            Some(bias) => bias::accumulate(&self.gpu, dy, gradients.adding(&self.gpu, bias)?),
            None => Ok(()),
        }
    }

    /// The gradients of a norm's input and weight.
    pub(super) fn norm_backward(
        &self,
        x: In<'_, T>,
        weight: usize,
        d_normed: In<'_, T>,
        dx: InputGradient<'_, T>,
        scratch: &mut Array<f32>,
        gradients: &mut DeviceGradients,
    ) -> Result<()> {
        let (gpu, width) = (&self.gpu, self.config.hidden_size);
        let scratch = scratch.sized(gpu, rms_norm::scratch_len(x.len() / width, width))?;
        let d_weight = gradients.adding(gpu, weight)?;
        rms_norm::backward(gpu, x, self.compute[weight].view(), self.eps(), d_normed, dx, d_weight, scratch)
    }

    /// One layer: turns the gradient `d_x` of its output into that of its input, and adds up those of its parameters. Uses up
    /// what was saved.
    fn layer_backward(
        &self,
        index: usize,
        input: In<'_, T>,
        positions: &In<'_, i32>,
        plan: &Plan,
        saved: &mut Saved<T>,
        scratch: &mut Scratch<T>,
        d_x: &mut Array<T>,
        gradients: &mut DeviceGradients,
    ) -> Result<()> {
        let (gpu, layer, c) = (&self.gpu, &self.slabs.layers[index], &self.config);
        let (width, inner, tokens) = (c.hidden_size, c.intermediate_size, input.len() / c.hidden_size);
        let heads = self.heads();
        let attended_width = heads.query * heads.dim;

        swiglu::forward(gpu, saved.gate_up.view()?, inner, scratch.activated.sized(gpu, tokens * inner)?)?;
        self.linear_weights(scratch.activated.view()?, d_x.view()?, (layer.down, layer.down_bias), inner, gradients)?;
        self.linear_input(d_x.view()?, layer.down, inner, &mut scratch.d_activated)?;
        swiglu::backward_in_place(gpu, saved.gate_up.view_mut()?, inner, scratch.d_activated.view()?)?;
        self.norm(saved.middle.view()?, layer.mlp_norm, scratch.normed.sized(gpu, tokens * width)?)?;
        let (normed, d_gate_up) = (scratch.normed.view()?, saved.gate_up.view()?);
        self.linear_weights(normed, d_gate_up.clone(), (layer.gate_up, layer.gate_up_bias), width, gradients)?;
        self.linear_input(d_gate_up, layer.gate_up, width, &mut scratch.projected)?;
        let (middle, d_normed) = (saved.middle.view()?, scratch.projected.view()?);
        let into = InputGradient::Add(d_x.view_mut()?);
        self.norm_backward(middle, layer.mlp_norm, d_normed, into, &mut scratch.norm, gradients)?;

        let output = (layer.output, layer.output_bias);
        self.linear_weights(saved.attended.view()?, d_x.view()?, output, attended_width, gradients)?;
        self.linear_input(d_x.view()?, layer.output, attended_width, &mut scratch.d_attended)?;
        let delta = scratch.delta.sized(gpu, tokens * heads.query)?;
        let d_qkv = scratch.d_qkv.sized(gpu, saved.qkv.view()?.len())?;
        let kept = attention::Saved { qkv: saved.qkv.view()?, out: saved.attended.view()?, lse: saved.lse.view()? };
        attention::backward(gpu, plan, kept, scratch.d_attended.view()?, delta, d_qkv)?;
        self.rotate_backward(index, positions, tokens, saved, scratch, gradients)?;

        self.norm(input.clone(), layer.input_norm, scratch.normed.sized(gpu, tokens * width)?)?;
        let (normed, d_qkv) = (scratch.normed.view()?, scratch.d_qkv.view()?);
        self.linear_weights(normed, d_qkv.clone(), (layer.qkv, layer.qkv_bias), width, gradients)?;
        self.linear_input(d_qkv, layer.qkv, width, &mut scratch.projected)?;
        let into = InputGradient::Add(d_x.view_mut()?);
        let d_normed = scratch.projected.view()?;
        self.norm_backward(input, layer.input_norm, d_normed, into, &mut scratch.norm, gradients)
    }

    /// Undoes the rotation and QK-norm of queries' and keys' gradients, in place.
    fn rotate_backward(
        &self,
        index: usize,
        positions: &In<'_, i32>,
        tokens: usize,
        saved: &Saved<T>,
        scratch: &mut Scratch<T>,
        gradients: &mut DeviceGradients,
    ) -> Result<()> {
        let (gpu, shape) = (&self.gpu, self.head_shape(tokens));
        let Scratch { d_qkv, head_norms, sums, .. } = scratch;
        let rotary = self.rotary(positions);
        let Some((query, key)) = self.slabs.layers[index].head_norms else {
            return rope::backward_in_place::<T>(gpu, shape, saved.qkv.view()?, None, rotary, d_qkv.view_mut()?, None);
        };
        let scratch = head_norms.sized(gpu, rope::scratch_len::<T>(&shape))?;
        let sums = sums.sized(gpu, 2 * shape.head_dim)?;
        let (q_weight, k_weight) = gradients.adding_two(gpu, query, key)?;
        let into = Some(QkNormGradient { q_weight, k_weight, scratch, sums });
        let plain = saved.plain_qkv.view()?;
        rope::backward_in_place(gpu, shape, plain, self.qk_norm(index), rotary, d_qkv.view_mut()?, into)
    }

    /// All layers of a forward that kept what a backward needs: turns the gradient of the last one's output, in the workspace's
    /// `x`, into that of the embeddings' rows.
    pub(super) fn backward(
        &self,
        tokens: &Tokens<'_>,
        plan: &Plan,
        memory: LayerMemory,
        workspace: &mut Workspace<T>,
        gradients: &mut DeviceGradients,
    ) -> Result<()> {
        let Workspace { inputs, saved, scratch, x: d_x, .. } = workspace;
        let (gpu, positions) = (&self.gpu, &tokens.positions);
        for index in (0..self.slabs.layers.len()).rev() {
            let input = inputs[index].view()?;
            let saved = &mut saved[if memory == LayerMemory::Keep { index } else { 0 }];
            if memory == LayerMemory::Recompute {
                let normed = scratch.normed.sized(gpu, input.len())?;
                self.norm(input.clone(), self.slabs.layers[index].input_norm, normed)?;
                let attend = &mut Attend::Packed(plan);
                self.layer_forward(index, input.clone(), positions, attend, saved, scratch, true, false)?;
            }
            self.layer_backward(index, input, positions, plan, saved, scratch, d_x, gradients)?;
        }
        Ok(())
    }

    /// Adds the gradient of the embeddings' rows to the table's.
    pub(super) fn embeddings_backward(
        &self,
        token_ids: &[u32],
        d_x: In<'_, T>,
        gradients: &mut DeviceGradients,
    ) -> Result<()> {
        let occurrences = embedding::Occurrences::of(token_ids).upload(&self.gpu)?;
        let sum: Out<'_, f32> = gradients.adding(&self.gpu, self.slabs.embeddings)?;
        embedding::accumulate(&self.gpu, d_x, &occurrences, self.config.hidden_size, sum)
    }
}
