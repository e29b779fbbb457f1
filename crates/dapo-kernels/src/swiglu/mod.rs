//! SwiGLU: y = silu(gate) · up, silu(x) = x / (1 + e⁻ˣ).
//!
//! Reads two elements and writes one (12 bytes); the backward reads and writes three (24 bytes), recomputing the
//! sigmoid and the output.

use crate::simd::{dispatch, exp};
use crate::threads;

/// Elements of one task.
const BLOCK: usize = 1 << 14;

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
