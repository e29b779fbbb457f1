//! `dapo eval`: how many problems a model solves.

use crate::args::{ProblemArgs, SamplingArgs, at_least, load};
use crate::talk::Talk;
use anyhow::Result;
use dapo_policy::Purpose;
use dapo_reward::RewardSum;
use dapo_trainer::{Evaluation, evaluate, read_jsonl};
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Evaluate a model on problems with answers.
///
/// Completes every problem K times and prints avg@K (the mean share of right completions), pass@K (the share of problems with
/// a right one) and the share of completions that used up their tokens.
#[derive(clap::Args)]
pub(crate) struct Eval {
    /// A Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    problems: ProblemArgs,
    /// Completions of each problem.
    #[arg(long, value_name = "K", default_value = "8", value_parser = at_least(1))]
    samples: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Use only the first problems of the file.
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    limit: Option<usize>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    model: String,
    data: String,
    problems: usize,
    too_long: usize,
    /// Problems whose completions the judge would not judge.
    abstained: usize,
    samples: usize,
    temperature: f32,
    top_p: f32,
    max_tokens: usize,
    seed: u64,
    avg_at_k: f64,
    pass_at_k: f64,
    truncated: f64,
    mean_length: f64,
    seconds: f64,
}

pub(crate) fn run(args: &Eval, talk: Talk) -> Result<()> {
    let mut problems = read_jsonl(&args.problems.data)?;
    problems.truncate(args.limit.unwrap_or(usize::MAX));
    let (policy, tokenizer) = load(&args.model, talk)?;
    let generation = args.sampling.generation(&policy, Purpose::Evaluation)?;
    let (prompts, too_long) =
        args.problems.encode(&problems, (&policy, &tokenizer), generation.max_new_tokens, talk)?;
    let rewards = RewardSum::new(vec![(1.0, Box::new(args.problems.accuracy()))]);

    talk.note(format_args!("{} problems, {} completions each ...", prompts.len(), args.samples));
    let started = Instant::now();
    let evaluation = evaluate(&policy, &tokenizer, &prompts, args.samples, &generation, &rewards)?;
    let report = Report {
        model: args.model.display().to_string(),
        data: args.problems.data.display().to_string(),
        problems: prompts.len(),
        too_long,
        abstained: evaluation.groups.iter().filter(|g| g.rewards.iter().any(|r| r.correct.is_none())).count(),
        samples: args.samples,
        temperature: generation.sampling.temperature,
        top_p: generation.sampling.top_p,
        max_tokens: generation.max_new_tokens,
        seed: generation.seed,
        avg_at_k: evaluation.accuracy(),
        pass_at_k: evaluation.pass_at(args.samples),
        truncated: evaluation.truncated(),
        mean_length: mean_length(&evaluation),
        seconds: started.elapsed().as_secs_f64(),
    };
    for group in &evaluation.groups {
        let right = group.rewards.iter().filter(|r| r.correct == Some(true)).count();
        talk.detail(format_args!("problem {}: {right} of {} right", group.prompt.id, group.rewards.len()));
    }
    if report.abstained > 0 {
        talk.warning(format_args!(
            "{} of {} gold answers cannot be read; their completions count as wrong",
            report.abstained, report.problems
        ));
    }
    let mut stdout = io::stdout().lock();
    if args.json {
        writeln!(stdout, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(stdout, "{report}")?;
    }
    Ok(())
}

fn mean_length(evaluation: &Evaluation) -> f64 {
    let lengths = evaluation.groups.iter().flat_map(|g| &g.completions).map(|c| c.token_ids.len());
    lengths.clone().sum::<usize>() as f64 / lengths.count().max(1) as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, temperature, top_p, max_tokens, seed, .. } = self;
        let mut row = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<12} {value}");
        row("model", &self.model)?;
        row("data", &self.data)?;
        row("problems", &self.problems)?;
        row("left out", &format_args!("{} too long", self.too_long))?;
        row("unreadable", &format_args!("{} gold answers", self.abstained))?;
        let limits = format!("temperature {temperature}, top-p {top_p}, at most {max_tokens} tokens, seed {seed}");
        row("samples", &format_args!("{samples} each; {limits}"))?;
        row(&format!("avg@{samples}"), &format_args!("{:.4}", self.avg_at_k))?;
        row(&format!("pass@{samples}"), &format_args!("{:.4}", self.pass_at_k))?;
        row("truncated", &format_args!("{:.4}", self.truncated))?;
        row("mean length", &format_args!("{:.1} tokens", self.mean_length))?;
        write!(f, "{:<12} {:.1} s", "time", self.seconds)
    }
}
