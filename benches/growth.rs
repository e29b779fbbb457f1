//! How the cost of training and of rollouts grows with tokens, completion length, group size and width:
//! `cargo bench --bench growth`.
//!
//! A Qwen3 of 4 layers with random weights, width 256 (4 query and 2 key-value heads of 64, MLP 3 times the width,
//! vocabulary 4,096) unless the row says otherwise. Each row doubles one thing; `exponent` is log₂ of what the time
//! grew by: 1 where the cost grows in proportion.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use dapo::kernels::allocator::{MiMalloc, hold_freed_memory};
use dapo::policy::{
    Decoder, GenerationConfig, Gradients, ModelConfig, Policy, Request, RowGradients, Rows, Segments, StopTokens,
    TokenBatch,
};

#[path = "support/summary.rs"]
mod summary;

use summary::Summary;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const VOCAB: usize = 4096;

fn decoder(width: usize) -> Result<Decoder> {
    let config = ModelConfig {
        vocab_size: VOCAB,
        hidden_size: width,
        intermediate_size: 3 * width,
        num_hidden_layers: 4,
        num_attention_heads: width / 64,
        num_key_value_heads: width / 128,
        head_dim: 64,
        max_position_embeddings: 1 << 16,
        eos_token_ids: Vec::new(),
        ..ModelConfig::qwen3_0_6b()
    };
    Ok(Decoder::random(config, 1)?)
}

/// The shortest of at least two runs, after one that does not count.
fn best(mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    run()?;
    let (start, mut best, mut runs) = (Instant::now(), Duration::MAX, 0);
    while runs < 2 || start.elapsed() < Duration::from_millis(700) {
        let begin = Instant::now();
        run()?;
        best = best.min(begin.elapsed());
        runs += 1;
    }
    Ok(best)
}

/// Forward and backward of groups: `prompts` prompts of `prompt` tokens, each continued by `group` completions of `length`.
fn train(decoder: &Decoder, prompts: usize, prompt: usize, group: usize, length: usize) -> Result<Duration> {
    let (mut layout, mut targets, mut total) = (Vec::new(), Vec::new(), 0);
    for _ in 0..prompts {
        let parent = layout.len();
        layout.push((prompt, None));
        total += prompt;
        for _ in 0..group {
            layout.push((length, Some(parent)));
            targets.extend(total..total + length);
            total += length;
        }
    }
    let token_ids = (0..total).map(|i| (i * 7919 % VOCAB) as u32).collect();
    let batch = TokenBatch { token_ids, segments: Arc::new(Segments::new(layout)?), targets };
    let mut gradients = Gradients::new(decoder.parameters().len());
    best(|| {
        gradients.clear();
        Ok(decoder.logprobs_backward(&batch, 1.0, &mut gradients, &mut |_: Rows<'_>, into: RowGradients<'_>| {
            into.logprobs.fill(-1e-3);
            Ok(())
        })?)
    })
}

fn roll_out(decoder: &Decoder, prompts: usize, prompt: usize, group: usize, length: usize) -> Result<Duration> {
    let request = |i| Request {
        prompt_ids: (0..prompt).map(|t| ((t * 31 + i * 17) % VOCAB) as u32).collect(),
        samples: group,
        first_sample: 0,
        draw: i as u64,
    };
    let requests: Vec<Request> = (0..prompts).map(request).collect();
    let config = GenerationConfig { max_new_tokens: length, ..GenerationConfig::new(StopTokens::none()) };
    best(|| Ok(decoder.generate(&requests, &config).map(drop)?))
}

/// One curve: the time of each value, and how it grew.
fn curve(
    summary: &mut Summary,
    name: &str,
    values: &[usize],
    mut time: impl FnMut(usize) -> Result<Duration>,
) -> Result<()> {
    let mut last: Option<(usize, Duration)> = None;
    let mut exponent = String::new();
    for value in values {
        let time = time(*value)?;
        let seconds = time.as_secs_f64();
        exponent = last.map_or(exponent, |(_, last)| format!("{:.2}", (seconds / last.as_secs_f64()).log2()));
        println!("| {name} | {value} | {:.1} | {exponent} |", seconds * 1e3);
        last = Some((*value, time));
    }
    if let Some((value, time)) = last {
        summary.add(&format!("{name}: {value}"), time, &format!("exponent {exponent} of the last doubling"));
    }
    Ok(())
}

fn main() -> Result<()> {
    hold_freed_memory();
    if !std::env::args().any(|argument| argument == "--bench") {
        train(&decoder(128)?, 1, 8, 2, 8)?;
        return roll_out(&decoder(128)?, 1, 8, 2, 8).map(drop);
    }
    println!("| what | value | ms | exponent |");
    println!("|---|---|---|---|");
    let model = decoder(256)?;
    let mut summary = Summary::of("growth");
    let rows = &mut summary;
    curve(rows, "training, sequences of 64 tokens", &[4, 8, 16, 32, 64], |n| train(&model, n, 32, 1, 32))?;
    curve(rows, "training, length of one completion", &[256, 512, 1024, 2048, 4096], |n| train(&model, 1, 32, 1, n))?;
    curve(rows, "training, group size (prompt 512, completions 32)", &[1, 2, 4, 8, 16], |n| {
        train(&model, 1, 512, n, 32)
    })?;
    curve(rows, "rollout, group size (prompt 512, completions 32)", &[1, 2, 4, 8, 16], |n| {
        roll_out(&model, 1, 512, n, 32)
    })?;
    curve(rows, "rollout, length of 16 completions", &[32, 64, 128, 256, 512], |n| roll_out(&model, 2, 32, 8, n))?;
    curve(rows, "training, width (512 tokens)", &[128, 256, 512, 1024], |n| train(&decoder(n)?, 8, 32, 1, 32))?;
    curve(rows, "rollout, width (16 completions of 32)", &[128, 256, 512, 1024], |n| {
        roll_out(&decoder(n)?, 2, 32, 8, 32)
    })?;
    Ok(summary.leave()?)
}
