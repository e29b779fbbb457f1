//! One DAPO step at the exact shape of Qwen3-0.6B, with random weights and the real tokenizer: what a step of that size
//! costs in time and memory. Shows a reward of one's own, too, since a random model answers nothing right.
//!
//! `cargo run --release --example qwen3_0_6b_step -- --tokenizer DIR` (see `scripts/fetch-qwen3-tokenizer.sh`)

use anyhow::{Context, Result};
use clap::Parser;
use dapo::data::{Problem, PromptStyle, encode_prompts};
use dapo::kernels::allocator::{MiMalloc, hold_freed_memory};
use dapo::policy::{Decoder, LayerMemory, Message, ModelConfig, Tokenizer};
use dapo::reward::{RewardFault, RewardFn, RewardInput, RewardSum, Score, SoftOverlong};
use dapo::sampler::{FilterMetric, GenBatch, SamplerConfig};
use dapo::trainer::{Trainer, TrainerConfig};
use std::path::PathBuf;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Args {
    /// Folder with Qwen3's tokenizer.json and tokenizer_config.json.
    #[arg(long)]
    tokenizer: PathBuf,
    /// Groups trained on.
    #[arg(long, default_value_t = 4)]
    prompts: usize,
    /// Completions of each prompt.
    #[arg(long, default_value_t = 8)]
    group: usize,
    /// Tokens of a completion.
    #[arg(long, default_value_t = 32)]
    max_tokens: usize,
    /// Compute layers again in the backward pass.
    #[arg(long)]
    recompute: bool,
    /// Memory in which rollouts keep activations, in MiB; chosen by itself if unset.
    #[arg(long)]
    keep_mib: Option<usize>,
}

/// A reward that differs between random texts: the share of ASCII letters.
struct AsciiShare;

impl RewardFn for AsciiShare {
    fn name(&self) -> &'static str {
        "ascii_share"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let letters = input.completion.chars().filter(char::is_ascii_alphabetic).count();
        Ok(Score::value(letters as f64 / input.completion.chars().count().max(1) as f64))
    }
}

/// A line of Linux's account of this process, in GiB.
fn memory(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / f64::from(1 << 20))
}

fn main() -> Result<()> {
    hold_freed_memory();
    let args = Args::parse();
    let tokenizer = Tokenizer::from_folder(&args.tokenizer).with_context(|| args.tokenizer.display().to_string())?;
    let mut policy = Decoder::random(ModelConfig::qwen3_0_6b(), 0)?;
    if args.recompute {
        policy.set_layer_memory(LayerMemory::Recompute);
    }
    println!("{:.1} M parameters", policy.num_parameters() as f64 / 1e6);
    let problems: Vec<Problem> = (0..args.prompts)
        .map(|i| {
            let question = format!("What is {} + {}? Think step by step.", 17 * i + 3, 5 * i + 8);
            Problem::new(i.to_string(), vec![Message::user(question)], (22 * i + 11).to_string())
        })
        .collect();
    let style = PromptStyle { enable_thinking: Some(false), ..PromptStyle::default() };
    let (prompts, _) = encode_prompts(&problems, &tokenizer, &style, 512)?;
    println!("prompt 0 ({} tokens): {:?}", prompts[0].token_ids.len(), prompts[0].text);
    let overlong = SoftOverlong::new(args.max_tokens, args.max_tokens.div_ceil(4))?;
    let rewards = RewardSum::new(vec![(1.0, Box::new(AsciiShare)), (1.0, Box::new(overlong))])?;
    let config = TrainerConfig {
        group_size: args.group,
        max_new_tokens: args.max_tokens,
        keep_activations_bytes: args.keep_mib.map(|mib| mib << 20),
        sampler: SamplerConfig {
            train_batch: args.prompts,
            gen_batch: GenBatch::Fixed(args.prompts),
            metric: FilterMetric::SeqReward,
            ..SamplerConfig::default()
        },
        ..TrainerConfig::default()
    };
    let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, config)?;
    let started = Instant::now();
    let outcome = trainer.step()?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string_pretty(&outcome.metrics)?);
    println!(
        "one step: {seconds:.1} s, of it {:.1} s of rollouts; {} tokens generated",
        outcome.timings.rollout_time, outcome.metrics.num_tokens
    );
    if let Some(peak) = memory("VmHWM") {
        println!("peak memory: {peak:.2} GiB");
    }
    Ok(())
}
