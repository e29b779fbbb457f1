//! PPO's token rewards, packed advantages and value loss: properties, and errors that name what is wrong.
#![allow(clippy::unwrap_used)]

use dapo_loss::{
    Aggregation, Denominator, EmptySequences, Gae, GaeBatch, KlEstimator, TokenKl, ValueBatch, ValueLoss, ValueMetrics,
    batch_gae, gae, masked_lengths, token_rewards, value_loss, whiten,
};
use proptest::prelude::*;

/// Of finite differences.
const STEP: f32 = 1e-3;

/// Sequences of 0 to 6 tokens, each token with a mask byte and three numbers.
fn sequences() -> impl Strategy<Value = Vec<Vec<(u8, f32, f32, f32)>>> {
    let token = (0..2u8, -2.0..2.0f32, -2.0..2.0f32, -2.0..2.0f32);
    prop::collection::vec(prop::collection::vec(token, 0..7), 1..6)
}

struct Packed {
    cu_seqlens: Vec<usize>,
    mask: Vec<u8>,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

fn pack(sequences: &[Vec<(u8, f32, f32, f32)>]) -> Packed {
    let mut cu_seqlens = vec![0];
    cu_seqlens.extend(sequences.iter().scan(0, |end, sequence| {
        *end += sequence.len();
        Some(*end)
    }));
    let all = || sequences.iter().flatten();
    Packed {
        cu_seqlens,
        mask: all().map(|token| token.0).collect(),
        a: all().map(|token| token.1).collect(),
        b: all().map(|token| token.2).collect(),
        c: all().map(|token| token.3).collect(),
    }
}

proptest! {
    #[test]
    fn packed_advantages_are_those_of_each_sequence_without_its_masked_tokens(
        sequences in sequences(), gamma in 0.0..=1.0f64, lambda in 0.0..=1.0f64, bootstrap in -1.0..1.0f32,
    ) {
        let Packed { cu_seqlens, mask, a, b, .. } = pack(&sequences);
        let (bootstraps, discounts) = (vec![bootstrap; sequences.len()], Gae { gamma, lambda });
        let batch = GaeBatch {
            cu_seqlens: &cu_seqlens, mask: Some(&mask), rewards: &a, values: &b, bootstraps: &bootstraps,
        };
        let packed = batch_gae(batch, discounts).unwrap();
        for (sequence, ends) in sequences.iter().zip(cu_seqlens.windows(2)) {
            let kept: Vec<_> = sequence.iter().filter(|token| token.0 != 0).collect();
            let rewards: Vec<f32> = kept.iter().map(|token| token.1).collect();
            let values: Vec<f32> = kept.iter().map(|token| token.2).collect();
            let mut expected = vec![0.0; kept.len()];
            gae(&rewards, &values, bootstrap, discounts, &mut expected).unwrap();
            let mut expected = expected.into_iter();
            for (token, found) in sequence.iter().zip(&packed[ends[0]..ends[1]]) {
                prop_assert_eq!(*found, if token.0 != 0 { expected.next().unwrap() } else { 0.0 });
            }
        }
    }

    #[test]
    fn with_both_discounts_one_advantages_are_what_is_still_to_come_minus_the_value(
        sequences in sequences(), reward in -2.0..2.0f64,
    ) {
        let Packed { cu_seqlens, mask, a, b, c } = pack(&sequences);
        let kl = TokenKl { coef: 0.1, estimator: KlEstimator::K1, logprobs: &b, ref_logprobs: &c };
        let rewards = vec![reward; sequences.len()];
        let by_token = token_rewards(&rewards, Some(&mask), &cu_seqlens, Some(kl)).unwrap();
        let bootstraps = vec![0.0; sequences.len()];
        let batch = GaeBatch {
            cu_seqlens: &cu_seqlens, mask: Some(&mask), rewards: &by_token, values: &a, bootstraps: &bootstraps,
        };
        let advantages = batch_gae(batch, Gae::default()).unwrap();
        for ends in cu_seqlens.windows(2) {
            // From the first token of a sequence on: the whole reward minus all of the KL.
            let Some(first) = (ends[0]..ends[1]).find(|&t| mask[t] != 0) else { continue };
            let kl: f64 = (ends[0]..ends[1]).filter(|&t| mask[t] != 0).map(|t| f64::from(b[t]) - f64::from(c[t])).sum();
            let expected = reward - 0.1 * kl - f64::from(a[first]);
            prop_assert!((f64::from(advantages[first]) - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn the_gradient_of_the_value_loss_is_that_of_finite_differences(
        sequences in sequences(), clip in prop::sample::select(vec![0.0f32, 0.3, 1.0]),
        aggregation in prop::sample::select(vec![Aggregation::TokenMean, Aggregation::SeqMeanTokenMean]),
    ) {
        let Packed { cu_seqlens, mask, a: values, b: old_values, c: returns } = pack(&sequences);
        let lengths = masked_lengths(&cu_seqlens, Some(&mask));
        let Some(denominator) = Denominator::of_step(aggregation, &lengths, EmptySequences::Exclude) else {
            return Ok(());
        };
        let batch = ValueBatch { cu_seqlens: &cu_seqlens, mask: Some(&mask), old_values: &old_values, returns: &returns };
        let config = ValueLoss { clip };
        let mut gradient = vec![f32::NAN; values.len()];
        let output = value_loss(&config, denominator, batch, &values, &mut gradient).unwrap();
        prop_assert_eq!(output.metrics.tokens, lengths.iter().sum::<usize>() as u64);
        for t in 0..values.len() {
            // Not at the kinks: the ends of the range, and where both errors are equal.
            let (moved, target) = (values[t] - old_values[t], returns[t] - old_values[t]);
            let bounded = moved.clamp(-clip, clip);
            let kinks = [moved.abs() - clip, (moved - target).abs() - (bounded - target).abs()];
            let inside = clip == 0.0 || moved.abs() < clip - 2.0 * STEP;
            if !inside && kinks.iter().any(|distance| distance.abs() < 10.0 * STEP) {
                continue;
            }
            let at = |step: f32| {
                let mut values = values.clone();
                values[t] += step;
                value_loss(&config, denominator, batch, &values, &mut vec![0.0; values.len()]).unwrap().loss
            };
            let measured = (at(STEP) - at(-STEP)) / (2.0 * f64::from(STEP));
            prop_assert!((measured - f64::from(gradient[t])).abs() < 2e-3, "{measured} {} at {t}", gradient[t]);
        }
    }

    #[test]
    fn parts_of_a_step_add_up(sequences in sequences()) {
        let Packed { cu_seqlens, mask, a: values, b: old_values, c: returns } = pack(&sequences);
        let lengths = masked_lengths(&cu_seqlens, Some(&mask));
        let Some(denominator) = Denominator::of_step(Aggregation::TokenMean, &lengths, EmptySequences::Exclude) else {
            return Ok(());
        };
        let run = |first: usize, last: usize| {
            let (start, end) = (cu_seqlens[first], cu_seqlens[last]);
            let offsets: Vec<usize> = cu_seqlens[first..=last].iter().map(|offset| offset - start).collect();
            let batch = ValueBatch {
                cu_seqlens: &offsets,
                mask: Some(&mask[start..end]),
                old_values: &old_values[start..end],
                returns: &returns[start..end],
            };
            let mut gradient = vec![0.0; end - start];
            let output = value_loss(&ValueLoss::default(), denominator, batch, &values[start..end], &mut gradient);
            (output.unwrap(), gradient)
        };
        let (whole, gradient) = run(0, sequences.len());
        let middle = sequences.len() / 2;
        let ((mut parts, mut gradients), (rest, more)) = (run(0, middle), run(middle, sequences.len()));
        parts += rest;
        gradients.extend(more);
        prop_assert_eq!(gradients, gradient);
        prop_assert!((parts.loss - whole.loss).abs() < 1e-12);
        prop_assert_eq!(parts.metrics.clipped, whole.metrics.clipped);
        prop_assert!((parts.metrics.explained_variance() - whole.metrics.explained_variance()).abs() < 1e-6);
    }

    #[test]
    fn whitened_advantages_have_mean_0_and_variance_1(sequences in sequences()) {
        let Packed { mask, a, .. } = pack(&sequences);
        let mut whitened = a.clone();
        whiten(&mut whitened, Some(&mask)).unwrap();
        let kept: Vec<f64> = (0..a.len()).filter(|&t| mask[t] != 0).map(|t| f64::from(whitened[t])).collect();
        for t in (0..a.len()).filter(|&t| mask[t] == 0) {
            prop_assert_eq!(whitened[t], a[t]);
        }
        if kept.len() < 2 {
            return Ok(());
        }
        let mean = kept.iter().sum::<f64>() / kept.len() as f64;
        let variance = kept.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (kept.len() as f64 - 1.0);
        prop_assert!(mean.abs() < 1e-5 && variance < 1.0 + 1e-5);
        let spread = (0..a.len()).filter(|&t| mask[t] != 0).map(|t| a[t]).fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
        prop_assert!(spread.1 - spread.0 < 1e-2 || variance > 1.0 - 1e-3);
    }
}

#[test]
fn explained_variance_tells_a_perfect_value_function_from_a_constant_one() {
    let denominator = Denominator::of_step(Aggregation::TokenMean, &[4], EmptySequences::Exclude).unwrap();
    let returns = [0.0, 1.0, 2.0, 5.0];
    let of = |values: &[f32; 4]| -> ValueMetrics {
        let batch = ValueBatch { cu_seqlens: &[0, 4], mask: None, old_values: values, returns: &returns };
        value_loss(&ValueLoss::default(), denominator, batch, values, &mut [0.0; 4]).unwrap().metrics
    };
    assert_eq!(of(&returns).explained_variance(), 1.0);
    assert_eq!(of(&[3.0; 4]).explained_variance(), 0.0);
    assert!(of(&[5.0, 2.0, 1.0, 0.0]).explained_variance() < 0.0);
    assert_eq!((of(&returns).mean_return(), of(&[3.0; 4]).mean_value()), (2.0, 3.0));
}

#[test]
fn a_value_beyond_the_clip_that_is_nearer_to_its_return_has_no_gradient() {
    let denominator = Denominator::of_step(Aggregation::TokenMean, &[2], EmptySequences::Exclude).unwrap();
    let batch = ValueBatch { cu_seqlens: &[0, 2], mask: None, old_values: &[0.0, 0.0], returns: &[2.0, -2.0] };
    let mut gradient = [0.0; 2];
    let output = value_loss(&ValueLoss { clip: 0.5 }, denominator, batch, &[1.0, 1.0], &mut gradient).unwrap();
    assert_eq!(gradient, [0.0, 1.5]);
    assert_eq!((output.loss, output.metrics.clipped), (2.8125, 1));
}

#[test]
fn what_does_not_fit_is_named() {
    let denominator = Denominator::of_step(Aggregation::TokenMean, &[1], EmptySequences::Exclude).unwrap();
    let batch = ValueBatch { cu_seqlens: &[0, 2], mask: None, old_values: &[0.0, 0.0], returns: &[1.0, f32::NAN] };
    let error = |config: ValueLoss, batch, values: &[f32]| {
        value_loss(&config, denominator, batch, values, &mut [0.0; 2]).unwrap_err().to_string()
    };
    let config = ValueLoss::default();
    assert_eq!(error(ValueLoss { clip: -1.0 }, batch, &[0.0; 2]), "value.clip is -1, expected a finite number >= 0");
    assert_eq!(error(config, batch, &[0.0; 3]), "value_loss: values has 3 values, expected 2");
    let beyond = "value_loss: the batch has 2 tokens in the loss, the denominator was made for a step of 1";
    assert_eq!(error(config, batch, &[0.0; 2]), beyond);
    let batch = ValueBatch { mask: Some(&[0, 1]), ..batch };
    assert_eq!(error(config, batch, &[0.0; 2]), "value_loss: returns is NaN in sequence 0 at position 1");

    let kl = TokenKl { coef: 1.0, estimator: KlEstimator::K1, logprobs: &[0.0], ref_logprobs: &[f32::INFINITY] };
    let error = token_rewards(&[1.0], None, &[0, 1], Some(kl)).unwrap_err().to_string();
    assert_eq!(error, "token_rewards: ref_logprobs is inf in sequence 0 at position 0");
    let error = token_rewards(&[f64::NAN], None, &[0, 1], None).unwrap_err().to_string();
    assert_eq!(error, "token_rewards: rewards is NaN in sequence 0 at position 0");
    let error = whiten(&mut [0.0, f32::NAN], None).unwrap_err().to_string();
    assert_eq!(error, "whiten: advantages is NaN in sequence 0 at position 1");
    let batch = GaeBatch { cu_seqlens: &[0, 1], mask: None, rewards: &[0.0], values: &[0.0], bootstraps: &[] };
    let error = batch_gae(batch, Gae::default()).unwrap_err().to_string();
    assert_eq!(error, "batch_gae: bootstraps has 0 values, expected 1");
}
