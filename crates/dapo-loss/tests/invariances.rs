//! What must not change the loss: how a step is split, packed, padded, ordered, and how many threads there are.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Case, cases, large_case, losses_and_aggregations};
use dapo_loss::{
    Advantages, Aggregation, Denominator, EmptySequences, Kl, LossBatch, LossConfig, LossGradients, LossMetrics,
    LossOutput, LossPlan, Outside, PolicyLoss, RejectBy, Rejection, RolloutCorrection, TokenChunk,
    top_entropy_threshold,
};
use proptest::prelude::*;

/// Every loss and aggregation, bare and with every further term.
fn configs() -> Vec<LossConfig> {
    let mut all = losses_and_aggregations();
    for config in all.clone() {
        let level = dapo_loss::ImportanceLevel::Sequence;
        all.push(LossConfig {
            kl: Kl { coef: 0.1, times_ratio: true, ..Kl::default() },
            entropy_coef: 0.01,
            rollout_correction: Some(RolloutCorrection { level, ..RolloutCorrection::default() }),
            ..config
        });
        let reject = Some(Rejection { by: RejectBy::GeometricMean, low: Some(0.8), high: Some(1.25) });
        let outside = Outside::Mask;
        let correction = RolloutCorrection { level, outside, low: 0.5, high: 1.5, reject };
        all.push(LossConfig { rollout_correction: Some(correction), ..config });
        all.push(LossConfig { top_entropy_quantile: 0.3, entropy_coef: 0.01, ..config });
    }
    all.retain(|config| config.validate().is_ok());
    all
}

fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-11 * (scale + a.abs() + b.abs())
}

/// Counts must agree exactly, sums to the rounding of f64.
fn assert_same(a: &LossOutput, b: &LossOutput) {
    let (m, n) = (a.metrics, b.metrics);
    let scale = m.ratio_sum.abs() + m.tokens as f64 + a.loss.abs();
    assert!(close(a.loss, b.loss, scale), "{} {}", a.loss, b.loss);
    let counts = |m: &LossMetrics| {
        let of_correction = (m.importance_capped, m.importance_masked, m.rejected);
        (m.tokens, m.clipped_low, m.clipped_high, m.dual_clipped, m.clamped, m.entropy_tokens, of_correction)
    };
    assert_eq!(counts(&m), counts(&n));
    assert_eq!(m.max_abs_log_ratio, n.max_abs_log_ratio);
    assert_eq!(m.max_rollout_difference, n.max_rollout_difference);
    let sums = |m: &LossMetrics| {
        [
            m.policy_loss,
            m.kl_loss,
            m.entropy_loss,
            m.ref_kl_sum,
            m.entropy_sum,
            m.importance_sum,
            m.rollout_difference_sum,
        ]
    };
    for (x, y) in sums(&m).into_iter().zip(sums(&n)) {
        assert!(close(x, y, scale), "{x} {y}");
    }
    // These two are summed four at a time in f32.
    assert!((m.ratio_sum - n.ratio_sum).abs() <= 1e-6 * scale);
    assert!((m.log_ratio_sum - n.log_ratio_sum).abs() <= 1e-6 * scale);
}

/// The loss of `case` evaluated over chunks that end at `cuts`.
fn in_chunks(case: &Case, config: &LossConfig, cuts: &[usize]) -> (LossOutput, Vec<f32>, Vec<f32>) {
    let mut plan = LossPlan::new(config, case.denominator(config).unwrap(), case.batch()).unwrap();
    if plan.needs_sequence_ratios() {
        plan.set_sequence_ratios(&case.logprobs).unwrap();
    }
    plan.set_entropies(&case.entropies).unwrap();
    let (mut gradient, mut entropy_gradient) = (vec![f32::NAN; case.tokens()], vec![f32::NAN; case.tokens()]);
    let mut total = LossOutput::default();
    let mut start = 0;
    for &end in cuts.iter().chain([&case.tokens()]) {
        let logprobs = &case.logprobs[start..end];
        let chunk = TokenChunk::at(start, logprobs).with_entropies(&case.entropies[start..end]);
        let entropies = &mut entropy_gradient[start..end];
        total += plan.evaluate(chunk, LossGradients::new(&mut gradient[start..end]).with_entropies(entropies)).unwrap();
        start = end;
    }
    (total, gradient, entropy_gradient)
}

/// The sequences `pick` of `case`, in that order, each with `padding` masked tokens of garbage before and after it.
fn repacked(case: &Case, pick: &[usize], padding: usize) -> Case {
    let mut out = Case {
        cu_seqlens: vec![0],
        mask: Vec::new(),
        logprobs: Vec::new(),
        old: Vec::new(),
        reference: Vec::new(),
        rollout: Vec::new(),
        entropies: Vec::new(),
        advantages: Vec::new(),
        token_advantages: Vec::new(),
    };
    let pad = |out: &mut Case| {
        for i in 0..padding {
            out.mask.push(0);
            for values in [&mut out.logprobs, &mut out.old, &mut out.reference, &mut out.rollout, &mut out.entropies] {
                values.push([f32::NAN, f32::NEG_INFINITY, 1e30][i % 3]);
            }
            out.token_advantages.push(f32::NAN);
        }
    };
    for &i in pick {
        pad(&mut out);
        let tokens = case.cu_seqlens[i]..case.cu_seqlens[i + 1];
        out.mask.extend(&case.mask[tokens.clone()]);
        out.logprobs.extend(&case.logprobs[tokens.clone()]);
        out.old.extend(&case.old[tokens.clone()]);
        out.reference.extend(&case.reference[tokens.clone()]);
        out.rollout.extend(&case.rollout[tokens.clone()]);
        out.entropies.extend(&case.entropies[tokens.clone()]);
        out.token_advantages.extend(&case.token_advantages[tokens]);
        pad(&mut out);
        out.advantages.push(case.advantages[i]);
        out.cu_seqlens.push(out.mask.len());
    }
    out
}

/// The gradient of the tokens that count, sequence by sequence.
fn gradient_by_sequence(case: &Case, gradient: &[f32]) -> Vec<Vec<u32>> {
    (0..case.sequences()).map(|i| case.kept(i).iter().map(|&t| gradient[t].to_bits()).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn chunks_add_up_to_the_whole_and_their_gradients_are_its_bits(
        case in cases(),
        cuts in prop::collection::vec(0.0_f64..1.0, 0..4),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * case.tokens() as f64) as usize).collect();
        cuts.sort_unstable();
        for config in configs() {
            if case.denominator(&config).is_none() {
                continue;
            }
            let (whole, gradient, entropy_gradient) = in_chunks(&case, &config, &[]);
            let (parts, chunk_gradient, chunk_entropy_gradient) = in_chunks(&case, &config, &cuts);
            assert_same(&whole, &parts);
            prop_assert_eq!(gradient, chunk_gradient);
            prop_assert_eq!(entropy_gradient, chunk_entropy_gradient);
        }
    }

    #[test]
    fn micro_batches_padding_and_order_leave_loss_and_gradient_alone(case in cases(), padding in 1_usize..4, at in 0_usize..6) {
        let n = case.sequences();
        for config in configs() {
            let Some((whole, gradient, _)) = case.evaluate(&config, false) else { continue };
            let expected = gradient_by_sequence(&case, &gradient);

            let order: Vec<usize> = (0..n).rev().collect();
            let other = repacked(&case, &order, padding);
            let (output, gradient, _) = other.evaluate(&config, false).unwrap();
            assert_same(&whole, &output);
            let mut got = gradient_by_sequence(&other, &gradient);
            got.reverse();
            prop_assert_eq!(&expected, &got);

            let (first, second): (Vec<_>, Vec<_>) = (0..n).partition(|&i| i < at.min(n));
            let mut total = LossOutput::default();
            let mut got = Vec::new();
            for part in [first, second] {
                let part = repacked(&case, &part, 0);
                let mut gradient = vec![0.0; part.tokens()];
                let mut plan = LossPlan::new(&config, case.denominator(&config).unwrap(), part.batch()).unwrap();
                plan.set_sequence_ratios(&part.logprobs).unwrap();
                let in_loss = (0..n).flat_map(|i| case.kept_under(&config, i)).map(|t| case.entropies[t]);
                let threshold = top_entropy_threshold(config.top_entropy_quantile, in_loss.collect());
                plan.set_entropy_threshold(threshold.unwrap());
                let chunk = TokenChunk::whole(&part.logprobs).with_entropies(&part.entropies);
                total += plan.evaluate(chunk, gradient.as_mut_slice().into()).unwrap();
                got.extend(gradient_by_sequence(&part, &gradient));
            }
            assert_same(&whole, &total);
            prop_assert_eq!(&expected, &got);
        }
    }
}

#[test]
fn loss_and_gradient_have_the_same_bits_for_any_number_of_threads() {
    let case = large_case(60, 3000);
    assert!(case.tokens() > 2 * 32_768);
    for config in configs() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| in_chunks(&case, &config, &[]))
        };
        let (output, gradient, _) = run(1);
        for threads in [2, 3, 7] {
            let (other, other_gradient, _) = run(threads);
            assert_eq!(output.loss.to_bits(), other.loss.to_bits());
            assert_eq!(output.metrics, other.metrics);
            assert_eq!(gradient, other_gradient);
        }
    }
}

#[test]
fn one_long_sequence_is_shared_among_threads_and_chunks() {
    let mut case = large_case(1, 100_000);
    case.advantages[0] = -1.0;
    for config in configs() {
        let (whole, gradient, _) = in_chunks(&case, &config, &[]);
        let (parts, chunk_gradient, _) = in_chunks(&case, &config, &[1, 300, 8192, 8193, 40_000]);
        assert_same(&whole, &parts);
        assert_eq!(gradient, chunk_gradient);
    }
}

#[test]
fn the_fast_pass_and_the_staged_pass_agree_bitwise() {
    let case = large_case(20, 900);
    for dual_clip in [None, Some(1.2)] {
        let clip = dapo_loss::ClipRange::default();
        let config = LossConfig { policy_loss: PolicyLoss::Ppo { clip, dual_clip }, ..LossConfig::default() };
        let plan = LossPlan::new(&config, case.denominator(&config).unwrap(), case.batch()).unwrap();
        let (mut fast, mut staged) = (vec![0.0; case.tokens()], vec![0.0; case.tokens()]);
        let chunk = TokenChunk::whole(&case.logprobs);
        let a = plan.evaluate(chunk, fast.as_mut_slice().into()).unwrap();
        let chunk = chunk.with_entropies(&case.entropies);
        let mut b = plan.evaluate(chunk, staged.as_mut_slice().into()).unwrap();
        b.metrics.entropy_sum = 0.0;
        b.metrics.entropy_tokens = 0;
        assert_eq!(a, b);
        assert_eq!(fast, staged);
        assert!(a.metrics.clipped_low > 0 && a.metrics.clipped_high > 0);
        assert_eq!(a.metrics.dual_clipped > 0, dual_clip.is_some());
    }
}

#[test]
fn token_advantages_equal_to_the_sequence_s_change_nothing() {
    let mut case = large_case(5, 400);
    for i in 0..case.sequences() {
        let advantage = case.advantages[i];
        case.token_advantages[case.cu_seqlens[i]..case.cu_seqlens[i + 1]].fill(advantage);
    }
    for config in configs().into_iter().filter(|config| !config.policy_loss.is_sequence_level()) {
        assert_eq!(case.evaluate(&config, false), case.evaluate(&config, true));
    }
}

#[test]
fn masked_tokens_may_hold_anything_under_token_advantages_too() {
    let case = large_case(5, 200);
    let order: Vec<usize> = (0..case.sequences()).collect();
    let padded = repacked(&case, &order, 3);
    for config in configs().into_iter().filter(|config| !config.policy_loss.is_sequence_level()) {
        let (output, gradient, _) = case.evaluate(&config, true).unwrap();
        let (padded_output, padded_gradient, _) = padded.evaluate(&config, true).unwrap();
        assert_same(&output, &padded_output);
        assert_eq!(gradient_by_sequence(&case, &gradient), gradient_by_sequence(&padded, &padded_gradient));
    }
}

#[test]
fn on_policy_gradient_is_minus_advantage_over_denominator() {
    let mut case = large_case(7, 300);
    case.old.clone_from(&case.logprobs);
    for config in losses_and_aggregations() {
        let denominator = case.denominator(&config).unwrap();
        let (output, gradient, _) = case.evaluate(&config, false).unwrap();
        assert_eq!((output.metrics.mean_ratio(), output.metrics.max_abs_log_ratio), (1.0, 0.0));
        assert_eq!((output.metrics.approx_kl(), output.metrics.approx_kl_k3()), (0.0, 0.0));
        for i in 0..case.sequences() {
            let kept = case.kept(i);
            let expected = -f64::from(case.advantages[i]) * denominator.weight(kept.len());
            for t in kept {
                assert!((f64::from(gradient[t]) - expected).abs() <= 2e-7 * expected.abs(), "{config:?}");
            }
        }
    }
}

#[test]
fn gradient_beyond_the_clip_is_exactly_zero_for_every_clipping_loss() {
    let names = ["dapo", "gspo", "gmpo"];
    for (config, (shift, advantage)) in names
        .iter()
        .map(|name| LossConfig::of(name.parse().unwrap()))
        .flat_map(|config| [(0.5, 1.0), (-0.5, -1.0)].map(|direction| (config, direction)))
    {
        let logprobs = [-2.0 + shift; 4];
        let advantages = [advantage];
        let batch = LossBatch::new(&[0, 4], Advantages::PerSequence(&advantages), &[-2.0; 4]);
        let denominator = Denominator::of_step(config.aggregation, &[4], EmptySequences::Exclude).unwrap();
        let mut gradient = [1.0; 4];
        let chunk = TokenChunk::whole(&logprobs);
        let output =
            dapo_loss::policy_loss(&config, denominator, batch, chunk, gradient.as_mut_slice().into()).unwrap();
        assert_eq!(gradient, [0.0; 4], "{config:?}");
        assert_eq!(output.metrics.clip_high(), f64::from(advantage > 0.0));
        assert_eq!(output.metrics.clip_low(), f64::from(advantage < 0.0));
        assert_eq!(output.metrics.clip_region(), 1.0);
    }
}

#[test]
fn local_token_mean_averages_micro_batches() {
    let case = large_case(6, 50);
    let config = LossConfig { aggregation: Aggregation::LocalTokenMean, ..LossConfig::default() };
    let mut mean = 0.0;
    let mut total = 0.0;
    for part in [vec![0, 1, 2, 3], vec![4, 5]] {
        let part = repacked(&case, &part, 0);
        let lengths = dapo_loss::masked_lengths(&part.cu_seqlens, Some(&part.mask));
        mean += part.evaluate(&config, false).unwrap().0.loss / 2.0;
        let denominator = Denominator::of_micro_batch(&lengths, 2).unwrap();
        let mut gradient = vec![0.0; part.tokens()];
        let plan = LossPlan::new(&config, denominator, part.batch()).unwrap();
        total += plan.evaluate(TokenChunk::whole(&part.logprobs), gradient.as_mut_slice().into()).unwrap().loss;
    }
    assert!((mean - total).abs() < 1e-12);
    assert_eq!(Denominator::of_micro_batch(&[0, 0], 2), None);
}
