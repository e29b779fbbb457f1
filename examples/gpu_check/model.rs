//! Training steps and decoding of a whole model.

use crate::{Rates, figure};
use anyhow::Result;
use dapo::kernels::cuda::device_info;
use dapo::policy::{
    AdamWStep, Decoder, GenerationConfig, Gradients, Moments, Policy, Request, Segments, StopTokens, TokenBatch,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

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

/// A batch of a training step.
struct Work {
    what: &'static str,
    batch: TokenBatch,
    /// Pairs of tokens of which the later sees the earlier.
    pairs: f64,
}

/// 8 × 4,096 tokens: as sequences, and as groups of a prompt and eight completions.
fn works(vocab: usize) -> Result<[Work; 2]> {
    let triangle = |n: usize| (n * n) as f64 / 2.0;
    let sequences =
        Work { what: "8 sequences of 4,096", batch: batch(8, 1, 1, 4095, vocab)?, pairs: 8.0 * triangle(4096) };
    let groups = Work {
        what: "8 prompts of 256, 8 completions of 480 each",
        batch: batch(8, 256, 8, 480, vocab)?,
        pairs: 8.0 * (triangle(256) + 8.0 * (triangle(480) + 256.0 * 480.0)),
    };
    Ok([sequences, groups])
}

/// Forward, backward and update of each of the works; what the device has no memory for is said.
pub(crate) fn steps(policy: &mut Decoder, rates: &Rates) -> Result<Value> {
    let mut figures = Vec::new();
    for work in works(policy.config().vocab_size)? {
        match step(policy, &work, rates) {
            Ok(figure) => figures.push(figure),
            Err(error) if lacks_memory(&error) => {
                println!("{:<44} not measured: {error:#}", work.what);
                figures.push(json!({ "what": work.what, "not_measured": format!("{error:#}") }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(figures.into())
}

/// Whether the device, or cuBLAS, had no memory left. An access outside of it is another thing.
fn lacks_memory(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    text.contains("out of memory") || text.contains("out_of_memory") || text.contains("alloc_failed")
}

fn step(policy: &mut Decoder, work: &Work, rates: &Rates) -> Result<Value> {
    let (mut gradients, mut moments) = (Gradients::new(policy.parameters().len()), Moments::zeros(policy)?);
    let mut seconds = 0.0;
    for run in 0..4u64 {
        let started = Instant::now();
        gradients.clear();
        backward(policy, &work.batch, &mut gradients)?;
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
    let memory = used_memory()?;
    let c = policy.config();
    let all: usize = c.parameter_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let (tokens, all, trained) = (work.batch.token_ids.len() as f64, all as f64, policy.num_parameters() as f64);
    // A product forward and two backward; frozen weights need no gradient of their own.
    let products = if trained < all { 4.0 } else { 6.0 } * tokens * all;
    let attention = 12.0 * work.pairs * (c.num_hidden_layers * c.num_attention_heads * c.head_dim) as f64;
    let floor = (products + attention) / rates.product + 30.0 * trained / rates.copy;
    let mut value = figure(work.what, seconds, floor);
    let utilisation = (products + attention) / seconds / rates.product;
    let gib = memory as f64 / f64::from(1u32 << 30);
    println!("{:<44} {:>10.1} % of a product's rate, {gib:.1} GiB", "", 100.0 * utilisation);
    value["tokens"] = tokens.into();
    value["tokens_per_second"] = (tokens / seconds).into();
    value["utilisation"] = utilisation.into();
    value["memory"] = memory.into();
    Ok(value)
}

/// What is in use on the device, in bytes: memory that a step has had is kept for the next.
fn used_memory() -> Result<usize> {
    let device = device_info(0)?;
    Ok(device.total_memory - device.free_memory)
}

/// 256 completions of prompts of their own: what 120 tokens more of each take, from 9 tokens on.
pub(crate) fn decode(policy: &Decoder, rates: &Rates, prompt: usize) -> Result<Value> {
    // A first token, and whole runs of 8 between two looks at what has ended.
    let (batch, few, many) = (256usize, 9usize, 129usize);
    let request = |draw: usize| Request {
        prompt_ids: (0..prompt).map(|i| ((i * 31 + draw * 7) % 1000) as u32).collect(),
        samples: 1,
        first_sample: 0,
        draw: draw as u64,
    };
    let requests: Vec<Request> = (0..batch).map(request).collect();
    let run = |new: usize| -> Result<(f64, usize)> {
        let config = GenerationConfig { max_new_tokens: new, ..GenerationConfig::new(StopTokens::none()) };
        let started = Instant::now();
        let completions = policy.generate(&requests, &config)?;
        let tokens = completions.iter().flatten().map(|completion| completion.token_ids.len()).sum();
        Ok((started.elapsed().as_secs_f64(), tokens))
    };
    run(few)?;
    let ((short, first), (long, all)) = (run(few)?, run(many)?);
    let (seconds, tokens, steps) = (long - short, all - first, (many - few) as f64);
    let c = policy.config();
    let weights = 2.0 * policy.num_parameters() as f64;
    let position = (4 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim) as f64;
    let cache = batch as f64 * (prompt + usize::midpoint(few, many)) as f64 * position;
    // Written, read by the draw, in f32.
    let logits = batch as f64 * c.vocab_size as f64 * 8.0;
    let what = format!("decoding, {batch} completions after {prompt}");
    let mut value = figure(&what, seconds, steps * (weights + cache + logits) / rates.copy);
    let rate = tokens as f64 / seconds;
    println!("{:<44} {rate:>10.0} tokens/s", "");
    value["tokens_per_second"] = rate.into();
    Ok(value)
}
