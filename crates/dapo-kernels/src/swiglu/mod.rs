//! SwiGLU: y = silu(gate) · up, silu(x) = x / (1 + e⁻ˣ).
//!
//! Reads two elements and writes one (12 bytes); the backward reads and writes three (24 bytes), recomputing the
//! sigmoid and the output.

use crate::simd::{dispatch, exp};
use crate::tensor::{slice, with_slice};
use crate::threads;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

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

/// y = silu(gate) · up.
///
/// # Panics
/// When the lengths differ.
pub fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert!(gate.len() == y.len() && up.len() == y.len(), "swiglu: lengths differ");
    threads::for_each_chunk([y], [BLOCK], |i, [y]| {
        let range = i * BLOCK..i * BLOCK + y.len();
        forward_block(&gate[range.clone()], &up[range], y);
    });
}

/// Turns gate, up and the gradient of the output, in place, into the gradients of gate and up and the output itself.
///
/// # Panics
/// When the lengths differ.
pub fn backward(gate: &mut [f32], up: &mut [f32], grad: &mut [f32]) {
    assert!(gate.len() == grad.len() && up.len() == grad.len(), "swiglu: lengths differ");
    threads::for_each_chunk([gate, up, grad], [BLOCK; 3], |_, [gate, up, grad]| backward_block(gate, up, grad));
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice("swiglu", s1, l1)?, slice("swiglu", s2, l2)?);
        let mut y = vec![0.0; gate.len()];
        forward(gate, up, &mut y);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let values = |x: &Tensor| with_slice(x, |x| Ok(x.to_vec()));
        let (mut d_gate, mut d_up) = (values(gate)?, values(up)?);
        backward(&mut d_gate, &mut d_up, &mut values(&grad.contiguous()?)?);
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
fn backward_body<const FMA: bool>(gate: &mut [f32], up: &mut [f32], grad: &mut [f32]) {
    for ((gate, up), grad) in gate.iter_mut().zip(up).zip(grad) {
        let (g, u, d) = (*gate, *up, *grad);
        let sigmoid = 1.0 / (1.0 + exp::<FMA>(-g));
        let silu = g * sigmoid;
        *gate = d * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
        *up = d * silu;
        *grad = silu * u;
    }
}

dispatch! {
    fn forward_block(gate: &[f32], up: &[f32], y: &mut [f32]) = forward_body;
}
dispatch! {
    fn backward_block(gate: &mut [f32], up: &mut [f32], grad: &mut [f32]) = backward_body;
}
