//! `dapo reward`: tries rewards.

use crate::talk::Talk;
use crate::terminal::Stdout;
use crate::train::{locate, settings};
use anyhow::{Context, Result, bail};
use dapo_files::read_text;
use dapo_reward::{Ending, RewardInput};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Try a reward on existing completions.
#[derive(clap::Args)]
pub(crate) struct Reward {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Test(Test),
}

/// Score the completions in a file with one of the configured rewards.
///
/// Each input line is a JSON object with `completion` and, if the reward needs them, `prompt` (a string or chat messages),
/// `answer`, `num_tokens`, `truncated` and further columns. For each, in order, one line {line, value, correct} is
/// printed, with `log` if the reward logs figures. A `value` of null means that the reward abstained. Timing and failures
/// go to stderr. The exit code is 0 if, for every line, the reward gave a value or abstained. With
/// `on_error = "abstain"` a failure counts as an abstention.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  dapo reward test samples.jsonl --reward mine rewards.mine.python=rewards.py:score")]
struct Test {
    /// JSON lines.
    file: PathBuf,
    /// Name of the reward, as in [rewards.NAME].
    #[arg(long, value_name = "NAME")]
    reward: String,
    /// Recipes, TOML files and settings, as for `dapo train`.
    #[arg(value_name = "RECIPE | FILE.toml | KEY=VALUE")]
    layers: Vec<String>,
}

/// A line of the output.
#[derive(Serialize)]
struct Scored<'a> {
    line: usize,
    value: Option<f64>,
    correct: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    log: &'a BTreeMap<String, f64>,
}

pub(crate) fn run(args: &Reward, talk: Talk) -> Result<()> {
    let Command::Test(args) = &args.command;
    let settings = settings(&args.layers, talk)?;
    let file = args.file.display();
    let text = read_text(&args.file).with_context(|| file.to_string())?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Value = serde_json::from_str(line).with_context(|| format!("{file}:{}", index + 1))?;
        if !row["completion"].is_string() {
            bail!("{file}:{}: completion is {}, expected a string", index + 1, row["completion"]);
        }
        let answer = match &row["answer"] {
            Value::Null => String::new(),
            Value::String(answer) => answer.clone(),
            other => other.to_string(),
        };
        let place = |name: &str| format!("{file}:{}: {name} is {}", index + 1, row[name]);
        let num_tokens = match &row["num_tokens"] {
            Value::Null => 0,
            number => match number.as_u64().and_then(|number| usize::try_from(number).ok()) {
                Some(number) => number,
                None => bail!("{}, expected a number of tokens", place("num_tokens")),
            },
        };
        let ending = match &row["truncated"] {
            Value::Null | Value::Bool(false) => Ending::Stop,
            Value::Bool(true) => Ending::Length,
            _ => bail!("{}, expected true or false", place("truncated")),
        };
        rows.push(Row { line: index + 1, answer, num_tokens, ending, columns: row });
    }
    let inputs: Vec<RewardInput<'_>> = rows.iter().enumerate().map(|(draw, row)| row.input(draw as u64)).collect();
    let start = Instant::now();
    let trial = settings.config.try_reward(&args.reward, &inputs).map_err(|error| locate(error, &settings))?;
    let seconds = start.elapsed().as_secs_f64();
    let mut stdout = Stdout::new();
    for (Row { line, .. }, score) in rows.iter().zip(&trial.scores) {
        let scored = Scored { line: *line, value: score.value, correct: score.correct, log: &score.log };
        writeln!(stdout, "{}", serde_json::to_string(&scored)?)?;
    }
    for fault in &trial.faults {
        talk.warning(fault);
    }
    let abstained = trial.scores.iter().filter(|score| score.value.is_none()).count();
    talk.note(format_args!("{} scored, {abstained} abstained, in {seconds:.3} s", trial.scores.len() - abstained));
    Ok(())
}

/// A line of the input.
struct Row {
    line: usize,
    answer: String,
    num_tokens: usize,
    ending: Ending,
    columns: Value,
}

impl Row {
    /// A sample of a draw of its own.
    fn input(&self, draw: u64) -> RewardInput<'_> {
        let text = |name: &str| self.columns[name].as_str().unwrap_or_default();
        let messages = self.columns["messages"].as_array().or(self.columns["prompt"].as_array());
        RewardInput::new(text("prompt"), text("completion"), &self.answer)
            .with_messages(messages.map_or(&[], Vec::as_slice))
            .with_num_tokens(self.num_tokens)
            .with_ending(self.ending)
            .with_columns(&self.columns)
            .with_place(draw, 0, 0)
    }
}
