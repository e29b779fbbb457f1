//! Large batches: the loss against the f64 transcription, and every metric against its definition.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Case, dual::Dual, large_case, losses_and_aggregations, reference_loss};
use dapo_loss::{
    ClipRange, ImportanceLevel, Kl, KlEstimator, LossConfig, LossMetrics, LossPlan, Outside, PolicyLoss,
    RolloutCorrection, TokenChunk,
};

/// Sums over all tokens that count, by definition.
fn expected(case: &Case, config: &LossConfig, clip: (f64, f64), dual_clip: f64) -> LossMetrics {
    let mut sums = LossMetrics::default();
    for i in 0..case.sequences() {
        let advantage = case.advantages[i];
        let kept = case.kept(i);
        let difference = |t: usize| f64::from(case.old[t]) - f64::from(case.rollout[t]);
        let sequence: f64 = kept.iter().map(|&t| difference(t)).sum();
        for t in kept {
            let log_ratio = f64::from(case.logprobs[t]) - f64::from(case.old[t]);
            let ratio = log_ratio.exp();
            sums.tokens += 1;
            sums.clipped_low += u64::from(advantage < 0.0 && ratio < clip.0);
            sums.clipped_high += u64::from(advantage > 0.0 && ratio > clip.1);
            sums.dual_clipped += u64::from(advantage < 0.0 && ratio > dual_clip);
            sums.ratio_sum += ratio;
            sums.log_ratio_sum += log_ratio;
            sums.max_abs_log_ratio = sums.max_abs_log_ratio.max((case.logprobs[t] - case.old[t]).abs());
            sums.entropy_sum += f64::from(case.entropies[t]);
            if config.kl.coef != 0.0 {
                sums.ref_kl_sum += (f64::from(case.logprobs[t]) - f64::from(case.reference[t])).powi(2) / 2.0;
            }
            if let Some(importance) = config.rollout_correction {
                let exponent = if importance.level == ImportanceLevel::Token { difference(t) } else { sequence };
                let weight = exponent.clamp(-20.0, 20.0).exp();
                let (low, high) = (f64::from(importance.low), f64::from(importance.high));
                let is_outside = weight <= low || weight >= high;
                if importance.outside == Outside::Truncate {
                    sums.importance_capped += u64::from(is_outside);
                    sums.importance_sum += weight.max(low).min(high);
                } else {
                    sums.importance_masked += u64::from(is_outside);
                    sums.importance_sum += if is_outside { 0.0 } else { weight };
                }
                sums.rollout_difference_sum += difference(t).abs();
                sums.max_rollout_difference = sums.max_rollout_difference.max((case.old[t] - case.rollout[t]).abs());
            }
        }
    }
    sums.entropy_tokens = sums.tokens;
    sums
}

fn assert_metrics(got: &LossMetrics, expected: &LossMetrics) {
    let counts = |m: &LossMetrics| {
        let of_correction = (m.importance_capped, m.importance_masked, m.rejected);
        (m.tokens, m.clipped_low, m.clipped_high, m.dual_clipped, m.clamped, m.entropy_tokens, of_correction)
    };
    assert_eq!(counts(got), counts(expected));
    assert_eq!(got.max_abs_log_ratio, expected.max_abs_log_ratio);
    assert_eq!(got.max_rollout_difference, expected.max_rollout_difference);
    let sums = |m: &LossMetrics| {
        [m.ratio_sum, m.log_ratio_sum, m.ref_kl_sum, m.entropy_sum, m.importance_sum, m.rollout_difference_sum]
    };
    for (got, expected) in sums(got).into_iter().zip(sums(expected)) {
        assert!((got - expected).abs() <= 1e-7 * got.abs() + 1e-4, "{got} {expected}");
    }
}

#[test]
fn losses_of_long_sequences_agree_with_the_formulas() {
    let case = large_case(12, 700);
    let duals = |values: &[f32]| values.iter().map(|&x| Dual::from(f64::from(x))).collect::<Vec<_>>();
    let (logprobs, entropies) = (duals(&case.logprobs), duals(&case.entropies));
    let frozen: Vec<f64> = case.logprobs.iter().map(|&x| f64::from(x)).collect();
    for config in losses_and_aggregations() {
        for level in [ImportanceLevel::Token, ImportanceLevel::Sequence] {
            let kl = Kl { coef: 0.2, estimator: KlEstimator::K3, times_ratio: true };
            let rollout_correction = Some(RolloutCorrection { high: 1.3, level, ..RolloutCorrection::default() });
            let config = LossConfig { kl, rollout_correction, entropy_coef: 0.05, ..config };
            if config.validate().is_ok() {
                let (got, _, _) = case.evaluate(&config, false).unwrap();
                let (loss, _) = reference_loss(&config, &case, false, &logprobs, &frozen, &entropies);
                assert!((got.loss / loss.value - 1.0).abs() < 1e-6, "{config:?}: {} {}", got.loss, loss.value);
            }
        }
    }
}

#[test]
fn metrics_are_the_sums_and_counts_of_their_definitions() {
    let case = large_case(12, 700);
    let clip = ClipRange { low: 0.11, high: 0.17 };
    let kl = Kl { coef: 0.2, estimator: KlEstimator::K2, times_ratio: false };
    let ratio_clip = (1.0 - 0.11, 1.0 + 0.17);
    for (level, outside, low) in [
        (ImportanceLevel::Token, Outside::Truncate, 0.0),
        (ImportanceLevel::Sequence, Outside::Truncate, 0.0),
        (ImportanceLevel::Token, Outside::Truncate, 0.8),
        (ImportanceLevel::Token, Outside::Mask, 0.8),
        (ImportanceLevel::Sequence, Outside::Mask, 0.1),
    ] {
        let rollout_correction = Some(RolloutCorrection { low, high: 1.3, level, outside, reject: None });
        for (policy_loss, clip, dual_clip) in [
            (PolicyLoss::Ppo { clip, dual_clip: Some(1.4) }, ratio_clip, 1.4),
            (PolicyLoss::Ppo { clip, dual_clip: None }, ratio_clip, f64::INFINITY),
            (PolicyLoss::Cispo { clip }, ratio_clip, f64::INFINITY),
            ("sapo".parse().unwrap(), (0.0, f64::INFINITY), f64::INFINITY),
        ] {
            let config = LossConfig { policy_loss, kl, rollout_correction, ..LossConfig::default() };
            let (got, _, _) = case.evaluate(&config, false).unwrap();
            assert_metrics(&got.metrics, &expected(&case, &config, clip, dual_clip));
        }
    }
    let clip = ClipRange { low: 0.2, high: 0.3 };
    let config = LossConfig { kl, ..LossConfig::of(PolicyLoss::Gmpo { clip }) };
    let (got, _, _) = case.evaluate(&config, false).unwrap();
    let log_clip = ((-0.2_f64).exp(), 0.3_f64.exp());
    assert_metrics(&got.metrics, &expected(&case, &config, log_clip, f64::INFINITY));
}

#[test]
fn gspo_counts_all_tokens_of_a_clipped_sequence() {
    let case = large_case(12, 700);
    let config = LossConfig::of("gspo".parse().unwrap());
    let (got, _, _) = case.evaluate(&config, false).unwrap();
    let (mut low, mut high) = (0, 0);
    for i in 0..case.sequences() {
        let kept = case.kept(i);
        let sum: f64 = kept.iter().map(|&t| f64::from(case.logprobs[t]) - f64::from(case.old[t])).sum();
        let ratio = (sum / kept.len() as f64).exp();
        low += if case.advantages[i] < 0.0 && ratio < 1.0 - 3e-4 { kept.len() } else { 0 };
        high += if case.advantages[i] > 0.0 && ratio > 1.0 + 4e-4 { kept.len() } else { 0 };
    }
    assert!(low > 0 && high > 0);
    assert_eq!((got.metrics.clipped_low, got.metrics.clipped_high), (low as u64, high as u64));
}

#[test]
fn means_divide_by_the_tokens_they_sum_over() {
    let mut metrics = LossMetrics::default();
    (metrics.tokens, metrics.clipped_low, metrics.clipped_high) = (4, 1, 2);
    (metrics.ratio_sum, metrics.log_ratio_sum, metrics.ref_kl_sum) = (6.0, 1.0, 2.0);
    (metrics.entropy_sum, metrics.entropy_tokens) = (3.0, 2);
    (metrics.importance_sum, metrics.rollout_difference_sum) = (5.0, 0.4);
    assert_eq!((metrics.clip_low(), metrics.clip_high(), metrics.clip_region()), (0.25, 0.5, 0.75));
    assert_eq!((metrics.mean_ratio(), metrics.approx_kl(), metrics.approx_kl_k3()), (1.5, -0.25, 0.25));
    assert_eq!((metrics.ref_kl(), metrics.mean_entropy()), (0.5, 1.5));
    assert_eq!((metrics.mean_importance(), metrics.mean_rollout_difference()), (1.25, 0.1));
    let nothing = LossMetrics::default();
    assert_eq!((nothing.mean_ratio(), nothing.mean_entropy(), nothing.approx_kl()), (0.0, 0.0, 0.0));
    let mut twice = metrics;
    twice += metrics;
    assert_eq!((twice.mean_ratio(), twice.mean_entropy(), twice.tokens), (1.5, 1.5, 8));
}

#[test]
fn tokens_without_advantage_are_never_counted_as_clipped() {
    let mut case = large_case(6, 300);
    case.advantages.fill(0.0);
    let clip = ClipRange { low: 0.1, high: 0.1 };
    for policy_loss in [
        PolicyLoss::Ppo { clip, dual_clip: Some(1.2) },
        PolicyLoss::Gspo { clip: ClipRange { low: 0.0, high: 0.0 } },
        PolicyLoss::Cispo { clip },
        PolicyLoss::Gmpo { clip },
    ] {
        let config = LossConfig::of(policy_loss);
        let (staged, gradient, _) = case.evaluate(&config, false).unwrap();
        let mut plan = LossPlan::new(&config, case.denominator(&config).unwrap(), case.batch()).unwrap();
        plan.set_sequence_ratios(&case.logprobs).unwrap();
        let mut fast_gradient = vec![1.0; case.tokens()];
        let fast = plan.evaluate(TokenChunk::whole(&case.logprobs), fast_gradient.as_mut_slice().into()).unwrap();
        for metrics in [staged.metrics, fast.metrics] {
            assert_eq!((metrics.clipped_low, metrics.clipped_high, metrics.dual_clipped), (0, 0, 0), "{config:?}");
        }
        assert!(gradient.iter().chain(&fast_gradient).all(|&slope| slope == 0.0));
    }
}
