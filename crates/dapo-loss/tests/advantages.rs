//! Group advantages and generalised advantage estimation against f64 transcriptions.
#![allow(missing_docs, clippy::unwrap_used)]

use dapo_loss::{
    AdvantageNorm, AdvantageScale, Baseline, Gae, LossError, StdEstimator, batch_advantages, gae, group_advantages,
    kl_in_reward,
};
use proptest::prelude::*;

fn norms() -> Vec<AdvantageNorm> {
    let mut all = Vec::new();
    for baseline in [Baseline::Mean, Baseline::LeaveOneOut] {
        for scale in [AdvantageScale::Group, AdvantageScale::Batch, AdvantageScale::Whiten, AdvantageScale::None] {
            for std in [StdEstimator::Sample, StdEstimator::Population] {
                for eps in [0.0, 1e-6, 1e-4, 0.5] {
                    all.push(AdvantageNorm { baseline, scale, std, eps });
                }
            }
        }
    }
    all
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn std(values: &[f64], estimator: StdEstimator) -> f64 {
    let degrees = match estimator {
        StdEstimator::Sample => values.len() - 1,
        StdEstimator::Population => values.len(),
    };
    (values.iter().map(|value| (value - mean(values)).powi(2)).sum::<f64>() / degrees as f64).sqrt()
}

/// A group's rewards without their baseline, as the papers write it.
fn without_baseline(group: &[Option<f64>], baseline: Baseline) -> Vec<Option<f64>> {
    let rewards: Vec<f64> = group.iter().flatten().copied().collect();
    let mut seen = 0;
    let mut centred = |reward: f64| {
        let mut others = rewards.clone();
        others.remove(seen);
        seen += 1;
        match baseline {
            Baseline::Mean => reward - mean(&rewards),
            Baseline::LeaveOneOut => reward - mean(&others),
            other => unreachable!("no formula of {other}"),
        }
    };
    group.iter().map(|reward| reward.map(&mut centred)).collect()
}

/// Rewards of groups of 2 to 6, some abstained beside at least two that did not.
fn groups() -> impl Strategy<Value = Vec<Vec<Option<f64>>>> {
    let group = prop::collection::vec(prop_oneof![4 => (-2.0_f64..2.0).prop_map(Some), 1 => Just(None)], 0..5)
        .prop_map(|mut group| {
            group.push(Some(0.5));
            group.insert(0, Some(-0.25));
            group
        });
    prop::collection::vec(group, 1..5)
}

proptest! {
    #[test]
    fn advantages_agree_with_the_formula_under_every_norm(groups in groups()) {
        let flat: Vec<Option<f64>> = groups.concat();
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        let all: Vec<f64> = flat.iter().flatten().copied().collect();
        for norm in norms() {
            let got = batch_advantages(&flat, &sizes, &norm).unwrap().to_options();
            let centred: Vec<Vec<Option<f64>>> = groups.iter().map(|group| without_baseline(group, norm.baseline)).collect();
            let all_centred: Vec<f64> = centred.iter().flatten().flatten().copied().collect();
            let mut expected = Vec::new();
            for (group, centred) in groups.iter().zip(&centred) {
                let rewards: Vec<f64> = group.iter().flatten().copied().collect();
                // REINFORCE++-baseline subtracts the mean of all centred rewards, too: it is 0.
                prop_assert!(mean(&all_centred).abs() < 1e-12);
                let divisor = match norm.scale {
                    AdvantageScale::Group => std(&rewards, norm.std) + norm.eps,
                    AdvantageScale::Batch => std(&all, norm.std) + norm.eps,
                    AdvantageScale::Whiten => std(&all_centred, norm.std) + norm.eps,
                    AdvantageScale::None => 1.0,
                    other => unreachable!("no formula of {other}"),
                };
                expected.extend(centred.iter().map(|centred| centred.map(|centred| centred / divisor)));
            }
            for (got, expected) in got.iter().zip(&expected) {
                prop_assert_eq!(got.is_some(), expected.is_some());
                if let (Some(got), Some(expected)) = (got, expected) {
                    prop_assert!((f64::from(*got) - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{norm:?}");
                }
            }
        }
    }

    #[test]
    fn advantages_of_a_group_sum_to_zero(groups in groups()) {
        for norm in norms() {
            for group in &groups {
                let advantages = group_advantages(group, &norm).unwrap().to_options();
                let sum: f64 = advantages.iter().flatten().map(|&advantage| f64::from(advantage)).sum();
                let largest = advantages.iter().flatten().fold(0.0_f32, |a, b| a.max(b.abs()));
                prop_assert!(sum.abs() <= 1e-6 * f64::from(largest), "{}", sum);
            }
        }
    }

    #[test]
    fn identical_rewards_give_exactly_zero(reward in -1e6_f64..1e6, n in 2_usize..20) {
        for norm in norms() {
            prop_assert_eq!(group_advantages(&vec![Some(reward); n], &norm).unwrap().to_options(), vec![Some(0.0); n]);
            let plain = group_advantages(&vec![reward; n], &norm).unwrap();
            prop_assert_eq!(plain.values(), vec![0.0; n]);
        }
    }

    #[test]
    fn gae_is_the_discounted_sum_of_errors(
        steps in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..12),
        bootstrap in -1.0_f32..1.0,
        gamma in 0.0_f64..=1.0,
        lambda in 0.0_f64..=1.0,
    ) {
        let (rewards, values): (Vec<f32>, Vec<f32>) = steps.into_iter().unzip();
        let n = rewards.len();
        let mut advantages = vec![f32::NAN; n];
        gae(&rewards, &values, bootstrap, Gae { gamma, lambda }, &mut advantages).unwrap();
        let value = |t: usize| f64::from(*values.get(t).unwrap_or(&bootstrap));
        let delta = |t: usize| f64::from(rewards[t]) + gamma * value(t + 1) - value(t);
        for (t, &advantage) in advantages.iter().enumerate() {
            let expected: f64 = (t..n).map(|k| (gamma * lambda).powi((k - t) as i32) * delta(k)).sum();
            prop_assert!((f64::from(advantage) - expected).abs() < 1e-6);
        }
    }
}

#[test]
fn a_group_with_one_reward_left_is_an_error() {
    let norm = AdvantageNorm::default();
    for rewards in [vec![Some(1.0)], vec![None, Some(1.0), None]] {
        assert_eq!(group_advantages(&rewards, &norm), Err(LossError::GroupTooSmall { group: 0, rewards: 1 }));
    }
    assert_eq!(group_advantages::<f64>(&[], &norm), Err(LossError::GroupTooSmall { group: 0, rewards: 0 }));
    let second = batch_advantages(&[Some(1.0), Some(0.0), Some(1.0), None], &[2, 2], &norm).unwrap_err();
    assert_eq!(second.to_string(), "group 1 has 1 rewards that did not abstain, expected at least 2");
}

#[test]
fn rewards_that_are_not_finite_are_named() {
    let norm = AdvantageNorm::default();
    let error = group_advantages(&[Some(1.0), None, Some(f64::INFINITY)], &norm).unwrap_err();
    assert_eq!(error, LossError::Reward { group: 0, index: 2, value: f64::INFINITY });
    let error = batch_advantages(&[1.0, 0.0, 1.0, f64::NAN], &[2, 2], &norm).unwrap_err().to_string();
    assert_eq!(error, "reward 1 of group 1 is NaN: rewards and their spread must be finite");
    assert!(matches!(
        group_advantages(&[Some(f64::MAX), Some(f64::MIN)], &norm).unwrap_err(),
        LossError::Reward { group: 0, index: 0, .. }
    ));
}

#[test]
fn advantages_stay_aligned_with_completions_after_an_abstention() {
    let rewards = [Some(1.0), None, Some(-1.0), None, Some(1.0), Some(0.0)];
    let advantages = batch_advantages(&rewards, &[3, 3], &AdvantageNorm::default()).unwrap();
    assert_eq!(advantages.members(), [true, false, true, false, true, true]);
    assert_eq!(advantages.values().len(), rewards.len());
    assert!(advantages.values()[2] < 0.0 && advantages.values()[4] > 0.0);
    for (completion, reward) in rewards.iter().enumerate() {
        assert_eq!(advantages.get(completion).is_some(), reward.is_some());
        assert_eq!(advantages.get(completion).unwrap_or(0.0), advantages.values()[completion]);
    }
    assert_eq!(advantages.get(6), None);
    let cu_seqlens = [0, 1, 3, 4, 4, 6, 7];
    assert_eq!(advantages.member_mask(&cu_seqlens, None).unwrap(), [1, 0, 0, 1, 1, 1, 1]);
    let mask = [0, 1, 1, 1, 1, 0, 1];
    assert_eq!(advantages.member_mask(&cu_seqlens, Some(&mask)).unwrap(), [0, 0, 0, 1, 1, 0, 1]);
    let error = advantages.member_mask(&cu_seqlens[..6], None).unwrap_err().to_string();
    assert_eq!(error, "member_mask: cu_seqlens has 6 values, expected 7");
    let error = advantages.member_mask(&cu_seqlens, Some(&mask[1..])).unwrap_err().to_string();
    assert_eq!(error, "member_mask: mask has 6 values, expected 7");
}

#[test]
fn sizes_that_do_not_sum_to_the_rewards_are_an_error() {
    let error = batch_advantages(&[Some(1.0); 5], &[2, 2], &AdvantageNorm::default()).unwrap_err();
    assert_eq!(error.to_string(), "batch_advantages: rewards has 5 values, expected 4");
}

#[test]
fn bad_discounts_and_lengths_of_gae_are_errors() {
    let mut advantages = [0.0; 2];
    let mut run = |rewards: &[f32], values: &[f32], bootstrap, gamma, lambda| {
        gae(rewards, values, bootstrap, Gae { gamma, lambda }, &mut advantages).unwrap_err().to_string()
    };
    assert_eq!(run(&[0.0; 2], &[0.0; 2], 0.0, 1.5, 1.0), "gae.gamma is 1.5, expected a number from 0 to 1");
    assert_eq!(run(&[0.0; 2], &[0.0; 2], 0.0, 1.0, -0.1), "gae.lambda is -0.1, expected a number from 0 to 1");
    assert_eq!(run(&[0.0; 2], &[0.0; 1], 0.0, 1.0, 1.0), "gae: values has 1 values, expected 2");
    assert_eq!(run(&[0.0; 3], &[0.0; 3], 0.0, 1.0, 1.0), "gae: advantages has 2 values, expected 3");
    assert_eq!(run(&[0.0; 2], &[0.0, f32::NAN], 0.0, 1.0, 1.0), "gae: values is NaN in sequence 0 at position 1");
    assert_eq!(run(&[f32::INFINITY, 0.0], &[0.0; 2], 0.0, 1.0, 1.0), "gae: rewards is inf in sequence 0 at position 0");
    assert_eq!(run(&[0.0; 2], &[0.0; 2], f32::NAN, 1.0, 1.0), "gae: bootstrap is NaN in sequence 0 at position 2");
}

#[test]
fn kl_in_reward_skips_masked_tokens_and_names_bad_ones() {
    let logprobs = [-1.0, f32::NAN, -2.0, -3.0];
    let reference = [-2.0, 0.0, -2.5, -1.0];
    let terms = kl_in_reward(0.5, &logprobs, &reference, Some(&[1, 0, 1, 1]), &[0, 3, 3, 4]).unwrap();
    assert_eq!(terms, [-0.75, 0.0, 1.0]);
    let error = kl_in_reward(0.5, &logprobs, &reference, None, &[0, 3, 4]).unwrap_err();
    assert_eq!(error.to_string(), "kl_in_reward: logprobs is NaN in sequence 0 at position 1");
    let error = kl_in_reward(0.5, &logprobs, &reference[..3], None, &[0, 3, 4]).unwrap_err();
    assert_eq!(error.to_string(), "kl_in_reward: ref_logprobs has 3 values, expected 4");
    let error = kl_in_reward(0.5, &logprobs[..3], &reference, None, &[0, 3, 4]).unwrap_err();
    assert_eq!(error.to_string(), "kl_in_reward: logprobs has 3 values, expected 4");
    let error = kl_in_reward(0.5, &logprobs, &reference, Some(&[1]), &[0, 3, 4]).unwrap_err();
    assert_eq!(error.to_string(), "kl_in_reward: mask has 1 values, expected 4");
}
