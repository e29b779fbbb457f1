//! A rollout, a training step and a whole DAPO step, as whole models do them: `cargo bench --bench step`.
//!
//! The tiny Qwen3 of `testdata/parity` always; SmolLM2-135M-Instruct where `DAPO_SMOLLM2_GGUF` names its GGUF file (see
//! `scripts/fetch-smollm2.sh`). Stop tokens are ignored, nothing is masked and no group is dropped, so that each work
//! has exactly the tokens that its name says. One JSON line per work: shortest and median seconds, tokens per second,
//! and the most memory the process had so far; give a part of a name to run only the works with it. `DAPO_WEIGHTS=bf16`
//! computes with weights in bf16; `DAPO_KEEP_ACTIVATIONS_MIB` sets the memory in which the whole steps keep
//! activations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dapo::data::{Problem, PromptStyle, encode_prompts};
use dapo::kernels::allocator::{MiMalloc, hold_freed_memory};
use dapo::kernels::logprobs::{Head, Scratch};
use dapo::kernels::matmul::PackedMatrix;
use dapo::kernels::threads;
use dapo::loss::{Advantages, Aggregation, Denominator, EmptySequences, LossBatch, LossConfig, LossPlan, TokenChunk};
use dapo::policy::{
    Compute, Decoder, GenerationConfig, Gradients, Message, Policy, Request, RowGradients, Rows, SamplingConfig,
    Segments, StopTokens, TokenBatch, Tokenizer, WeightFormat,
};
use dapo::reward::{RewardFault, RewardFn, RewardInput, RewardSum, Score};
use dapo::sampler::{FilterMetric, SamplerConfig};
use dapo::trainer::{AdamW, OptimizerConfig, Trainer, TrainerConfig};

#[path = "support/summary.rs"]
mod summary;

use summary::Summary;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/parity/tiny-qwen3");

/// The share of vowels: completions of a group differ in it, so that no group is without a gradient and left out.
struct Vowels;

impl RewardFn for Vowels {
    fn name(&self) -> &'static str {
        "vowels"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let vowels = input.completion.chars().filter(|c| "aeiou".contains(*c)).count();
        Ok(Score::value(vowels as f64 / (1 + input.completion.len()) as f64))
    }
}

/// A model without stop tokens.
struct Model {
    name: &'static str,
    path: String,
    question: fn(u32, u32) -> String,
}

impl Model {
    fn load(&self) -> Result<(Decoder, Tokenizer)> {
        let (decoder, tokenizer) = dapo::policy::load(self.path.as_ref()).with_context(|| self.path.clone())?;
        let mut config = decoder.config().clone();
        config.eos_token_ids.clear();
        let mut decoder = Decoder::new(config, decoder.tensors()?)?;
        if std::env::var("DAPO_WEIGHTS").is_ok_and(|format| format == "bf16") {
            decoder.set_weight_format(WeightFormat::Bf16)?;
        }
        if std::env::var("DAPO_COMPUTE").is_ok_and(|format| format == "bf16") {
            decoder.set_compute(Compute::Bf16)?;
        }
        Ok((decoder, tokenizer))
    }

    fn problems(&self, count: u32) -> Vec<Problem> {
        let problem = |i: u32| {
            let (a, b) = (10 + (37 * i + 11) % 90, 10 + (53 * i + 29) % 90);
            let messages = vec![Message::user((self.question)(a, b))];
            Problem::new(i.to_string(), messages, (a + b).to_string())
        };
        (0..count).map(problem).collect()
    }
}

/// Measures works by name.
struct Bench {
    only: Vec<String>,
    /// Whether times are taken; `cargo test --benches` runs each work once.
    measures: bool,
    summary: Summary,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Runs `work` a few times after a warm-up; it returns further figures.
    fn measure(
        &mut self,
        name: &str,
        repetitions: usize,
        tokens: usize,
        mut work: impl FnMut() -> Result<Vec<(&'static str, f64)>>,
    ) -> Result<()> {
        work()?;
        if !self.measures {
            return Ok(());
        }
        let mut runs = Vec::new();
        for _ in 0..repetitions {
            let started = Instant::now();
            let figures = work()?;
            runs.push((started.elapsed().as_secs_f64(), figures));
        }
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (best, figures) = &runs[0];
        let mut line = serde_json::json!({
            "work": name, "threads": rayon::current_num_threads(), "s": best, "s_median": runs[runs.len() / 2].0,
            "tokens_per_second": tokens as f64 / best,
        });
        for (name, value) in figures {
            line[*name] = (*value).into();
        }
        if let Some(mib) = peak_memory() {
            line["peak_mib"] = mib.into();
        }
        println!("{line}");
        let rate = format!("{:.0} tokens/s", tokens as f64 / best);
        self.summary.add(name, Duration::from_secs_f64(*best), &rate);
        Ok(())
    }
}

/// The most memory that this process has had, in MiB.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// Memory in which whole steps keep activations, where it is set.
fn kept_mib() -> Result<Option<usize>> {
    let Ok(mib) = std::env::var("DAPO_KEEP_ACTIVATIONS_MIB") else { return Ok(None) };
    Ok(Some(mib.parse().with_context(|| format!("DAPO_KEEP_ACTIVATIONS_MIB is {mib:?}, expected a number"))?))
}

/// A whole step: 4 prompts, 8 completions each, one update.
fn whole_step(bench: &mut Bench, model: &Model, max_new_tokens: usize, repetitions: usize) -> Result<()> {
    let name = format!("{} step 4x8x{max_new_tokens}", model.name);
    if !bench.wants(&name) {
        return Ok(());
    }
    let mut trainer = trainer(model, max_new_tokens, kept_mib()?)?;
    bench.measure(&name, repetitions, 32 * max_new_tokens, || {
        let outcome = trainer.step()?;
        anyhow::ensure!(outcome.metrics.logp_difference_max == Some(0.0), "rollout and training differ");
        let samples = || outcome.groups.iter().flat_map(|g| &g.group.samples);
        anyhow::ensure!(samples().count() == 32);
        anyhow::ensure!(outcome.metrics.frac_reward_zero_std == Some(0.0), "a group without a gradient");
        anyhow::ensure!(samples().all(|sample| sample.completion.token_ids.len() == max_new_tokens));
        Ok(vec![("rollout_s", outcome.timings.rollout_time), ("update_s", outcome.timings.update_time)])
    })
}

/// Such steps by two trainers in turns, of which one keeps no activations and the other all: each one's median seconds.
/// Only where it is asked for by name, which has "kept".
fn kept(bench: &Bench, model: &Model, max_new_tokens: usize, repetitions: usize) -> Result<()> {
    let name = format!("{} kept 4x8x{max_new_tokens}", model.name);
    if !bench.only.iter().any(|part| part.contains("kept") && name.contains(part.as_str())) {
        return Ok(());
    }
    let mut trainers = [trainer(model, max_new_tokens, Some(0))?, trainer(model, max_new_tokens, Some(1 << 20))?];
    let mut timings = [Vec::new(), Vec::new()];
    for repetition in 0..=repetitions {
        for (trainer, timings) in trainers.iter_mut().zip(&mut timings) {
            let timed = trainer.step()?.timings;
            if repetition > 0 {
                timings.push([timed.step_time, timed.rollout_time, timed.update_time]);
            }
        }
    }
    let of = |timings: &[[f64; 3]], rank: usize| {
        [0, 1, 2].map(|part| {
            let mut seconds: Vec<f64> = timings.iter().map(|timed| timed[part]).collect();
            seconds.sort_by(f64::total_cmp);
            seconds[rank]
        })
    };
    for (rank, put) in [(0, "shortest"), (repetitions / 2, "median")] {
        let [without, with] = [of(&timings[0], rank), of(&timings[1], rank)];
        let line = serde_json::json!({
            "work": name, "threads": rayon::current_num_threads(), "of": put,
            "computed_s": {"step": without[0], "rollout": without[1], "update": without[2]},
            "kept_s": {"step": with[0], "rollout": with[1], "update": with[2]},
            "ratio": without[0] / with[0],
        });
        println!("{line}");
    }
    Ok(())
}

/// A trainer for such steps.
fn trainer(model: &Model, max_new_tokens: usize, keep_mib: Option<usize>) -> Result<Trainer> {
    let (decoder, tokenizer) = model.load()?;
    let problems = model.problems(64);
    let (prompts, _) = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 512)?;
    let config = TrainerConfig {
        group_size: 8,
        max_new_tokens,
        ignore_eos: true,
        sampler: SamplerConfig {
            enabled: false,
            metric: FilterMetric::SeqReward,
            train_batch: 4,
            ..SamplerConfig::default()
        },
        optimizer: OptimizerConfig { lr: 1e-5, warmup_steps: 0, ..OptimizerConfig::default() },
        keep_activations_bytes: keep_mib.map(|mib| mib << 20),
        ..TrainerConfig::default()
    };
    let rewards = RewardSum::new(vec![(1.0, Box::new(Vowels))])?;
    Ok(Trainer::new(decoder, tokenizer, prompts, rewards, config)?)
}

/// Rollouts alone: 64 new tokens for each of `batch` prompts.
fn decode(bench: &mut Bench, model: &Model, batch: u32) -> Result<()> {
    const NEW: usize = 64;
    let name = format!("{} decode batch {batch}", model.name);
    if !bench.wants(&name) {
        return Ok(());
    }
    let (decoder, tokenizer) = model.load()?;
    let (prompts, _) = encode_prompts(&model.problems(batch), &tokenizer, &PromptStyle::default(), 512)?;
    let request = |(i, prompt): (usize, &dapo::data::Prompt)| Request {
        prompt_ids: prompt.token_ids.clone(),
        samples: 1,
        first_sample: 0,
        draw: i as u64,
    };
    let requests: Vec<Request> = prompts.iter().enumerate().map(request).collect();
    let generate = |max_new_tokens| -> Result<f64> {
        let config = GenerationConfig { max_new_tokens, draft_tokens: 0, ..GenerationConfig::new(StopTokens::none()) };
        let started = Instant::now();
        decoder.generate(&requests, &config)?;
        Ok(started.elapsed().as_secs_f64())
    };
    let prefill = if bench.measures { generate(1)?.min(generate(1)?) } else { 0.0 };
    bench.measure(&name, 3, batch as usize * NEW, || {
        let whole = generate(NEW)?;
        let rate = f64::from(batch) * (NEW - 1) as f64 / (whole - prefill);
        Ok(vec![("prefill_s", prefill), ("decode_tokens_per_second", rate)])
    })
}

/// Completions of word problems, one problem at a time and of up to 96 tokens, with guessed tokens and without in turns:
/// the shortest seconds of each. Only where it is asked for by name, which has "drafts".
fn drafts(bench: &Bench, model: &Model, samples: usize, temperature: f32) -> Result<()> {
    let name = format!("{} drafts, {samples} completions at temperature {temperature}", model.name);
    if !bench.only.iter().any(|part| part.contains("drafts") && name.contains(part.as_str())) {
        return Ok(());
    }
    let (decoder, tokenizer) = dapo::policy::load(model.path.as_ref()).with_context(|| model.path.clone())?;
    let question = |i: u32| {
        format!(
            "A farmer has {} apples and buys {} more. He sells {} of them at the market. How many apples are left? \
             Explain each step.",
            20 + 7 * i,
            5 + 3 * i,
            4 + 2 * i
        )
    };
    let problems: Vec<Problem> =
        (0..6).map(|i| Problem::new(i.to_string(), vec![Message::user(question(i))], String::new())).collect();
    let (prompts, _) = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 512)?;
    let sampling = SamplingConfig { temperature, ..SamplingConfig::default() };
    let stop = StopTokens::of(decoder.config(), &tokenizer);
    let drafts = [0, 1, 2, 3];
    let (mut shortest, mut tokens) = ([f64::INFINITY; 4], 0);
    for _ in 0..3 {
        for (draft_tokens, shortest) in drafts.into_iter().zip(&mut shortest) {
            let config =
                GenerationConfig { max_new_tokens: 96, draft_tokens, sampling, ..GenerationConfig::new(stop.clone()) };
            let started = Instant::now();
            tokens = 0;
            for (i, prompt) in prompts.iter().enumerate() {
                let request =
                    Request { prompt_ids: prompt.token_ids.clone(), samples, first_sample: 0, draw: i as u64 };
                let groups = decoder.generate(&[request], &config)?;
                tokens += groups[0].iter().map(|completion| completion.token_ids.len()).sum::<usize>();
            }
            *shortest = shortest.min(started.elapsed().as_secs_f64());
        }
    }
    for (draft_tokens, seconds) in drafts.into_iter().zip(shortest) {
        let line = serde_json::json!({
            "work": name, "threads": rayon::current_num_threads(), "draft_tokens": draft_tokens, "s": seconds,
            "tokens": tokens, "times_faster": shortest[0] / seconds,
        });
        println!("{line}");
    }
    Ok(())
}

/// Forward, backward and update of 8 sequences of 256 tokens under cross-entropy.
fn train(bench: &mut Bench, model: &Model) -> Result<()> {
    let name = format!("{} train 8x256", model.name);
    if !bench.wants(&name) {
        return Ok(());
    }
    let (mut decoder, _) = model.load()?;
    let vocab = decoder.config().vocab_size as u64;
    let tokens = |i: u64| ((i * 2_654_435_761) >> 7) % vocab;
    let batch = TokenBatch {
        token_ids: (0..2048).map(|i| tokens(i) as u32).collect(),
        segments: Arc::new(Segments::new((0..8).map(|_| (256, None)))?),
        targets: (0..2048).filter(|i| i % 256 != 0).collect(),
    };
    let denominator = Denominator::of_step(Aggregation::TokenMean, &[255; 8], EmptySequences::Exclude);
    denominator.context("there are tokens")?;
    let mut optimizer = AdamW::new(&decoder, OptimizerConfig { lr: 1e-5, ..OptimizerConfig::default() })?;
    let mut gradients = Gradients::new(decoder.parameters().len());
    bench.measure(&name, 3, 2048, || {
        gradients.clear();
        let mut loss = 0.0;
        decoder.logprobs_backward(&batch, 1.0, &mut gradients, &mut |rows: Rows<'_>, into: RowGradients<'_>| {
            loss -= rows.logprobs.iter().map(|l| f64::from(*l)).sum::<f64>() / 2040.0;
            into.logprobs.fill(-1.0 / 2040.0);
            Ok(())
        })?;
        let backward = Instant::now();
        optimizer.update(&mut decoder, &gradients, 1e-5)?;
        Ok(vec![("loss", loss), ("optimizer_s", backward.elapsed().as_secs_f64())])
    })
}

/// Log-probs, DAPO's loss and all gradients from hidden states, at SmolLM2's head.
fn head(bench: &mut Bench) -> Result<()> {
    const ROWS: usize = 512;
    let (vocab, width) = (49_152, 576);
    let name = format!("head {ROWS} x {width} -> {vocab}");
    if !bench.wants(&name) {
        return Ok(());
    }
    let value = |i: usize| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
    let weight: Vec<f32> = (0..vocab * width).map(|i| 0.07 * value(i)).collect();
    let hidden: Vec<f32> = (0..ROWS * width).map(|i| value(i + 7)).collect();
    let targets: Vec<u32> = (0..ROWS as u32).map(|i| i * 97 % vocab as u32).collect();
    let packed = PackedMatrix::from_transposed(&weight, vocab, width);
    let head = Head { packed: &packed, temperature: 1.0 };
    let advantages: Vec<f32> = (0..ROWS).map(value).collect();
    let ends: Vec<usize> = (0..=ROWS).collect();
    let config = LossConfig::default();
    let denominator = Denominator::of_step(Aggregation::TokenMean, &[1; ROWS], EmptySequences::Exclude);
    let plan = LossPlan::new(
        &config,
        denominator.context("there are tokens")?,
        LossBatch::new(&ends, Advantages::PerSequence(&advantages), &[-10.8; ROWS]),
    )?;
    let mut weight_grad = vec![0.0; vocab * width];
    let (mut hidden_grad, mut scratch) = (Vec::new(), Scratch::default());
    threads::enter(|| {
        bench.measure(&name, 8, ROWS, || {
            let into = Some((&mut weight_grad[..], false));
            head.backward(&hidden, &targets, into, &mut hidden_grad, &mut scratch, |rows, gradients| {
                let chunk = TokenChunk::at(rows.start, rows.logprobs);
                let into = dapo::loss::LossGradients::new(gradients.logprobs);
                plan.evaluate(chunk, into)?;
                Ok::<(), anyhow::Error>(())
            })?;
            Ok(Vec::new())
        })
    })
}

fn works(bench: &mut Bench) -> Result<()> {
    let tiny = Model { name: "tiny", path: TINY.into(), question: |a, b| format!("{a}+{b}=?") };
    whole_step(bench, &tiny, 32, 20)?;
    kept(bench, &tiny, 32, 40)?;
    decode(bench, &tiny, 32)?;
    train(bench, &tiny)?;
    head(bench)?;
    let Ok(path) = std::env::var("DAPO_SMOLLM2_GGUF") else {
        eprintln!("DAPO_SMOLLM2_GGUF is not set: SmolLM2-135M is left out");
        return Ok(());
    };
    let question = |a, b| format!("What is {a} + {b}? Reply with only the number.");
    let smollm2 = Model { name: "smollm2", path, question };
    for batch in [1, 8, 32] {
        decode(bench, &smollm2, batch)?;
    }
    for (samples, temperature) in [(1, 0.0), (1, 1.0), (2, 1.0)] {
        drafts(bench, &smollm2, samples, temperature)?;
    }
    train(bench, &smollm2)?;
    whole_step(bench, &smollm2, 32, 4)?;
    whole_step(bench, &smollm2, 64, 3)?;
    kept(bench, &smollm2, 32, 12)?;
    kept(bench, &smollm2, 64, 8)
}

fn main() -> Result<()> {
    hold_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut bench = Bench {
        measures: arguments.iter().any(|argument| argument == "--bench"),
        only: arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect(),
        summary: Summary::of("step"),
    };
    works(&mut bench)?;
    if bench.measures {
        bench.summary.leave()?;
    }
    Ok(())
}
