//! `dapo eval`: how many problems a model solves.

mod log;

use crate::args::{ModelArgs, ProblemArgs, SamplingArgs, SamplingDefaults, at_least, say_unanswered};
use crate::fields::fields_of_run;
use crate::talk::Talk;
use crate::terminal::Stdout;
use crate::train::locate;
use anyhow::{Context, Result};
use dapo_console::Meter;
use dapo_data::{Fields, Prompt};
use dapo_eval::{EvalReport, Evaluation, evaluate_from};
use dapo_policy::{Decoder, FinishReason, GenerationConfig, Purpose};
use dapo_reward::{AnswerRule, Grader, RewardInput, RewardSum};
use dapo_run::{Layer, RunConfig, RunRewards, Unanswered, resolve, settings_of};
use dapo_trainer::{Activity, Group, fingerprint_of_data, fingerprint_of_weights};
use log::{Evaluated, Log};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Evaluate a model on problems with answers.
///
/// Samples K completions of every problem. Prints these figures, each with its 95 % confidence interval over problems:
///
/// - avg@K: the share of correct completions
///
/// - pass@k for k = 1, 2, 4, … K: the probability that at least one of k completions is correct
///
/// - maj@K: how often the most frequent answer is correct (1/2 and 0.5 are one answer; tied answers share the score
///   equally)
///
/// The share of truncated completions and the mean length of all completions are also printed.
///
/// With --rewards, the rewards of a run or TOML file score the completions: the mean of the total and of every component is
/// printed, with its interval. Measures of correctness are printed only if one of the rewards says which completions are
/// correct.
#[derive(clap::Args)]
pub(crate) struct Eval {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    problems: ProblemArgs,
    /// Completions of each problem.
    #[arg(long, value_name = "K", default_value = "8", value_parser = at_least(1))]
    samples: usize,
    /// Judge by the rewards of a run's folder or of a TOML file instead of by the answer alone. Replies of commands,
    /// servers, judges and Python functions are not cached.
    #[arg(long, value_name = "RUN | FILE.toml", conflicts_with_all = ["extract", "grader"])]
    rewards: Option<PathBuf>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Use only the first N problems of --data.
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    limit: Option<usize>,
    /// Write every completion to this file, as JSON lines {id, sample, completion, tokens, finish_reason, gold, extracted,
    /// rule, correct}; with --rewards, {reward, rewards} too. The file must be new or left by an interrupted evaluation,
    /// which the same command then continues.
    #[arg(long, value_name = "FILE")]
    completions: Option<PathBuf>,
    /// Print one JSON object, with the figures of each problem, instead of a table.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    model: String,
    data: String,
    too_long: usize,
    temperature: f32,
    top_p: f32,
    /// Where one is set, as the two that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
    max_tokens: usize,
    seed: u64,
    #[serde(flatten)]
    found: EvalReport,
    seconds: f64,
}

/// Completions of a block, roughly: as many as a decoding batch holds.
const BLOCK: usize = 256;

pub(crate) fn run(args: &Eval, talk: Talk) -> Result<()> {
    let (grader, mut rewards, judge, settings) = judging(args, talk)?;
    let fields = settings.as_ref().map(|settings| settings.data.fields.clone());
    let named = fields.filter(|fields| *fields != Fields::default()).or_else(|| fields_of_run(&args.model.name));
    let mut problems = args.problems.read(named.unwrap_or_default(), &grader, rewards.sum.needs_answer(), talk)?;
    problems.truncate(args.limit.unwrap_or(usize::MAX));
    let (policy, tokenizer) = args.model.load(talk)?;
    let generation =
        args.sampling.generation((&policy, &tokenizer), Purpose::Evaluation, SamplingDefaults::OfPaper, talk)?;
    let (prompts, too_long) =
        args.problems.encode(&problems, (&policy, &tokenizer), generation.max_new_tokens, talk)?;
    if let Some(found) = settings.and_then(|settings| Unanswered::among(&prompts, &settings)) {
        let remedy =
            "where they have one, --field answer=COLUMN names its column, as data.fields.answer does in settings";
        say_unanswered(&found, remedy, talk);
    }
    if prompts.iter().all(|prompt| prompt.answers().next().is_none()) {
        rewards.sum = rewards.sum.without_answers();
    }
    let mut evaluation = Evaluation { groups: Vec::new() };
    let mut log = None;
    if let Some(file) = &args.completions {
        let identity = identity(&policy, &prompts, args.samples, &generation, judge)?;
        let evaluated = Evaluated { identity, prompts: &prompts, samples: args.samples };
        let lines = |file: &mut Vec<u8>, groups: &[Group]| {
            write_completions(file, groups, &rewards.sum, args.rewards.is_some())
        };
        let (opened, groups) = Log::open(file, &evaluated, Box::new(lines))?;
        (log, evaluation.groups) = (Some(opened), groups);
    }

    talk.note(format_args!("{} problems, {} completions each ...", prompts.len(), args.samples));
    let (first, started) = (evaluation.groups.len(), Instant::now());
    if first > 0 {
        talk.note(format_args!("continuing: {first} problems are completed already"));
    }
    let block = BLOCK.div_ceil(args.samples);
    let meter = Meter::start(talk.voice(), "evaluation");
    say_how_far(&meter, &evaluation, prompts.len(), talk);
    let finished = AtomicUsize::new(first);
    let observer = &mut |activity| {
        if let Activity::Evaluation { done, .. } = activity {
            meter.reach((finished.load(Ordering::Relaxed) + done) as f64);
        }
    };
    let (samples, sum) = (args.samples, &rewards.sum);
    for groups in evaluate_from(first, &policy, &tokenizer, &prompts, samples, &generation, sum, block, observer) {
        let groups = groups.with_context(|| args.model.generating())?;
        rewards.take_faults().iter().for_each(|fault| talk.warning(fault));
        if let Some(log) = &mut log {
            log.append(&groups)?;
        }
        evaluation.groups.extend(groups);
        finished.store(evaluation.groups.len(), Ordering::Relaxed);
        say_how_far(&meter, &evaluation, prompts.len(), talk);
    }
    drop(meter);
    log.map_or(Ok(()), Log::finish)?;
    let report = Report {
        model: args.model.name.clone(),
        data: args.problems.data.display().to_string(),
        too_long,
        temperature: generation.sampling.temperature,
        top_p: generation.sampling.top_p,
        min_p: Some(generation.sampling.min_p).filter(|min_p| *min_p > 0.0),
        repetition_penalty: Some(generation.sampling.repetition_penalty).filter(|penalty| *penalty != 1.0),
        stop: generation.stop_strings.strings().to_vec(),
        max_tokens: generation.max_new_tokens,
        seed: generation.seed,
        found: evaluation.report(&grader),
        seconds: started.elapsed().as_secs_f64(),
    };
    print(&report, args.json, talk)
}

/// What judges: the grader that says which answers are the same, the rewards, what identifies both, and the settings that
/// they are from.
fn judging(args: &Eval, talk: Talk) -> Result<(Grader, RunRewards, Value, Option<RunConfig>)> {
    let Some(path) = &args.rewards else {
        let accuracy = args.problems.accuracy();
        let judge = serde_json::to_value(&accuracy)?;
        return Ok((accuracy.grader.clone(), RewardSum::new(vec![(1.0, Box::new(accuracy))])?.into(), judge, None));
    };
    let settings = if path.is_dir() { settings_of(path, &[])? } else { resolve(&[Layer::File(path.clone())])? };
    settings.warnings().iter().for_each(|warning| talk.warning(warning));
    let rewards = settings.config.run_rewards().map_err(|error| locate(error, &settings));
    let judge = serde_json::to_value(&settings.config.rewards)?;
    let grader = settings.config.accuracy().grader.clone();
    Ok((grader, rewards.context("--rewards")?, judge, Some(settings.config)))
}

/// All that the completions and their judgement depend on.
fn identity(
    policy: &Decoder,
    prompts: &[Prompt],
    samples: usize,
    generation: &GenerationConfig,
    judge: Value,
) -> Result<Map<String, Value>> {
    Ok([
        ("weights", fingerprint_of_weights(policy)?.into()),
        ("gpu", policy.is_on_device().into()),
        ("problems", fingerprint_of_data(prompts).into()),
        ("samples", samples.into()),
        ("sampling", serde_json::to_value(generation.sampling)?),
        ("max_tokens", generation.max_new_tokens.into()),
        ("stop", json!([generation.stop.ids(), generation.stop_strings.strings()])),
        ("seed", generation.seed.into()),
        ("judge", judge),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into_iter()
    .collect())
}

/// Between blocks: what is done, what it comes to so far and how long the rest may take.
fn say_how_far(meter: &Meter, evaluation: &Evaluation, problems: usize, talk: Talk) {
    let done = evaluation.groups.len();
    let samples = || evaluation.groups.iter().flat_map(|group| &group.samples);
    let is_judged = samples().any(|sample| sample.reward.correct.is_some());
    let correct = if is_judged { format!("{:.4} correct, ", evaluation.accuracy()) } else { String::new() };
    let so_far = match done {
        0 => String::new(),
        _ => format!("{correct}{:.4} truncated", evaluation.truncated()),
    };
    meter.set(done as f64, problems as f64, &format!("{done}/{problems} problems  {so_far}"));
    if let Some(left) = meter.seconds_left().filter(|_| done < problems && !talk.voice().is_live()) {
        let seconds = meter.seconds();
        talk.note(format_args!(
            "{done} of {problems} problems after {seconds:.0} s, about {left:.0} s left; so far {so_far}"
        ));
    }
}

fn print(report: &Report, json: bool, talk: Talk) -> Result<()> {
    for problem in &report.found.per_problem {
        let (id, right, samples, maj) = (&problem.id, problem.right, problem.samples, problem.maj);
        talk.detail(format_args!("problem {id}: {right} of {samples} correct, majority {maj:.2}"));
    }
    let EvalReport { abstained, problems, avg_at_k, .. } = report.found;
    if abstained > 0 && avg_at_k.is_some() {
        talk.warning(format_args!(
            "{abstained} of {problems} gold answers cannot be read; their completions count as incorrect"
        ));
    }
    let mut stdout = Stdout::new();
    if json {
        writeln!(stdout, "{}", serde_json::to_string(report)?)?;
    } else {
        writeln!(stdout, "{report}")?;
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, data, too_long, temperature, top_p, max_tokens, seed, found, seconds, .. } = self;
        let mut row = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<12} {value}");
        row("model", model)?;
        row("data", data)?;
        let mut limits = format!("temperature {temperature}, top-p {top_p}, at most {max_tokens} tokens, seed {seed}");
        if let Some(min_p) = self.min_p {
            let _ = write!(limits, ", min-p {min_p}");
        }
        if let Some(penalty) = self.repetition_penalty {
            let _ = write!(limits, ", repetition penalty {penalty}");
        }
        if !self.stop.is_empty() {
            let _ = write!(limits, ", stop at {:?}", self.stop);
        }
        row("sampling", &limits)?;
        if *too_long > 0 {
            row("left out", &format_args!("{too_long} too long"))?;
        }
        writeln!(f, "{found}")?;
        write!(f, "{:<12} {seconds:.1} s", "time")
    }
}

/// A completion in the file of all.
#[derive(Serialize)]
struct Logged<'a> {
    id: &'a str,
    sample: usize,
    completion: &'a str,
    tokens: usize,
    finish_reason: &'static str,
    gold: &'a str,
    extracted: Option<&'a str>,
    rule: Option<AnswerRule>,
    /// `None`: the gold answer cannot be read.
    correct: Option<bool>,
    /// Where rewards of settings judge.
    #[serde(flatten)]
    rewards: Option<LoggedRewards<'a>>,
}

/// The total and every component; null where one abstained.
#[derive(Serialize)]
struct LoggedRewards<'a> {
    reward: Option<f64>,
    rewards: BTreeMap<&'a str, Option<f64>>,
}

fn write_completions(file: &mut Vec<u8>, groups: &[Group], rewards: &RewardSum, with_rewards: bool) -> io::Result<()> {
    for group in groups {
        let prompt = &group.prompt;
        for (number, sample) in group.samples.iter().enumerate() {
            let input =
                RewardInput::new(&prompt.text, &sample.text, &prompt.answer).with_alternatives(&prompt.alternatives);
            let found = rewards.compared(&input);
            let components = sample.reward.components.iter();
            let line = Logged {
                id: &prompt.id,
                sample: number,
                completion: &sample.text,
                tokens: sample.completion.token_ids.len(),
                finish_reason: match sample.completion.finish_reason {
                    FinishReason::Stop => "stop",
                    FinishReason::Length => "length",
                },
                gold: &prompt.answer,
                extracted: found.map(|found| found.text),
                rule: found.map(|found| found.rule),
                correct: sample.reward.correct,
                rewards: with_rewards.then(|| LoggedRewards {
                    reward: sample.reward.total,
                    rewards: components.map(|c| (c.name.as_str(), c.value)).collect(),
                }),
            };
            serde_json::to_writer(&mut *file, &line)?;
            file.push(b'\n');
        }
    }
    Ok(())
}
