//! An independent transcription of the formulas in f64, with derivatives by forward-mode dual numbers.
//!
//! Nothing here is shared with the crate but the configuration types: losses are written as the papers write their
//! objectives, a sequence at a time, without fusing, clamping tricks or f32.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod dual;

use dapo_loss::{
    Advantages, Aggregation, Denominator, EmptySequences, ImportanceLevel, KlEstimator, LossBatch, LossConfig,
    LossGradients, LossOutput, Outside, PolicyLoss, RejectBy, TokenChunk, policy_loss,
};
use dual::Dual;
use proptest::prelude::*;

/// A step of sequences as a test makes it, in the f32 values that the crate is given.
#[derive(Debug, Clone)]
pub struct Case {
    pub cu_seqlens: Vec<usize>,
    pub mask: Vec<u8>,
    pub logprobs: Vec<f32>,
    pub old: Vec<f32>,
    pub reference: Vec<f32>,
    pub rollout: Vec<f32>,
    pub entropies: Vec<f32>,
    pub advantages: Vec<f32>,
    pub token_advantages: Vec<f32>,
}

impl Case {
    pub fn tokens(&self) -> usize {
        self.mask.len()
    }

    pub fn sequences(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    pub fn batch(&self) -> LossBatch<'_> {
        LossBatch::new(&self.cu_seqlens, Advantages::PerSequence(&self.advantages), &self.old)
            .with_mask(&self.mask)
            .with_ref_logprobs(&self.reference)
            .with_rollout_logprobs(&self.rollout)
    }

    pub fn denominator(&self, config: &LossConfig) -> Option<Denominator> {
        let lengths: Vec<usize> = (0..self.sequences()).map(|i| self.kept_under(config, i).len()).collect();
        Denominator::of_step(config.aggregation, &lengths, config.empty_sequences)
    }

    /// The crate's loss with gradients for log-probabilities and entropies; `None` when the step is empty.
    pub fn evaluate(&self, config: &LossConfig, per_token: bool) -> Option<(LossOutput, Vec<f32>, Vec<f32>)> {
        let mut batch = self.batch();
        if per_token {
            batch.advantages = Advantages::PerToken(&self.token_advantages);
        }
        let denominator = self.denominator(config)?;
        let (mut gradient, mut entropy_gradient) = (vec![f32::NAN; self.tokens()], vec![f32::NAN; self.tokens()]);
        let chunk = TokenChunk::whole(&self.logprobs).with_entropies(&self.entropies);
        let gradients = LossGradients::new(&mut gradient).with_entropies(&mut entropy_gradient);
        let output = policy_loss(config, denominator, batch, chunk, gradients).unwrap();
        Some((output, gradient, entropy_gradient))
    }

    /// log(π_old/π_rollout) of a token.
    pub fn rollout_log_ratio(&self, t: usize) -> f64 {
        f64::from(self.old[t]) - f64::from(self.rollout[t])
    }

    /// Indices of the tokens of sequence i that count, of none where the sequence is rejected.
    pub fn kept_under(&self, config: &LossConfig, i: usize) -> Vec<usize> {
        let kept = self.kept(i);
        let Some(reject) = config.rollout_correction.and_then(|correction| correction.reject) else {
            return kept;
        };
        let sum: f64 = kept.iter().map(|&t| self.rollout_log_ratio(t)).sum();
        let (ratio, low, high) = match reject.by {
            RejectBy::Product => (sum.exp(), 0.5, 2.0),
            RejectBy::GeometricMean => ((sum / kept.len().max(1) as f64).exp(), 0.999, 1.001),
            other => unreachable!("no formula of {other}"),
        };
        let inside = ratio >= reject.low.map_or(low, f64::from) && ratio <= reject.high.map_or(high, f64::from);
        if inside { kept } else { Vec::new() }
    }

    /// The quantile 1 − ρ of the entropies of the tokens in the loss, interpolated linearly.
    pub fn entropy_quantile(&self, config: &LossConfig) -> f64 {
        let kept = (0..self.sequences()).flat_map(|i| self.kept_under(config, i));
        let mut entropies: Vec<f64> = kept.map(|t| f64::from(self.entropies[t])).collect();
        entropies.sort_by(f64::total_cmp);
        let rank = (1.0 - config.top_entropy_quantile) * (entropies.len().max(1) - 1) as f64;
        let at = |rank: f64| entropies.get(rank as usize).copied().unwrap_or(0.0);
        at(rank.floor()) + rank.fract() * (at(rank.ceil()) - at(rank.floor()))
    }

    /// Indices of the tokens of sequence i that count.
    pub fn kept(&self, i: usize) -> Vec<usize> {
        (self.cu_seqlens[i]..self.cu_seqlens[i + 1]).filter(|&t| self.mask[t] != 0).collect()
    }
}

/// The loss as the formulas have it. `frozen` are the log-probabilities inside a stop-gradient.
///
/// Returns the loss and the magnitude of every token's terms, to judge rounding by.
pub fn reference_loss(
    config: &LossConfig,
    case: &Case,
    per_token: bool,
    logprobs: &[Dual],
    frozen: &[f64],
    entropies: &[Dual],
) -> (Dual, Vec<f64>) {
    let mut sequence_sums = Vec::new();
    let mut sequence_means = Vec::new();
    let mut tokens = 0;
    let mut sizes = vec![0.0; case.tokens()];
    let quantile = case.entropy_quantile(config);
    for i in 0..case.sequences() {
        let kept = case.kept_under(config, i);
        if kept.is_empty() && config.empty_sequences == EmptySequences::Exclude {
            continue;
        }
        let mut sum = Dual::from(0.0);
        for &t in &kept {
            let advantage = f64::from(if per_token { case.token_advantages[t] } else { case.advantages[i] });
            let policy = policy_term(config, case, &kept, t, advantage, logprobs, frozen);
            let is_chosen = config.top_entropy_quantile == 1.0 || f64::from(case.entropies[t]) >= quantile - 1e-9;
            let chosen = if is_chosen { 1.0 } else { 0.0 };
            let mut loss = policy * (importance_weight(config, case, &kept, t) * chosen);
            let mut size = loss.value.abs();
            if config.kl.coef != 0.0 {
                let reference = f64::from(case.reference[t]);
                let mut kl = kl_term(config.kl.estimator, logprobs[t] - reference, frozen[t] - reference);
                if config.kl.times_ratio {
                    kl = kl * (logprobs[t] - f64::from(case.old[t])).clamp(-20.0, 20.0).exp();
                }
                let kl = kl * f64::from(config.kl.coef);
                size += kl.value.abs();
                loss = loss + kl;
            }
            loss = loss - entropies[t] * (f64::from(config.entropy_coef) * chosen);
            size += entropies[t].value * f64::from(config.entropy_coef);
            sizes[t] = size;
            sum = sum + loss;
        }
        tokens += kept.len();
        sequence_sums.push(sum);
        sequence_means.push(sum * (1.0 / kept.len().max(1) as f64));
    }
    let total = |terms: &[Dual]| terms.iter().fold(Dual::from(0.0), |a, &b| a + b);
    let n = sequence_sums.len() as f64;
    let loss = match config.aggregation {
        Aggregation::TokenMean | Aggregation::LocalTokenMean => total(&sequence_sums) * (1.0 / tokens as f64),
        Aggregation::SeqMeanTokenMean => total(&sequence_means) * (1.0 / n),
        Aggregation::SeqMeanTokenSum => total(&sequence_sums) * (1.0 / n),
        Aggregation::SeqMeanTokenSumNorm { max_len } => total(&sequence_sums) * (1.0 / (n * max_len as f64)),
        other => unreachable!("no formula of {other}"),
    };
    (loss, sizes)
}

/// −(objective of token t), written as a maximised objective.
fn policy_term(
    config: &LossConfig,
    case: &Case,
    kept: &[usize],
    t: usize,
    advantage: f64,
    logprobs: &[Dual],
    frozen: &[f64],
) -> Dual {
    let log_ratio = |t: usize| (logprobs[t] - f64::from(case.old[t])).clamp(-20.0, 20.0);
    let frozen_log_ratio = |t: usize| (frozen[t] - f64::from(case.old[t])).clamp(-20.0, 20.0);
    let n = kept.len() as f64;
    let clipped_objective = |ratio: Dual, low: f32, high: f32| {
        let clipped = ratio.clamp(1.0 - f64::from(low), 1.0 + f64::from(high));
        (ratio * advantage).min(clipped * advantage)
    };
    match config.policy_loss {
        PolicyLoss::Ppo { clip, dual_clip } => {
            let mut objective = clipped_objective(log_ratio(t).exp(), clip.low, clip.high);
            if let (Some(c), true) = (dual_clip, advantage < 0.0) {
                objective = objective.max(Dual::from(f64::from(c) * advantage));
            }
            -objective
        }
        PolicyLoss::Gspo { clip } => {
            let sequence = (kept.iter().map(|&t| frozen_log_ratio(t)).sum::<f64>() / n).exp();
            // sg[s]·π/sg[π]
            let own = (log_ratio(t) - frozen_log_ratio(t)).exp();
            -clipped_objective(own * sequence, clip.low, clip.high)
        }
        PolicyLoss::Cispo { clip } => {
            let weight = frozen_log_ratio(t).exp().clamp(1.0 - f64::from(clip.low), 1.0 + f64::from(clip.high));
            -(logprobs[t] * weight * advantage)
        }
        PolicyLoss::Sapo { tau_positive, tau_negative } => {
            let tau = f64::from(if advantage > 0.0 { tau_positive } else { tau_negative });
            let gate = Dual::from(1.0) / (Dual::from(1.0) + (-((log_ratio(t).exp() - 1.0) * tau)).exp());
            -(gate * (4.0 / tau) * advantage)
        }
        PolicyLoss::Gmpo { clip } => {
            let sign = if advantage > 0.0 { 1.0 } else { -1.0 };
            let mut sum = Dual::from(0.0);
            for &u in kept {
                let x = log_ratio(u);
                let clipped = x.clamp(-f64::from(clip.low), f64::from(clip.high));
                sum = sum + (x * sign).min(clipped * sign) * sign;
            }
            -((sum * (1.0 / n)).exp() * advantage)
        }
        other => unreachable!("no formula of {other}"),
    }
}

fn importance_weight(config: &LossConfig, case: &Case, kept: &[usize], t: usize) -> f64 {
    let Some(correction) = config.rollout_correction else {
        return 1.0;
    };
    let exponent: f64 = match correction.level {
        ImportanceLevel::Token => case.rollout_log_ratio(t),
        ImportanceLevel::Sequence => kept.iter().map(|&t| case.rollout_log_ratio(t)).sum(),
        ImportanceLevel::Off => return 1.0,
        other => unreachable!("no formula of {other}"),
    };
    let (ratio, low, high) = (exponent.clamp(-20.0, 20.0).exp(), f64::from(correction.low), f64::from(correction.high));
    match correction.outside {
        Outside::Truncate => ratio.max(low).min(high),
        Outside::Mask if ratio < low || ratio > high => 0.0,
        Outside::Mask => ratio,
        other => unreachable!("no formula of {other:?}"),
    }
}

/// `frozen` is k inside a stop-gradient.
fn kl_term(estimator: KlEstimator, k: Dual, frozen: f64) -> Dual {
    // The value of the estimator, differentiated as k2.
    let straight_through = |estimator: KlEstimator| {
        let (k2, value) = (k * k * 0.5, kl_term(estimator, Dual::from(frozen), frozen));
        k2 - 0.5 * frozen * frozen + value
    };
    match estimator {
        KlEstimator::K1Plus => straight_through(KlEstimator::K1),
        KlEstimator::K3Plus => straight_through(KlEstimator::K3),
        KlEstimator::K1 => k,
        KlEstimator::K2 => k * k * 0.5,
        KlEstimator::K3 => {
            let k = k.clamp(-20.0, 20.0);
            ((-k).exp() + k - 1.0).min(Dual::from(10.0))
        }
        KlEstimator::Abs => k.max(-k),
        other => unreachable!("no formula of {other}"),
    }
}

/// Every combination of policy loss and aggregation that is allowed.
pub fn losses_and_aggregations() -> Vec<LossConfig> {
    let aggregations = [
        Aggregation::TokenMean,
        Aggregation::SeqMeanTokenMean,
        Aggregation::SeqMeanTokenSum,
        Aggregation::SeqMeanTokenSumNorm { max_len: 17 },
        Aggregation::LocalTokenMean,
    ];
    let mut losses: Vec<PolicyLoss> =
        ["dapo", "gspo", "cispo", "sapo", "gmpo"].map(|name| name.parse().unwrap()).to_vec();
    losses.push(PolicyLoss::Ppo { clip: dapo_loss::ClipRange::symmetric(0.1), dual_clip: Some(1.5) });
    losses.push(PolicyLoss::Gspo { clip: dapo_loss::ClipRange { low: 0.1, high: 0.2 } });
    let mut all = Vec::new();
    for &policy_loss in &losses {
        for aggregation in aggregations {
            for empty_sequences in [EmptySequences::Exclude, EmptySequences::Count] {
                let config = LossConfig { policy_loss, aggregation, empty_sequences, ..LossConfig::default() };
                if config.validate().is_ok() {
                    all.push(config);
                }
            }
        }
    }
    all
}

/// Steps of up to five short sequences, some of them empty, some tokens masked.
pub fn cases() -> impl Strategy<Value = Case> {
    prop::collection::vec(0_usize..7, 1..6).prop_flat_map(|lengths| {
        let tokens: usize = lengths.iter().sum();
        let per_token = |range: std::ops::Range<f32>| prop::collection::vec(range, tokens);
        // Mostly near the behaviour policy, sometimes far beyond every clip and clamp.
        let shift = prop_oneof![8 => -0.6_f32..0.6, 2 => -3.0_f32..3.0, 1 => -30.0_f32..30.0];
        (
            Just(lengths.clone()),
            prop::collection::vec(prop_oneof![1 => Just(0_u8), 4 => Just(1_u8)], tokens),
            per_token(-5.0..-0.01),
            prop::collection::vec(shift, tokens),
            per_token(-4.0..4.0),
            per_token(-1.0..1.0),
            per_token(0.0..4.0),
            prop::collection::vec(-3.0_f32..3.0, lengths.len()),
            per_token(-3.0..3.0),
        )
            .prop_map(|(lengths, mask, logprobs, shift, to_ref, to_rollout, entropies, advantages, token)| {
                let mut cu_seqlens = vec![0];
                for length in lengths {
                    cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length);
                }
                let plus = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
                let old = plus(&logprobs, &shift);
                let reference = plus(&logprobs, &to_ref);
                let rollout = plus(&old, &to_rollout);
                let token_advantages = token;
                Case { cu_seqlens, mask, logprobs, old, reference, rollout, entropies, advantages, token_advantages }
            })
    })
}

/// A step of `sequences` sequences of pseudo-random length up to `max_len`, a tenth of their tokens masked.
pub fn large_case(sequences: usize, max_len: usize) -> Case {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    let mut cu_seqlens = vec![0];
    for _ in 0..sequences {
        let length = (uniform() * max_len as f32) as usize;
        cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length);
    }
    let tokens = cu_seqlens[sequences];
    let mut values =
        |low: f32, high: f32, n: usize| -> Vec<f32> { (0..n).map(|_| low + (high - low) * uniform()).collect() };
    let logprobs = values(-4.0, -0.01, tokens);
    let near = |values: Vec<f32>| logprobs.iter().zip(values).map(|(a, b)| a + b).collect::<Vec<_>>();
    Case {
        cu_seqlens,
        mask: values(0.0, 10.0, tokens).into_iter().map(|x| u8::from(x > 1.0)).collect(),
        old: near(values(-0.5, 0.5, tokens)),
        reference: near(values(-0.5, 0.5, tokens)),
        rollout: near(values(-0.5, 0.5, tokens)),
        entropies: values(0.0, 4.0, tokens),
        advantages: values(-2.0, 2.0, sequences),
        token_advantages: values(-2.0, 2.0, tokens),
        logprobs,
    }
}
