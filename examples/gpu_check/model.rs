//! A training step and decoding at the shape of Qwen3-0.6B.

use crate::{Rates, figure};
use anyhow::Result;
use candle_core::{Device as CandleDevice, Tensor};
use dapo::policy::{
    AdamWStep, Architecture, Decoder, GenerationConfig, Gradients, LayerMemory, ModelConfig, Moments, Policy, Request,
    Segments, TokenBatch,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub(crate) fn qwen3_0_6b() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 151_936,
        hidden_size: 1024,
        intermediate_size: 3072,
        num_hidden_layers: 28,
        num_attention_heads: 16,
        num_key_value_heads: 8,
        head_dim: 128,
        rope_theta: 1e6,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        qk_norm: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        max_position_embeddings: 40_960,
        bos_token_id: None,
        eos_token_ids: vec![151_645],
        pad_token_id: None,
    }
}

pub(crate) fn random_decoder(config: &ModelConfig, seed: u64) -> Result<Decoder> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.parameter_shapes() {
        let count: usize = shape.iter().product();
        let norm = name.contains("norm");
        let values: Vec<f32> = (0..count).map(|_| if norm { 1.0 + 0.1 * next() } else { 0.04 * next() }).collect();
        tensors.insert(name, Tensor::from_vec(values, shape, &CandleDevice::Cpu)?);
    }
    Ok(Decoder::new(config.clone(), tensors)?)
}

/// Groups of completions, each prompt once.
pub(crate) fn batch(
    groups: usize,
    prompt: usize,
    completions: usize,
    completion: usize,
    vocab: usize,
) -> Result<TokenBatch> {
    let (mut token_ids, mut layout, mut targets) = (Vec::<u32>::new(), Vec::new(), Vec::new());
    let push = |token_ids: &mut Vec<u32>, count: usize| {
        let from = token_ids.len();
        token_ids.extend((from..from + count).map(|i| ((i * 7919 + 13) % vocab) as u32));
    };
    for _ in 0..groups {
        let parent = layout.len();
        layout.push((prompt, None));
        push(&mut token_ids, prompt);
        for _ in 0..completions {
            layout.push((completion, Some(parent)));
            targets.extend(token_ids.len()..token_ids.len() + completion);
            push(&mut token_ids, completion);
        }
    }
    Ok(TokenBatch { token_ids, segments: Arc::new(Segments::new(layout)?), targets })
}

pub(crate) fn backward(policy: &Decoder, batch: &TokenBatch, gradients: &mut Gradients) -> Result<()> {
    Ok(policy.logprobs_backward(batch, 1.0, gradients, &mut |_, into| {
        into.logprobs.fill(-1.0 / batch.targets.len() as f32);
        Ok(())
    })?)
}

/// Forward, backward and update of 8 × 4,096 tokens: groups of a prompt and eight completions.
pub(crate) fn step(policy: &mut Decoder, rates: &Rates) -> Result<Value> {
    policy.set_layer_memory(LayerMemory::Keep);
    let batch = batch(8, 256, 8, 480, policy.config().vocab_size)?;
    let (mut gradients, mut moments) = (Gradients::new(policy.parameters().len()), Moments::zeros(policy)?);
    let mut seconds = 0.0;
    for run in 0..4u64 {
        let started = Instant::now();
        gradients.clear();
        backward(policy, &batch, &mut gradients)?;
        let step = AdamWStep {
            lr: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            step: run + 1,
            grad_scale: 1.0,
        };
        policy.adamw(&gradients, &mut moments, &step, 1.0)?;
        seconds = if run == 0 { 0.0 } else { seconds + started.elapsed().as_secs_f64() / 3.0 };
    }
    let (tokens, parameters) = (batch.token_ids.len() as f64, policy.num_parameters() as f64);
    let floor = 6.0 * tokens * parameters / rates.product + 30.0 * parameters / rates.copy;
    let mut value = figure(&format!("training step of {tokens} tokens"), seconds, floor);
    let utilisation = 6.0 * tokens * parameters / seconds / rates.product;
    println!("{:<44} {:>10.1} % of a product's rate", "utilisation", 100.0 * utilisation);
    value["tokens"] = tokens.into();
    value["utilisation"] = utilisation.into();
    Ok(value)
}

/// 256 completions of prompts of their own, 128 tokens each, the time of the prompts taken off.
pub(crate) fn decode(policy: &Decoder, rates: &Rates, prompt: usize) -> Result<Value> {
    let (batch, new) = (256usize, 128usize);
    let request = |draw: usize| Request {
        prompt_ids: (0..prompt).map(|i| ((i * 31 + draw * 7) % 1000) as u32).collect(),
        samples: 1,
        first_sample: 0,
        draw: draw as u64,
    };
    let requests: Vec<Request> = (0..batch).map(request).collect();
    let config = GenerationConfig { max_new_tokens: new, cache_bytes: 48 << 30, ..GenerationConfig::default() };
    let short = GenerationConfig { max_new_tokens: 1, ..config.clone() };
    let run = |config: &GenerationConfig| -> Result<(f64, usize)> {
        let started = Instant::now();
        let completions = policy.generate(&requests, config)?;
        let tokens = completions.iter().flatten().map(|completion| completion.token_ids.len()).sum();
        Ok((started.elapsed().as_secs_f64(), tokens))
    };
    run(&short)?;
    let (prompts, _) = run(&short)?;
    let (all, tokens) = run(&config)?;
    let seconds = all - prompts;
    let c = policy.config();
    let weights = 2.0 * policy.num_parameters() as f64;
    let position = (4 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim) as f64;
    let cache = batch as f64 * (prompt + new / 2) as f64 * position;
    // Written, read by the draw, in f32.
    let logits = batch as f64 * c.vocab_size as f64 * 8.0;
    let what = format!("decoding, {batch} completions of {new} after {prompt}");
    let mut value = figure(&what, seconds, new as f64 * (weights + cache + logits) / rates.copy);
    let rate = (tokens - batch) as f64 / seconds;
    println!("{:<44} {rate:>10.0} tokens/s", "");
    value["tokens_per_second"] = rate.into();
    Ok(value)
}
