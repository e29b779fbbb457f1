//! The softmax of a row of scores, and its backward.

use crate::simd::{LANES, dispatch, exp, fold, largest, sum_of_products};

/// Softmax without its division: scores become e^(scale·(s − max)), 0 from `valid` on; returns their sum.
///
/// The sum runs over 32 lanes, by absolute position of the key. The scores fill whole runs of 32; those past `valid`
/// may hold anything.
#[inline(always)]
fn softmax_body<const FMA: bool>(scores: &mut [f32], valid: usize, scale: f32) -> f32 {
    let (chunks, _) = scores.as_chunks_mut::<LANES>();
    let (seen, unseen) = chunks.split_at_mut(valid.div_ceil(LANES));
    unseen.as_flattened_mut().fill(0.0);
    let Some((last, whole)) = seen.split_last_mut() else { return 0.0 };
    let count = valid - whole.len() * LANES;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    last[count..].fill(f32::NEG_INFINITY);
    for chunk in whole.iter().chain([&*last]) {
        for l in 0..LANES {
            lanes[l] = if chunk[l] > lanes[l] { chunk[l] } else { lanes[l] };
        }
    }
    let max = largest(lanes);
    let mut lanes = [0.0f32; LANES];
    for chunk in whole {
        for l in 0..LANES {
            chunk[l] = exp::<FMA>((chunk[l] - max) * scale);
            lanes[l] += chunk[l];
        }
    }
    for l in 0..LANES {
        let e = exp::<FMA>((last[l] - max) * scale);
        last[l] = if l < count { e } else { 0.0 };
        lanes[l] += last[l];
    }
    fold(lanes)
}

dispatch! {
    pub(super) fn softmax(scores: &mut [f32], valid: usize, scale: f32) -> f32 = softmax_body;
}

/// p ← p / sum, ds ← p · (dp − Σ grad·out) · scale, in place.
#[inline(always)]
fn softmax_backward_body<const FMA: bool>(
    p: &mut [f32],
    ds: &mut [f32],
    sum: f32,
    grad: &[f32],
    out: &[f32],
    scale: f32,
) {
    let delta = sum_of_products::<FMA>(grad, out);
    let inverse = 1.0 / sum;
    for (p, ds) in p.iter_mut().zip(ds) {
        *p *= inverse;
        *ds = *p * (*ds - delta) * scale;
    }
}

dispatch! {
    pub(super) fn softmax_backward(
        p: &mut [f32],
        ds: &mut [f32],
        sum: f32,
        grad: &[f32],
        out: &[f32],
        scale: f32,
    ) = softmax_backward_body;
}

/// target ← values / sum.
#[inline(always)]
fn divide_body<const FMA: bool>(values: &[f32], sum: f32, target: &mut [f32]) {
    let inverse = 1.0 / sum;
    target.iter_mut().zip(values).for_each(|(target, value)| *target = value * inverse);
}

dispatch! {
    pub(super) fn divide(values: &[f32], sum: f32, target: &mut [f32]) = divide_body;
}

/// The same, in place.
#[inline(always)]
fn divide_in_place_body<const FMA: bool>(values: &mut [f32], sum: f32) {
    let inverse = 1.0 / sum;
    for value in values {
        *value *= inverse;
    }
}

dispatch! {
    pub(super) fn divide_in_place(values: &mut [f32], sum: f32) = divide_in_place_body;
}

/// 1/√d.
pub(super) fn scale(dim: usize) -> f32 {
    1.0 / (dim as f32).sqrt()
}
