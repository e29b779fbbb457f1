//! How a step is cut into micro-batches changes nothing but rounding.
#![allow(clippy::unwrap_used)]

use dapo::loss::{Aggregation, Denominator, EmptySequences, LossConfig};
use dapo::policy::{Decoder, Gradients};
use dapo::trainer::{TrainingGroup, TrainingSequence, Update, accumulate, pack};
use proptest::prelude::*;
use std::path::Path;

fn groups() -> impl Strategy<Value = Vec<TrainingGroup>> {
    let sequence = (prop::collection::vec(3..32u32, 1..20), -2.0f32..2.0, prop::bool::weighted(0.8)).prop_map(
        |(token_ids, advantage, in_loss)| {
            let old_logprobs = token_ids.iter().map(|t| -0.1 * *t as f32).collect();
            TrainingSequence { token_ids, old_logprobs, advantage, in_loss, ..TrainingSequence::default() }
        },
    );
    let group = (prop::collection::vec(3..32u32, 1..12), prop::collection::vec(sequence, 1..5)).prop_map(
        |(prompt_ids, sequences)| TrainingGroup {
            draw: 0,
            prompt_ids,
            sequences,
            on_policy: true,
            ..TrainingGroup::default()
        },
    );
    prop::collection::vec(group, 1..4)
}

fn flat(gradients: &Gradients) -> Vec<Vec<f32>> {
    (0..gradients.len()).map(|i| gradients.get(i).unwrap().flatten_all().unwrap().to_vec1().unwrap()).collect()
}

fn largest(gradient: &[f32]) -> f32 {
    gradient.iter().fold(0.0f32, |m, x| m.max(x.abs()))
}

/// A step cut into micro-batches.
struct Step {
    update: Update,
    gradients: Vec<Vec<f32>>,
    /// For each parameter, the largest of each micro-batch's gradients, added up: what rounding is measured by, for they may
    /// cancel.
    sizes: Vec<f32>,
}

fn step(policy: &Decoder, groups: &[TrainingGroup], config: &LossConfig, budget: usize) -> Option<Step> {
    let lengths: Vec<usize> =
        groups.iter().flat_map(|g| g.sequences.iter().map(TrainingSequence::loss_tokens)).collect();
    let denominator = Denominator::of_step(config.aggregation, &lengths, EmptySequences::Exclude)?;
    let parameters = policy.parameters().len();
    let (mut gradients, mut update, mut sizes) = (Gradients::new(parameters), Update::default(), vec![0.0; parameters]);
    for batch in pack(groups, budget).unwrap() {
        accumulate(policy, &batch, 1.0, config, denominator, &mut gradients, &mut update).unwrap();
        let (mut alone, mut ignored) = (Gradients::new(parameters), Update::default());
        accumulate(policy, &batch, 1.0, config, denominator, &mut alone, &mut ignored).unwrap();
        sizes.iter_mut().zip(flat(&alone)).for_each(|(size, gradient)| *size += largest(&gradient));
    }
    Some(Step { update, gradients: flat(&gradients), sizes })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn micro_batches_add_up_to_the_step(groups in groups(), budget in 1..60usize) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tiny-qwen3");
        let policy = dapo::policy::load(&folder).unwrap().0;
        for aggregation in [Aggregation::TokenMean, Aggregation::SeqMeanTokenMean] {
            let config = LossConfig { aggregation, ..LossConfig::default() };
            let whole = step(&policy, &groups, &config, 1 << 20);
            // Each completion in a batch of its own, for the sizes.
            let alone = step(&policy, &groups, &config, 1);
            let (Some(whole), Some(parts), Some(alone)) = (whole, step(&policy, &groups, &config, budget), alone) else {
                return Ok(());
            };
            let (loss, of_parts) = (whole.update.loss, parts.update.loss);
            prop_assert!((loss - of_parts).abs() < 1e-9 * loss.abs().max(1.0));
            prop_assert_eq!(whole.update.metrics.tokens, parts.update.metrics.tokens);
            for ((a, b), size) in whole.gradients.iter().zip(&parts.gradients).zip(&alone.sizes) {
                prop_assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * size));
            }
        }
    }
}
