//! Trains a Qwen3 policy with DAPO.
//!
//! Without arguments: a tiny Qwen3 learns to work out chains of additions instead of guessing their sums.
//!
//! `cargo run --release --example dapo_qwen3`
//!
//! With a model and data of your own (a Hugging Face folder or a GGUF file; JSON lines with a question and an answer each):
//!
//! `cargo run --release --example dapo_qwen3 -- --model path/to/model --data problems.jsonl`

use anyhow::{Result, ensure};
use clap::Parser;
use dapo::data::tasks::{Split, addition_problems};
use dapo::data::{Prompt, PromptStyle, encode_prompts, read_jsonl};
use dapo::eval::{Evaluation, evaluate_observed};
use dapo::policy::{Device, GenerationConfig, Purpose, SamplingConfig, StopTokens, save_checkpoint};
use dapo::reward::{Accuracy, Grader, Profile, RewardSum, SoftOverlong, VerifyConfig};
use dapo::sampler::{GenBatch, SamplerConfig};
use dapo::trainer::{OptimizerConfig, StepOutcome, Trainer, TrainerConfig, TrainerError};
use dapo_console::{ColorChoice, Level, LogFormat, Meter, Monitor, Shape, Voice};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TINY_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tiny-qwen3");

/// Trains a Qwen3 (or Qwen2.5, or Llama) policy with DAPO.
#[derive(Parser)]
#[command(name = "dapo_qwen3")]
struct Args {
    /// Model to train: a Hugging Face folder or a GGUF file. [default: the tiny Qwen3 in testdata]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Problems, as JSON lines. [default: chains of additions]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Training steps.
    #[arg(long, default_value_t = 80)]
    steps: u64,
    /// Groups trained on in each step.
    #[arg(long, default_value_t = 16, value_name = "P")]
    prompts: usize,
    /// Completions of each prompt.
    #[arg(long, default_value_t = 8, value_name = "G")]
    group: usize,
    /// Tokens of a completion at most. [default: 72 for the tiny model, else 256]
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<usize>,
    /// Last part of it over which the length penalty grows. [default: a ninth]
    #[arg(long, value_name = "TOKENS")]
    overlong_cache: Option<usize>,
    /// Learning rate. [default: 1e-4 for the tiny model, else 1e-6]
    #[arg(long)]
    lr: Option<f64>,
    /// Sampling temperature, in training and for pass@8.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Optimiser updates in each step.
    #[arg(long, default_value_t = 2)]
    updates: usize,
    /// Held-out problems for evaluation (with --data: spread over the file, at most a fifth of it).
    #[arg(long, default_value_t = 512)]
    eval: usize,
    /// System message before each question.
    #[arg(long)]
    system: Option<String>,
    /// Text added to each question.
    #[arg(long, default_value = "")]
    suffix: String,
    /// Where a completion's answer stands: auto, boxed, answer-line, hash, answer-tag, answer-is, last-math, last-number
    /// or whole.
    #[arg(long, default_value = "auto", value_name = "PROFILE")]
    extract: Profile,
    /// Where the model computes: cpu, cuda or cuda:n (built with the feature cuda).
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Show a correct and an incorrect completion after the first step and every N steps.
    #[arg(long, value_name = "N", default_value = "10")]
    samples_every: Option<u64>,
    /// Write the trained model here, as a Hugging Face folder.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Print one JSON object with the result, last on stdout; everything else goes to stderr.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn max_tokens(&self) -> usize {
        self.max_tokens.unwrap_or(if self.model.is_none() { 72 } else { 256 })
    }

    fn sampling(&self) -> SamplingConfig {
        SamplingConfig { temperature: self.temperature, ..SamplingConfig::default() }
    }

    fn lr(&self) -> f64 {
        self.lr.unwrap_or(if self.model.is_none() { 1e-4 } else { 1e-6 })
    }
}

/// Prints to stdout, or to stderr where stdout is for JSON.
macro_rules! say {
    ($args:expr, $($text:tt)*) => {
        if $args.json { eprintln!($($text)*) } else { println!($($text)*) }
    };
}

/// The program's voice: messages and progress, on stderr.
fn voice() -> Voice {
    Voice::new(Level::Normal, LogFormat::Text, ColorChoice::Auto)
}

fn main() -> ExitCode {
    let panics = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        dapo_console::restore();
        panics(panic);
    }));
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            voice().error(error);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let model = args.model.clone().unwrap_or_else(|| TINY_MODEL.into());
    let (mut policy, tokenizer) = dapo::policy::load(&model)?;
    policy.to_device(args.device)?;
    say!(args, "model     {} ({:.2} M parameters)", model.display(), policy.num_parameters() as f64 / 1e6);
    let style = PromptStyle { system: args.system.clone(), suffix: args.suffix.clone(), ..PromptStyle::default() };
    let (train, held_out) = problems(args)?;
    let limit = policy.config().max_position_embeddings.saturating_sub(args.max_tokens());
    let (train, too_long) = encode_prompts(&train, &tokenizer, &style, limit)?;
    let (held_out, held_out_too_long) = encode_prompts(&held_out, &tokenizer, &style, limit)?;
    ensure!(!train.is_empty() && !held_out.is_empty(), "every problem is longer than {limit} tokens");
    let skipped = too_long + held_out_too_long;
    say!(args, "problems  {} to train on, {} held out, {skipped} too long", train.len(), held_out.len());
    say!(
        args,
        "steps     {} of {} groups of {}, {} updates each; at most {} tokens a completion; seed {}",
        args.steps,
        args.prompts,
        args.group,
        args.updates,
        args.max_tokens(),
        args.seed
    );

    let cache = args.overlong_cache.unwrap_or_else(|| args.max_tokens().div_ceil(9));
    let overlong = SoftOverlong::new(args.max_tokens(), cache)?;
    let grader = Grader::Math(VerifyConfig { profile: args.extract.clone(), ..VerifyConfig::default() });
    let accuracy = Accuracy { grader, ..Accuracy::default() };
    let rewards = RewardSum::new(vec![(1.0, Box::new(accuracy)), (1.0, Box::new(overlong))])?;
    let mut trainer = Trainer::new(policy, tokenizer, train, rewards, config(args))?;

    say!(args, "\nevaluating on {} held-out problems ...", held_out.len());
    let greedy_before = examine(&trainer, &held_out, args, SamplingConfig::GREEDY, 1)?;
    let sampled_before = examine(&trainer, &held_out, args, args.sampling(), 8)?;
    say!(
        args,
        "before    greedy accuracy {:.3}   sampled {:.3}   pass@8 {:.3}   truncated {:.3}",
        greedy_before.accuracy(),
        sampled_before.accuracy(),
        sampled_before.pass_at(8),
        sampled_before.truncated()
    );
    train_steps(&mut trainer, args)?;

    let greedy_after = examine(&trainer, &held_out, args, SamplingConfig::GREEDY, 1)?;
    say!(
        args,
        "\nheld-out greedy accuracy: {:.3} before, {:.3} after (pass@8 before: {:.3}; {} problems)",
        greedy_before.accuracy(),
        greedy_after.accuracy(),
        sampled_before.pass_at(8),
        held_out.len()
    );
    if let Some(dir) = &args.save {
        save_checkpoint(dir, trainer.policy().config(), &trainer.policy().tensors()?, trainer.tokenizer())?;
        say!(args, "saved to {}", dir.display());
    }
    let seconds = started.elapsed().as_secs_f64();
    say!(args, "{seconds:.1} s");
    if args.json {
        let result = serde_json::json!({
            "accuracy_before": greedy_before.accuracy(),
            "accuracy_after": greedy_after.accuracy(),
            "pass_at_8_before": sampled_before.pass_at(8),
            "steps": trainer.steps(),
            "seconds": seconds,
            "seed": args.seed,
        });
        println!("{result}");
    }
    Ok(())
}

type Problems = Vec<dapo::data::Problem>;

/// Problems to train on, and held-out ones.
fn problems(args: &Args) -> Result<(Problems, Problems)> {
    let Some(path) = &args.data else {
        // The held-out problems are the same for every seed.
        return Ok((addition_problems(Split::Train, 8192, args.seed), addition_problems(Split::HeldOut, args.eval, 1)));
    };
    let problems = read_jsonl(path)?;
    ensure!(
        problems.len() >= 2,
        "{}: 1 problem, expected at least 2: one to train on, one to hold out",
        path.display()
    );
    // Held-out problems are spread over the file, which may be sorted.
    let held_out = args.eval.clamp(1, problems.len().div_ceil(5));
    let stride = problems.len() / held_out;
    let (held_out, train): (Vec<_>, Vec<_>) =
        problems.into_iter().enumerate().partition(|(i, _)| i % stride == stride - 1 && i / stride < held_out);
    let strip = |numbered: Vec<(usize, dapo::data::Problem)>| numbered.into_iter().map(|(_, p)| p).collect();
    Ok((strip(train), strip(held_out)))
}

fn config(args: &Args) -> TrainerConfig {
    TrainerConfig {
        seed: args.seed,
        group_size: args.group,
        max_new_tokens: args.max_tokens(),
        sampling: args.sampling(),
        sampler: SamplerConfig { train_batch: args.prompts, gen_batch: GenBatch::Adaptive, ..SamplerConfig::default() },
        optimizer: OptimizerConfig { lr: args.lr(), warmup_steps: 5, ..OptimizerConfig::default() },
        mini_batches: args.updates,
        ..TrainerConfig::default()
    }
}

/// Completions of held-out problems, judged by the trainer's rewards.
fn examine(
    trainer: &Trainer,
    prompts: &[Prompt],
    args: &Args,
    sampling: SamplingConfig,
    samples: usize,
) -> Result<Evaluation> {
    let generation = GenerationConfig {
        max_new_tokens: args.max_tokens(),
        sampling,
        purpose: Purpose::Evaluation,
        ..GenerationConfig::new(StopTokens::of(trainer.policy().config(), trainer.tokenizer()))
    };
    let meter = Meter::start(voice(), "evaluation");
    let (policy, tokenizer, rewards) = (trainer.policy(), trainer.tokenizer(), trainer.rewards());
    Ok(evaluate_observed(policy, tokenizer, prompts, samples, &generation, rewards, &mut |activity| {
        meter.see(activity);
    })?)
}

fn train_steps(trainer: &mut Trainer, args: &Args) -> Result<()> {
    let shape = Shape { steps: args.steps, made: trainer.steps(), ..Shape::default() };
    let mut monitor = Monitor::start(voice(), shape, args.samples_every);
    let mut observer = monitor.observer();
    let mut account = dapo::sampler::Account::default();
    for _ in 0..args.steps {
        let StepOutcome { metrics, timings, groups } = match trainer.step_observed(&mut observer) {
            Ok(outcome) => outcome,
            Err(TrainerError::NoSignal(end)) if end.ends_well => {
                voice().note(end);
                break;
            }
            Err(error) => return Err(error.into()),
        };
        monitor.step(&metrics, &timings, &groups);
        account += metrics.dynamic_sampling;
    }
    monitor.finish();
    account.check()?;
    let terms = account.terms();
    let terms = terms.iter().filter(|(_, count)| *count > 0);
    let terms: Vec<String> = terms.map(|(name, count)| format!("{name} {count}")).collect();
    say!(args, "\ndynamic sampling, groups in all steps: {}", terms.join(", "));
    Ok(())
}
