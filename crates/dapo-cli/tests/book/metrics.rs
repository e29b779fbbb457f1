//! The figures of a run's logs, from the documentation of the types that are written.

use crate::{cell, root, stdout};
use serde_json::Value;
use std::fmt::Write;
use std::fs;

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from the sources by scripts/book-reference. -->

A run writes one line of JSON per step to `metrics.jsonl` and `timings.jsonl`, and one per evaluation to
`evaluations.jsonl`. [The run folder](../docs/runs.md#the-run-folder) describes the other files. `null` means that there
was nothing to measure. [Reading the report](../how-to/report.md) says what to look at first.

";

/// What flattened fields are written as.
const FLATTENED: [(&str, &str); 2] = [("components", "rewards/NAME/mean"), ("logs", "rewards/NAME/KEY")];

/// A field that is written: its name in the log, and its documentation.
struct Figure {
    name: String,
    about: String,
}

/// The written fields of a struct. Of flattened fields only those of [`FLATTENED`].
fn fields(path: &str, item: &str) -> Vec<Figure> {
    let source = fs::read_to_string(root().join(path)).unwrap();
    let start = source.find(&format!("pub struct {item} {{")).unwrap();
    let (mut figures, mut about, mut attributes) = (Vec::new(), String::new(), String::new());
    for line in source[start..].lines().skip(1).take_while(|line| *line != "}").map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            about.push_str(text);
        } else if line.starts_with("#[") {
            attributes.push_str(line);
        } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            let renamed = attributes.split_once("rename = \"").and_then(|(_, rest)| rest.split('"').next());
            let flattened = FLATTENED.iter().find(|(name, _)| *name == field).map(|(_, written)| *written);
            let is_written = flattened.is_some() || !attributes.contains("flatten") && !attributes.contains("skip)");
            if is_written {
                let name = flattened.or(renamed).unwrap_or(field).to_owned();
                figures.push(Figure { name, about: plain(about.trim()) });
            }
            about.clear();
            attributes.clear();
        }
    }
    figures
}

/// Without links to code.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[')
        && let Some((text, after)) = link.split_once(']')
    {
        plain.extend([before, text]);
        rest = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain + rest
}

fn table(figures: &[Figure]) -> String {
    let mut text = "| name | meaning |\n|---|---|\n".to_owned();
    for Figure { name, about } in figures {
        let _ = writeln!(text, "| `{name}` | {} |", cell(about));
    }
    text + "\n"
}

fn steps() -> Vec<Figure> {
    let mut figures = fields("crates/dapo-trainer/src/metrics.rs", "StepMetrics");
    for Figure { name, about } in fields("crates/dapo-sampler/src/account.rs", "Account") {
        // Its name in metrics is the earlier one.
        let name = if name == "all_incorrect" { "all_wrong" } else { &name };
        figures.push(Figure { name: format!("dynamic_sampling/{name}"), about });
    }
    figures.extend(fields("crates/dapo-trainer/src/metrics.rs", "CriticMetrics"));
    figures
}

fn timings() -> Vec<Figure> {
    fields("crates/dapo-trainer/src/metrics.rs", "StepTimings")
}

fn requests() -> Vec<Figure> {
    fields("crates/dapo-external/src/counters.rs", "Counters")
}

fn evaluations() -> Vec<Figure> {
    let step = Figure { name: "step".into(), about: "Number of steps made before it.".into() };
    let report = fields("crates/dapo-eval/src/report.rs", "EvalReport");
    // Only `dapo eval --json` has the problems one by one.
    [step].into_iter().chain(report).filter(|figure| figure.name != "per_problem").collect()
}

pub(crate) fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut add = |heading: &str, about: &str, figures: &[Figure]| {
        let _ = write!(text, "## {heading}\n\n{about}\n\n{}", table(figures));
    };
    add("metrics.jsonl", "The same in every repetition of a run.", &steps());
    add("timings.jsonl", "All that differs between repetitions.", &timings());
    let about =
        "In `timings.jsonl` under `rewards.NAME`, for each reward that is computed by another program, and for `env`.";
    add("Requests", about, &requests());
    let about = "Estimates have `mean`, and `low` and `high`: the bounds of the 95 % interval over problems.";
    add("evaluations.jsonl", about, &evaluations());
    text.trim_end().to_owned() + "\n"
}

/// Whether a written name is one of the page, where `NAME` and `KEY` stand for any word.
fn is_known(name: &str, figures: &[Figure]) -> bool {
    figures.iter().any(|figure| {
        let (expected, parts): (Vec<&str>, Vec<&str>) = (figure.name.split('/').collect(), name.split('/').collect());
        let mut pairs = expected.iter().zip(&parts);
        expected.len() == parts.len() && pairs.all(|(e, part)| e == part || *e == "NAME" || *e == "KEY")
    })
}

/// Trains for a step with a critic, and evaluates; every name that is written has a row.
pub(crate) fn are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let out = out.to_str().unwrap();
    let settings =
        "train tiny ppo train.steps=1 critic.warmup_steps=0 sampler.train_batch=2 train.mini_batches=1 eval.limit=4";
    let args: Vec<&str> = settings.split(' ').chain(["--out", out]).collect();
    stdout(&args);
    for (file, figures) in
        [("metrics.jsonl", steps()), ("timings.jsonl", timings()), ("evaluations.jsonl", evaluations())]
    {
        let text = fs::read_to_string(format!("{out}/{file}")).unwrap();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        for name in line.as_object().unwrap().keys() {
            assert!(is_known(name, &figures), "{file} has {name}, which the page on metrics lacks");
        }
    }
}
