//! What activations and compute copies of weights may be.

use candle_core::Result;
use dapo_kernels::adamw::AdamWStep;
use dapo_kernels::cuda::elementwise;
use dapo_kernels::cuda::logprobs::{self, LogitsShape, RowInputs};
use dapo_kernels::cuda::{Element, Gpu, In, Out, adamw};
use half::bf16;

/// bf16, or f32 for comparisons with the CPU.
pub(super) trait Compute: Element {
    /// Values on the host.
    fn read(gpu: &Gpu, x: In<'_, Self>) -> Result<Vec<f32>>;

    /// y = x.
    fn from_floats(gpu: &Gpu, x: In<'_, f32>, y: Out<'_, Self>) -> Result<()>;

    /// See [`logprobs::backward`].
    fn logits_gradient(
        gpu: &Gpu,
        shape: LogitsShape,
        logits: In<'_, f32>,
        rows: RowInputs<'_>,
        gradient: Out<'_, Self>,
    ) -> Result<()>;

    /// See [`adamw::adamw`].
    fn adamw(
        gpu: &Gpu,
        param: Out<'_, f32>,
        grad: In<'_, f32>,
        moments: (Out<'_, f32>, Out<'_, f32>),
        copy: Out<'_, Self>,
        factor: In<'_, f32>,
        step: &AdamWStep,
    ) -> Result<()>;
}

impl Compute for bf16 {
    fn read(gpu: &Gpu, x: In<'_, Self>) -> Result<Vec<f32>> {
        Ok(gpu.read(x)?.into_iter().map(Self::to_f32).collect())
    }

    fn from_floats(gpu: &Gpu, x: In<'_, f32>, y: Out<'_, Self>) -> Result<()> {
        elementwise::f32_to_bf16(gpu, x, y)
    }

    fn logits_gradient(
        gpu: &Gpu,
        shape: LogitsShape,
        logits: In<'_, f32>,
        rows: RowInputs<'_>,
        gradient: Out<'_, Self>,
    ) -> Result<()> {
        logprobs::backward(gpu, shape, logits, rows, gradient)
    }

    fn adamw(
        gpu: &Gpu,
        param: Out<'_, f32>,
        grad: In<'_, f32>,
        (m, v): (Out<'_, f32>, Out<'_, f32>),
        copy: Out<'_, Self>,
        factor: In<'_, f32>,
        step: &AdamWStep,
    ) -> Result<()> {
        adamw::adamw(gpu, param, grad, m, v, Some(copy), factor, step)
    }
}

impl Compute for f32 {
    fn read(gpu: &Gpu, x: In<'_, Self>) -> Result<Vec<f32>> {
        gpu.read(x)
    }

    fn from_floats(gpu: &Gpu, x: In<'_, f32>, y: Out<'_, Self>) -> Result<()> {
        gpu.copy(x, y)
    }

    fn logits_gradient(
        gpu: &Gpu,
        shape: LogitsShape,
        logits: In<'_, f32>,
        rows: RowInputs<'_>,
        gradient: Out<'_, Self>,
    ) -> Result<()> {
        logprobs::backward(gpu, shape, logits, rows, gradient)
    }

    fn adamw(
        gpu: &Gpu,
        mut param: Out<'_, f32>,
        grad: In<'_, f32>,
        (m, v): (Out<'_, f32>, Out<'_, f32>),
        copy: Out<'_, Self>,
        factor: In<'_, f32>,
        step: &AdamWStep,
    ) -> Result<()> {
        adamw::adamw(gpu, param.reborrow(), grad, m, v, None, factor, step)?;
        gpu.copy(param.view(), copy)
    }
}
