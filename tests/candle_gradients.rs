//! A loss written with Candle gives the gradients of the trainer.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use dapo::loss::tensor::{TensorBatch, policy_loss};
use dapo::loss::{Aggregation, Denominator, EmptySequences, Kl, LossConfig};
use dapo::policy::candle::PolicyVars;
use dapo::policy::{Decoder, Gradients, LoraConfig};
use dapo::trainer::{TrainingGroup, TrainingSequence, Update, accumulate, pack};
use std::path::Path;

fn decoder(adapters: bool) -> Decoder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tiny-qwen3");
    let decoder = dapo::policy::load(&folder).unwrap().0;
    if !adapters {
        return decoder;
    }
    let mut decoder = decoder.with_lora(&LoraConfig::default(), 3).unwrap();
    let nudge = |values: &mut [f32]| values.iter_mut().enumerate().for_each(|(i, x)| *x += 0.02 * (i as f32).sin());
    decoder
        .update(|_, _, values| {
            nudge(values);
            Ok(())
        })
        .unwrap();
    decoder
}

fn groups() -> Vec<TrainingGroup> {
    let sequence = |seed: u32, advantage: f32| {
        let token_ids: Vec<u32> = (0..5 + seed).map(|i| 3 + (i * 7 + seed) % 28).collect();
        let old_logprobs = token_ids.iter().map(|t| -0.15 * *t as f32).collect();
        let ref_logprobs = Some(token_ids.iter().map(|t| -0.12 * *t as f32).collect());
        TrainingSequence { token_ids, old_logprobs, ref_logprobs, advantage, in_loss: true, ..Default::default() }
    };
    let group = |prompt: &[u32], sequences| TrainingGroup {
        prompt_ids: prompt.to_vec(),
        sequences,
        ..TrainingGroup::default()
    };
    vec![
        group(&[3, 14, 15], vec![sequence(1, 1.0), sequence(4, -0.5), sequence(2, -0.5)]),
        group(&[9, 26, 5, 3], vec![sequence(6, -1.0), sequence(3, 1.0)]),
    ]
}

/// With KL and entropy terms, so that both results of the decoder have gradients.
fn configs() -> [LossConfig; 3] {
    ["dapo", "gspo", "sapo"].map(|name| LossConfig {
        aggregation: Aggregation::SeqMeanTokenMean,
        kl: Kl { coef: 0.1, ..Kl::default() },
        entropy_coef: 0.02,
        ..LossConfig::of(name.parse().unwrap())
    })
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

#[test]
fn policy_loss_backward_gives_every_parameter_the_trainers_gradient_bit_for_bit() {
    let batch = pack(&groups(), 1000).unwrap().remove(0);
    let lengths: Vec<usize> = batch.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).collect();
    for adapters in [false, true] {
        let decoder = decoder(adapters);
        let mut policy = PolicyVars::new(self::decoder(adapters)).unwrap();
        for config in configs() {
            let denominator = Denominator::of_step(config.aggregation, &lengths, EmptySequences::Exclude).unwrap();
            let (mut gradients, mut update) = (Gradients::new(decoder.parameters().len()), Update::default());
            accumulate(&decoder, &batch, 1.0, &config, denominator, &mut gradients, &mut update).unwrap();

            let scores = policy.token_logprobs(&batch.tokens, 1.0).unwrap();
            let [advantages, old, reference] =
                [&batch.advantages, &batch.old_logprobs, batch.ref_logprobs.as_ref().unwrap()].map(|x| tensor(x));
            let tensors =
                TensorBatch::new(&advantages, &old).with_cu_seqlens(&batch.cu_seqlens).with_ref_logprobs(&reference);
            let output =
                policy_loss(&config, denominator, &scores.logprobs, Some(&scores.entropies), &tensors).unwrap();
            assert_eq!(output.loss.to_scalar::<f32>().unwrap(), update.loss as f32);
            assert_eq!(output.metrics, update.metrics);
            let store = output.loss.backward().unwrap();
            for (index, (name, var)) in policy.named_vars().enumerate() {
                let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(flat(store.get(var).unwrap()), flat(gradients.get(index).unwrap()), "{name}");
            }
        }
    }
}
