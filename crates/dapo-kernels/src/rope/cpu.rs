//! Heads of QK-norm and rotary embedding on the CPU.

use crate::rms_norm::cpu::{backward_row, scale};
use crate::simd::dispatch;
use rayon::prelude::*;

/// Rows (tokens) of one task; also the unit in which the norm weight's gradient is summed.
const ROWS: usize = 32;

/// y = rotate(norm(x)), head by head.
pub(crate) fn forward(x: &[f32], weight: Option<&[f32]>, eps: f32, table: &[f32], head_dim: usize, y: &mut [f32]) {
    let width = x.len() / (table.len() / head_dim);
    x.par_chunks(ROWS * width)
        .zip(y.par_chunks_mut(ROWS * width))
        .zip(table.par_chunks(ROWS * head_dim))
        .for_each(|((x, y), table)| forward_rows(x, weight, eps, table, head_dim, y));
}

/// Writes the gradient of x, and returns that of the norm weight (empty without `normed`: x and the weight).
pub(crate) fn backward(
    normed: Option<(&[f32], &[f32])>,
    grad: &[f32],
    eps: f32,
    table: &[f32],
    head_dim: usize,
    dx: &mut [f32],
) -> Vec<f32> {
    let width = grad.len() / (table.len() / head_dim);
    let weights = if normed.is_some() { head_dim } else { 0 };
    let parts: Vec<Vec<f32>> = grad
        .par_chunks(ROWS * width)
        .zip(dx.par_chunks_mut(ROWS * width))
        .zip(table.par_chunks(ROWS * head_dim))
        .enumerate()
        .map(|(block, ((grad, dx), table))| {
            let mut dw = vec![0.0; weights];
            let normed = normed.map(|(x, weight)| (&x[block * ROWS * width..][..grad.len()], weight));
            backward_rows(normed, grad, eps, table, head_dim, dx, &mut dw);
            dw
        })
        .collect();
    let mut total = vec![0.0; weights];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    total
}

#[inline(always)]
fn forward_body<const FMA: bool>(
    x: &[f32],
    weight: Option<&[f32]>,
    eps: f32,
    table: &[f32],
    head_dim: usize,
    y: &mut [f32],
) {
    let width = x.len() / (table.len() / head_dim);
    let half = head_dim / 2;
    for ((x, y), angles) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(table.chunks_exact(head_dim)) {
        let (cos, sin) = angles.split_at(half);
        for (x, y) in x.chunks_exact(head_dim).zip(y.chunks_exact_mut(head_dim)) {
            if let Some(weight) = weight {
                let scale = scale::<FMA>(x, eps);
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * scale * w;
                }
            } else {
                y.copy_from_slice(x);
            }
            let (a, b) = y.split_at_mut(half);
            for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(
    normed: Option<(&[f32], &[f32])>,
    grad: &[f32],
    eps: f32,
    table: &[f32],
    head_dim: usize,
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let width = grad.len() / (table.len() / head_dim);
    let half = head_dim / 2;
    let mut rotated = vec![0.0; head_dim];
    for (token, angles) in table.chunks_exact(head_dim).enumerate() {
        let (cos, sin) = angles.split_at(half);
        for head in (token * width..(token + 1) * width).step_by(head_dim) {
            let (grad, dx) = (&grad[head..head + head_dim], &mut dx[head..head + head_dim]);
            let (ga, gb) = grad.split_at(half);
            let (a, b) = rotated.split_at_mut(half);
            for i in 0..half {
                a[i] = ga[i] * cos[i] + gb[i] * sin[i];
                b[i] = gb[i] * cos[i] - ga[i] * sin[i];
            }
            match normed {
                Some((x, weight)) => backward_row::<FMA>(&x[head..head + head_dim], weight, &rotated, eps, dx, dw),
                None => dx.copy_from_slice(&rotated),
            }
        }
    }
}

dispatch! {
    fn forward_rows(x: &[f32], weight: Option<&[f32]>, eps: f32, table: &[f32], head_dim: usize, y: &mut [f32]) = forward_body;
}
dispatch! {
    fn backward_rows(
        normed: Option<(&[f32], &[f32])>,
        grad: &[f32],
        eps: f32,
        table: &[f32],
        head_dim: usize,
        dx: &mut [f32],
        dw: &mut [f32],
    ) = backward_body;
}
