//! From blocks to a whole batch: segments of sequences, tiles of segments, and a tree of tiles over the threads.
//!
//! Tiles are cut at multiples of [`TILE`] tokens of the packed batch and summed by a binary tree. Its shape depends on
//! the range alone, so every thread count adds the same numbers in the same order.
#![expect(clippy::inline_always, reason = "must inline into functions compiled for wider vectors")]

use std::ops::Range;

use crate::{
    batch::{Advantages, LossBatch, LossGradients, TokenChunk},
    config::LossConfig,
    fused::{
        block_sums::{ALL, BLOCK, Scratch, Sums, count_kept},
        sequence_terms::{PlanTerms, SequenceTerms},
        staged_block::Block,
        surrogate_block::surrogate_block,
    },
    metrics::{LossMetrics, LossOutput},
    policy::PolicyLoss,
    token::surrogate_bounds,
};

/// Tokens that one thread takes at a time; a multiple of [`BLOCK`].
const TILE: usize = 8192;
/// From this many tokens on the work is shared among threads.
pub(crate) const PARALLEL: usize = 32_768;

/// Everything that stays the same during a sweep.
#[derive(Clone, Copy)]
pub(crate) struct Sweep<'a> {
    pub(crate) config: &'a LossConfig,
    pub(crate) batch: &'a LossBatch<'a>,
    pub(crate) chunk: &'a TokenChunk<'a>,
    pub(crate) terms: &'a PlanTerms,
    /// The entropy from which on a token has a policy loss, where not every token has one.
    pub(crate) entropy_threshold: Option<f32>,
    /// Only the clipped surrogate with one advantage per sequence: one loop does it all.
    pub(crate) plain: bool,
}

/// What a part of the batch adds up to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Partial {
    pub(crate) output: LossOutput,
    pub(crate) worst: u32,
}

impl Partial {
    fn plus(mut self, other: Self) -> Self {
        self.output += other.output;
        self.worst = self.worst.max(other.worst);
        self
    }
}

impl Sweep<'_> {
    /// Evaluates the whole chunk.
    pub(crate) fn run(&self, gradients: LossGradients<'_>) -> Partial {
        let start = self.chunk.start;
        let range = start..start + self.chunk.logprobs.len();
        let parallel = range.len() >= PARALLEL && rayon::current_num_threads() > 1;
        self.tree(range, gradients, parallel)
    }

    fn tree(&self, range: Range<usize>, gradients: LossGradients<'_>, parallel: bool) -> Partial {
        let tiles = range.end.div_ceil(TILE) - range.start / TILE;
        if tiles <= 1 {
            return self.tile(range, gradients);
        }
        let middle = (range.start / TILE + tiles / 2) * TILE;
        let (left, right) = split(gradients, middle - range.start);
        let (left_range, right_range) = (range.start..middle, middle..range.end);
        let (a, b) = if parallel {
            rayon::join(|| self.tree(left_range, left, true), || self.tree(right_range, right, true))
        } else {
            (self.tree(left_range, left, false), self.tree(right_range, right, false))
        };
        a.plus(b)
    }

    /// One tile with the widest vectors that this CPU has.
    fn tile(&self, range: Range<usize>, gradients: LossGradients<'_>) -> Partial {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
            {
                #[expect(unsafe_code, reason = "a function compiled for AVX-512 is unsafe to call from others")]
                // SAFETY: the features that the function is compiled for were just detected.
                return unsafe { self.tile_avx512(range, gradients) };
            }
            if is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "a function compiled for AVX2 is unsafe to call from others")]
                // SAFETY: the feature that the function is compiled for was just detected.
                return unsafe { self.tile_avx2(range, gradients) };
            }
        }
        self.tile_generic(range, gradients)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
    fn tile_avx512(&self, range: Range<usize>, gradients: LossGradients<'_>) -> Partial {
        self.tile_generic(range, gradients)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn tile_avx2(&self, range: Range<usize>, gradients: LossGradients<'_>) -> Partial {
        self.tile_generic(range, gradients)
    }

    #[inline(always)]
    fn tile_generic(&self, range: Range<usize>, mut gradients: LossGradients<'_>) -> Partial {
        let mut scratch = Scratch::new();
        let mut total = Partial::default();
        let offsets = self.batch.cu_seqlens;
        let mut sequence = offsets.partition_point(|&offset| offset <= range.start) - 1;
        let mut start = range.start;
        while start < range.end {
            let end = offsets[sequence + 1].min(range.end);
            if end > start {
                let (here, rest) = split(gradients, end - start);
                gradients = rest;
                total = total.plus(self.segment(sequence, start, here, &mut scratch));
                start = end;
            }
            sequence += 1;
        }
        total
    }

    /// The part of one sequence that lies in a tile.
    #[inline(always)]
    fn segment(
        &self,
        sequence: usize,
        start: usize,
        mut gradients: LossGradients<'_>,
        scratch: &mut Scratch,
    ) -> Partial {
        let terms = self.terms.of(sequence, self.batch);
        let mut sums = Sums::default();
        let end = start + gradients.logprobs.len();
        let mut first = start;
        while first < end {
            let n = (end - first).min(BLOCK);
            let (here, rest) = split(gradients, n);
            gradients = rest;
            let mask = self.batch.mask.map_or(&ALL[..n], |mask| &mask[first..first + n]);
            let kept = if self.batch.mask.is_some() { count_kept(mask) } else { n };
            sums.metrics.tokens += kept as u64;
            if kept == 0 {
                here.logprobs.fill(0.0);
                if let Some(entropies) = here.entropies {
                    entropies.fill(0.0);
                }
            } else if self.plain {
                let at = first - self.chunk.start;
                let logprobs = &self.chunk.logprobs[at..at + n];
                let old_logprobs = &self.batch.old_logprobs[first..first + n];
                let bounds = self.plain_bounds(terms.advantage);
                let gradient = here.logprobs;
                if kept == n {
                    surrogate_block::<false>(
                        &terms,
                        bounds,
                        logprobs,
                        old_logprobs,
                        mask,
                        gradient,
                        scratch,
                        &mut sums,
                    );
                } else {
                    surrogate_block::<true>(&terms, bounds, logprobs, old_logprobs, mask, gradient, scratch, &mut sums);
                }
            } else {
                let Self { config, batch, chunk, entropy_threshold, .. } = *self;
                let block = Block { config, batch, chunk, entropy_threshold, first, mask };
                block.evaluate(&terms, here.logprobs, here.entropies, scratch, &mut sums);
            }
            first += n;
        }
        self.finish(&terms, &sums)
    }

    #[inline(always)]
    fn plain_bounds(&self, advantage: f32) -> (f32, f32) {
        match self.config.policy_loss {
            PolicyLoss::Ppo { clip, dual_clip } => {
                surrogate_bounds(advantage, clip, dual_clip.unwrap_or(f32::INFINITY))
            }
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// Sums of a sequence's tokens as its share of the step's loss.
    #[inline(always)]
    fn finish(&self, terms: &SequenceTerms, sums: &Sums) -> Partial {
        let ref_kl_sum = sums.ref_kl.total();
        let entropy_sum = sums.entropy.total();
        let policy_loss = terms.weight * sums.policy.total();
        let kl_loss = terms.weight * f64::from(self.config.kl.coef) * ref_kl_sum;
        // `0.0 −` keeps the loss of no bonus at +0.
        let bonus_sum = if self.entropy_threshold.is_some() { sums.bonus.total() } else { entropy_sum };
        let entropy_loss = 0.0 - terms.weight * f64::from(self.config.entropy_coef) * bonus_sum;
        let metrics = LossMetrics {
            policy_loss,
            kl_loss,
            entropy_loss,
            ratio_sum: sums.ratio.total(),
            log_ratio_sum: sums.log_ratio.total(),
            ref_kl_sum,
            entropy_sum,
            entropy_tokens: if self.chunk.entropies.is_some() { sums.metrics.tokens } else { 0 },
            importance_sum: sums.importance.total(),
            rollout_difference_sum: sums.rollout_difference.total(),
            ..sums.metrics
        };
        let output = LossOutput { loss: policy_loss + kl_loss + entropy_loss, metrics };
        Partial { output, worst: sums.worst }
    }
}

/// Whether the one-loop pass computes everything that is asked for.
pub(crate) fn is_plain(config: &LossConfig, batch: &LossBatch<'_>) -> bool {
    matches!(config.policy_loss, PolicyLoss::Ppo { .. })
        && matches!(batch.advantages, Advantages::PerSequence(_))
        && config.kl.coef == 0.0
        && config.rollout_correction.is_none()
        && !config.selects_by_entropy()
}

fn split(gradients: LossGradients<'_>, at: usize) -> (LossGradients<'_>, LossGradients<'_>) {
    let (logprobs, rest) = gradients.logprobs.split_at_mut(at);
    let (entropies, rest_entropies) = match gradients.entropies {
        Some(values) => {
            let (here, rest) = values.split_at_mut(at);
            (Some(here), Some(rest))
        }
        None => (None, None),
    };
    (LossGradients { logprobs, entropies }, LossGradients { logprobs: rest, entropies: rest_entropies })
}

#[cfg(test)]
mod tests {
    use super::{Sweep, is_plain};
    use crate::{
        batch::{Advantages, LossBatch, LossGradients, TokenChunk},
        config::LossConfig,
        denominator::{Denominator, EmptySequences},
        fused::sequence_terms::PlanTerms,
        kl::Kl,
    };

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let wave = |phase: f32| (0..5000).map(|i| (i as f32 * 0.7 + phase).sin() - 1.5).collect::<Vec<_>>();
        let (logprobs, old, reference) = (wave(0.0), wave(0.3), wave(0.5));
        let mask: Vec<u8> = (0..5000).map(|i| u8::from(i % 7 != 3 || i > 2000)).collect();
        let batch = LossBatch {
            cu_seqlens: &[0, 300, 301, 4096, 5000],
            mask: Some(&mask),
            advantages: Advantages::PerSequence(&[1.0, -1.0, -0.7, 0.4]),
            old_logprobs: &old,
            ref_logprobs: Some(&reference),
            rollout_logprobs: None,
        };
        for kl in [Kl::default(), Kl { coef: 0.1, times_ratio: true, ..Kl::default() }] {
            for name in ["dapo", "cispo", "sapo"] {
                let config = LossConfig { policy_loss: name.parse().unwrap(), kl, ..LossConfig::default() };
                let empty = EmptySequences::Exclude;
                let denominator = Denominator::of_step(config.aggregation, &batch.lengths(), empty).unwrap();
                let terms = PlanTerms::new(&config, denominator, &batch);
                let chunk = TokenChunk::whole(&logprobs);
                let plain = is_plain(&config, &batch);
                let (config, batch, chunk, terms) = (&config, &batch, &chunk, &terms);
                let sweep = Sweep { config, batch, chunk, terms, entropy_threshold: None, plain };
                let (mut widest, mut baseline) = (vec![0.0; 5000], vec![1.0; 5000]);
                let a = sweep.tile(0..5000, LossGradients::from(widest.as_mut_slice()));
                let b = sweep.tile_generic(0..5000, LossGradients::from(baseline.as_mut_slice()));
                assert_eq!(a.output, b.output);
                assert_eq!(widest, baseline);
            }
        }
    }
}
