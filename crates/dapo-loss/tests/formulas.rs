//! Loss and gradient of every policy loss × aggregation × KL against the f64 transcription.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Case, cases, dual::Dual, losses_and_aggregations, reference_loss};
use dapo_loss::{
    Advantages, ClipRange, ImportanceLevel, Kl, KlEstimator, LossBatch, LossConfig, Outside, PolicyLoss, RejectBy,
    Rejection, RolloutCorrection, TokenChunk, policy_loss, policy_loss_single,
    token::{TokenLoss, clipped_surrogate, gmpo, gmpo_log_ratio, gspo, ratio, sapo},
    top_entropy_threshold,
};
use proptest::prelude::*;

/// Rounding of f32 terms, relative to the largest of them; log-ratios near 20 cost the most.
const RELATIVE: f64 = 4e-6;

fn duals(values: &[f32]) -> Vec<Dual> {
    values.iter().map(|&value| Dual::from(f64::from(value))).collect()
}

/// Whether a token sits so close to a corner of the loss that rounding decides its side.
fn at_corner(config: &LossConfig, case: &Case, t: usize, sequence: usize) -> bool {
    let log_ratio = f64::from(case.logprobs[t]) - f64::from(case.old[t]);
    let ratio = log_ratio.exp();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
    let bounds = |x: f64, clip: ClipRange, middle: f64| {
        near(x, middle - f64::from(clip.low)) || near(x, middle + f64::from(clip.high))
    };
    let k = f64::from(case.logprobs[t]) - f64::from(case.reference[t]);
    near(log_ratio.abs(), 20.0)
        || (config.kl.coef != 0.0 && (near(k, 0.0) || near((-k).exp() + k - 1.0, 10.0)))
        || match config.policy_loss {
            PolicyLoss::Ppo { clip, dual_clip } => {
                bounds(ratio, clip, 1.0) || dual_clip.is_some_and(|c| near(ratio, f64::from(c)))
            }
            PolicyLoss::Gmpo { clip } => bounds(log_ratio, clip, 0.0),
            PolicyLoss::Gspo { clip } => {
                let kept = case.kept(sequence);
                let sum: f64 = kept
                    .iter()
                    .map(|&t| (f64::from(case.logprobs[t]) - f64::from(case.old[t])).clamp(-20.0, 20.0))
                    .sum();
                bounds((sum / kept.len() as f64).exp(), clip, 1.0)
            }
            PolicyLoss::Cispo { .. } | PolicyLoss::Sapo { .. } => false,
            other => unreachable!("no corners known of {other}"),
        }
}

/// Compares value and gradient of the crate with the transcription and with its central differences.
fn check(config: &LossConfig, case: &Case, per_token: bool) -> Result<(), TestCaseError> {
    let Some((output, gradient, entropy_gradient)) = case.evaluate(config, per_token) else {
        return Ok(());
    };
    let mut logprobs = duals(&case.logprobs);
    let mut entropies = duals(&case.entropies);
    let frozen: Vec<f64> = case.logprobs.iter().map(|&x| f64::from(x)).collect();
    let (expected, sizes) = reference_loss(config, case, per_token, &logprobs, &frozen, &entropies);
    let magnitude: f64 = sizes.iter().sum();
    let difference = (output.loss - expected.value).abs();
    prop_assert!(difference <= RELATIVE * magnitude, "{config:?}: loss {} expected {}", output.loss, expected.value);
    // Without entropies the clipped surrogate takes its own pass.
    if config.entropy_coef == 0.0 && !config.selects_by_entropy() && !per_token {
        let mut alone = vec![f32::NAN; case.tokens()];
        let chunk = TokenChunk::whole(&case.logprobs);
        let denominator = case.denominator(config).unwrap();
        let same = policy_loss(config, denominator, case.batch(), chunk, alone.as_mut_slice().into()).unwrap();
        prop_assert_eq!((same.loss, same.metrics.clamped), (output.loss, output.metrics.clamped));
        prop_assert_eq!(&alone, &gradient);
    }
    let parts = output.metrics.policy_loss + output.metrics.kl_loss + output.metrics.entropy_loss;
    prop_assert!((parts - output.loss).abs() <= 1e-12 * (1.0 + magnitude));

    let sequence_of = |t: usize| case.cu_seqlens.partition_point(|&offset| offset <= t) - 1;
    let corner: Vec<bool> = (0..case.tokens()).map(|t| at_corner(config, case, t, sequence_of(t))).collect();
    for t in 0..case.tokens() {
        if !case.kept_under(config, sequence_of(t)).contains(&t) {
            prop_assert_eq!((gradient[t], entropy_gradient[t]), (0.0, 0.0));
            continue;
        }
        logprobs[t].slope = 1.0;
        let slope = reference_loss(config, case, per_token, &logprobs, &frozen, &entropies).0.slope;
        logprobs[t].slope = 0.0;
        let close = |got: f64, want: f64, relative: f64, absolute: f64| {
            (got - want).abs() <= relative * (want.abs() + sizes[t]) + absolute
        };
        let got = f64::from(gradient[t]);
        if !corner[t] {
            prop_assert!(close(got, slope, RELATIVE, 0.0), "{config:?}: gradient[{t}] {got} expected {slope}");
        }

        let h = 1e-6;
        let mut at = |shift: f64| {
            logprobs[t].value = frozen[t] + shift;
            let loss = reference_loss(config, case, per_token, &logprobs, &frozen, &entropies).0.value;
            logprobs[t].value = frozen[t];
            loss
        };
        let central = (at(h) - at(-h)) / (2.0 * h);
        // Central differences of a loss of this magnitude carry its rounding, divided by h.
        let rounding = 1e-15 * (1.0 + magnitude) / h;
        if !corner[t] && magnitude < 1e4 {
            prop_assert!(close(got, central, 1e-5, rounding), "{config:?}: gradient[{t}] {got} central {central}");
        }

        entropies[t].slope = 1.0;
        let slope = reference_loss(config, case, per_token, &logprobs, &frozen, &entropies).0.slope;
        entropies[t].slope = 0.0;
        prop_assert!((f64::from(entropy_gradient[t]) - slope).abs() <= 1e-6 * slope.abs());
    }
    Ok(())
}

/// Whether no ratio to the rollout is so close to one of these bounds that rounding decides its side.
fn is_clear_of(case: &Case, bounds: &[f32]) -> bool {
    let far = |ratio: f64| bounds.iter().all(|&bound| (ratio / f64::from(bound) - 1.0).abs() > 1e-5);
    (0..case.sequences()).all(|i| {
        let kept = case.kept(i);
        let sum: f64 = kept.iter().map(|&t| case.rollout_log_ratio(t)).sum();
        let mean = sum / kept.len().max(1) as f64;
        kept.iter().all(|&t| far(case.rollout_log_ratio(t).exp())) && far(sum.exp()) && far(mean.exp())
    })
}

fn kl_options() -> Vec<Kl> {
    use KlEstimator::{Abs, K1, K1Plus, K2, K3, K3Plus};
    let mut all = vec![Kl::default()];
    for estimator in [K1, K2, K3, Abs, K1Plus, K3Plus] {
        for times_ratio in [false, true] {
            all.push(Kl { coef: 0.3, estimator, times_ratio });
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn loss_and_gradient_agree_with_the_formulas_for_every_loss_aggregation_and_kl(case in cases()) {
        for config in losses_and_aggregations() {
            for kl in kl_options() {
                check(&LossConfig { kl, ..config }, &case, false)?;
            }
        }
    }

    #[test]
    fn entropy_bonus_and_importance_weights_agree_with_the_formulas(case in cases(), cap in 0.5_f32..3.0) {
        for config in losses_and_aggregations() {
            for level in [ImportanceLevel::Token, ImportanceLevel::Sequence] {
                let rollout_correction = Some(RolloutCorrection { high: cap, level, ..RolloutCorrection::default() });
                for entropy_coef in [0.0, 0.02] {
                    let config = LossConfig { rollout_correction, entropy_coef, ..config };
                    if config.validate().is_ok() {
                        check(&config, &case, false)?;
                    }
                }
            }
        }
    }

    #[test]
    fn masked_weights_and_lower_bounds_agree_with_the_formulas(case in cases(), low in 0.4_f32..0.9, high in 1.1_f32..3.0) {
        prop_assume!(is_clear_of(&case, &[low, high]));
        for config in losses_and_aggregations() {
            for level in [ImportanceLevel::Token, ImportanceLevel::Sequence] {
                for outside in [Outside::Mask, Outside::Truncate] {
                    let correction = RolloutCorrection { level, outside, low, high, reject: None };
                    let config = LossConfig { rollout_correction: Some(correction), ..config };
                    if config.validate().is_ok() {
                        check(&config, &case, false)?;
                    }
                }
            }
        }
    }

    #[test]
    fn rejected_sequences_leave_loss_and_denominator(case in cases(), width in 0.05_f32..0.8) {
        let band = (Some(1.0 - width), Some(1.0 + width));
        prop_assume!(is_clear_of(&case, &[0.5, 2.0, 0.999, 1.001, 1.0 - width, 1.0 + width]));
        for config in losses_and_aggregations() {
            for by in [RejectBy::Product, RejectBy::GeometricMean] {
                for (low, high) in [(None, None), band] {
                    for level in [ImportanceLevel::Off, ImportanceLevel::Sequence] {
                        let reject = Some(Rejection { by, low, high });
                        let correction = RolloutCorrection { level, reject, ..RolloutCorrection::default() };
                        let config = LossConfig { rollout_correction: Some(correction), entropy_coef: 0.02, ..config };
                        check(&config, &case, false)?;
                        let lengths = config.lengths(&case.batch()).unwrap();
                        let kept: Vec<_> = (0..case.sequences()).map(|i| case.kept_under(&config, i).len()).collect();
                        prop_assert_eq!(lengths, kept);
                    }
                }
            }
        }
    }

    #[test]
    fn the_policy_loss_of_the_highest_entropies_agrees_with_the_formula(case in cases(), share in 0.0_f64..1.0) {
        for config in losses_and_aggregations().iter().filter(|config| !matches!(config.policy_loss, PolicyLoss::Gmpo { .. })) {
            for top_entropy_quantile in [share, 0.0, 0.2] {
                let kl = Kl { coef: 0.3, ..Kl::default() };
                let correction = RolloutCorrection { high: 1.2, ..RolloutCorrection::default() };
                check(&LossConfig { top_entropy_quantile, entropy_coef: 0.02, ..*config }, &case, false)?;
                let rollout_correction = Some(correction);
                check(&LossConfig { top_entropy_quantile, kl, rollout_correction, ..*config }, &case, false)?;
            }
        }
    }

    #[test]
    fn token_advantages_agree_with_the_formulas(case in cases()) {
        for config in losses_and_aggregations().iter().filter(|config| !config.policy_loss.is_sequence_level()) {
            check(config, &case, true)?;
        }
    }

    #[test]
    fn k3_is_never_negative_and_zero_only_at_zero(k in -30.0_f32..30.0, small in -1e-4_f32..1e-4) {
        for k in [k, small] {
            let kl = KlEstimator::K3.of(k).loss;
            prop_assert!((0.0..=10.0).contains(&kl));
            let exact = (f64::from(-k).exp() + f64::from(k) - 1.0).min(10.0);
            if (1e-2..20.0).contains(&k.abs()) {
                prop_assert!((f64::from(kl) - exact).abs() <= 1e-6 * exact, "{} {}", kl, exact);
            }
        }
    }

    #[test]
    fn sapo_slope_fades_far_above_the_behaviour_policy(log_ratio in 3.5_f32..20.0, advantage in -3.0_f32..3.0) {
        let token = sapo(ratio(log_ratio, 0.0), advantage, 1.0, 1.05);
        prop_assert!(token.slope.abs() <= 1e-8);
        let limit = -advantage * 4.0 / if advantage > 0.0 { 1.0 } else { 1.05 };
        prop_assert!((token.loss - limit).abs() <= 1e-6 * limit.abs());
    }
}

#[test]
fn k3_keeps_its_precision_near_zero() {
    for i in -1000..=1000 {
        let k = i as f32 * 7e-4;
        // (e^(−k) + k − 1)/k² without cancellation: Σ (−k)^n/(n + 2)!
        let (mut term, mut sum) = (0.5, 0.0);
        for n in 0..25 {
            sum += term;
            term *= -f64::from(k) / f64::from(n + 3);
        }
        let exact = f64::from(k).powi(2) * sum;
        let got = f64::from(KlEstimator::K3.of(k).loss);
        assert!((got - exact).abs() <= 1e-6 * exact, "{k}: {got} {exact}");
    }
}

#[test]
fn k3_stops_at_ten() {
    for k in [-3.0, -30.0, 12.0, 30.0] {
        assert_eq!(KlEstimator::K3.of(k), TokenLoss { loss: 10.0, slope: 0.0 });
    }
    assert!(KlEstimator::K3.of(-2.5).slope < -11.0);
}

#[test]
fn surrogate_clips_upward_only_when_advantage_is_positive() {
    let clip = ClipRange::default();
    assert_eq!(clipped_surrogate(2.0, 1.0, clip, None).slope, 0.0);
    assert_eq!(clipped_surrogate(2.0, -1.0, clip, None).slope, 2.0);
    assert_eq!(clipped_surrogate(0.5, 1.0, clip, None).slope, -0.5);
    assert_eq!(clipped_surrogate(0.5, -1.0, clip, None).slope, 0.0);
    assert_eq!(clipped_surrogate(0.5, -1.0, clip, None).loss, 0.8);
}

#[test]
fn dual_clip_holds_only_negative_advantages() {
    let clip = ClipRange::default();
    let held = clipped_surrogate(4.0, -2.0, clip, Some(3.0));
    assert_eq!((held.loss, held.slope), (6.0, 0.0));
    let inside = clipped_surrogate(2.5, -2.0, clip, Some(3.0));
    assert_eq!((inside.loss, inside.slope), (5.0, 5.0));
    assert_eq!(clipped_surrogate(1.2, 2.0, clip, Some(1.1)).slope, -2.4);
    assert_eq!(clipped_surrogate(4.0, 0.0, clip, Some(3.0)).slope, 0.0);
}

#[test]
fn sequence_functions_are_what_the_plan_computes() {
    let (logprobs, old) = ([-1.0, -0.5, -2.0], [-1.25, -0.75, -1.75]);
    let log_ratios: Vec<f32> = logprobs.iter().zip(&old).map(|(a, b): (&f32, &f32)| a - b).collect();
    for advantage in [1.5, -0.5] {
        let advantages = [advantage];
        let run = |policy_loss| {
            let batch = LossBatch::new(&[0, 3], Advantages::PerSequence(&advantages), &old);
            policy_loss_single(&LossConfig::of(policy_loss), batch, &logprobs).unwrap()
        };
        let clip = ClipRange { low: 0.1, high: 0.2 };
        let mean = log_ratios.iter().map(|&x| f64::from(x)).sum::<f64>() / 3.0;
        let (token, whole) = (gspo(mean, advantage, clip), run(PolicyLoss::Gspo { clip }));
        assert_eq!(whole.loss, f64::from(token.loss) * 3.0 / 3.0);
        assert_eq!(whole.gradient, [token.slope / 3.0; 3]);

        let clipped = |&x: &f32| gmpo_log_ratio(x, advantage, clip);
        let mean = log_ratios.iter().map(|x| f64::from(clipped(x).0)).sum::<f64>() / 3.0;
        let (token, whole) = (gmpo(mean, advantage), run(PolicyLoss::Gmpo { clip }));
        assert!((whole.loss - f64::from(token.loss)).abs() < 1e-7);
        for (got, x) in whole.gradient.iter().zip(&log_ratios) {
            assert_eq!(*got != 0.0, clipped(x).1);
            assert!(*got == 0.0 || (got - token.slope / 3.0).abs() < 1e-7);
        }
    }
}

#[test]
fn bounds_belong_to_the_inside() {
    let clip = ClipRange { low: 0.25, high: 0.25 };
    assert_eq!(clipped_surrogate(1.25, 1.0, clip, None).slope, -1.25);
    assert_eq!(clipped_surrogate(0.75, -1.0, clip, None).slope, 0.75);
    assert_eq!(gmpo_log_ratio(0.25, 1.0, clip), (0.25, true));
    assert_eq!(gmpo_log_ratio(-0.25, -1.0, clip), (-0.25, true));
}

#[test]
fn runaway_ratios_stay_finite_and_lose_their_slope() {
    assert_eq!(ratio(50.0, -50.0), ratio(20.0, 0.0));
    assert_eq!(ratio(-50.0, 50.0), ratio(-20.0, 0.0));
    let case = Case {
        cu_seqlens: vec![0, 2],
        mask: vec![1, 1],
        logprobs: vec![-1.0, -1.0],
        old: vec![-26.0, -1.5],
        reference: vec![-1.0; 2],
        rollout: vec![-1.0; 2],
        entropies: vec![0.0; 2],
        advantages: vec![-1.0],
        token_advantages: vec![-1.0; 2],
    };
    let (output, gradient, _) = case.evaluate(&LossConfig::default(), false).unwrap();
    assert!((output.loss / (20.0_f64.exp() / 2.0) - 1.0).abs() < 1e-5);
    assert_eq!(gradient[0], 0.0);
    assert!(gradient[1] > 0.0);
    assert_eq!((output.metrics.clamped, output.metrics.max_abs_log_ratio), (1, 25.0));
}

#[test]
fn a_token_of_weight_0_stays_in_the_denominator_and_a_rejected_sequence_does_not() {
    // Ratios to the rollout: 1, 8, 1 and 1/8: the second token and the second sequence are outside.
    let ln_8 = 8.0_f32.ln();
    let (old, rollout) = ([-1.0, -1.0, -1.0, -1.0], [-1.0, -1.0 - ln_8, -1.0, -1.0 + ln_8]);
    let advantages = Advantages::PerSequence(&[1.0, -1.0, 1.0]);
    let batch = LossBatch::new(&[0, 2, 3, 4], advantages, &old).with_rollout_logprobs(&rollout);
    let run = |correction: RolloutCorrection| {
        let config = LossConfig { rollout_correction: Some(correction), ..LossConfig::default() };
        policy_loss_single(&config, batch, &old).unwrap()
    };
    // TRL: a weight of 0 multiplies the loss, and the mean is over all completion tokens.
    let ice_pop = RolloutCorrection { outside: Outside::Mask, low: 0.5, high: 5.0, ..RolloutCorrection::default() };
    let masked = run(ice_pop);
    assert_eq!(masked.gradient, [-0.25, 0.0, 0.25, 0.0]);
    assert_eq!((masked.loss, masked.metrics.tokens, masked.metrics.importance_masked), (0.0, 4, 2));
    assert_eq!(masked.metrics.masked_by_correction(), 0.5);
    // verl: rejection takes tokens out of the response mask, over which the mean is.
    let reject = Some(Rejection::default());
    let rejected = run(RolloutCorrection { level: ImportanceLevel::Off, reject, ..RolloutCorrection::default() });
    assert_eq!(rejected.gradient, [0.0, 0.0, 1.0, 0.0]);
    assert_eq!((rejected.loss, rejected.metrics.tokens, rejected.metrics.rejected), (1.0, 1, 3));
    assert_eq!(rejected.metrics.masked_by_correction(), 0.75);
    // Both: the first sequence's mean ratio is sqrt(8).
    let reject = Some(Rejection { by: RejectBy::GeometricMean, low: Some(0.5), high: Some(3.0) });
    let both = run(RolloutCorrection { reject, ..ice_pop });
    assert_eq!(both.gradient, [-1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0]);
    assert_eq!((both.metrics.tokens, both.metrics.importance_masked, both.metrics.rejected), (3, 1, 1));
}

#[test]
fn one_sequence_is_corrected_as_in_a_batch() {
    let (old, rollout) = ([-1.0, -1.0, -2.0], [-1.0, -3.0, -2.5]);
    for level in [ImportanceLevel::Token, ImportanceLevel::Sequence, ImportanceLevel::Off] {
        for outside in [Outside::Mask, Outside::Truncate] {
            for reject in
                [None, Some(Rejection::default()), Some(Rejection { high: Some(20.0), ..Rejection::default() })]
            {
                let correction = RolloutCorrection { level, outside, low: 0.9, high: 4.0, reject };
                let of = correction.of_sequence(&old, &rollout);
                let config = LossConfig { rollout_correction: Some(correction), ..LossConfig::default() };
                let batch = LossBatch::new(&[0, 3, 4], Advantages::PerSequence(&[1.0, 1.0]), &[-1.0, -1.0, -2.0, -1.0])
                    .with_rollout_logprobs(&[-1.0, -3.0, -2.5, -1.0]);
                let metrics = policy_loss_single(&config, batch, &[-1.0; 4]).unwrap().metrics;
                assert_eq!(of.is_rejected, metrics.rejected > 0, "{correction:?}");
                assert_eq!(of.masked_tokens as u64, metrics.importance_masked + metrics.rejected, "{correction:?}");
            }
        }
    }
}

#[test]
fn the_entropy_threshold_is_torch_quantile() {
    // torch.quantile(torch.tensor(values), 1 - share), by hand: sorted 0.1 0.2 0.3 0.4 0.7 0.9 1.5 2.0 2.5 3.0 4.0.
    let values = [2.0, 0.1, 0.9, 3.0, 0.2, 4.0, 0.7, 0.3, 2.5, 1.5, 0.4_f32];
    for (share, expected) in
        [(1.0, 0.1), (0.9, 0.2), (0.7, 0.4), (0.5, 0.9), (0.25, 2.25), (0.2, 2.5), (0.1, 3.0), (0.0, 4.0)]
    {
        let threshold = top_entropy_threshold(share, values.to_vec()).unwrap();
        assert!((threshold - expected).abs() < 1e-6, "{share}: {threshold} {expected}");
        // Exactly so many tokens reach it: ranks that are integers are not missed by rounding.
        let chosen = values.iter().filter(|&&value| value >= threshold).count();
        assert_eq!(chosen, 1 + (share * 10.0 + 1e-9) as usize, "{share}");
    }
    assert_eq!(top_entropy_threshold(0.2, vec![1.0; 7]), Some(1.0));
    assert_eq!(top_entropy_threshold(0.2, Vec::new()), None);
}

#[test]
fn straight_through_estimators_have_the_gradient_of_k2() {
    for k in [-3.0, -0.5, 0.0, 0.7, 25.0_f32] {
        let of = |estimator: KlEstimator| estimator.of(k);
        let slope = of(KlEstimator::K2).slope;
        assert_eq!(of(KlEstimator::K1Plus), TokenLoss { loss: of(KlEstimator::K1).loss, slope });
        assert_eq!(of(KlEstimator::K3Plus), TokenLoss { loss: of(KlEstimator::K3).loss, slope });
    }
}
