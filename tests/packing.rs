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
            TrainingSequence { token_ids, old_logprobs, ref_logprobs: None, advantage, in_loss }
        },
    );
    let group = (prop::collection::vec(3..32u32, 1..12), prop::collection::vec(sequence, 1..5))
        .prop_map(|(prompt_ids, sequences)| TrainingGroup { prompt_ids, sequences, on_policy: true });
    prop::collection::vec(group, 1..4)
}

fn step(
    policy: &Decoder,
    groups: &[TrainingGroup],
    config: &LossConfig,
    budget: usize,
) -> Option<(Update, Vec<Vec<f32>>)> {
    let lengths: Vec<usize> =
        groups.iter().flat_map(|g| g.sequences.iter().map(TrainingSequence::loss_tokens)).collect();
    let denominator = Denominator::of_step(config.aggregation, &lengths, EmptySequences::Exclude)?;
    let mut gradients = Gradients::new(policy.parameters().len());
    let mut update = Update::default();
    for batch in pack(groups, budget).unwrap() {
        accumulate(policy, &batch, 1.0, config, denominator, &mut gradients, &mut update).unwrap();
    }
    let flat = |i| gradients.get(i).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    Some((update, (0..policy.parameters().len()).map(flat).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn micro_batches_add_up_to_the_step(groups in groups(), budget in 1..60usize) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tiny-qwen3");
        let policy = dapo::policy::load(&folder).unwrap().0;
        for aggregation in [Aggregation::TokenMean, Aggregation::SeqMeanTokenMean] {
            let config = LossConfig { aggregation, ..LossConfig::default() };
            let (Some((whole, gradients)), Some((parts, split))) =
                (step(&policy, &groups, &config, 1 << 20), step(&policy, &groups, &config, budget))
            else {
                return Ok(());
            };
            prop_assert!((whole.loss - parts.loss).abs() < 1e-9 * whole.loss.abs().max(1.0));
            prop_assert_eq!(whole.metrics.tokens, parts.metrics.tokens);
            for (a, b) in gradients.iter().zip(&split) {
                let largest = a.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
                prop_assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * largest));
            }
        }
    }
}
