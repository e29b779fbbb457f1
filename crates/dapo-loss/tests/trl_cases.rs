//! Losses and gradients computed with torch autograd, and checked against TRL's own trainer.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::HashMap, path::Path};

use dapo_loss::{
    Advantages, Aggregation, ClipRange, Denominator, EmptySequences, Kl, LossBatch, LossConfig, PolicyLoss, TokenChunk,
    masked_lengths, policy_loss,
};
use safetensors::SafeTensors;

const TOLERANCE: f64 = 1e-6;
const SEQUENCES: usize = 8;
const LENGTH: usize = 32;

fn load() -> HashMap<String, Vec<f32>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/loss_cases.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (name, tensor.data().chunks(4).map(float).collect()))
        .collect()
}

fn ppo(low: f32, high: f32, dual_clip: Option<f32>) -> PolicyLoss {
    PolicyLoss::Ppo { clip: ClipRange { low, high }, dual_clip }
}

/// Runs one case; returns the largest differences of loss and gradient.
fn differences(data: &HashMap<String, Vec<f32>>, name: &str, config: LossConfig) -> (f64, f64) {
    let config = LossConfig { empty_sequences: EmptySequences::Count, ..config };
    let mask: Vec<u8> = data["mask"].iter().map(|&keep| keep as u8).collect();
    let cu_seqlens: Vec<usize> = (0..=SEQUENCES).map(|i| i * LENGTH).collect();
    let advantages = if name == "dapo_group" { "advantages_group" } else { "advantages" };
    let old = if name == "dapo_on_policy" { "logprobs" } else { "old_logprobs" };
    let batch = LossBatch::new(&cu_seqlens, Advantages::PerSequence(&data[advantages]), &data[old])
        .with_mask(&mask)
        .with_ref_logprobs(&data["ref_logprobs"]);
    let lengths = masked_lengths(&cu_seqlens, Some(&mask));
    let denominator = Denominator::of_step(config.aggregation, &lengths, config.empty_sequences).unwrap();
    let mut gradient = vec![f32::NAN; mask.len()];
    let chunk = TokenChunk::whole(&data["logprobs"]);
    let output = policy_loss(&config, denominator, batch, chunk, gradient.as_mut_slice().into()).unwrap();
    let expected = &data[&format!("{name}.grad")];
    let largest = gradient.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    ((output.loss - f64::from(data[&format!("{name}.loss")][0])).abs(), largest)
}

#[test]
fn loss_and_gradient_equal_trl_s_in_all_eleven_cases() {
    let data = load();
    let dapo = LossConfig::default();
    let grpo = LossConfig { aggregation: Aggregation::SeqMeanTokenMean, ..dapo };
    let kl = |times_ratio| Kl { coef: 0.04, times_ratio, ..Kl::default() };
    let gspo = PolicyLoss::Gspo { clip: ClipRange { low: 3e-4, high: 4e-4 } };
    let cispo = PolicyLoss::Cispo { clip: ClipRange { low: 1.0, high: 4.0 } };
    let cases = [
        ("dapo", dapo),
        ("dapo_group", dapo),
        ("dapo_on_policy", dapo),
        ("dapo_delta1.5", LossConfig { policy_loss: ppo(0.2, 0.28, Some(1.5)), ..dapo }),
        ("dapo_kl0.04", LossConfig { kl: kl(false), ..dapo }),
        ("dapo_kl0.04_ratio", LossConfig { kl: kl(true), ..dapo }),
        ("grpo", grpo),
        ("grpo_sym", LossConfig { policy_loss: ppo(0.2, 0.2, None), ..grpo }),
        ("dr_grpo", LossConfig { aggregation: Aggregation::SeqMeanTokenSumNorm { max_len: LENGTH }, ..dapo }),
        ("gspo", LossConfig { policy_loss: gspo, ..grpo }),
        ("cispo_max5", LossConfig { policy_loss: cispo, ..dapo }),
    ];
    for (name, config) in cases {
        let (loss, gradient) = differences(&data, name, config);
        assert!(loss < TOLERANCE && gradient < TOLERANCE, "{name}: loss off by {loss:e}, gradient by {gradient:e}");
    }
}
