//! Sums over a block of tokens: the scratch of its intermediate values, and the interleaved partial sums.
//!
//! A block is at most [`BLOCK`] consecutive tokens of one sequence. Every loop over a block is a map over slices, with
//! integer reductions at most, so that it vectorises; the floating-point sums run over the block afterwards in a fixed
//! order of [`LANES`] interleaved f64 partial sums.
#![expect(clippy::inline_always, reason = "must inline into functions compiled for wider vectors")]

use crate::{
    metrics::LossMetrics,
    token::{MAX_LOG_RATIO, clamp},
};

/// Tokens that a pass holds in its scratch at once.
pub(crate) const BLOCK: usize = 256;
/// Interleaved partial sums.
const LANES: usize = 16;
/// Mask of a block in which every token counts.
pub(crate) static ALL: [u8; BLOCK] = [1; BLOCK];

/// A float's bits without the sign: ordered as magnitudes, with infinities and NaN above all numbers.
pub(crate) fn magnitude_bits(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Per-token intermediate values of one block.
pub(crate) struct Scratch {
    /// Clamped log-ratio, 0 where masked.
    pub(crate) log_ratio: [f32; BLOCK],
    /// ρ, 0 where masked.
    pub(crate) ratio: [f32; BLOCK],
    /// Policy loss, 0 where masked.
    pub(crate) loss: [f32; BLOCK],
    /// Slope of the loss, before the denominator.
    pub(crate) slope: [f32; BLOCK],
    /// A by token.
    pub(crate) advantage: [f32; BLOCK],
    /// Whatever else a stage sums up.
    pub(crate) extra: [f32; BLOCK],
}

impl Scratch {
    pub(crate) const fn new() -> Self {
        let zeros = [0.0; BLOCK];
        Self { log_ratio: zeros, ratio: zeros, loss: zeros, slope: zeros, advantage: zeros, extra: zeros }
    }
}

/// A sum of f32 values in f64, as interleaved partial sums.
#[derive(Clone, Copy, Default)]
pub(crate) struct LaneSum([f64; LANES]);

impl LaneSum {
    #[inline(always)]
    pub(crate) fn add(&mut self, values: &[f32]) {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = self.0;
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += f64::from(chunk[lane]);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(value);
        }
        self.0 = lanes;
    }

    /// The same with every four values added in f32 first: for metrics, at a third of the cost.
    #[inline(always)]
    pub(crate) fn add_quads(&mut self, values: &[f32]) {
        let (chunks, rest) = values.as_chunks::<{ 4 * LANES }>();
        let mut lanes = self.0;
        for chunk in chunks {
            for lane in 0..LANES {
                let halves = (chunk[lane] + chunk[lane + LANES], chunk[lane + 2 * LANES] + chunk[lane + 3 * LANES]);
                lanes[lane] += f64::from(halves.0 + halves.1);
            }
        }
        self.0 = lanes;
        self.add(rest);
    }

    /// The partial sums, added pairwise.
    #[inline(always)]
    pub(crate) fn total(&self) -> f64 {
        let mut lanes = self.0;
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// Sums over the tokens of one sequence.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) policy: LaneSum,
    pub(crate) log_ratio: LaneSum,
    pub(crate) ratio: LaneSum,
    pub(crate) ref_kl: LaneSum,
    pub(crate) entropy: LaneSum,
    /// Entropies of the tokens that have a bonus, where not all have one.
    pub(crate) bonus: LaneSum,
    pub(crate) importance: LaneSum,
    pub(crate) rollout_difference: LaneSum,
    /// Counts and maxima; its sums are filled in by [`Sums::finish`].
    pub(crate) metrics: LossMetrics,
    /// Largest magnitude among the inputs, as bits: not below infinity's where one is not finite.
    pub(crate) worst: u32,
}

impl Sums {
    #[inline(always)]
    pub(crate) fn add_policy(&mut self, scratch: &Scratch, n: usize) {
        self.policy.add(&scratch.loss[..n]);
        self.log_ratio.add_quads(&scratch.log_ratio[..n]);
        self.ratio.add_quads(&scratch.ratio[..n]);
    }
}

/// How many tokens of a block count.
#[inline(always)]
pub(crate) fn count_kept(mask: &[u8]) -> usize {
    const BYTES: usize = 64;
    // A block has at most BLOCK / BYTES chunks, so that a byte cannot overflow.
    let (chunks, rest) = mask.as_chunks::<BYTES>();
    let mut lanes = [0_u8; BYTES];
    for chunk in chunks {
        for lane in 0..BYTES {
            lanes[lane] += u8::from(chunk[lane] != 0);
        }
    }
    lanes.iter().map(|&count| usize::from(count)).sum::<usize>() + rest.iter().filter(|&&keep| keep != 0).count()
}

/// Σ of the log-ratios of a sequence's tokens that count, clamped to ±20 and then to `bounds`; NaN where one is not
/// finite.
pub(crate) fn sum_log_ratios(logprobs: &[f32], old_logprobs: &[f32], mask: Option<&[u8]>, bounds: (f32, f32)) -> f64 {
    let mut sum = LaneSum::default();
    let mut worst = 0;
    let mut values = [0.0; BLOCK];
    for first in (0..logprobs.len()).step_by(BLOCK) {
        let n = (logprobs.len() - first).min(BLOCK);
        let (logprobs, old_logprobs) = (&logprobs[first..first + n], &old_logprobs[first..first + n]);
        let mask = mask.map_or(&ALL[..n], |mask| &mask[first..first + n]);
        for i in 0..n {
            let raw = if mask[i] == 0 { 0.0 } else { logprobs[i] - old_logprobs[i] };
            let log_ratio = clamp(clamp(raw, -MAX_LOG_RATIO, MAX_LOG_RATIO), bounds.0, bounds.1);
            values[i] = if mask[i] == 0 { 0.0 } else { log_ratio };
            worst = worst.max(magnitude_bits(raw));
        }
        sum.add(&values[..n]);
    }
    if f32::from_bits(worst).is_finite() { sum.total() } else { f64::NAN }
}
