//! Trains a Qwen3 policy with DAPO: a run of `dapo-run`, shown by `dapo-console`.
//!
//! Without arguments: a tiny Qwen3 learns to work out chains of additions instead of guessing their sums.
//!
//! `cargo run --release --example dapo_qwen3`
//!
//! With a model and data of your own (a Hugging Face folder or a GGUF file; JSON lines with a question and an answer each):
//!
//! `cargo run --release --example dapo_qwen3 -- --model path/to/model --data problems.jsonl`

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use dapo::eval::EvalReport;
use dapo::kernels::allocator::{MiMalloc, hold_freed_memory};
use dapo::policy::save_checkpoint;
use dapo::run::{Run, resolve_words};
use dapo::sampler::Account;
use dapo_console::{ColorChoice, Level, LogFormat, Monitor, Shape, Voice};
use std::{path::PathBuf, process::ExitCode, time::Instant};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Flags, the settings of the run that they set, and what the settings mean.
const SETTINGS: [(&str, &str, &str); 16] = [
    ("model", "model.path", "Model to train: a Hugging Face folder or a GGUF file [default: the tiny Qwen3]"),
    ("data", "data.train", "Problems, as JSON lines; a fifth is held out [default: chains of additions]"),
    ("seed", "seed", "Seed of everything random [default: 0]"),
    ("steps", "train.steps", "Training steps [default: 80]"),
    ("prompts", "sampler.train_batch", "Groups trained on in each step [default: 16]"),
    ("group", "rollout.group_size", "Completions of each prompt [default: 8]"),
    ("max-tokens", "rollout.max_new_tokens", "Tokens of a completion at most [default: 72; 256 with --model]"),
    ("overlong-cache", "rewards.soft_overlong.cache_len", "Penalised tokens before the limit [default: a ninth]"),
    ("lr", "optimizer.lr", "Learning rate [default: 1e-4; 1e-6 with --model]"),
    ("temperature", "rollout.temperature", "Sampling temperature, in training and for pass@8 [default: 1]"),
    ("updates", "train.mini_batches", "Optimizer updates in each step [default: 2]"),
    ("eval", "eval.limit", "Held-out problems that are evaluated on, at most [default: 512]"),
    ("system", "data.system", "System message before each question"),
    ("suffix", "data.suffix", "Text added to each question"),
    ("extract", "rewards.accuracy.grader.profile", "Where a completion states its answer [default: auto]"),
    ("device", "model.device", "Where the model computes: cpu; with the feature cuda also cuda:n [default: cpu]"),
];

fn main() -> ExitCode {
    hold_freed_memory();
    let panics = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        dapo_console::restore();
        panics(panic);
    }));
    let every = "Show sample completions after the first step and every N steps";
    let args = Command::new("dapo_qwen3")
        .about("Train a Qwen3, Qwen2.5 or Llama policy with DAPO.")
        .args(SETTINGS.map(|(flag, setting, help)| Arg::new(flag).long(flag).value_name(setting).help(help)))
        .arg(Arg::new("every").long("samples-every").value_parser(value_parser!(u64)).default_value("10").help(every))
        .arg(Arg::new("save").long("save").value_parser(value_parser!(PathBuf)).help("Write the trained model here"))
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the result as one JSON object"))
        .get_matches();
    let voice = Voice::new(Level::Normal, LogFormat::Text, ColorChoice::Auto);
    if let Err(error) = train(&args, voice) {
        voice.error(error);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The recipe `tiny`, and over it what the flags say, as words of `dapo train`.
fn words(args: &ArgMatches) -> Result<Vec<String>> {
    let mut words = vec!["tiny", "model.device=cpu", "eval.limit=512", "output.checkpoint_every=0"];
    if args.contains_id("model") {
        words.extend(["rollout.max_new_tokens=256", "optimizer.lr=1e-6"]);
    }
    if args.contains_id("data") {
        words.extend(["data.validation=[]", "data.validation_split=0.2", "data.max_prompt_tokens=2048"]);
    }
    let given = SETTINGS.iter().filter_map(|(flag, setting, _)| Some((*setting, args.get_one::<String>(flag)?)));
    // Text is quoted, so that blanks at its ends stay.
    let is_text = |setting: &str| ["data.system", "data.suffix"].contains(&setting);
    let value = |setting, text: &String| if is_text(setting) { format!("{text:?}") } else { text.clone() };
    let given = given.map(|(setting, text)| format!("{setting}={}", value(setting, text)));
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).chain(given).collect();
    // Evaluations: before the first step and after the last.
    let config = resolve_words(&words)?.config;
    words.push(format!("eval.every={}", config.train.steps));
    words.insert(1, format!("rewards.soft_overlong.cache_len={}", config.rollout.max_new_tokens.div_ceil(9)));
    Ok(words)
}

fn train(args: &ArgMatches, voice: Voice) -> Result<()> {
    let (started, folder) = (Instant::now(), tempfile::tempdir()?);
    let mut run = Run::create(&resolve_words(words(args)?)?, &folder.path().join("run"))?;
    let (config, counts, values) = (run.config().clone(), run.counts(), run.trainer().policy().num_parameters());
    voice.note(format_args!("model     {} ({:.2} M parameters)", config.model.path, values as f64 / 1e6));
    voice.note(format_args!("problems  {} to train on, {} held out", counts.train, counts.validation));
    let shape = Shape { steps: config.train.steps, eval_every: config.eval.every, ..Shape::default() };
    let mut monitor = Monitor::start(voice, shape, args.get_one("every").copied());
    run.observe(monitor.observer());
    let before = run.evaluate_at_start()?.context("no problem is held out")?;
    monitor.evaluation(0, "before training", &before);
    let sampled = run.evaluate_with(8, config.rollout.sampling)?;
    let (mut account, mut after) = (Account::default(), before.clone());
    while !run.is_finished() {
        let progress = run.step()?;
        if let Some(step) = progress.step() {
            monitor.step(&step.metrics, &step.timings, &step.groups);
            account += step.metrics.dynamic_sampling;
        }
        after = progress.evaluation().cloned().unwrap_or(after);
    }
    monitor.finish();
    let terms = account.terms().into_iter().filter(|(_, count)| *count > 0);
    let terms: Vec<String> = terms.map(|(name, count)| format!("{name} {count}")).collect();
    voice.note(format_args!("\n{} steps; groups: {}", run.trainer().steps(), terms.join(", ")));
    if let Some(dir) = args.get_one::<PathBuf>("save") {
        let policy = run.trainer().policy();
        save_checkpoint(dir, policy.config(), &policy.tensors()?, run.trainer().tokenizer())?;
    }

    let accuracy = |report: &EvalReport| report.avg_at_k.map_or(0.0, |estimate| estimate.mean);
    let (problems, before, after, pass) = (after.problems, accuracy(&before), accuracy(&after), sampled.pass_at(8));
    let seconds = started.elapsed().as_secs_f64();
    let result = format!("{before:.3} before, {after:.3} after (pass@8 before: {pass:.3}; {problems} problems)");
    voice.note(format_args!("\nheld-out greedy accuracy: {result}\n{seconds:.1} s"));
    if args.get_flag("json") {
        let (steps, seed) = (run.trainer().steps(), config.seed);
        let result = serde_json::json!({
            "accuracy_before": before, "accuracy_after": after, "pass_at_8_before": pass,
            "steps": steps, "seconds": seconds, "seed": seed,
        });
        println!("{result}");
    }
    Ok(())
}
