//! The pass over one block for every other configuration, one stage per term.
//!
//! The stages work on the block's scratch one after the other: ratios, policy loss, rollout correction, choice by
//! entropy, KL, entropy, gradient. The formulas are those of [`token`](crate::token) and [`KlEstimator`](crate::KlEstimator).
#![expect(clippy::inline_always, reason = "must inline into functions compiled for wider vectors")]
#![expect(clippy::needless_bitwise_bool, reason = "without branches, loops over these vectorise")]
#![expect(clippy::needless_range_loop, reason = "one index into several arrays of a block")]

use crate::{
    batch::{Advantages, LossBatch, TokenChunk},
    config::LossConfig,
    exp::exp,
    fused::{
        block_sums::{Scratch, Sums, magnitude_bits},
        sequence_terms::SequenceTerms,
    },
    kl::{Kl, KlEstimator},
    policy::{ClipRange, PolicyLoss},
    rollout_correction::{ImportanceLevel, Outside, RolloutCorrection},
    token::{MAX_LOG_RATIO, TokenLoss, cispo, clamp, gmpo_bounds, sapo, surrogate, surrogate_bounds},
};

/// One block: tokens `first .. first + mask.len()` of the packed batch.
pub(crate) struct Block<'a> {
    pub(crate) config: &'a LossConfig,
    pub(crate) batch: &'a LossBatch<'a>,
    pub(crate) chunk: &'a TokenChunk<'a>,
    /// The entropy from which on a token has a policy loss, where not every token has one.
    pub(crate) entropy_threshold: Option<f32>,
    pub(crate) first: usize,
    pub(crate) mask: &'a [u8],
}

impl<'a> Block<'a> {
    /// This block's part of an array over the packed batch.
    #[inline(always)]
    fn of(&self, packed: &'a [f32]) -> &'a [f32] {
        &packed[self.first..self.first + self.mask.len()]
    }

    /// This block's part of an array over the chunk.
    #[inline(always)]
    fn of_chunk(&self, values: &'a [f32]) -> &'a [f32] {
        let start = self.first - self.chunk.start;
        &values[start..start + self.mask.len()]
    }

    /// Evaluates the block; writes ∂loss/∂logprobs.
    #[inline(always)]
    pub(crate) fn evaluate(
        &self,
        terms: &SequenceTerms,
        gradient: &mut [f32],
        entropy_gradient: Option<&mut [f32]>,
        scratch: &mut Scratch,
        sums: &mut Sums,
    ) {
        let n = self.mask.len();
        match self.batch.advantages {
            Advantages::PerSequence(_) => scratch.advantage[..n].fill(terms.advantage),
            Advantages::PerToken(values) => {
                let kept = self.of(values).iter().zip(self.mask);
                for (to, (&value, &keep)) in scratch.advantage.iter_mut().zip(kept) {
                    *to = if keep == 0 { 0.0 } else { value };
                    sums.worst = sums.worst.max(magnitude_bits(*to));
                }
            }
        }
        self.ratios(scratch, sums);
        self.policy(terms, scratch, sums);
        self.correction(terms, scratch, sums);
        if let Some(threshold) = self.entropy_threshold {
            self.choose_by_entropy(threshold, scratch, sums);
        }
        sums.add_policy(scratch, n);
        self.kl(scratch, sums);
        self.entropy(terms, entropy_gradient, scratch, sums);
        let weight = terms.weight as f32;
        for i in 0..n {
            gradient[i] = if self.mask[i] == 0 { 0.0 } else { scratch.slope[i] * weight };
        }
    }

    /// Log-ratios and ratios.
    #[inline(always)]
    fn ratios(&self, scratch: &mut Scratch, sums: &mut Sums) {
        let n = self.mask.len();
        let (logprobs, old, mask) = (self.of_chunk(self.chunk.logprobs), self.of(self.batch.old_logprobs), self.mask);
        let (mut clamped, mut worst) = (0_u32, 0_u32);
        for i in 0..n {
            let raw = if mask[i] == 0 { 0.0 } else { logprobs[i] - old[i] };
            let log_ratio = clamp(raw, -MAX_LOG_RATIO, MAX_LOG_RATIO);
            scratch.log_ratio[i] = log_ratio;
            scratch.ratio[i] = if mask[i] == 0 { 0.0 } else { exp(log_ratio) };
            clamped += u32::from(log_ratio.abs() >= MAX_LOG_RATIO);
            worst = worst.max(magnitude_bits(raw));
        }
        sums.metrics.clamped += u64::from(clamped);
        sums.worst = sums.worst.max(worst);
        sums.metrics.max_abs_log_ratio = sums.metrics.max_abs_log_ratio.max(f32::from_bits(worst));
    }

    /// Policy loss and its slope.
    #[inline(always)]
    fn policy(&self, terms: &SequenceTerms, scratch: &mut Scratch, sums: &mut Sums) {
        match self.config.policy_loss {
            PolicyLoss::Ppo { clip, dual_clip } => {
                self.surrogate(clip, dual_clip.unwrap_or(f32::INFINITY), scratch, sums);
            }
            PolicyLoss::Cispo { clip } => self.cispo(clip, scratch, sums),
            PolicyLoss::Sapo { tau_positive, tau_negative } => self.sapo(tau_positive, tau_negative, scratch),
            PolicyLoss::Gspo { .. } => {
                self.sequence_level(terms, (f32::NEG_INFINITY, f32::INFINITY), scratch);
                let tokens: u64 = self.mask.iter().map(|&keep| u64::from(keep != 0)).sum();
                sums.metrics.clipped_low += tokens * u64::from(terms.clipped.0);
                sums.metrics.clipped_high += tokens * u64::from(terms.clipped.1);
            }
            PolicyLoss::Gmpo { clip } => {
                let bounds = gmpo_bounds(terms.advantage, clip);
                self.sequence_level(terms, bounds, scratch);
                let (mut low, mut high) = (0_u32, 0_u32);
                for &log_ratio in &scratch.log_ratio[..self.mask.len()] {
                    low += u32::from(log_ratio < bounds.0);
                    high += u32::from(log_ratio > bounds.1);
                }
                sums.metrics.clipped_low += u64::from(low);
                sums.metrics.clipped_high += u64::from(high);
            }
        }
    }

    #[inline(always)]
    fn surrogate(&self, clip: ClipRange, dual_clip: f32, scratch: &mut Scratch, sums: &mut Sums) {
        let (mut low, mut high, mut dual) = (0_u32, 0_u32, 0_u32);
        for i in 0..self.mask.len() {
            let (advantage, ratio, keep) = (scratch.advantage[i], scratch.ratio[i], self.mask[i] != 0);
            let bounds = surrogate_bounds(advantage, clip, dual_clip);
            let (token, _) = surrogate(ratio, advantage, bounds);
            let moves = keep & (scratch.log_ratio[i].abs() < MAX_LOG_RATIO);
            scratch.loss[i] = if keep { token.loss } else { 0.0 };
            scratch.slope[i] = if moves { token.slope } else { 0.0 };
            let above = keep & (ratio > bounds.1);
            low += u32::from(keep & (ratio < bounds.0));
            high += u32::from(above & (advantage > 0.0));
            dual += u32::from(above & (advantage <= 0.0));
        }
        sums.metrics.clipped_low += u64::from(low);
        sums.metrics.clipped_high += u64::from(high);
        sums.metrics.dual_clipped += u64::from(dual);
    }

    #[inline(always)]
    fn cispo(&self, clip: ClipRange, scratch: &mut Scratch, sums: &mut Sums) {
        let logprobs = self.of_chunk(self.chunk.logprobs);
        let (mut low, mut high) = (0_u32, 0_u32);
        for i in 0..self.mask.len() {
            let (advantage, ratio, keep) = (scratch.advantage[i], scratch.ratio[i], self.mask[i] != 0);
            let token = cispo(logprobs[i], ratio, advantage, clip);
            scratch.loss[i] = if keep { token.loss } else { 0.0 };
            scratch.slope[i] = if keep { token.slope } else { 0.0 };
            low += u32::from(keep & (advantage < 0.0) & (ratio < 1.0 - clip.low));
            high += u32::from(keep & (advantage > 0.0) & (ratio > 1.0 + clip.high));
        }
        sums.metrics.clipped_low += u64::from(low);
        sums.metrics.clipped_high += u64::from(high);
    }

    #[inline(always)]
    fn sapo(&self, tau_positive: f32, tau_negative: f32, scratch: &mut Scratch) {
        for i in 0..self.mask.len() {
            let keep = self.mask[i] != 0;
            let token = sapo(scratch.ratio[i], scratch.advantage[i], tau_positive, tau_negative);
            let moves = keep & (scratch.log_ratio[i].abs() < MAX_LOG_RATIO);
            scratch.loss[i] = if keep { token.loss } else { 0.0 };
            scratch.slope[i] = if moves { token.slope } else { 0.0 };
        }
    }

    /// The sequence's loss for every token; its slope for those whose log-ratio is within `bounds`.
    #[inline(always)]
    fn sequence_level(&self, terms: &SequenceTerms, bounds: (f32, f32), scratch: &mut Scratch) {
        for i in 0..self.mask.len() {
            let (keep, log_ratio) = (self.mask[i] != 0, scratch.log_ratio[i]);
            let inside = (log_ratio >= bounds.0) & (log_ratio <= bounds.1);
            let moves = keep & inside & (log_ratio.abs() < MAX_LOG_RATIO);
            scratch.loss[i] = if keep { terms.token.loss } else { 0.0 };
            scratch.slope[i] = if moves { terms.token.slope } else { 0.0 };
        }
    }

    /// Importance weights on the policy loss, and how far the rollout engine is.
    #[inline(always)]
    fn correction(&self, terms: &SequenceTerms, scratch: &mut Scratch, sums: &mut Sums) {
        let (Some(config), Some(rollout)) = (self.config.rollout_correction, self.batch.rollout_logprobs) else {
            return;
        };
        let (old, rollout, mask) = (self.of(self.batch.old_logprobs), self.of(rollout), self.mask);
        let n = mask.len();
        let changed = match config {
            RolloutCorrection { level: ImportanceLevel::Token | ImportanceLevel::Sequence, .. }
                if config.outside == Outside::Truncate =>
            {
                let config = RolloutCorrection { outside: Outside::Truncate, ..config };
                weigh(config, terms.importance, old, rollout, mask, scratch)
            }
            _ => mask_by_weight(config, terms.importance, old, rollout, mask, scratch),
        };
        sums.importance.add(&scratch.extra[..n]);
        match config.outside {
            Outside::Truncate => sums.metrics.importance_capped += changed,
            Outside::Mask => sums.metrics.importance_masked += changed,
        }
        let mut worst = 0_u32;
        for i in 0..n {
            let raw = if mask[i] == 0 { 0.0 } else { old[i] - rollout[i] };
            scratch.extra[i] = raw.abs();
            worst = worst.max(magnitude_bits(raw));
        }
        sums.rollout_difference.add(&scratch.extra[..n]);
        sums.worst = sums.worst.max(worst);
        let largest = &mut sums.metrics.max_rollout_difference;
        *largest = largest.max(f32::from_bits(worst));
    }

    /// Takes tokens with a low entropy out of the policy loss, and sums up the entropies of the others. Not inlined: it would
    /// slow down the passes without it.
    #[inline(never)]
    fn choose_by_entropy(&self, threshold: f32, scratch: &mut Scratch, sums: &mut Sums) {
        let Some(entropies) = self.chunk.entropies else {
            return;
        };
        let (entropies, n) = (self.of_chunk(entropies), self.mask.len());
        for i in 0..n {
            let is_chosen = entropies[i] >= threshold;
            scratch.loss[i] = if is_chosen { scratch.loss[i] } else { 0.0 };
            scratch.slope[i] = if is_chosen { scratch.slope[i] } else { 0.0 };
            scratch.extra[i] = if (self.mask[i] != 0) & is_chosen { entropies[i] } else { 0.0 };
        }
        sums.bonus.add(&scratch.extra[..n]);
    }

    /// Takes the bonus of tokens with a low entropy out of the gradient.
    #[inline(never)]
    fn choose_bonuses(&self, threshold: f32, gradient: &mut [f32]) {
        let entropies = self.chunk.entropies.map(|entropies| self.of_chunk(entropies));
        for (to, &entropy) in gradient.iter_mut().zip(entropies.into_iter().flatten()) {
            *to = if entropy >= threshold { *to } else { 0.0 };
        }
    }

    /// The KL term, `+ coef·KL` or `+ coef·ρ·KL`.
    #[inline(always)]
    fn kl(&self, scratch: &mut Scratch, sums: &mut Sums) {
        let Some(reference) = self.batch.ref_logprobs.filter(|_| self.config.kl.coef != 0.0) else {
            return;
        };
        let reference = self.of(reference);
        // One loop an estimator: a choice inside the loop would keep it from vectorising.
        match self.config.kl.estimator {
            KlEstimator::K1 => self.kl_by(|k| KlEstimator::K1.of(k), reference, scratch, sums),
            KlEstimator::K2 => self.kl_by(|k| KlEstimator::K2.of(k), reference, scratch, sums),
            KlEstimator::K3 => self.kl_by(|k| KlEstimator::K3.of(k), reference, scratch, sums),
            KlEstimator::Abs => self.kl_by(|k| KlEstimator::Abs.of(k), reference, scratch, sums),
            plus @ (KlEstimator::K1Plus | KlEstimator::K3Plus) => self.kl_plus(plus, reference, scratch, sums),
        }
    }

    /// The straight-through estimators. Not inlined: they would slow down the others.
    #[inline(never)]
    fn kl_plus(&self, estimator: KlEstimator, reference: &[f32], scratch: &mut Scratch, sums: &mut Sums) {
        if estimator == KlEstimator::K1Plus {
            self.kl_by(|k| KlEstimator::K1Plus.of(k), reference, scratch, sums);
        } else {
            self.kl_by(|k| KlEstimator::K3Plus.of(k), reference, scratch, sums);
        }
    }

    #[inline(always)]
    fn kl_by(&self, estimator: impl Fn(f32) -> TokenLoss, reference: &[f32], scratch: &mut Scratch, sums: &mut Sums) {
        let Kl { coef, times_ratio, .. } = self.config.kl;
        let logprobs = self.of_chunk(self.chunk.logprobs);
        let n = self.mask.len();
        let mut worst = 0_u32;
        for i in 0..n {
            let keep = self.mask[i] != 0;
            let log_ratio = if keep { logprobs[i] - reference[i] } else { 0.0 };
            let token = estimator(log_ratio);
            let ratio = if times_ratio { scratch.ratio[i] } else { 1.0 };
            let ratio_moves = times_ratio & (scratch.log_ratio[i].abs() < MAX_LOG_RATIO);
            let through_ratio = if ratio_moves { token.loss } else { 0.0 };
            scratch.extra[i] = if keep { token.loss * ratio } else { 0.0 };
            scratch.slope[i] += coef * ratio * (token.slope + through_ratio);
            worst = worst.max(magnitude_bits(log_ratio));
        }
        sums.ref_kl.add(&scratch.extra[..n]);
        sums.worst = sums.worst.max(worst);
    }

    /// The entropy bonus, `− entropy_coef·H`, and the measured entropy.
    #[inline(always)]
    fn entropy(&self, terms: &SequenceTerms, gradient: Option<&mut [f32]>, scratch: &mut Scratch, sums: &mut Sums) {
        let mask = self.mask;
        if let Some(entropies) = self.chunk.entropies {
            let entropies = self.of_chunk(entropies);
            let mut worst = 0_u32;
            for i in 0..mask.len() {
                scratch.extra[i] = if mask[i] == 0 { 0.0 } else { entropies[i] };
                worst = worst.max(magnitude_bits(scratch.extra[i]));
            }
            sums.entropy.add(&scratch.extra[..mask.len()]);
            sums.worst = sums.worst.max(worst);
        }
        if let Some(gradient) = gradient {
            let slope = -self.config.entropy_coef * terms.weight as f32;
            for (to, &keep) in gradient.iter_mut().zip(mask) {
                *to = if keep == 0 { 0.0 } else { slope };
            }
            if let Some(threshold) = self.entropy_threshold {
                self.choose_bonuses(threshold, gradient);
            }
        }
    }
}

/// As [`weigh`], where ratios outside the band have weight 0, or there are no weights. Not inlined: it would slow down the
/// passes without it.
#[inline(never)]
fn mask_by_weight(
    config: RolloutCorrection,
    of_sequence: f32,
    old: &[f32],
    rollout: &[f32],
    mask: &[u8],
    scratch: &mut Scratch,
) -> u64 {
    if config.has_weights() {
        let config = RolloutCorrection { outside: Outside::Mask, ..config };
        return weigh(config, of_sequence, old, rollout, mask, scratch);
    }
    for (one, &keep) in scratch.extra.iter_mut().zip(mask) {
        *one = if keep == 0 { 0.0 } else { 1.0 };
    }
    0
}

/// Multiplies losses and slopes by their importance weights, which are left in `extra`; how many ratios these changed.
#[inline(always)]
fn weigh(
    config: RolloutCorrection,
    of_sequence: f32,
    old: &[f32],
    rollout: &[f32],
    mask: &[u8],
    scratch: &mut Scratch,
) -> u64 {
    let by_token = config.level == ImportanceLevel::Token;
    let mut changed = 0_u32;
    for i in 0..mask.len() {
        let raw = if mask[i] == 0 { 0.0 } else { old[i] - rollout[i] };
        let ratio = exp(clamp(raw, -MAX_LOG_RATIO, MAX_LOG_RATIO));
        let ratio = if by_token { ratio } else { of_sequence };
        let weight = config.weight(ratio);
        scratch.loss[i] *= weight;
        scratch.slope[i] *= weight;
        scratch.extra[i] = if mask[i] == 0 { 0.0 } else { weight };
        changed += u32::from((mask[i] != 0) & config.is_changed(ratio));
    }
    u64::from(changed)
}
