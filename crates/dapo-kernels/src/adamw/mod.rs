//! AdamW with decoupled weight decay, in one pass over a parameter, and the norm of its gradient.
//!
//! ```text
//! p ← p·(1 − lr·λ)
//! m ← β₁m + (1 − β₁)g
//! v ← β₂v + (1 − β₂)g²
//! p ← p − lr/(1 − β₁ᵗ) · m / (√(v/(1 − β₂ᵗ)) + ε)
//! ```
//!
//! Reads four arrays and writes three: 28 bytes per parameter.

use crate::matmul::PackedMatrix;
use crate::simd::{LANES, dispatch, fold, mul_add};
use rayon::prelude::*;

/// Elements of one task; also the unit in which the norm is summed.
const BLOCK: usize = 1 << 16;

/// One step's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f32,
    /// β₁.
    pub beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// ε.
    pub eps: f32,
    /// λ.
    pub weight_decay: f32,
    /// t, counted from 1.
    pub step: u64,
    /// Factor for the gradient (clipping).
    pub grad_scale: f32,
}

/// Updates a parameter and its moments in place.
///
/// # Panics
/// When the lengths differ.
pub fn adamw(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamWStep) {
    assert!(param.len() == grad.len() && m.len() == grad.len() && v.len() == grad.len(), "adamw: lengths differ");
    let constants = Constants::new(step);
    param
        .par_chunks_mut(BLOCK)
        .zip(grad.par_chunks(BLOCK))
        .zip(m.par_chunks_mut(BLOCK))
        .zip(v.par_chunks_mut(BLOCK))
        .for_each(|(((p, g), m), v)| update(p, g, m, v, constants));
}

/// [`adamw`] of a packed weight, with the same bits. Gradient and moments are `[out, in]`, as the weight was before it was
/// packed.
///
/// # Panics
/// When the sizes differ.
pub fn adamw_packed(param: &mut PackedMatrix, grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamWStep) {
    assert_eq!(grad.len(), param.n() * param.k(), "adamw_packed: sizes differ");
    let constants = Constants::new(step);
    param.update_rows([m, v], |start, rows, [m, v]| update(rows, &grad[start..][..rows.len()], m, v, constants));
}

/// [`squared_norm`] of the weight that was packed, with the same bits.
pub fn squared_norm_packed(param: &PackedMatrix) -> f64 {
    // As many rows at a time as fill whole blocks, and several of them; a number of rows without odd factors.
    let (n, k) = (param.n(), param.k());
    let rows_at_once = 16 * (BLOCK >> k.trailing_zeros().min(BLOCK.trailing_zeros())).max(LANES);
    let (mut sums, mut rows) = (Vec::new(), Vec::new());
    for first in (0..n).step_by(rows_at_once) {
        rows.resize(rows_at_once.min(n - first) * k, 0.0);
        param.unpack_rows(first, &mut rows);
        sums.par_extend(rows.par_chunks(BLOCK).map(block_squares));
    }
    sums.iter().sum()
}

/// Σ g², in f64 over blocks in order.
pub fn squared_norm(grad: &[f32]) -> f64 {
    let blocks: Vec<f64> = grad.par_chunks(BLOCK).map(block_squares).collect();
    blocks.iter().sum()
}

/// y ← y + x.
///
/// # Panics
/// When the lengths differ.
pub fn add_assign(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len(), "add_assign: lengths differ");
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    });
}

#[derive(Clone, Copy)]
struct Constants {
    step: AdamWStep,
    keep: f32,
    rate: f32,
    inverse_sqrt_correction2: f32,
}

impl Constants {
    fn new(step: &AdamWStep) -> Self {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step.step as f64);
        Self {
            step: *step,
            keep: (1.0 - f64::from(step.lr) * f64::from(step.weight_decay)) as f32,
            rate: (f64::from(step.lr) / correction(step.beta1)) as f32,
            inverse_sqrt_correction2: (1.0 / correction(step.beta2).sqrt()) as f32,
        }
    }
}

#[inline(always)]
fn update_body<const FMA: bool>(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], c: Constants) {
    let AdamWStep { beta1, beta2, eps, grad_scale, .. } = c.step;
    for (((p, g), m), v) in param.iter_mut().zip(grad).zip(m).zip(v) {
        let g = g * grad_scale;
        *m = mul_add::<FMA>(beta1, *m, (1.0 - beta1) * g);
        *v = mul_add::<FMA>(beta2, *v, (1.0 - beta2) * g * g);
        let denominator = mul_add::<FMA>(v.sqrt(), c.inverse_sqrt_correction2, eps);
        *p = mul_add::<FMA>(*p, c.keep, -c.rate * *m / denominator);
    }
}

dispatch! {
    fn update(param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], c: Constants) = update_body;
}

#[inline(always)]
fn block_squares_body<const FMA: bool>(x: &[f32]) -> f64 {
    let mut total = 0.0;
    for part in x.chunks(64 * LANES) {
        let mut lanes = [0.0f32; LANES];
        for chunk in part.chunks(LANES) {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = mul_add::<FMA>(*x, *x, *lane);
            }
        }
        total += f64::from(fold(lanes));
    }
    total
}

dispatch! {
    fn block_squares(x: &[f32]) -> f64 = block_squares_body;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_formula_in_f64() {
        let n = 70_001;
        let value = |i: usize, k: usize| ((i * 31 + k * 17) % 199) as f32 / 100.0 - 1.0;
        let mut p: Vec<f32> = (0..n).map(|i| value(i, 1)).collect();
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        let (mut p64, mut m64, mut v64) = (f64::from(p[5]), 0.0f64, 0.0f64);
        for t in 1..=4 {
            let g: Vec<f32> = (0..n).map(|i| value(i, 2 + t)).collect();
            let step = AdamWStep {
                lr: 0.01,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.1,
                step: t as u64,
                grad_scale: 0.5,
            };
            adamw(&mut p, &g, &mut m, &mut v, &step);
            let g64 = f64::from(g[5]) * 0.5;
            p64 *= 1.0 - 0.01 * 0.1;
            m64 = 0.9 * m64 + 0.1 * g64;
            v64 = 0.999 * v64 + 0.001 * g64 * g64;
            let (c1, c2) = (1.0 - 0.9f64.powi(t as i32), 1.0 - 0.999f64.powi(t as i32));
            p64 -= 0.01 / c1 * m64 / ((v64 / c2).sqrt() + 1e-8);
        }
        assert!((f64::from(p[5]) - p64).abs() < 1e-6, "{} {p64}", p[5]);
    }

    #[test]
    fn a_packed_weight_has_the_bits_of_one_that_is_not() {
        let values = |n: usize, seed: usize| (0..n).map(move |i| ((i * 31 + seed * 17) % 199) as f32 / 100.0 - 1.0);
        for (n, k) in [(1, 1), (33, 7), (70, 96), (300, 1024), (2500, 320)] {
            let mut plain: Vec<f32> = values(n * k, 1).collect();
            let mut packed = PackedMatrix::from_transposed(&plain, n, k);
            let mut moments = [vec![0.0; n * k], vec![0.0; n * k]];
            let mut of_packed = moments.clone();
            for step in 1..=3 {
                let gradient: Vec<f32> = values(n * k, 2 + step).collect();
                let step = AdamWStep {
                    lr: 0.01,
                    beta1: 0.9,
                    beta2: 0.999,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    step: step as u64,
                    grad_scale: 0.5,
                };
                let [m, v] = &mut moments;
                adamw(&mut plain, &gradient, m, v, &step);
                let [m, v] = &mut of_packed;
                adamw_packed(&mut packed, &gradient, m, v, &step);
            }
            let mut unpacked = vec![0.0; n * k];
            packed.unpack_transposed(&mut unpacked);
            assert!(unpacked == plain && of_packed == moments, "{n}x{k}");
            assert_eq!(squared_norm_packed(&packed).to_bits(), squared_norm(&plain).to_bits(), "{n}x{k}");
        }
    }

    #[test]
    fn squared_norm_is_that_of_f64() {
        let x: Vec<f32> = (0..200_000).map(|i| (i % 1000) as f32 * 1e-3).collect();
        let exact: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        assert!((squared_norm(&x) / exact - 1.0).abs() < 1e-6);
    }
}
