//! `dapo train`: trains a model and writes a run folder.

use crate::args::{ProblemArgs, at_least, load, max_tokens, temperature};
use crate::talk::Talk;
use anyhow::{Context, Result, bail};
use dapo_policy::{SamplingConfig, save_checkpoint};
use dapo_reward::{RewardSum, SoftOverlong};
use dapo_sampler::{GenBatch, SamplerConfig};
use dapo_trainer::{OptimizerConfig, StepMetrics, Trainer, TrainerConfig, read_jsonl};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Train a model with DAPO.
///
/// Writes DIR/metrics.jsonl, a line a step, and at the end the trained model as a Hugging Face folder, DIR/model, whose path
/// is printed.
#[derive(clap::Args)]
pub(crate) struct Train {
    /// A Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    problems: ProblemArgs,
    /// Folder of the run; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Training steps.
    #[arg(long, value_name = "N", default_value = "100", value_parser = at_least(1))]
    steps: usize,
    /// Groups trained on in each step.
    #[arg(long, value_name = "P", default_value = "16", value_parser = at_least(1))]
    prompts: usize,
    /// Completions of each prompt.
    #[arg(long, value_name = "G", default_value = "8", value_parser = at_least(2))]
    group: usize,
    /// Tokens of a completion at most [default: 256, or half the model's context where that is less]
    #[arg(long, value_name = "TOKENS", value_parser = at_least(1))]
    max_tokens: Option<usize>,
    /// Last part of it over which the length penalty grows [default: a fifth]
    #[arg(long, value_name = "TOKENS", value_parser = at_least(1))]
    overlong_cache: Option<usize>,
    /// Learning rate.
    #[arg(long, default_value = "1e-6")]
    lr: f64,
    /// Steps over which the learning rate grows to it.
    #[arg(long, value_name = "N", default_value_t = 20)]
    warmup: u64,
    /// Optimiser updates in each step.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least(1))]
    updates: usize,
    /// Sampling temperature of the roll-outs.
    #[arg(long, value_name = "T", default_value = "1.0", value_parser = temperature)]
    temperature: f32,
    /// Seed of data order and roll-outs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: &Train, talk: Talk) -> Result<()> {
    refuse_to_overwrite(&args.out)?;
    let problems = read_jsonl(&args.problems.data)?;
    let (policy, tokenizer) = load(&args.model, talk)?;
    let max_tokens = max_tokens(args.max_tokens, &policy)?;
    let (prompts, _) = args.problems.encode(&problems, (&policy, &tokenizer), max_tokens, talk)?;
    let overlong = SoftOverlong::new(max_tokens, args.overlong_cache.unwrap_or_else(|| max_tokens.div_ceil(5)))?;
    let rewards = RewardSum::new(vec![(1.0, Box::new(args.problems.accuracy())), (1.0, Box::new(overlong))]);
    talk.note(format_args!("{} problems, completions of at most {max_tokens} tokens", prompts.len()));
    let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, config(args, max_tokens))?;

    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let file = args.out.join("metrics.jsonl");
    let mut log = BufWriter::new(File::create_new(&file).with_context(|| file.display().to_string())?);
    for step in 1..=args.steps {
        let metrics = trainer.step().with_context(|| format!("step {step} of {} failed", args.steps))?.metrics;
        append(&mut log, &metrics).with_context(|| file.display().to_string())?;
        report(&metrics, args.steps, talk);
    }
    let model = args.out.join("model");
    save_checkpoint(&model, trainer.policy().config(), &trainer.policy().tensors(), trainer.tokenizer())?;
    writeln!(io::stdout().lock(), "{}", model.display())?;
    Ok(())
}

/// A run never writes over what is there.
fn refuse_to_overwrite(dir: &Path) -> Result<()> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            Some(_) => bail!("{} is not empty, expected a new or empty folder for --out", dir.display()),
            None => Ok(()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{}, given for --out", dir.display())),
    }
}

fn config(args: &Train, max_tokens: usize) -> TrainerConfig {
    TrainerConfig {
        seed: args.seed,
        group_size: args.group,
        max_new_tokens: max_tokens,
        sampling: SamplingConfig { temperature: args.temperature, ..SamplingConfig::default() },
        sampler: SamplerConfig {
            train_batch: args.prompts,
            gen_batch: GenBatch::Adaptive { min: args.prompts, max: 3 * args.prompts },
            ..SamplerConfig::default()
        },
        optimizer: OptimizerConfig { lr: args.lr, warmup_steps: args.warmup, ..OptimizerConfig::default() },
        mini_batches: args.updates,
        ..TrainerConfig::default()
    }
}

fn append(log: &mut impl Write, metrics: &StepMetrics) -> io::Result<()> {
    serde_json::to_writer(&mut *log, metrics)?;
    log.write_all(b"\n")?;
    log.flush()
}

fn report(metrics: &StepMetrics, steps: usize, talk: Talk) {
    let StepMetrics { reward, accuracy, entropy, mean_length, clipped_ratio, tokens_per_second, .. } = metrics;
    let (step, groups) = (metrics.step + 1, &metrics.dynamic_sampling);
    talk.note(format_args!(
        "step {step}/{steps}: reward {reward:.3}, accuracy {accuracy:.3}, entropy {entropy:.3}, \
         length {mean_length:.1}, truncated {clipped_ratio:.3}, groups {} trained and {} drawn, \
         {tokens_per_second:.0} tokens/s",
        groups.trained, groups.generated
    ));
    let terms: Vec<String> = groups.terms().iter().map(|(name, count)| format!("{name} {count}")).collect();
    talk.detail(format_args!("  groups: {}", terms.join(", ")));
    if metrics.updates == 0 {
        talk.warning(format_args!("step {step}: no token was left in the loss, no update was made"));
    }
}
