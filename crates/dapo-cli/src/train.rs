//! `dapo train`: trains a model and writes a run folder.

use crate::args::at_least;
use crate::args::{TrustArgs, say_where, warn_if_none};
use crate::candidates;
use crate::failed_step::{explain, once};
use crate::signals::{Signals, Stopped};
use crate::talk::Talk;
use crate::terminal::{Stdout, excerpt};
use anyhow::{Result, anyhow, bail};
use clap_complete::ArgValueCompleter;
use dapo_console::{Monitor, Shape};
use dapo_run::{
    DeviceChoice, Folder, Layer, Mastered, ModelSource, Plan, ProblemCounts, Progress, Resolved, Resume, Run, RunError,
    RunStep, Source, Trust, estimate, fits, plan, resolve_words, settings_of,
};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Train a model with DAPO.
///
/// Settings come in layers, each laid over the ones before it: recipes by name (`dapo recipes` lists them), TOML files, and
/// single settings as KEY=VALUE (`dapo config schema` lists the keys). KEY= with nothing behind it takes a setting back.
///
/// The run folder gets the resolved settings, logs, completions and checkpoints; the path of the trained model is printed at the
/// end. A run that was stopped continues with --resume exactly as if it had not been. The first SIGINT, SIGTERM or SIGHUP ends it
/// after the present step, saved, with exit code 130, 143 or 129; a second one ends it at once.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dapo train tiny --out runs/tiny
  dapo train tiny grpo train.steps=40 seed=1 --out runs/grpo
  dapo train dapo model.path=path/to/model data.train=problems.jsonl optimizer.lr=1e-6 --out runs/mine
  dapo train tiny rewards.mine.python=rewards.py:score --out runs/own
  dapo train dapo mine.toml --dry-run
  dapo train --resume runs/mine train.steps=200

Rewards of your own, by a Python function, a command, a server or a rule: docs/rewards.md.")]
pub(crate) struct Train {
    /// Recipes, TOML files and settings; with --resume, settings alone.
    #[arg(value_name = "RECIPE | FILE.toml | KEY=VALUE", add = ArgValueCompleter::new(candidates::layers))]
    layers: Vec<String>,
    /// Folder of the run; it must be new or empty.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["resume", "dry_run"])]
    out: Option<PathBuf>,
    /// Continue the run in this folder, from its last checkpoint.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    resume: Option<PathBuf>,
    /// With --resume, continue after N steps, from the checkpoint step-N, and remove what was made later; 0 starts again.
    #[arg(long, value_name = "N", requires = "resume")]
    from_step: Option<u64>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print every setting and where it comes from, and what the run will need; train nothing.
    #[arg(long)]
    dry_run: bool,
    /// Show a correct and an incorrect completion after the first step and every N steps [default: 10 on a terminal, else none]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    samples_every: Option<usize>,
    /// Show no sample completions.
    #[arg(long, conflicts_with = "samples_every")]
    no_samples: bool,
    /// Where the model computes: auto, cpu, cuda or cuda:n; the same as model.device=DEVICE.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

pub(crate) fn run(args: &Train, talk: Talk) -> Result<()> {
    let mut layers = args.layers.clone();
    layers.extend(args.device.iter().map(|device| format!("model.device={device}")));
    let settings = match &args.resume {
        Some(dir) => settings_of(dir, &changes(&layers)?)?,
        None => settings(&layers, talk)?,
    };
    let trust = args.trust.trust();
    if args.dry_run {
        return dry_run(&settings, trust, talk);
    }
    let (run, dir) = match (&args.resume, &args.out) {
        (Some(dir), _) => (Run::resume_from(&settings, dir, Resume { from_step: args.from_step, trust }, None), dir),
        (None, Some(dir)) => (Run::start(&settings, dir, trust, None), dir),
        (None, None) => bail!("--out is missing"),
    };
    let mut run = run.map_err(|error| locate(error, &settings))?;
    announce(&run, dir, talk);
    if args.resume.is_some() {
        if run.trainer().steps() == 0 {
            let why = if args.from_step.is_some() { "from step 0" } else { "there is no checkpoint yet" };
            talk.note(format_args!("{why}: starting again"));
        }
        for (name, answers) in run.known_answers().filter(|(_, answers)| *answers > 0) {
            talk.note(format_args!(
                "rewards.{name}: {answers} answers are known from reward_cache/{name}.jsonl and not asked for again; if the \
                 reward has changed, remove that file first"
            ));
        }
    }
    let steps = run.config().train.steps;
    if run.is_finished() {
        let made = run.trainer().steps();
        talk.note(format_args!(
            "{made} steps are made and train.steps is {steps}: nothing to do; train.steps=N goes on to N"
        ));
    }
    let mut monitor = Monitor::start(talk.voice(), shape(&run), args.samples_every(talk));
    run.observe(monitor.observer());
    // A run without a step has nothing to save, and may end at once.
    let notice = monitor.notices();
    let signals = Signals::catch(move |signal| {
        let text = format!("{signal}: saving after this step  again: stop at once");
        notice(&text);
        if !talk.voice().is_live() {
            talk.note(format_args!(
                "{signal}: the run is saved and ends after the present step; a second signal ends it at once"
            ));
        }
    })?;
    if let Some(report) = run.evaluate_at_start()? {
        let when = match run.trainer().steps() {
            0 => "before training".to_owned(),
            steps => format!("after step {steps}"),
        };
        monitor.evaluation(run.trainer().steps(), &when, &report);
    }
    while !run.is_finished() {
        if let Some(signal) = signals.caught() {
            return Err(stop(&mut run, dir, signal, monitor, talk));
        }
        match run.step() {
            Ok(Progress::Step(done)) => report(&done, &mut monitor, talk),
            Ok(Progress::Mastered(end)) => report_mastered(&end, steps, &mut monitor, talk),
            Err(error) => {
                drop(monitor);
                explain(&error, &run, talk);
                return Err(once(error));
            }
        }
    }
    let checkpoint = run.save()?;
    monitor.finish();
    let model = ModelSource::find(&checkpoint.to_string_lossy(), "main")?;
    writeln!(Stdout::new(), "{}", model.path().display())?;
    Ok(())
}

impl Train {
    /// Steps from one panel of sample completions to the next.
    fn samples_every(&self, talk: Talk) -> Option<u64> {
        let by_default = (talk.voice().is_live() && !self.no_samples).then_some(10);
        self.samples_every.map(|every| every as u64).or(by_default)
    }
}

/// What the run is going to do.
fn shape(run: &Run) -> Shape {
    let config = run.config();
    Shape {
        steps: config.train.steps,
        made: run.trainer().steps(),
        eval_every: config.eval.every,
        checkpoint_every: Some(config.output.checkpoint_every),
    }
}

/// Saves the finished steps after a signal, and says how to continue.
fn stop(run: &mut Run, dir: &Path, signal: Stopped, monitor: Monitor, talk: Talk) -> anyhow::Error {
    let (made, steps) = (run.trainer().steps(), run.config().train.steps);
    if made > 0
        && let Err(error) = run.save_unscheduled()
    {
        return anyhow::Error::new(error).context(format!("{signal} after step {made} of {steps}"));
    }
    monitor.finish();
    talk.error(format_args!(
        "{signal} after step {made} of {steps}; to continue: dapo train --resume {}",
        dir.display()
    ));
    signal.into()
}

/// The settings of layers as they were typed.
pub(crate) fn settings(layers: &[String], talk: Talk) -> Result<Resolved> {
    let settings = resolve_words(layers)?;
    for warning in settings.warnings() {
        talk.warning(warning);
    }
    Ok(settings)
}

/// With --resume, only settings can be laid on top.
fn changes(layers: &[String]) -> Result<Vec<String>> {
    for layer in layers {
        if !matches!(Layer::parse(layer)?, Layer::Override(_)) {
            bail!("{layer} is given with --resume, expected only settings as KEY=VALUE");
        }
    }
    Ok(layers.to_vec())
}

/// Says where a setting that a run refuses comes from.
pub(crate) fn locate(error: RunError, settings: &Resolved) -> anyhow::Error {
    match &error {
        RunError::Setting { key, .. } if *settings.source_of(key) != Source::Default => {
            anyhow!("{}: {error}", settings.source_of(key))
        }
        _ => error.into(),
    }
}

fn dry_run(settings: &Resolved, trust: Trust, talk: Talk) -> Result<()> {
    let plan = plan(&settings.config, trust).map_err(|error| locate(error, settings))?;
    let Plan { mut config, model, data, counts, folders } = plan;
    say_of_data(counts, &folders, talk);
    let mut stdout = Stdout::new();
    writeln!(stdout, "{}", settings.to_annotated_toml()?)?;
    config.model.device = config.model.device.parse::<DeviceChoice>()?.expected().to_string();
    writeln!(stdout, "{}", estimate(&config, &model, data))?;
    if let Some(too_much) = fits(&settings.config, &model, Path::new("."))? {
        talk.warning(too_much);
    }
    Ok(())
}

fn announce(run: &Run, dir: &Path, talk: Talk) {
    let (config, counts) = (run.config(), run.counts());
    let policy = run.trainer().policy();
    talk.note(format_args!(
        "{}: {:.2} M trainable parameters, into {}",
        config.model.path,
        policy.num_parameters() as f64 / 1e6,
        dir.display()
    ));
    let left_out = [(counts.duplicates, "duplicates"), (counts.too_long, "too long")];
    let left_out: Vec<String> =
        left_out.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let left_out = if left_out.is_empty() { String::new() } else { format!("; left out: {}", left_out.join(", ")) };
    talk.note(format_args!("{} problems to train on, {} for evaluation{left_out}", counts.train, counts.validation));
    say_of_data(counts, run.data_folders(), talk);
    if counts.conflicting > 0 {
        talk.warning(format_args!(
            "{} duplicates have another answer than the problem that was kept",
            counts.conflicting
        ));
    }
    if counts.unreadable > 0 {
        let examples: Vec<String> =
            run.unreadable_golds().iter().map(|gold| format!("{:?}", excerpt(gold, 60))).collect();
        talk.warning(format_args!(
            "the grader cannot read {} of {} gold answers, such as {}: completions count as correct only with the same text, \
             and are left out of their group otherwise (rewards.accuracy.grader = \"text\" compares texts)",
            counts.unreadable,
            counts.train + counts.validation,
            examples.join(", ")
        ));
    }
    if let Some(too_much) = run.too_much() {
        talk.warning(too_much);
    }
    warn_if_none(run.trainer().stop_tokens(), talk);
    say_where(run.device(), talk);
    let made = run.trainer().steps();
    if made > 0 {
        talk.note(format_args!("continuing after step {made}"));
    }
}

/// Says which files of folders were read, which entries were left out, and which problems are on both sides.
fn say_of_data(counts: ProblemCounts, folders: &[Folder], talk: Talk) {
    for Folder { name, files } in folders {
        talk.note(format_args!("{name}: {}", files.join(", ")));
    }
    if counts.left_out.total() > 0 {
        talk.note(format_args!("{} entries of the data left out: {}", counts.left_out.total(), counts.left_out));
    }
    if counts.overlap > 0 {
        talk.note(format_args!(
            "{} of {} problems for evaluation are also trained on",
            counts.overlap, counts.validation
        ));
    }
}

fn report(step: &RunStep, monitor: &mut Monitor, talk: Talk) {
    let (number, groups) = (step.metrics.step, &step.metrics.dynamic_sampling);
    monitor.step(&step.metrics, &step.timings, &step.groups);
    if groups.trained + groups.filled == 0 {
        talk.warning(format_args!("step {number}: no group carried a signal, no update was made"));
    } else if step.metrics.updates == 0 {
        talk.warning(format_args!("step {number}: no token was left in the loss, no update was made"));
    }
    for alarm in &step.alarms {
        talk.warning(alarm);
    }
    for fault in &step.faults {
        talk.warning(fault);
    }
    if let Some(report) = &step.evaluation {
        monitor.evaluation(number, &format!("after step {number}"), report);
    }
    if let Some(path) = &step.checkpoint {
        monitor.checkpoint(number, path);
    }
}

fn report_mastered(end: &Mastered, steps: u64, monitor: &mut Monitor, talk: Talk) {
    let (made, outcomes) = (end.steps, end.outcomes);
    talk.note(format_args!(
        "nothing left to learn after {made} of {steps} steps: of {} groups drawn, {} were all correct, {} all incorrect \
         and {} neither",
        outcomes.groups(),
        outcomes.all_correct,
        outcomes.all_incorrect,
        outcomes.other
    ));
    if let Some(report) = &end.evaluation {
        monitor.evaluation(made, &format!("after step {made}"), report);
    }
    monitor.checkpoint(made, &end.checkpoint);
}
