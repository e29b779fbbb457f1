//! The paper's ablation ladder on the tiny task: every rung with several seeds, as tables and curves.
//!
//! `cargo run --release --example ablation -- --out runs/ablation --report docs/ablation`
//!
//! With `--ladder critic`, PPO's critic beside the statistics of groups:
//! `cargo run --release --example ablation -- --ladder critic --out runs/critic --report docs/critic`
//!
//! Runs that are already in `--out` are not made again, so that a stopped command continues where it was.

mod chart;
mod report;
mod statistics;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use dapo::kernels::allocator::{MiMalloc, hold_freed_memory};
use dapo::run::{Layer, Run, RunFolder, resolve, settings_of};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A rung: its recipe, its label, and settings of its own.
type Entry = (&'static str, &'static str, &'static [&'static str]);

/// The paper's rungs, each with what the one before lacks.
const PAPER: [Entry; 7] = [
    ("grpo", "GRPO", &[]),
    ("overlong-filter", "+ overlong filtering", &[]),
    ("clip-higher", "+ clip-higher", &[]),
    ("soft-overlong", "+ soft overlong punishment", &[]),
    ("token-loss", "+ token-level loss", &[]),
    ("dynamic-sampling", "+ dynamic sampling", &[]),
    ("dapo", "DAPO (filtering off)", &[]),
];

/// Baselines from groups, and from a critic. So small a model has to learn its values faster than a large one.
const CRITIC: [Entry; 4] = [
    ("grpo", "GRPO", &[]),
    ("dapo", "DAPO", &[]),
    ("ppo", "PPO, λ = 1", &["critic.optimizer.lr=1e-3"]),
    ("ppo", "PPO, λ = 0.95", &["critic.optimizer.lr=1e-3", "critic.lambda=0.95"]),
];

/// What is compared.
#[derive(Clone, Copy, ValueEnum)]
enum Ladder {
    /// The parts of DAPO, one by one.
    Paper,
    /// GRPO, DAPO, and PPO with a critic.
    Critic,
}

impl Ladder {
    fn rungs(self) -> &'static [Entry] {
        match self {
            Self::Paper => &PAPER,
            Self::Critic => &CRITIC,
        }
    }
}

/// Runs the ablation ladder and reports it.
#[derive(Parser)]
#[command(name = "ablation")]
struct Args {
    /// What is compared.
    #[arg(long, value_enum, default_value_t = Ladder::Paper)]
    ladder: Ladder,
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
    hold_freed_memory();
    let args = Args::parse();
    ensure!(args.seeds >= 2, "--seeds is {}, expected at least 2: an interval needs two runs", args.seeds);
    let entries = args.ladder.rungs();
    let mut rungs: Vec<Rung> = entries.iter().map(|(_, label, _)| Rung { label, traces: Vec::new() }).collect();
    for seed in 0..args.seeds {
        for (place, (entry, rung)) in entries.iter().zip(&mut rungs).enumerate() {
            let (recipe, label, _) = entry;
            // One recipe may have two rungs.
            let is_second = entries[..place].iter().any(|(other, ..)| other == recipe);
            let name = if is_second { format!("{recipe}-{place}-{seed}") } else { format!("{recipe}-{seed}") };
            let dir = args.out.join(name);
            train(&args, entry, seed, &dir).with_context(|| format!("{label}, seed {seed}"))?;
            rung.traces.push(Trace::read(&dir)?);
        }
    }
    report::write(&args.report, &rungs)?;
    println!("{}", args.report.display());
    Ok(())
}

fn train(args: &Args, (recipe, label, own_settings): &Entry, seed: u64, dir: &Path) -> Result<()> {
    let mut run = if RunFolder::at(dir).config_file().exists() {
        Run::resume(&settings_of(dir, &[])?, dir)?
    } else {
        let mut layers = vec![Layer::Recipe("tiny".into()), Layer::Recipe((*recipe).into())];
        layers.extend(own_settings.iter().map(|setting| Layer::Override((*setting).into())));
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
    eprintln!("{label}, seed {seed}: {accuracy:.3}");
    Ok(())
}
