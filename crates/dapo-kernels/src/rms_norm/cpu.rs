//! Rows of RMSNorm on the CPU.

use crate::simd::{dispatch, mul_add, sum_of_products};
use crate::threads;

/// Rows of one task; also the unit in which the weight's gradient is summed, so that it does not depend on threads.
const ROWS: usize = 64;

/// y = x · scale(x) · weight, row by row.
///
/// # Shapes
/// x and y `[T, H]`, weight `[H]`.
///
/// # Panics
/// When a slice has another length.
pub fn forward(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    assert!(x.len() == y.len() && x.len().is_multiple_of(weight.len()), "rms_norm: lengths differ");
    let block = ROWS * weight.len();
    threads::for_each_chunk([y], [block], |i, [y]| forward_rows(&x[i * block..][..y.len()], weight, eps, y));
}

/// x ← x + delta, and y = x · scale(x) · weight of the sum: a residual and the norm that follows it, in one pass.
///
/// # Shapes
/// x, delta and y `[T, H]`, weight `[H]`.
///
/// # Panics
/// When a slice has another length.
pub fn add_forward(x: &mut [f32], delta: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    assert!(x.len() == y.len() && x.len() == delta.len(), "rms_norm: lengths differ");
    assert!(x.len().is_multiple_of(weight.len()), "rms_norm: not whole rows");
    let block = ROWS * weight.len();
    threads::for_each_chunk([x, y], [block; 2], |i, [x, y]| {
        add_forward_rows(x, &delta[i * block..][..y.len()], weight, eps, y);
    });
}

/// Adds the gradient of x to `dx`, and that of the weight to `dw`.
///
/// # Shapes
/// x, grad and dx `[T, H]`, weight and dw `[H]`.
///
/// # Panics
/// When a slice has another length.
pub fn backward(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, dx: &mut [f32], dw: Option<&mut [f32]>) {
    let width = weight.len();
    assert!(x.len() == grad.len() && x.len() == dx.len() && x.len().is_multiple_of(width), "rms_norm: lengths differ");
    let block = ROWS * width;
    let mut parts = vec![0.0; x.len().div_ceil(block) * width];
    threads::for_each_chunk([dx, &mut parts], [block, width], |i, [dx, dw]| {
        let rows = i * block..i * block + dx.len();
        backward_rows(&x[rows.clone()], weight, &grad[rows], eps, dx, dw);
    });
    if let Some(dw) = dw {
        for part in parts.chunks_exact(width) {
            dw.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
    }
}

#[inline(always)]
pub(crate) fn scale<const FMA: bool>(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of_products::<FMA>(x, x) / x.len() as f32 + eps).sqrt()
}

/// One row of the gradient: with n = x·scale, dx += scale · (g·w − n · mean(g·w·n)) and dw += g·n.
#[inline(always)]
pub(crate) fn backward_row<const FMA: bool>(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    eps: f32,
    dx: &mut [f32],
    dw: &mut [f32],
    weighted: &mut [f32],
) {
    let scale = scale::<FMA>(x, eps);
    for ((d, g), w) in weighted.iter_mut().zip(grad).zip(weight) {
        *d = g * w;
    }
    let mean = sum_of_products::<FMA>(weighted, x) * scale / x.len() as f32;
    for ((((dx, d), x), g), dw) in dx.iter_mut().zip(&*weighted).zip(x).zip(grad).zip(dw) {
        let normed = x * scale;
        *dw = mul_add::<FMA>(*g, normed, *dw);
        *dx += scale * (d - normed * mean);
    }
}

#[inline(always)]
fn normalise<const FMA: bool>(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let scale = scale::<FMA>(x, eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * scale * w;
    }
}

#[inline(always)]
fn forward_body<const FMA: bool>(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        normalise::<FMA>(x, weight, eps, y);
    }
}

#[inline(always)]
fn add_forward_body<const FMA: bool>(x: &mut [f32], delta: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for ((x, delta), y) in x.chunks_exact_mut(width).zip(delta.chunks_exact(width)).zip(y.chunks_exact_mut(width)) {
        x.iter_mut().zip(delta).for_each(|(x, delta)| *x += delta);
        normalise::<FMA>(x, weight, eps, y);
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32]) {
    let width = weight.len();
    let mut weighted = vec![0.0; width];
    for ((x, grad), dx) in x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        backward_row::<FMA>(x, weight, grad, eps, dx, dw, &mut weighted);
    }
}

dispatch! {
    fn forward_rows(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) = forward_body;
}
dispatch! {
    fn add_forward_rows(x: &mut [f32], delta: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) = add_forward_body;
}
dispatch! {
    fn backward_rows(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32]) = backward_body;
}
