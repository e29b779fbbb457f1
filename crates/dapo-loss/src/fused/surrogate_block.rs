//! The pass over one block for DAPO's own loss, in a single loop.
//!
//! It reads 9 bytes and writes 4 bytes per token, and is bound by memory.
#![expect(clippy::inline_always, reason = "must inline into functions compiled for wider vectors")]

use crate::{
    exp::exp,
    fused::{
        block_sums::{Scratch, Sums, magnitude_bits},
        sequence_terms::SequenceTerms,
    },
    token::{MAX_LOG_RATIO, clamp, surrogate},
};

/// The clipped surrogate alone, one advantage per sequence: DAPO's whole loss, in a single loop.
///
/// `MASKED` is false where every token of the block counts.
#[inline(always)]
pub(crate) fn surrogate_block<const MASKED: bool>(
    terms: &SequenceTerms,
    bounds: (f32, f32),
    logprobs: &[f32],
    old_logprobs: &[f32],
    mask: &[u8],
    gradient: &mut [f32],
    scratch: &mut Scratch,
    sums: &mut Sums,
) {
    let n = gradient.len();
    let (logprobs, old_logprobs, mask) = (&logprobs[..n], &old_logprobs[..n], &mask[..n]);
    let (log_ratios, ratios, losses) = (&mut scratch.log_ratio[..n], &mut scratch.ratio[..n], &mut scratch.loss[..n]);
    let (advantage, weight) = (terms.advantage, terms.weight as f32);
    let (mut outside, mut worst) = (0_u32, 0_u32);
    for i in 0..n {
        let keep = !MASKED || mask[i] != 0;
        let raw = if keep { logprobs[i] - old_logprobs[i] } else { 0.0 };
        let log_ratio = clamp(raw, -MAX_LOG_RATIO, MAX_LOG_RATIO);
        let ratio = exp(log_ratio);
        let (token, inside) = surrogate(ratio, advantage, bounds);
        gradient[i] = if keep { token.slope * weight } else { 0.0 };
        losses[i] = if keep { token.loss } else { 0.0 };
        ratios[i] = if keep { ratio } else { 0.0 };
        log_ratios[i] = log_ratio;
        outside += u32::from(!inside);
        worst = worst.max(magnitude_bits(raw));
    }
    // What is rare is looked at again: tokens beyond the clamp, tokens beyond the dual clip.
    if worst >= MAX_LOG_RATIO.to_bits() {
        for (gradient, log_ratio) in gradient.iter_mut().zip(&*log_ratios) {
            if log_ratio.abs() >= MAX_LOG_RATIO {
                *gradient = 0.0;
                sums.metrics.clamped += 1;
            }
        }
    }
    if advantage > 0.0 {
        sums.metrics.clipped_high += u64::from(outside);
    } else {
        let above = if bounds.1.is_finite() { ratios.iter().filter(|&&ratio| ratio > bounds.1).count() } else { 0 };
        sums.metrics.dual_clipped += above as u64;
        sums.metrics.clipped_low += u64::from(outside) - above as u64;
    }
    sums.add_policy(scratch, n);
    sums.worst = sums.worst.max(worst);
    sums.metrics.max_abs_log_ratio = sums.metrics.max_abs_log_ratio.max(f32::from_bits(worst));
}
