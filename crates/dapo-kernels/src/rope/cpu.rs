//! Heads of QK-norm and rotary embedding on the CPU, in place.

use super::RotaryTable;
use crate::rms_norm::cpu::{backward_row, scale};
use crate::simd::dispatch;
use crate::threads;

/// Rows (tokens) of one task; also the unit in which the norm weight's gradient is summed.
const ROWS: usize = 32;

/// x ← rotate(norm(x)), head by head; `norm` is the weight and ε, where there is a norm.
///
/// # Shapes
/// x `[T, heads · d]`, weight `[d]`, a table of T rows.
///
/// # Panics
/// When a slice has another length.
pub fn forward(x: &mut [f32], norm: Option<(&[f32], f32)>, table: &RotaryTable) {
    let (head_dim, rows) = (2 * table.half, table.rows());
    let width = check(x.len(), rows, head_dim);
    threads::for_each_chunk([x], [ROWS * width], |i, [x]| {
        let table = &table.data[i * ROWS * head_dim..][..x.len() / width * head_dim];
        forward_rows(x, norm, table, head_dim);
    });
}

/// What the norm's backward needs: the rows before it, its weight and ε.
#[derive(Clone, Copy, Debug)]
pub struct Normed<'a> {
    /// `[T, heads · d]`.
    pub x: &'a [f32],
    /// `[d]`.
    pub weight: &'a [f32],
    /// ε.
    pub eps: f32,
}

/// Turns the gradient of the rotated rows into that of the rows they came from, in place; adds the norm weight's to `dw`.
///
/// # Shapes
/// grad `[T, heads · d]`, dw `[d]`, a table of T rows.
///
/// # Panics
/// When a slice has another length.
pub fn backward(normed: Option<Normed<'_>>, grad: &mut [f32], table: &RotaryTable, dw: Option<&mut [f32]>) {
    let (head_dim, rows) = (2 * table.half, table.rows());
    let width = check(grad.len(), rows, head_dim);
    let mut parts = vec![0.0; rows.div_ceil(ROWS) * head_dim];
    threads::for_each_chunk([grad, &mut parts], [ROWS * width, head_dim], |i, [grad, dw]| {
        let start = i * ROWS * width;
        let table = &table.data[i * ROWS * head_dim..][..grad.len() / width * head_dim];
        let normed = normed.map(|n| Normed { x: &n.x[start..start + grad.len()], ..n });
        backward_rows(normed, grad, table, head_dim, dw);
    });
    if let (Some(dw), Some(_)) = (dw, normed) {
        for part in parts.chunks_exact(head_dim) {
            dw.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
    }
}

fn check(len: usize, rows: usize, head_dim: usize) -> usize {
    let width = len / rows.max(1);
    assert!(width * rows == len && width.is_multiple_of(head_dim), "norm_rope: rows of another width");
    width
}

#[inline(always)]
fn forward_body<const FMA: bool>(x: &mut [f32], norm: Option<(&[f32], f32)>, table: &[f32], head_dim: usize) {
    let width = x.len() / (table.len() / head_dim);
    let half = head_dim / 2;
    for (x, angles) in x.chunks_exact_mut(width).zip(table.chunks_exact(head_dim)) {
        let (cos, sin) = angles.split_at(half);
        for x in x.chunks_exact_mut(head_dim) {
            if let Some((weight, eps)) = norm {
                let scale = scale::<FMA>(x, eps);
                x.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * scale * w);
            }
            let (a, b) = x.split_at_mut(half);
            for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(
    normed: Option<Normed<'_>>,
    grad: &mut [f32],
    table: &[f32],
    head_dim: usize,
    dw: &mut [f32],
) {
    let width = grad.len() / (table.len() / head_dim);
    let half = head_dim / 2;
    let (mut dx, mut weighted) = (vec![0.0; head_dim], vec![0.0; head_dim]);
    for (token, angles) in table.chunks_exact(head_dim).enumerate() {
        let (cos, sin) = angles.split_at(half);
        for head in (token * width..(token + 1) * width).step_by(head_dim) {
            let grad = &mut grad[head..head + head_dim];
            let (a, b) = grad.split_at_mut(half);
            for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos + *b * sin, *b * cos - *a * sin);
            }
            if let Some(Normed { x, weight, eps }) = normed {
                dx.fill(0.0);
                backward_row::<FMA>(&x[head..head + head_dim], weight, grad, eps, &mut dx, dw, &mut weighted);
                grad.copy_from_slice(&dx);
            }
        }
    }
}

dispatch! {
    fn forward_rows(x: &mut [f32], norm: Option<(&[f32], f32)>, table: &[f32], head_dim: usize) = forward_body;
}
dispatch! {
    fn backward_rows(
        normed: Option<Normed<'_>>,
        grad: &mut [f32],
        table: &[f32],
        head_dim: usize,
        dw: &mut [f32],
    ) = backward_body;
}
