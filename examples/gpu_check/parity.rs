//! The decoder on the GPU against the decoder on the CPU.

use crate::model::{backward, batch};
use anyhow::{Context, Result, ensure};
use dapo::policy::{
    Completion, Decoder, Device, GenerationConfig, Gradients, ModelConfig, Policy, Request, StopTokens,
};
use serde_json::{Value, json};

/// √Σ (a − b)² / √Σ a².
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let sum = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
    (sum(&mut a.iter().zip(b).map(|(a, b)| a - b)) / sum(&mut a.iter().copied())).sqrt()
}

/// Log-probs and gradients in bf16 against those in f32. The measure is what rounding nothing but the weights to bf16
/// does to the same figure on the CPU; the GPU rounds activations and their gradients besides, some 16 times on the way
/// of each, so that √16 of it are allowed.
pub(crate) fn check() -> Result<Value> {
    let config = ModelConfig {
        vocab_size: 999,
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 1024,
        eos_token_ids: vec![1],
        ..ModelConfig::qwen3_0_6b()
    };
    let random = || Decoder::random(config.clone(), 5);
    let (cpu, mut rounded, mut gpu) = (random()?, random()?, random()?);
    rounded.update(|_, _, values| {
        for x in values {
            *x = half::bf16::from_f32(*x).to_f32();
        }
        Ok(())
    })?;
    gpu.to_device(Device::Cuda(0))?;
    let batch = batch(2, 37, 3, 61, config.vocab_size)?;
    let decoders = [&cpu, &rounded, &gpu];
    let [expected, nearby, got] = decoders.map(|decoder| decoder.logprobs(&batch, 1.0));
    let (expected, nearby, got) = (expected?.logprobs, nearby?.logprobs, got?.logprobs);
    let mut worst = 0.0f64;
    let mut compare = |what: &str, expected: &[f32], nearby: &[f32], got: &[f32]| -> Result<()> {
        let (measure, off) = (distance(expected, nearby), distance(expected, got));
        ensure!(off < 4.0 * measure, "{what} differ by {off}, rounded weights alone by {measure}");
        worst = worst.max(off / measure);
        Ok(())
    };
    compare("log-probs", &expected, &nearby, &got)?;
    let gradients = decoders.map(|decoder| {
        let mut gradients = Gradients::new(decoder.parameters().len());
        backward(decoder, &batch, &mut gradients).map(|()| gradients)
    });
    let [g_cpu, g_rounded, g_gpu] = gradients;
    let (g_cpu, g_rounded, g_gpu) = (g_cpu?, g_rounded?, g_gpu?);
    for (index, (name, _)) in cpu.parameters().iter().enumerate() {
        let read = |policy: &Decoder, gradients| -> Result<Vec<f32>> {
            Ok(policy.gradient(gradients, index)?.context("no gradient")?.flatten_all()?.to_vec1()?)
        };
        compare(name, &read(&cpu, &g_cpu)?, &read(&rounded, &g_rounded)?, &read(&gpu, &g_gpu)?)?;
    }
    println!("log-probs and gradients differ by at most {worst:.2} times what rounded weights do");
    let rollout = rollout(&gpu)?;
    Ok(json!({ "times_rounded_weights": worst, "rollout": rollout }))
}

/// The same completions on every run. Their log-probs beside those of a training pass, and beside those of a smaller
/// batch, whose products sum in another order: a completion goes its own way there from the first draw on that rounding
/// turns.
fn rollout(gpu: &Decoder) -> Result<Value> {
    let prompt_ids: Vec<u32> = (0..45).map(|i| i * 17 % 999).collect();
    let request = Request { prompt_ids: prompt_ids.clone(), samples: 24, first_sample: 0, draw: 3 };
    let config = GenerationConfig { max_new_tokens: 50, ..GenerationConfig::new(StopTokens::none()) };
    let generate = |config: &GenerationConfig| -> Result<Vec<Completion>> {
        gpu.generate(std::slice::from_ref(&request), config)?.pop().context("no completions")
    };
    let first = generate(&config)?;
    ensure!(first == generate(&config)?, "two runs differ");

    let (mut token_ids, mut layout, mut targets) = (prompt_ids.clone(), vec![(prompt_ids.len(), None)], Vec::new());
    for completion in &first {
        layout.push((completion.token_ids.len(), Some(0)));
        targets.extend(token_ids.len()..token_ids.len() + completion.token_ids.len());
        token_ids.extend(&completion.token_ids);
    }
    let segments = std::sync::Arc::new(dapo::policy::Segments::new(layout)?);
    let scored = gpu.logprobs(&dapo::policy::TokenBatch { token_ids, segments, targets }, 1.0)?.logprobs;
    let rolled_out = first.iter().flat_map(|completion| completion.logprobs.iter().copied());
    let difference = scored.iter().zip(rolled_out).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    ensure!(difference < 0.2, "log-probs of rollout and training pass differ by {difference}");

    // Keys and values of some six sequences.
    let few = generate(&GenerationConfig { cache_bytes: Some(6 * 128 * 3 * 2 * 2 * 128 * 2), ..config })?;
    let (mut same, mut apart) = (0, 0.0f32);
    for (a, b) in first.iter().zip(&few) {
        let common = a.token_ids.iter().zip(&b.token_ids).take_while(|(a, b)| a == b).count();
        ensure!(common > 0, "first tokens differ with the number of completions, but not their logits");
        same += usize::from(common == a.token_ids.len());
        let pairs = a.logprobs.iter().zip(&b.logprobs).take(common);
        apart = pairs.map(|(a, b)| (a - b).abs()).fold(apart, f32::max);
    }
    // Two rollouts round independently, as a rollout and a training pass do.
    ensure!(apart <= 2.0 * difference.max(1e-3), "log-probs in a small and a large batch differ by {apart}");
    println!(
        "log-probs: rollout and training pass differ by at most {difference:.4}, batches of 24 and 6 by {apart:.4}"
    );
    println!("completions that are the same in both batches: {same} of {}", first.len());
    Ok(
        json!({ "training_logprob_difference": difference, "batch_logprob_difference": apart, "same_in_both_batches": same }),
    )
}
