//! Makes the tiny model of `dapo_qwen3`: a character-level Qwen3, warmed up on worked, checked and mostly direct answers to
//! chains of additions.
//!
//! `cargo run --release --example pretrain_tiny -- --out testdata/tiny-qwen3`

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use clap::Parser;
use dapo::data::tasks::{AdditionChain, Split, Style, addition_chains, addition_problems};
use dapo::data::{PromptStyle, encode_prompts};
use dapo::eval::evaluate;
use dapo::kernels::allocator::{MiMalloc, hold_freed_memory};
use dapo::policy::{
    Architecture, Decoder, GenerationConfig, Gradients, ModelConfig, Policy, PolicyError, SamplingConfig, SourceFields,
    StopTokens, Tokenizer, save_checkpoint,
};
use dapo::reward::{Accuracy, RewardSum};
use dapo::sampler::SplitMix;
use dapo::trainer::{AdamW, OptimizerConfig, TrainingGroup, TrainingSequence, pack};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Args {
    /// Folder to write the model to.
    #[arg(long)]
    out: PathBuf,
    /// Optimiser steps.
    #[arg(long, default_value_t = 1500)]
    steps: u64,
    /// Problems a step.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Learning rate at its peak.
    #[arg(long, default_value_t = 2e-3)]
    lr: f64,
    /// Share of direct answers.
    #[arg(long, default_value_t = 0.55)]
    direct: f64,
    /// Share of checked answers.
    #[arg(long, default_value_t = 0.25)]
    checked: f64,
    /// Seed of weights and data.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

const CHARACTERS: &str = "0123456789+=,#()?;: .-*/<>Q\n";
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ message['content'] }}{% endfor %}";

/// A byte-pair tokenizer without merges: every character is a token.
fn write_tokenizer(dir: &std::path::Path) -> Result<Tokenizer> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let special = ["<pad>", "<eos>", "<unk>"];
    let mut vocab = serde_json::Map::new();
    for token in special.iter().map(ToString::to_string).chain(CHARACTERS.chars().map(String::from)) {
        vocab.insert(token, vocab.len().into());
    }
    let added = special.iter().enumerate().map(|(id, token)| {
        serde_json::json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": []},
    });
    let config = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>",
        "model_max_length": 256, "chat_template": CHAT_TEMPLATE,
    });
    std::fs::write(dir.join("tokenizer.json"), serde_json::to_string_pretty(&tokenizer)?)?;
    std::fs::write(dir.join("tokenizer_config.json"), serde_json::to_string_pretty(&config)?)?;
    Ok(Tokenizer::from_folder(dir)?)
}

fn model_config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 32,
        hidden_size: 128,
        intermediate_size: 320,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        qk_norm: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        max_position_embeddings: 256,
        bos_token_id: None,
        eos_token_ids: vec![1],
        pad_token_id: Some(0),
        source: SourceFields::default(),
    }
}

/// Norms at 1, everything else normal with deviation 1/√(fan-in).
fn random_weights(config: &ModelConfig, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    let mut rng = SplitMix::new(seed);
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.parameter_shapes() {
        let count = shape.iter().product();
        let deviation = 1.0 / (*shape.last().context("a shape")? as f64).sqrt();
        let values: Vec<f32> = if shape.len() == 1 {
            vec![1.0; count]
        } else {
            std::iter::repeat_with(|| (rng.normal() * deviation) as f32).take(count).collect()
        };
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
    }
    Ok(tensors)
}

fn example(chain: &AdditionChain, style: Style, tokenizer: &Tokenizer, eos: u32) -> Result<TrainingGroup> {
    let mut token_ids = tokenizer.encode(&chain.solution(style), false)?;
    token_ids.push(eos);
    let old_logprobs = vec![0.0; token_ids.len()];
    let sequence =
        TrainingSequence { token_ids, old_logprobs, advantage: 1.0, in_loss: true, ..TrainingSequence::default() };
    Ok(TrainingGroup {
        prompt_ids: tokenizer.encode(&chain.question(), false)?,
        sequences: vec![sequence],
        ..TrainingGroup::default()
    })
}

/// One step of maximum likelihood; returns the mean negative log-prob.
fn supervised_step(policy: &mut Decoder, optimizer: &mut AdamW, groups: &[TrainingGroup], lr: f64) -> Result<f64> {
    let tokens: usize = groups.iter().flat_map(|g| &g.sequences).map(TrainingSequence::loss_tokens).sum();
    let mut gradients = Gradients::new(policy.parameters().len());
    let mut loss = 0.0;
    for batch in pack(groups, 8192)? {
        policy.logprobs_backward(&batch.tokens, 1.0, &mut gradients, &mut |rows, into| -> Result<(), PolicyError> {
            into.logprobs.fill(-1.0 / tokens as f32);
            loss -= rows.logprobs.iter().map(|l| f64::from(*l)).sum::<f64>() / tokens as f64;
            Ok(())
        })?;
    }
    optimizer.update(policy, &gradients, lr)?;
    Ok(loss)
}

fn main() -> Result<()> {
    hold_freed_memory();
    let args = Args::parse();
    let tokenizer = write_tokenizer(&args.out)?;
    let config = model_config();
    let eos = config.eos_token_ids[0];
    let mut policy = Decoder::new(config.clone(), random_weights(&config, args.seed)?)?;
    println!("{} parameters", policy.num_parameters());
    let optimizer_config = OptimizerConfig { lr: args.lr, warmup_steps: 50, weight_decay: 0.01, ..Default::default() };
    let mut optimizer = AdamW::new(&policy, optimizer_config)?;
    let chains = addition_chains(Split::WarmUp, args.steps as usize * args.batch, args.seed);
    let mut rng = SplitMix::new(args.seed ^ 0x5EED);
    let started = std::time::Instant::now();
    for (step, chains) in (0..args.steps).zip(chains.chunks(args.batch)) {
        let mut groups = Vec::with_capacity(args.batch);
        for chain in chains {
            let style = match rng.uniform() {
                u if u < args.direct => Style::Direct,
                u if u < args.direct + args.checked => Style::Checked,
                _ => Style::Worked,
            };
            groups.push(example(chain, style, &tokenizer, eos)?);
        }
        let decay = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / args.steps as f64).cos());
        let lr = optimizer_config.lr_at(step) * (0.05 + 0.95 * decay);
        let loss = supervised_step(&mut policy, &mut optimizer, &groups, lr)?;
        if step % 100 == 99 {
            println!("step {:5}  loss {loss:.4}  {:.0} s", step + 1, started.elapsed().as_secs_f64());
        }
    }
    save_checkpoint(&args.out, policy.config(), &policy.tensors()?, &tokenizer)?;
    report(&policy, &tokenizer)
}

/// Accuracy on held-out problems, greedy and sampled.
fn report(policy: &Decoder, tokenizer: &Tokenizer) -> Result<()> {
    let problems = addition_problems(Split::HeldOut, 512, 1);
    let (prompts, _) = encode_prompts(&problems, tokenizer, &PromptStyle::default(), 64)?;
    let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default()))])?;
    for (name, sampling, samples) in [("greedy", SamplingConfig::GREEDY, 1), ("sampled", SamplingConfig::default(), 8)]
    {
        let stop = StopTokens::of(policy.config(), tokenizer);
        let generation = GenerationConfig { max_new_tokens: 80, sampling, ..GenerationConfig::new(stop) };
        let found = evaluate(policy, tokenizer, &prompts, samples, &generation, &rewards)?;
        println!(
            "{name}: accuracy {:.3}, pass@{samples} {:.3}, truncated {:.3}",
            found.accuracy(),
            found.pass_at(samples),
            found.truncated()
        );
        for group in found.groups.iter().take(4) {
            println!("  {}{}", group.prompt.text, group.samples[0].text);
        }
    }
    Ok(())
}
