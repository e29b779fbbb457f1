//! `dapo train`: trains a model and writes a run folder.

mod announce;

use crate::args::{TrustArgs, at_least};
use crate::candidates;
use crate::failed_step::explain;
use crate::job::{Job, Refused};
use crate::signals::{Signals, Stopped};
use crate::talk::Talk;
use crate::terminal::Stdout;
use announce::{announce, say_of_data, say_what_is_resumed};
use anyhow::{Result, anyhow, bail};
use clap_complete::ArgValueCompleter;
use dapo_console::{Monitor, Shape};
use dapo_run::{
    DeviceChoice, DistSection, Layer, Mastered, ModelSource, Plan, Progress, Resolved, Resume, Run, RunError, RunStep,
    Source, Trust, estimate, fits, plan, resolve_words, settings_of, share_settings,
};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Train a model with DAPO.
///
/// Settings come in layers from left to right, each of which overrides those before it. A layer is a recipe's name
/// (`dapo recipes` lists them), a TOML file or KEY=VALUE (`dapo config schema` lists the keys). KEY= without a value resets
/// a setting to its default.
///
/// The run folder gets the resolved settings, logs, completions and checkpoints; the path of the trained model is
/// printed at the end. With --resume, a stopped run continues. With the same settings and on the same type of CPU, it
/// leaves the same files as a run that was never stopped, apart from timings, tracker files and `log-NAME.txt`. The first
/// SIGINT, SIGTERM or SIGHUP lets the current step finish, saves the run and ends it with exit code 130, 143 or 129; a
/// second one ends it at once.
///
/// With the feature mpi, `mpirun -n W dapo train ...` trains with W processes and leaves the same files as one process
/// with the same train.shards. That setting must be a power of two and at least W. Exit code 75: a process was lost, and
/// the run can be resumed.
#[derive(clap::Args)]
#[command(
    override_usage = "\
dapo train [OPTIONS] --out <DIR> [RECIPE | FILE.toml | KEY=VALUE]...
       dapo train [OPTIONS] --resume <DIR> [KEY=VALUE]...
       dapo train [OPTIONS] --dry-run [RECIPE | FILE.toml | KEY=VALUE]...",
    after_help = "\
Examples:
  dapo train tiny --out runs/tiny
  dapo train tiny grpo train.steps=40 seed=1 --out runs/grpo
  dapo train dapo model.path=path/to/model data.train=problems.jsonl optimizer.lr=1e-6 --out runs/mine
  dapo train tiny rewards.mine.python=rewards.py:score --out runs/own
  dapo train dapo mine.toml --dry-run
  dapo train --resume runs/mine train.steps=200

Custom rewards (a Python function, a command, a server, a judge or a rule): docs/rewards.md."
)]
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
    /// With --resume, continue from the checkpoint step-N and delete everything from later steps; 0 starts over.
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
    /// Where the model computes: auto (the first GPU if this build supports GPUs and that one can run the model, otherwise
    /// the CPU), cpu, cuda or cuda:n; the same as model.device=DEVICE [default: model.device of the other settings, or auto]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

pub(crate) fn run(args: &Train, talk: Talk) -> ExitCode {
    let own = args.settings();
    match Job::open(args.timeout(own.as_ref().ok()), talk) {
        Ok(job) => {
            let outcome = train(args, own, &job);
            job.end(outcome)
        }
        Err(error) => crate::finish(Err(error), talk).into(),
    }
}

/// Trains, as one of the ranks of a job. Settings and run folder are those of rank 0.
fn train(args: &Train, own: Result<Resolved>, job: &Job) -> Result<()> {
    let talk = job.talk();
    job.check_alike()?;
    let own = if job.leads() { Some(own?) } else { None };
    own.iter().flat_map(Resolved::warnings).for_each(|warning| talk.warning(warning));
    let settings = share_settings(&**job.world(), own)?;
    let (shards, ranks) = (settings.config.train.shards, job.world().size());
    if shards < ranks {
        let expected = format!("at least {ranks}, the number of ranks, and the same from the first step to the last");
        return Err(Refused(format!("train.shards is {shards}, expected {expected}")).into());
    }
    if args.dry_run {
        return if job.leads() { dry_run(&settings, args.trust.trust(), job) } else { Ok(()) };
    }
    if let Some(ranks) = job.describe() {
        talk.note(ranks);
    }
    let (mut run, dir) = args.open(&settings, job)?;
    if !job.leads() {
        return follow(&mut run, job);
    }
    announce(&run, dir, talk);
    if args.resume.is_some() {
        say_what_is_resumed(&run, args.from_step, talk);
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
    if let Some(report) = run.evaluate_at_start().map_err(|error| job.failed(error))? {
        let when = match run.trainer().steps() {
            0 => "before training".to_owned(),
            steps => format!("after step {steps}"),
        };
        monitor.evaluation(run.trainer().steps(), &when, &report);
    }
    while !run.is_finished() {
        if let Some((rank, signal)) = job.signal(signals.caught())? {
            return Err(stop(&mut run, dir, (rank, signal), monitor, job));
        }
        match run.step() {
            Ok(Progress::Step(done)) => report(&done, &mut monitor, talk),
            Ok(Progress::Mastered(end)) => report_mastered(&end, steps, &mut monitor, talk),
            Err(error) => {
                drop(monitor);
                explain(&error, &run, talk);
                return Err(job.failed(error));
            }
        }
    }
    let checkpoint = run.save().map_err(|error| job.failed(error))?;
    monitor.finish();
    let model = ModelSource::find(&checkpoint.to_string_lossy(), "main")?;
    writeln!(Stdout::new(), "{}", model.path().display())?;
    Ok(())
}

/// Trains as a rank that keeps nothing: does what rank 0 does, without a word.
fn follow(run: &mut Run, job: &Job) -> Result<()> {
    let signals = Signals::catch(|_| {})?;
    run.evaluate_at_start().map_err(|error| job.failed(error))?;
    while !run.is_finished() {
        if let Some((_, signal)) = job.signal(signals.caught())? {
            if run.trainer().steps() > 0 {
                run.save_unscheduled().map_err(|error| job.failed(error))?;
            }
            return Err(signal.into());
        }
        run.step().map_err(|error| job.failed(error))?;
    }
    run.save().map_err(|error| job.failed(error))?;
    Ok(())
}

impl Train {
    /// The settings as this process finds them: ranks other than rank 0 may lack their files.
    fn settings(&self) -> Result<Resolved> {
        let mut layers = self.layers.clone();
        layers.extend(self.device.iter().map(|device| format!("model.device={device}")));
        match &self.resume {
            Some(dir) => Ok(settings_of(dir, &changes(&layers)?)?),
            None => Ok(resolve_words(&layers)?),
        }
    }

    /// How long a rank may be silent: what the settings say, or of those that cannot be read, the command line.
    fn timeout(&self, settings: Option<&Resolved>) -> Duration {
        if let Some(settings) = settings {
            return settings.config.dist.timeout();
        }
        let typed: Vec<String> = self.layers.iter().filter(|layer| layer.starts_with("dist.")).cloned().collect();
        resolve_words(&typed).map_or(DistSection::default().timeout(), |settings| settings.config.dist.timeout())
    }

    /// Starts or resumes the run.
    fn open<'a>(&'a self, settings: &Resolved, job: &Job) -> Result<(Run, &'a Path)> {
        let (trust, world) = (self.trust.trust(), Arc::clone(job.world()));
        let (run, dir) = match (&self.resume, &self.out) {
            (Some(dir), _) => {
                let how = Resume { from_step: self.from_step, trust };
                (Run::resume_among(world, settings, dir, how, None), dir)
            }
            (None, Some(dir)) => (Run::start_among(world, settings, dir, trust, None), dir),
            (None, None) => bail!("--out is missing"),
        };
        Ok((run.map_err(|error| locate(error, settings))?, dir))
    }

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
fn stop(run: &mut Run, dir: &Path, (rank, signal): (usize, Stopped), monitor: Monitor, job: &Job) -> anyhow::Error {
    let (made, steps) = (run.trainer().steps(), run.config().train.steps);
    let of_rank = if job.world().size() > 1 { format!(" of rank {rank}") } else { String::new() };
    if made > 0
        && let Err(error) = run.save_unscheduled()
    {
        return job.failed(error).context(format!("{signal}{of_rank} after step {made} of {steps}"));
    }
    monitor.finish();
    job.talk().error(format_args!(
        "{signal}{of_rank} after step {made} of {steps}; to continue: dapo train --resume {}",
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

fn dry_run(settings: &Resolved, trust: Trust, job: &Job) -> Result<()> {
    let talk = job.talk();
    let plan = plan(&settings.config, trust).map_err(|error| locate(error, settings))?;
    let Plan { mut config, model, data, counts, unanswered, folders } = plan;
    say_of_data(counts, &folders, unanswered.as_ref(), talk);
    let mut stdout = Stdout::new();
    writeln!(stdout, "{}", settings.to_annotated_toml()?)?;
    config.model.device = config.model.device.parse::<DeviceChoice>()?.expected().to_string();
    let estimate = estimate(&config, &model, data);
    writeln!(stdout, "{estimate}")?;
    if job.world().size() > 1 {
        let here = dapo_dist::ranks_here(|name| std::env::var(name).ok());
        writeln!(stdout, "{}", estimate.of_ranks(job.world().size(), here))?;
    }
    if let Some(too_much) = fits(&settings.config, &model, Path::new("."))? {
        talk.warning(too_much);
    }
    Ok(())
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
