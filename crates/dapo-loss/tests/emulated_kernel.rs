//! The GPU's loss kernel, run on the CPU thread by thread, against the loss on slices.
#![allow(clippy::unwrap_used)]

#[path = "common/mod.rs"]
mod common;

use candle_core::{Device, Tensor, Var};
use common::{Case, cases, large_case};
use dapo_kernels::cuda::Gpu;
use dapo_kernels::cuda::policy_loss::{TokenArrays, TokenGradients};
use dapo_loss::cuda::{self, DeviceSums, token_weights};
use dapo_loss::tensor::{self, TensorBatch, policy_loss_emulated};
use dapo_loss::{
    Advantages, Aggregation, ClipRange, Denominator, EmptySequences, Kl, KlEstimator, LossBatch, LossConfig,
    LossGradients, LossOutput, PolicyLoss, RolloutCorrection, TokenChunk, masked_lengths, policy_loss,
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

/// The arrays of a case; what is masked is NaN, as it may be anything.
fn masked(case: &Case, values: &[f32]) -> Vec<f32> {
    values.iter().zip(&case.mask).map(|(x, keep)| if *keep == 0 { f32::NAN } else { *x }).collect()
}

/// Adds the loss of a case to the sums; returns the gradients.
fn launch(
    gpu: &Gpu,
    config: &LossConfig,
    case: &Case,
    denominator: &Denominator,
    optional: bool,
    sums: &mut DeviceSums,
) -> candle_core::Result<(Vec<f32>, Vec<f32>)> {
    let weights = token_weights(denominator, &case.cu_seqlens, Some(&case.mask));
    let (logprobs, old, reference) =
        (masked(case, &case.logprobs), masked(case, &case.old), masked(case, &case.reference));
    let tokens = TokenArrays {
        logprobs: logprobs.as_slice().into(),
        old_logprobs: old.as_slice().into(),
        ref_logprobs: optional.then(|| reference.as_slice().into()),
        entropies: optional.then(|| case.entropies.as_slice().into()),
        advantages: case.token_advantages.as_slice().into(),
        weights: weights.as_slice().into(),
    };
    let (mut gradient, mut d_entropies) = (vec![7.0; case.tokens()], vec![7.0; case.tokens()]);
    let gradients = TokenGradients {
        logprobs: gradient.as_mut_slice().into(),
        entropies: optional.then(|| d_entropies.as_mut_slice().into()),
    };
    cuda::policy_loss(gpu, config, tokens, gradients, sums)?;
    Ok((gradient, d_entropies))
}

/// Runs the kernel in two orders, which must agree in every bit, and returns its sums and gradients.
fn emulated(config: &LossConfig, case: &Case, denominator: &Denominator) -> (LossOutput, Vec<f32>, Vec<f32>) {
    let mut results = [0, 1].map(|order| {
        let gpu = Gpu::emulated_in_order(order);
        let mut sums = DeviceSums::new(&gpu, case.tokens()).unwrap();
        let (gradient, d_entropies) = launch(&gpu, config, case, denominator, true, &mut sums).unwrap();
        (sums.output(&gpu, true).unwrap(), gradient, d_entropies)
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
    let (output, got, got_entropies) = emulated(config, case, &denominator);
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
    let gpu = Gpu::emulated();
    let [one, two, both] = [&[&a][..], &[&b], &[&a, &b]].map(|parts| {
        let mut sums = DeviceSums::new(&gpu, a.tokens().max(b.tokens())).unwrap();
        for case in parts {
            launch(&gpu, &config, case, &denominator, false, &mut sums).unwrap();
        }
        sums.output(&gpu, false).unwrap()
    });
    assert!((both.loss - one.loss - two.loss).abs() < 1e-12);
    assert_eq!(both.metrics.tokens, one.metrics.tokens + two.metrics.tokens);
    assert_eq!(both.metrics.max_abs_log_ratio, one.metrics.max_abs_log_ratio.max(two.metrics.max_abs_log_ratio));
}

/// What an error says, without the stack trace it may carry.
fn message<T: std::fmt::Debug>(result: candle_core::Result<T>) -> String {
    let error = result.unwrap_err().to_string();
    error.lines().next().unwrap().to_owned()
}

/// The loss of three tokens without a reference, the last two of one sequence.
fn three_tokens(config: &LossConfig, logprobs: &[f32; 3], scratch: usize) -> candle_core::Result<LossOutput> {
    let gpu = Gpu::emulated();
    let tokens = TokenArrays {
        logprobs: logprobs.as_slice().into(),
        old_logprobs: [-1.0; 3].as_slice().into(),
        ref_logprobs: None,
        entropies: None,
        advantages: [1.0; 3].as_slice().into(),
        weights: [0.5, 0.0, 0.5].as_slice().into(),
    };
    let mut gradient = [0.0; 3];
    let gradients = TokenGradients { logprobs: gradient.as_mut_slice().into(), entropies: None };
    let mut sums = DeviceSums::new(&gpu, scratch)?;
    cuda::policy_loss(&gpu, config, tokens, gradients, &mut sums)?;
    sums.output(&gpu, false)
}

#[test]
fn a_value_that_is_not_finite_is_counted() {
    let error = message(three_tokens(&LossConfig::default(), &[f32::NAN, f32::NAN, -1.0], 3));
    assert_eq!(error, "policy_loss: 1 tokens have an input that is not finite");
}

#[test]
fn settings_without_a_kernel_and_what_they_lack_are_refused() {
    let refused = |config: &LossConfig| message(three_tokens(config, &[-1.0; 3], 3));
    let gspo = LossConfig::of("gspo".parse().unwrap());
    assert_eq!(refused(&gspo), "policy_loss is gspo, expected ppo, the only one on a device");
    let kl = LossConfig { kl: Kl { coef: 0.1, ..Kl::default() }, ..LossConfig::default() };
    assert_eq!(refused(&kl), "policy_loss: kl.coef needs ref_logprobs");
    // These are computed from copies on the host.
    let corrected = LossConfig { rollout_correction: Some(RolloutCorrection::default()), ..LossConfig::default() };
    assert_eq!(refused(&corrected), "rollout_correction is given, expected none on a device");
    let chosen = LossConfig { top_entropy_quantile: 0.2, ..LossConfig::default() };
    assert_eq!(refused(&chosen), "top_entropy_quantile is 0.2, expected 1 on a device");
    for (estimator, name) in [(KlEstimator::K1Plus, "k1+"), (KlEstimator::K3Plus, "k3+")] {
        let kl = LossConfig { kl: Kl { estimator, ..Kl::default() }, ..LossConfig::default() };
        assert_eq!(refused(&kl), format!("kl.estimator is {name}, expected k1, k2, k3 or abs on a device"));
        assert!(!cuda::has_kernel(&kl) && !cuda::has_kernel(&chosen) && !cuda::has_kernel(&corrected));
    }
    let entropy = LossConfig { entropy_coef: 0.1, ..LossConfig::default() };
    assert_eq!(refused(&entropy), "policy_loss: entropy_coef needs entropies");
    let range = LossConfig { entropy_coef: -0.1, ..LossConfig::default() };
    assert_eq!(refused(&range), "entropy_coef is -0.1, expected a finite number >= 0");
    let scratch = message(three_tokens(&LossConfig::default(), &[-1.0; 3], 0));
    assert_eq!(scratch, "policy_loss: scratch has 1 values, expected 16");
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

type LossOfTensors<'a> =
    dyn Fn(Denominator, &Tensor, Option<&Tensor>, &TensorBatch<'_>) -> candle_core::Result<tensor::TensorLoss> + 'a;

/// Loss, metrics and gradients of a case as tensors, computed by `loss`.
fn of_tensors(
    case: &Case,
    config: &LossConfig,
    per_token: bool,
    loss: &LossOfTensors<'_>,
) -> (LossOutput, Vec<f32>, Vec<f32>) {
    let logprobs = Var::from_tensor(&tensor(&masked(case, &case.logprobs))).unwrap();
    let entropies = Var::from_tensor(&tensor(&case.entropies)).unwrap();
    let advantages = tensor(if per_token { &case.token_advantages } else { &case.advantages });
    let (old, reference) = (tensor(&masked(case, &case.old)), tensor(&masked(case, &case.reference)));
    let mask = Tensor::from_slice(&case.mask, case.tokens(), &Device::Cpu).unwrap();
    let batch = TensorBatch::new(&advantages, &old)
        .with_cu_seqlens(&case.cu_seqlens)
        .with_mask(&mask)
        .with_ref_logprobs(&reference);
    let got = loss(case.denominator(config).unwrap(), &logprobs, Some(&entropies), &batch).unwrap();
    let gradients = got.loss.affine(2.0, 0.0).unwrap().backward().unwrap();
    let of = |var: &Var| gradients.get(var).unwrap().to_vec1::<f32>().unwrap();
    let mut output = LossOutput::default();
    (output.loss, output.metrics) = (f64::from(got.loss.to_scalar::<f32>().unwrap()), got.metrics);
    (output, of(&logprobs), of(&entropies))
}

#[test]
fn tensors_get_the_loss_and_twice_the_gradients_of_the_kernel() {
    let case = large_case(9, 200);
    for config in configs() {
        for per_token in [true, false] {
            let (got, gradient, d_entropies) = of_tensors(&case, &config, per_token, &|denominator, x, h, batch| {
                policy_loss_emulated(Gpu::emulated(), &config, denominator, x, h, batch)
            });
            let (expected, host_gradient, host_entropies) =
                of_tensors(&case, &config, per_token, &|denominator, x, h, batch| {
                    tensor::policy_loss(&config, denominator, x, h, batch)
                });
            assert!((got.loss - expected.loss).abs() <= 1e-5 * expected.metrics.mean_ratio(), "{got:?} {expected:?}");
            assert_eq!(got.metrics.tokens, expected.metrics.tokens);
            assert_eq!(got.metrics.entropy_tokens, expected.metrics.entropy_tokens);
            for (got, expected) in [(gradient, host_gradient), (d_entropies, host_entropies)] {
                let size = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
                for (a, b) in got.iter().zip(&expected) {
                    assert!((a - b).abs() <= 2e-6 * (b.abs() + 0.1 * size), "{a} {b}");
                }
            }
        }
    }
}

#[test]
fn more_tokens_than_the_step_has_and_offsets_that_do_not_fit_are_refused_by_the_kernel_too() {
    let (config, x, advantages) = (LossConfig::default(), tensor(&[-1.0; 3]), tensor(&[1.0]));
    let run = |lengths: &[usize], cu_seqlens: &[usize]| {
        let denominator = Denominator::of_step(config.aggregation, lengths, EmptySequences::Exclude).unwrap();
        let batch = TensorBatch::new(&advantages, &x).with_cu_seqlens(cu_seqlens);
        message(policy_loss_emulated(Gpu::emulated(), &config, denominator, &x, None, &batch))
    };
    assert!(run(&[2], &[0, 3]).contains("3 tokens"), "{}", run(&[2], &[0, 3]));
    assert_eq!(run(&[3], &[0, 2]), "policy_loss: logprobs has 3 values, expected 2");
}
