//! `dapo verify`: judges predicted answers against gold answers.

use crate::talk::Talk;
use crate::terminal::Stdout;
use anyhow::{Context, Result, anyhow, bail};
use dapo_data::read_line;
use dapo_reward::{ExtractRule, Gold, Profile, Side, Verdict, Verification, VerifyConfig};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Judge predicted answers against gold answers.
///
/// Each input line is a JSON object with `gold` and `pred` (strings or numbers) and, optionally, `id`, `profile` and
/// `precision`; other fields are ignored. For each, in order, one line is printed, a JSON object with these fields:
///
/// - `id`: the input's id, or the line's number if the input has none
///
/// - `verdict`: correct, incorrect, unparsable, or out-of-fuel (to decide would take more work than is allowed)
///
/// - `extracted`: the part of `pred` that was judged
///
/// - `rule`: the rule that decided
///
/// - `micros`: the time in microseconds
///
/// A bad line is reported on stderr and skipped; the exit code is then 1.
#[derive(clap::Args)]
pub(crate) struct Verify {
    /// JSON lines; `-` is stdin.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Where `pred` states its answer: auto, boxed, answer-line, hash, answer-tag, answer-is, last-math, choice,
    /// last-number or whole. An input line may set its own profile.
    #[arg(long, default_value = "auto")]
    profile: Profile,
    /// Significant digits, 1 to 200, to which a decimal prediction must agree with a gold answer such as 2/3 or \sqrt{2}.
    /// An input line may set its own precision.
    #[arg(long, value_name = "DIGITS", default_value = "6", value_parser = precision)]
    precision: u32,
    /// Add to each line the reason in words, the gold answer as it was read, and how and where the answer was found
    /// in `pred`.
    #[arg(long)]
    explain: bool,
}

/// What is written for a line.
#[derive(Serialize)]
struct Judged<'a> {
    id: Id<'a>,
    verdict: &'static str,
    extracted: Option<&'a str>,
    rule: &'static str,
    micros: u64,
    #[serde(flatten)]
    explanation: Option<Explanation<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Id<'a> {
    /// As it stands in the input.
    Given(&'a RawValue),
    /// The number of the line, from 1.
    Line(usize),
}

#[derive(Serialize)]
struct Explanation<'a> {
    reason: &'static str,
    /// The gold answer without what surrounded it.
    gold: &'a str,
    /// Which answer cannot be read.
    unparsable: Option<Side>,
    /// Which rule found the prediction.
    found_by: Option<ExtractRule>,
    /// Where in `pred`, in bytes.
    span: Option<[usize; 2]>,
}

pub(crate) fn run(args: &Verify, talk: Talk) -> Result<()> {
    let (name, mut input) = open(&args.file)?;
    let mut output = BufWriter::new(Stdout::new());
    let defaults = VerifyConfig { profile: args.profile.clone(), precision: args.precision };
    let mut summary = Summary::default();
    let mut line = Vec::new();
    for number in 1.. {
        // Before it waits for more, what it has found is handed on.
        if input.buffer().is_empty() {
            output.flush()?;
        }
        if read_line(&mut input, &mut line).with_context(|| format!("{name}:{number}"))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let task = match Task::read(&line, &defaults) {
            Ok(task) => task,
            Err(error) => {
                summary.bad += 1;
                talk.error(format_args!("{name}:{number}: {error}"));
                continue;
            }
        };
        let started = Instant::now();
        let gold = Gold::new(&task.gold, &task.config);
        let verification = gold.verify(&task.pred);
        let time = started.elapsed();
        summary.add(&verification, time);
        if verification.verdict == Verdict::Unparsable(Side::Gold) {
            talk.detail(format_args!("{name}:{number}: {}: {}", verification.reason, gold.text()));
        }
        let judged = Judged {
            id: task.id.map_or(Id::Line(number), Id::Given),
            verdict: verification.verdict.as_str(),
            extracted: verification.extracted.as_ref().map(|found| found.text(&task.pred)),
            rule: verification.rule.as_str(),
            micros: time.as_micros() as u64,
            explanation: args.explain.then(|| explain(&gold, &verification)),
        };
        serde_json::to_writer(&mut output, &judged).map_err(io::Error::from)?;
        output.write_all(b"\n")?;
    }
    output.flush()?;
    talk.note(&summary);
    match summary.bad {
        0 => Ok(()),
        1 => bail!("{name}: 1 line could not be judged"),
        bad => bail!("{name}: {bad} lines could not be judged"),
    }
}

fn open(file: &Path) -> Result<(String, BufReader<Box<dyn Read>>)> {
    let (name, input): (_, Box<dyn Read>) = if file == Path::new("-") {
        ("<stdin>".to_owned(), Box::new(io::stdin()))
    } else {
        let name = file.display().to_string();
        let input = File::open(file).with_context(|| name.clone())?;
        (name, Box::new(input))
    };
    Ok((name, BufReader::new(input)))
}

fn explain<'a>(gold: &'a Gold, verification: &Verification) -> Explanation<'a> {
    let found = verification.extracted.as_ref();
    Explanation {
        reason: verification.reason,
        gold: gold.text(),
        unparsable: match verification.verdict {
            Verdict::Unparsable(side) => Some(side),
            _ => None,
        },
        found_by: found.map(|found| found.rule),
        span: found.map(|found| [found.span.start, found.span.end]),
    }
}

/// What a line asks for.
struct Task<'a> {
    id: Option<&'a RawValue>,
    gold: String,
    pred: String,
    config: VerifyConfig,
}

impl<'a> Task<'a> {
    fn read(line: &'a [u8], defaults: &VerifyConfig) -> Result<Self> {
        // Values stay as they are written, so that no digit of a number is lost.
        let fields: HashMap<String, &RawValue> = serde_json::from_slice(line)
            .map_err(|error| anyhow!("expected a JSON object: {}, column {}", reason(&error), error.column()))?;
        let get = |name: &str| fields.get(name).copied().filter(|value| value.get() != "null");
        let need = |name: &str| text(name, get(name).with_context(|| format!("no {name}, expected gold and pred"))?);
        let mut config = defaults.clone();
        if let Some(value) = get("profile") {
            config.profile = text("profile", value)?.parse()?;
        }
        if let Some(value) = get("precision") {
            config.precision = precision(value.get()).map_err(|error| anyhow!("precision: {error}"))?;
        }
        Ok(Self { id: get("id"), gold: need("gold")?, pred: need("pred")?, config })
    }
}

/// A string's content, or a number as it is written.
fn text(name: &str, value: &RawValue) -> Result<String> {
    let found = match value.get().as_bytes() {
        [b'"', ..] => {
            return serde_json::from_str(value.get()).map_err(|error| anyhow!("{name}: {}", reason(&error)));
        }
        [b'-' | b'0'..=b'9', ..] => return Ok(value.get().to_owned()),
        [b'[', ..] => "an array",
        [b'{', ..] => "an object",
        _ => value.get(),
    };
    bail!("{name} is {found}, expected a string or a number")
}

fn precision(text: &str) -> Result<u32> {
    let digits = text.parse().ok().filter(|digits| (1..=200).contains(digits));
    digits.with_context(|| format!("{text} is not a whole number from 1 to 200"))
}

/// What the JSON parser says, without the position, which would count lines from the start of this one.
fn reason(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.rfind(" at line ") {
        text.truncate(at);
    }
    text
}

#[derive(Default)]
struct Summary {
    correct: usize,
    incorrect: usize,
    unparsable_gold: usize,
    unparsable_prediction: usize,
    out_of_fuel: usize,
    bad: usize,
    time: Duration,
}

impl Summary {
    fn add(&mut self, verification: &Verification, time: Duration) {
        let count = match verification.verdict {
            Verdict::Correct => &mut self.correct,
            Verdict::Incorrect => &mut self.incorrect,
            Verdict::Unparsable(Side::Gold) => &mut self.unparsable_gold,
            Verdict::Unparsable(Side::Prediction) => &mut self.unparsable_prediction,
            Verdict::OutOfFuel => &mut self.out_of_fuel,
        };
        *count += 1;
        self.time += time;
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { correct, incorrect, unparsable_gold, unparsable_prediction, out_of_fuel, bad, time } = self;
        let unparsable = unparsable_gold + unparsable_prediction;
        let judged = correct + incorrect + unparsable + out_of_fuel;
        write!(f, "{judged} judged: {correct} correct, {incorrect} incorrect, {unparsable} unparsable")?;
        if *unparsable_gold > 0 {
            write!(f, " (of these, {unparsable_gold} for the gold answer)")?;
        }
        write!(f, ", {out_of_fuel} out of fuel; {bad} bad lines; {:.1} ms of judging", time.as_secs_f64() * 1e3)
    }
}
