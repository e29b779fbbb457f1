//! Rows of RMSNorm on the CPU.

use crate::simd::{dispatch, mul_add, sum_of_products};
use rayon::prelude::*;

/// Rows of one task; also the unit in which the weight's gradient is summed, so that it does not depend on threads.
const ROWS: usize = 64;

/// y = x · scale(x) · weight, row by row.
pub(crate) fn forward(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    let block = ROWS * width;
    if x.len() <= block {
        return forward_rows(x, weight, eps, y);
    }
    x.par_chunks(block).zip(y.par_chunks_mut(block)).for_each(|(x, y)| forward_rows(x, weight, eps, y));
}

/// Writes the gradient of x and returns that of the weight.
pub(crate) fn backward(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, dx: &mut [f32]) -> Vec<f32> {
    let width = weight.len();
    let block = ROWS * width;
    let parts: Vec<Vec<f32>> = x
        .par_chunks(block)
        .zip(grad.par_chunks(block))
        .zip(dx.par_chunks_mut(block))
        .map(|((x, grad), dx)| {
            let mut dw = vec![0.0; width];
            backward_rows(x, weight, grad, eps, dx, &mut dw);
            dw
        })
        .collect();
    let mut total = vec![0.0; width];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    total
}

#[inline(always)]
pub(crate) fn scale<const FMA: bool>(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of_products::<FMA>(x, x) / x.len() as f32 + eps).sqrt()
}

/// One row of the gradient: with n = x·scale, dx = scale · (g·w − n · mean(g·w·n)) and dw += g·n.
#[inline(always)]
pub(crate) fn backward_row<const FMA: bool>(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    eps: f32,
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let scale = scale::<FMA>(x, eps);
    for ((d, g), w) in dx.iter_mut().zip(grad).zip(weight) {
        *d = g * w;
    }
    let mean = sum_of_products::<FMA>(dx, x) * scale / x.len() as f32;
    for (((d, x), g), dw) in dx.iter_mut().zip(x).zip(grad).zip(dw) {
        let normed = x * scale;
        *dw = mul_add::<FMA>(*g, normed, *dw);
        *d = scale * (*d - normed * mean);
    }
}

#[inline(always)]
fn forward_body<const FMA: bool>(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let scale = scale::<FMA>(x, eps);
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * scale * w;
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32]) {
    let width = weight.len();
    for ((x, grad), dx) in x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        backward_row::<FMA>(x, weight, grad, eps, dx, dw);
    }
}

dispatch! {
    fn forward_rows(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) = forward_body;
}
dispatch! {
    fn backward_rows(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32]) = backward_body;
}
