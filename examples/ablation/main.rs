//! The paper's ablation ladder on the tiny task: every rung with several seeds, as tables and curves.
//!
//! `cargo run --release --example ablation -- --out runs/ablation --report docs/ablation`
//!
//! Runs that are already in `--out` are not made again, so that a stopped command continues where it was.

mod chart;
mod report;
mod statistics;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use dapo::run::{Layer, Run, RunFolder, resolve, settings_of};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The rungs, each with what the one before lacks.
const LADDER: [(&str, &str); 7] = [
    ("grpo", "GRPO"),
    ("overlong-filter", "+ overlong filtering"),
    ("clip-higher", "+ clip-higher"),
    ("soft-overlong", "+ soft overlong punishment"),
    ("token-loss", "+ token-level loss"),
    ("dynamic-sampling", "+ dynamic sampling"),
    ("dapo", "DAPO (filtering off)"),
];

/// Runs the ablation ladder and reports it.
#[derive(Parser)]
#[command(name = "ablation")]
struct Args {
    /// Folder of the runs.
    #[arg(long, value_name = "DIR", default_value = "runs/ablation")]
    out: PathBuf,
    /// Folder of the report's charts and tables.
    #[arg(long, value_name = "DIR", default_value = "docs/ablation")]
    report: PathBuf,
    /// Seeds of each rung.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Steps of each run.
    #[arg(long, default_value_t = 80)]
    steps: u64,
    /// Further settings for all runs, as KEY=VALUE.
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// A step of a run, of what its logs hold.
#[derive(Clone, Deserialize)]
struct Step {
    entropy: Option<f64>,
    #[serde(rename = "completions/mean_length")]
    mean_length: Option<f64>,
    #[serde(rename = "completions/clipped_ratio")]
    truncated: Option<f64>,
    num_tokens: u64,
    #[serde(rename = "dynamic_sampling/generated")]
    generated: u64,
    #[serde(rename = "clip_ratio/high_mean")]
    clip_high: Option<f64>,
}

/// An evaluation of a run.
#[derive(Clone, Deserialize)]
struct Evaluation {
    step: u64,
    avg_at_k: Mean,
}

#[derive(Clone, Deserialize)]
struct Mean {
    mean: f64,
}

/// What is known of one run.
struct Trace {
    steps: Vec<Step>,
    evaluations: Vec<Evaluation>,
}

impl Trace {
    fn read(dir: &Path) -> Result<Self> {
        let lines =
            |name: &str| fs::read_to_string(dir.join(name)).with_context(|| dir.join(name).display().to_string());
        let steps = lines(RunFolder::METRICS)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let evaluations = lines(RunFolder::EVALUATIONS)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Self { steps, evaluations })
    }

    /// Tokens generated in training up to the end of a step.
    fn tokens_after(&self, steps: u64) -> f64 {
        steps.checked_sub(1).map_or(0.0, |last| self.steps[last as usize].num_tokens as f64)
    }
}

/// A rung and its runs, one a seed.
struct Rung {
    label: &'static str,
    traces: Vec<Trace>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.seeds >= 2, "--seeds is {}, expected at least 2: an interval needs two runs", args.seeds);
    let mut rungs: Vec<Rung> = LADDER.iter().map(|(_, label)| Rung { label, traces: Vec::new() }).collect();
    for seed in 0..args.seeds {
        for ((recipe, label), rung) in LADDER.iter().zip(&mut rungs) {
            let dir = args.out.join(format!("{recipe}-{seed}"));
            train(&args, recipe, seed, &dir).with_context(|| format!("{label}, seed {seed}"))?;
            rung.traces.push(Trace::read(&dir)?);
        }
    }
    report::write(&args.report, &rungs)?;
    println!("{}", args.report.display());
    Ok(())
}

fn train(args: &Args, recipe: &str, seed: u64, dir: &Path) -> Result<()> {
    let mut run = if RunFolder::at(dir).config_file().exists() {
        Run::resume(&settings_of(dir, &[])?, dir)?
    } else {
        let mut layers = vec![Layer::Recipe("tiny".into()), Layer::Recipe(recipe.into())];
        let steps = args.steps;
        let own = [
            format!("seed={seed}"),
            format!("train.steps={steps}"),
            "output.completions=false".into(),
            "train.on_mastered=skip".into(),
        ];
        let settings = own.into_iter().chain([
            "eval.every=5".into(),
            "eval.temperature=1.0".into(),
            "eval.samples=2".into(),
            "eval.top_p=1.0".into(),
        ]);
        layers.extend(settings.chain(args.settings.iter().cloned()).map(Layer::Override));
        Run::create(&resolve(&layers)?, dir)?
    };
    if run.is_finished() {
        return Ok(());
    }
    run.evaluate_at_start()?;
    let mut accuracy = 0.0;
    while !run.is_finished() {
        if let Some(report) = run.step()?.evaluation() {
            accuracy = report.avg_at_k.map_or(0.0, |estimate| estimate.mean);
        }
    }
    eprintln!("{recipe}, seed {seed}: {accuracy:.3}");
    Ok(())
}
