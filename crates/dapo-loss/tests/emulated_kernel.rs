//! The GPU's loss kernel, run on the CPU thread by thread, against the loss on slices.
#![allow(clippy::unwrap_used)]

#[path = "common/mod.rs"]
mod common;

use common::{Case, cases, large_case};
use dapo_loss::cuda::{EmulatedBatch, LossSums, policy_loss_emulated, token_weights};
use dapo_loss::{
    Advantages, Aggregation, ClipRange, Denominator, EmptySequences, Kl, KlEstimator, LossBatch, LossConfig,
    LossGradients, LossOutput, PolicyLoss, TokenChunk, masked_lengths, policy_loss,
};
use proptest::prelude::*;

/// Of a gradient or a sum, and of the size of what it is made of.
const RELATIVE: f64 = 2e-6;

fn configs() -> Vec<LossConfig> {
    let mut all = Vec::new();
    for (dual_clip, aggregation) in [
        (None, Aggregation::TokenMean),
        (Some(3.0), Aggregation::SeqMeanTokenMean),
        (Some(1.2), Aggregation::SeqMeanTokenSumNorm { max_len: 9 }),
    ] {
        let policy_loss = PolicyLoss::Ppo { clip: ClipRange::default(), dual_clip };
        all.push(LossConfig { policy_loss, aggregation, ..LossConfig::default() });
    }
    for (estimator, times_ratio) in [
        (KlEstimator::K1, false),
        (KlEstimator::K2, true),
        (KlEstimator::K3, false),
        (KlEstimator::K3, true),
        (KlEstimator::Abs, false),
    ] {
        all.push(LossConfig { kl: Kl { coef: 0.3, estimator, times_ratio }, entropy_coef: 0.05, ..all[1] });
    }
    all
}

/// Runs the kernel in two orders, which must agree in every bit, and returns its sums and gradients.
fn emulated(config: &LossConfig, case: &Case, denominator: &Denominator) -> (LossSums, Vec<f32>, Vec<f32>) {
    let weights = token_weights(denominator, &case.cu_seqlens, Some(&case.mask));
    // What is masked may be anything.
    let masked = |values: &[f32]| -> Vec<f32> {
        values.iter().zip(&case.mask).map(|(x, keep)| if *keep == 0 { f32::NAN } else { *x }).collect()
    };
    let (logprobs, old, reference) = (masked(&case.logprobs), masked(&case.old), masked(&case.reference));
    let batch = EmulatedBatch {
        logprobs: &logprobs,
        old_logprobs: &old,
        ref_logprobs: Some(&reference),
        entropies: Some(&case.entropies),
        advantages: &case.token_advantages,
        weights: &weights,
    };
    let mut results = [0, 1].map(|order| {
        let (mut sums, mut gradient, mut d_entropies) =
            (LossSums::default(), vec![7.0; case.tokens()], vec![7.0; case.tokens()]);
        policy_loss_emulated(config, batch, &mut gradient, Some(&mut d_entropies), &mut sums, order).unwrap();
        (sums, gradient, d_entropies)
    });
    assert_eq!(results[0], results[1], "the result depends on the order of threads");
    std::mem::take(&mut results[0])
}

fn on_slices(config: &LossConfig, case: &Case, denominator: Denominator) -> (LossOutput, Vec<f32>, Vec<f32>) {
    let (mut gradient, mut d_entropies) = (vec![0.0; case.tokens()], vec![0.0; case.tokens()]);
    let batch = LossBatch::new(&case.cu_seqlens, Advantages::PerToken(&case.token_advantages), &case.old)
        .with_mask(&case.mask)
        .with_ref_logprobs(&case.reference);
    let chunk = TokenChunk::whole(&case.logprobs).with_entropies(&case.entropies);
    let gradients = LossGradients::new(&mut gradient).with_entropies(&mut d_entropies);
    let output = policy_loss(config, denominator, batch, chunk, gradients).unwrap();
    (output, gradient, d_entropies)
}

/// What the terms of the KL loss, and those of its metric, come to without their signs, for the one estimator whose terms
/// have both.
fn signed_kl_sizes(config: &LossConfig, case: &Case, denominator: &Denominator) -> (f64, f64) {
    if config.kl.estimator != KlEstimator::K1 {
        return (0.0, 0.0);
    }
    let weights = token_weights(denominator, &case.cu_seqlens, Some(&case.mask));
    let distances = case.logprobs.iter().zip(&case.reference).map(|(x, y)| f64::from(x - y).abs());
    weights
        .iter()
        .zip(distances)
        .filter(|(weight, _)| **weight != 0.0)
        .fold((0.0, 0.0), |(loss, metric), (w, d)| (loss + f64::from(config.kl.coef) * f64::from(*w) * d, metric + d))
}

fn check(config: &LossConfig, case: &Case) {
    let lengths = masked_lengths(&case.cu_seqlens, Some(&case.mask));
    let Some(denominator) = Denominator::of_step(config.aggregation, &lengths, EmptySequences::Exclude) else {
        return;
    };
    let (expected, gradient, d_entropies) = on_slices(config, case, denominator);
    let (sums, got, got_entropies) = emulated(config, case, &denominator);
    let output = sums.output(true).unwrap();
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let close = |name: &str, a: f64, b: f64, size: f64| {
        assert!((a - b).abs() <= RELATIVE * (b.abs() + size), "{name}: {a}, expected {b} ({config:?})");
    };
    for (name, got, expected) in [("gradient", &got, &gradient), ("entropies", &got_entropies, &d_entropies)] {
        let size = f64::from(largest(expected)) * 0.1;
        for (a, b) in got.iter().zip(expected) {
            close(name, f64::from(*a), f64::from(*b), size);
        }
    }
    // Sums of terms of both signs: judged by what the terms may come to.
    let (m, e) = (output.metrics, expected.metrics);
    let size = e.ratio_sum + e.tokens as f64;
    let share = size / e.tokens.max(1) as f64 * 3.0;
    let policy_size = share * e.tokens as f64 * denominator.weight(1).max(1e-9);
    let (kl_size, ref_kl_size) = signed_kl_sizes(config, case, &denominator);
    close("policy loss", m.policy_loss, e.policy_loss, policy_size);
    close("KL loss", m.kl_loss, e.kl_loss, kl_size);
    close("entropy loss", m.entropy_loss, e.entropy_loss, 0.0);
    close("loss", output.loss, expected.loss, policy_size + kl_size);
    close("ratio", m.ratio_sum, e.ratio_sum, 0.0);
    close("log ratio", m.log_ratio_sum, e.log_ratio_sum, size);
    close("reference", m.ref_kl_sum, e.ref_kl_sum, ref_kl_size);
    close("entropy", m.entropy_sum, e.entropy_sum, 0.0);
    assert_eq!(
        (m.tokens, m.clipped_low, m.clipped_high, m.dual_clipped, m.clamped, m.entropy_tokens, m.max_abs_log_ratio),
        (e.tokens, e.clipped_low, e.clipped_high, e.dual_clipped, e.clamped, e.entropy_tokens, e.max_abs_log_ratio),
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn small_steps_agree_with_slices(case in cases()) {
        for config in configs() {
            check(&config, &case);
        }
    }
}

#[test]
fn steps_of_many_blocks_agree_with_slices() {
    let case = large_case(40, 500);
    assert!(case.tokens() > 3 * 2048);
    for config in configs() {
        check(&config, &case);
    }
}

#[test]
fn parts_of_a_step_add_up_in_the_sums() {
    let (a, b) = (large_case(7, 90), large_case(9, 60));
    let config = LossConfig::default();
    let lengths = [&a, &b].map(|case| masked_lengths(&case.cu_seqlens, Some(&case.mask))).concat();
    let denominator = Denominator::of_step(config.aggregation, &lengths, EmptySequences::Exclude).unwrap();
    let mut both = LossSums::default();
    for case in [&a, &b] {
        let weights = token_weights(&denominator, &case.cu_seqlens, Some(&case.mask));
        let batch = EmulatedBatch {
            logprobs: &case.logprobs,
            old_logprobs: &case.old,
            ref_logprobs: None,
            entropies: None,
            advantages: &case.token_advantages,
            weights: &weights,
        };
        let mut gradient = vec![0.0; case.tokens()];
        policy_loss_emulated(&config, batch, &mut gradient, None, &mut both, 0).unwrap();
    }
    let (one, two) = (emulated(&config, &a, &denominator).0, emulated(&config, &b, &denominator).0);
    let (one, two) = (one.output(false).unwrap(), two.output(false).unwrap());
    let both = both.output(false).unwrap();
    assert!((both.loss - one.loss - two.loss).abs() < 1e-12);
    assert_eq!(both.metrics.tokens, one.metrics.tokens + two.metrics.tokens);
    assert_eq!(both.metrics.max_abs_log_ratio, one.metrics.max_abs_log_ratio.max(two.metrics.max_abs_log_ratio));
}

#[test]
fn a_value_that_is_not_finite_is_counted() {
    let weights = [0.5, 0.0, 0.5];
    let batch = EmulatedBatch {
        logprobs: &[f32::NAN, f32::NAN, -1.0],
        old_logprobs: &[-1.0; 3],
        ref_logprobs: None,
        entropies: None,
        advantages: &[1.0; 3],
        weights: &weights,
    };
    let mut sums = LossSums::default();
    policy_loss_emulated(&LossConfig::default(), batch, &mut [0.0; 3], None, &mut sums, 0).unwrap();
    let error = sums.output(false).unwrap_err().to_string();
    assert_eq!(error, "policy_loss: 1 tokens have an input that is not finite");
}

#[test]
fn settings_without_a_kernel_are_refused() {
    let config = LossConfig::of("gspo".parse().unwrap());
    let batch = EmulatedBatch {
        logprobs: &[],
        old_logprobs: &[],
        ref_logprobs: None,
        entropies: None,
        advantages: &[],
        weights: &[],
    };
    let error = policy_loss_emulated(&config, batch, &mut [], None, &mut LossSums::default(), 0).unwrap_err();
    assert_eq!(error.to_string(), "policy_loss is gspo, expected ppo, the only one on a device");
}
