//! SwiGLU: y = silu(gate) · up, silu(x) = x / (1 + e⁻ˣ).
//!
//! Reads two elements and writes one (12 bytes); backward reads three and writes two (20 bytes), recomputing the sigmoid.

use crate::simd::{dispatch, exp};
use crate::tensor::{slice, with_slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Elements of one task.
const BLOCK: usize = 1 << 14;

/// y = silu(gate) · up, element by element.
///
/// # Errors
/// When the shapes differ, or a tensor is not contiguous f32.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        bail!("swiglu: up has shape {:?}, expected that of gate, {:?}", up.dims(), gate.dims());
    }
    gate.apply_op2(up, SwiGlu)
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice("swiglu", s1, l1)?, slice("swiglu", s2, l2)?);
        let mut y = vec![0.0; gate.len()];
        y.par_chunks_mut(BLOCK)
            .zip(gate.par_chunks(BLOCK))
            .zip(up.par_chunks(BLOCK))
            .for_each(|((y, gate), up)| forward(gate, up, y));
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let mut d_gate = vec![0.0; gate.elem_count()];
        let mut d_up = vec![0.0; gate.elem_count()];
        with_slice(gate, |gate| {
            with_slice(up, |up| {
                with_slice(&grad, |grad| {
                    d_gate
                        .par_chunks_mut(BLOCK)
                        .zip(d_up.par_chunks_mut(BLOCK))
                        .zip(gate.par_chunks(BLOCK))
                        .zip(up.par_chunks(BLOCK))
                        .zip(grad.par_chunks(BLOCK))
                        .for_each(|((((d_gate, d_up), gate), up), grad)| backward(gate, up, grad, d_gate, d_up));
                    Ok(())
                })
            })
        })?;
        let d_gate = Tensor::from_vec(d_gate, gate.shape(), gate.device())?;
        let d_up = Tensor::from_vec(d_up, gate.shape(), gate.device())?;
        Ok((Some(d_gate), Some(d_up)))
    }
}

#[inline(always)]
fn forward_body<const FMA: bool>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
        *y = g / (1.0 + exp::<FMA>(-g)) * u;
    }
}

/// d gate = grad · up · σ(g)·(1 + g·(1 − σ(g))), d up = grad · silu(g).
#[inline(always)]
fn backward_body<const FMA: bool>(gate: &[f32], up: &[f32], grad: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    for ((((d_gate, d_up), g), u), grad) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up).zip(grad) {
        let sigmoid = 1.0 / (1.0 + exp::<FMA>(-g));
        *d_gate = grad * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
        *d_up = grad * g * sigmoid;
    }
}

dispatch! {
    fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) = forward_body;
}
dispatch! {
    fn backward(gate: &[f32], up: &[f32], grad: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) = backward_body;
}
