//! A run from its first step to its last, with everything it writes on the way.

use crate::build::of_setting;
use crate::completions::lines;
use crate::estimate::cache_left;
use crate::folder::RunFolder;
use crate::guards::{Alarm, Figures, Guards};
use crate::keys::keys;
use crate::layers::{Layer, Resolved, resolve};
use crate::machine::fits;
use crate::model::ModelSource;
use crate::placement::{Placed, place};
use crate::plan::prepare;
use crate::problems::{Folder, ProblemCounts};
use crate::progress::{Mastered, Progress, RunStep};
use crate::run_error::{Rescue, RunError, Stage};
use crate::settings::RunConfig;
use dapo_policy::{Device, GenerationConfig, PolicyError, Purpose, StopStrings, cuda_memory};
use dapo_reward::RewardSum;
use dapo_trainer::{EvalReport, NoSignal, Prompt, StepOutcome, Trainer, TrainerError, evaluate};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A run in its folder.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
    config: RunConfig,
    trainer: Trainer,
    validation: Vec<Prompt>,
    /// Texts that end a completion of an evaluation.
    eval_stop: StopStrings,
    /// What evaluations are judged by where it is not the trainer's rewards.
    judge: Option<RewardSum>,
    counts: ProblemCounts,
    unreadable: Vec<String>,
    folders: Vec<Folder>,
    /// What an adapter's folder names as its model.
    base_model: String,
    placed: Placed,
    guards: Guards,
    /// What the run may need more of than this machine has.
    too_much: Option<String>,
    /// Whether the policy has mastered its data.
    mastered: bool,
    /// Whether an evaluation that was due is missing from the log of a resumed run.
    owes_evaluation: bool,
    /// Held for as long as the run is.
    lock: Option<File>,
}

/// A line of the evaluations' log.
#[derive(Serialize)]
struct EvaluationLine<'a> {
    /// Steps made before it.
    step: u64,
    #[serde(flatten)]
    report: &'a EvalReport,
}

impl Run {
    /// Starts a run in a new or empty folder. Nothing is written before model, data and settings are known to be good.
    ///
    /// # Errors
    /// When a setting is invalid, the model or data cannot be read, or the folder is not free.
    pub fn create(settings: &Resolved, dir: &Path) -> Result<Self, RunError> {
        Self::start(settings, dir, None)
    }

    pub(crate) fn start(settings: &Resolved, dir: &Path, rewards: Option<RewardSum>) -> Result<Self, RunError> {
        let folder = RunFolder::at(dir);
        folder.check_is_free()?;
        let mut run = Self::build(&settings.config, folder, rewards)?;
        run.folder.create()?;
        run.lock = Some(run.folder.lock()?);
        run.folder.write(RunFolder::CONFIG, settings.to_toml()?.as_bytes())?;
        Ok(run)
    }

    /// Resumes a run from its last checkpoint, or from the start where it has none. Later lines of its logs are removed, so
    /// that they end as those of a run that was never stopped. `settings` are those of the folder with changes on top.
    ///
    /// # Errors
    /// When the folder is not a run's, a setting was changed that a run cannot change, or model or data have changed.
    pub fn resume(settings: &Resolved, dir: &Path) -> Result<Self, RunError> {
        Self::go_on(settings, dir, None)
    }

    pub(crate) fn go_on(settings: &Resolved, dir: &Path, rewards: Option<RewardSum>) -> Result<Self, RunError> {
        let folder = RunFolder::at(dir);
        let before = resolve(&[Layer::File(folder.config_file())])?.config;
        let config = &settings.config;
        if let Some((key, was, is)) = changed_for_good(&before, config) {
            let expected = format!("{was} as it was: start a new run, from this one's checkpoint if you like");
            return Err(RunError::setting(&key, is, expected));
        }
        let lock = folder.lock()?;
        let mut run = Self::build(config, folder, rewards)?;
        run.lock = Some(lock);
        let checkpoint = run.folder.last_checkpoint()?;
        if let Some((_, path)) = &checkpoint {
            run.trainer.restore(path)?;
        }
        let steps = run.trainer.steps();
        run.folder.rewind(steps, |steps| run.is_evaluated(steps))?;
        for figures in run.folder.read::<Figures>(RunFolder::METRICS)? {
            run.guards.observe(&figures, &run.config.guards);
        }
        run.owes_evaluation = steps > 0 && run.is_evaluated(steps) && !run.folder.has_evaluation(steps)?;
        // Settings that train nothing leave no trace.
        if before != *config && !run.is_finished() {
            run.folder.write(RunFolder::CONFIG, settings.to_toml()?.as_bytes())?;
        }
        Ok(run)
    }

    fn build(config: &RunConfig, folder: RunFolder, own: Option<RewardSum>) -> Result<Self, RunError> {
        config.validate()?;
        let is_own = own.is_some();
        let rewards = own.map_or_else(|| config.reward_sum(), Ok)?;
        let source = ModelSource::find(&config.model.path, &config.model.revision)?;
        let too_much = fits(config, &source.config()?, folder.path())?;
        let (policy, tokenizer) = source.load()?;
        let (planned, problems) = prepare(config, &rewards, policy.config().max_position_embeddings, &tokenizer)?;
        let config = &planned;
        let have_answers = |prompts: &[Prompt]| prompts.iter().any(|prompt| prompt.answers().next().is_some());
        let rewards = if have_answers(&problems.train) { rewards } else { rewards.without_answers() };
        let mut validation = problems.validation;
        if let Some(limit) = config.eval.limit {
            validation.truncate(limit);
        }
        let mut policy = match &config.lora {
            Some(lora) => policy.with_lora(lora, config.seed)?,
            None => policy,
        };
        policy.set_layer_memory(config.train.layer_memory);
        let placed = place(&mut policy, config.model.device.parse()?)?;
        config.check_on(placed.device)?;
        let stop_strings = |stop: &[String], section: &str| {
            StopStrings::new(stop, &tokenizer).map_err(|error| of_setting(TrainerError::from(error).within(section)))
        };
        stop_strings(&config.rollout.stop, "rollout")?;
        let eval_stop = stop_strings(config.eval_stop(), "eval")?;
        let mut trainer_config = config.trainer_config();
        if let (None, Device::Cuda(ordinal)) = (trainer_config.cache_bytes, placed.device) {
            trainer_config.cache_bytes = Some(cache_left(config, policy.config(), cuda_memory(ordinal)?));
        }
        let is_judged = validation.is_empty() || have_answers(&validation);
        let accuracy = (!is_own && is_judged).then(|| config.accuracy().clone());
        let judge = accuracy.map(|accuracy| RewardSum::new(vec![(1.0, Box::new(accuracy))])).transpose();
        let judge = judge.map_err(TrainerError::from)?;
        let trainer = Trainer::new(policy, tokenizer, problems.train, rewards, trainer_config)?;
        let (base_model, config, counts) = (source.base()?, config.clone(), problems.counts);
        let (unreadable, folders) = (problems.unreadable, problems.folders);
        Ok(Self {
            folder,
            config,
            trainer,
            validation,
            eval_stop,
            judge,
            counts,
            unreadable,
            folders,
            base_model,
            placed,
            guards: Guards::default(),
            too_much,
            mastered: false,
            owes_evaluation: false,
            lock: None,
        })
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Where its policy computes.
    pub fn device(&self) -> &Placed {
        &self.placed
    }

    /// The run's settings.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The trainer.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// How many problems there are, and how many were left out.
    pub fn counts(&self) -> ProblemCounts {
        self.counts
    }

    /// The first gold answers that the grader cannot read, at most three; [`Run::counts`] has their number.
    pub fn unreadable_golds(&self) -> &[String] {
        &self.unreadable
    }

    /// What the run may need more of than this machine has, in words.
    pub fn too_much(&self) -> Option<&str> {
        self.too_much.as_deref()
    }

    /// The folders of data, with the files that were read.
    pub fn data_folders(&self) -> &[Folder] {
        &self.folders
    }

    /// Whether all steps are made, or the policy has mastered its data.
    pub fn is_finished(&self) -> bool {
        self.mastered || self.trainer.steps() >= self.config.train.steps
    }

    /// The evaluation that is due before the next step, where evaluations are asked for: at the start of a run unless
    /// `eval.at_start` is off, and when a resumed run's last evaluation failed.
    ///
    /// # Errors
    /// When it fails, or cannot be written.
    pub fn evaluate_at_start(&mut self) -> Result<Option<EvalReport>, RunError> {
        let eval = &self.config.eval;
        let is_due = if self.trainer.steps() == 0 { eval.at_start } else { self.owes_evaluation };
        if eval.every.is_none() || !is_due {
            return Ok(None);
        }
        let report = self.evaluate()?;
        self.owes_evaluation = false;
        Ok(Some(report))
    }

    /// A step: trains, logs, and evaluates and writes a checkpoint where these are due. Where the policy has mastered its data,
    /// and the settings say that training then stops, the run is finished instead: evaluated and saved.
    ///
    /// # Errors
    /// [`RunError::Step`] when training fails, or after a finished step its logs, its evaluation or its checkpoint. All
    /// finished steps are then saved in a checkpoint, unless the failed one had made an update already ([`Rescue`]). The
    /// completions of a step in which too few groups carried a signal are written.
    pub fn step(&mut self) -> Result<Progress, RunError> {
        match self.trainer.step() {
            Ok(outcome) => Ok(Progress::Step(Box::new(self.log(outcome)?))),
            Err(TrainerError::NoSignal(end)) if end.ends_well => {
                self.finish(&end).map(|end| Progress::Mastered(Box::new(end)))
            }
            Err(error) => {
                let rescue = self.rescue();
                if let TrainerError::NoSignal(end) = &error {
                    // What the groups look like is the first thing to be asked; the error matters more than this file.
                    let lines = end.groups.iter().flat_map(|record| lines(end.step, record));
                    let _ = self.folder.write_completions(end.step, lines);
                }
                Err(self.failed(Stage::Training, self.trainer.steps() + 1, rescue, self.of_model(error)))
            }
        }
    }

    /// The end of a run that has nothing left to learn.
    fn finish(&mut self, end: &NoSignal) -> Result<Mastered, RunError> {
        let steps = self.trainer.steps();
        let checkpoint = self.after(Stage::Checkpoint, self.save())?;
        let evaluation = self.after(Stage::Evaluation, self.final_evaluation())?;
        self.mastered = true;
        Ok(Mastered { steps, outcomes: end.outcomes(), evaluation, checkpoint })
    }

    /// The evaluation of the present policy, where the run evaluates and its log does not have it.
    fn final_evaluation(&self) -> Result<Option<EvalReport>, RunError> {
        let is_missing = self.config.eval.every.is_some() && !self.folder.has_evaluation(self.trainer.steps())?;
        if is_missing { self.evaluate().map(Some) } else { Ok(None) }
    }

    /// Saves the steps made so far, where that is possible. Older checkpoints all stay: this one may be the result of what
    /// went wrong.
    fn rescue(&self) -> Rescue {
        let path = self.folder.checkpoint(self.trainer.steps());
        match self.trainer.steps() {
            0 => Rescue::Nothing,
            _ if !self.trainer.is_whole() => Rescue::Torn,
            _ if path.exists() => Rescue::Saved(path),
            _ => match self.trainer.save(&path, &self.base_model) {
                Ok(()) => Rescue::Saved(path),
                Err(error) => Rescue::Failed(error.to_string()),
            },
        }
    }

    fn failed(&self, stage: Stage, step: u64, rescue: Rescue, source: RunError) -> RunError {
        RunError::Step { stage, step, steps: self.config.train.steps, rescue, source: Box::new(source) }
    }

    /// An error of the trainer, with the model's name where its numbers are at fault.
    fn of_model(&self, error: TrainerError) -> RunError {
        match error {
            TrainerError::Policy(source @ PolicyError::Logits { .. }) => {
                RunError::Model { model: self.config.model.path.clone(), source: Box::new(source) }
            }
            other => other.into(),
        }
    }

    /// The outcome of what follows a finished step; a failure saves the step first.
    fn after<T>(&self, stage: Stage, outcome: Result<T, RunError>) -> Result<T, RunError> {
        outcome.map_err(|error| self.failed(stage, self.trainer.steps(), self.rescue(), error))
    }

    /// Writes what a step did, evaluates and saves where these are due.
    fn log(&mut self, outcome: StepOutcome) -> Result<RunStep, RunError> {
        let steps = self.trainer.steps();
        self.after(Stage::Logs, self.write_logs(&outcome))?;
        let alarms = self.guards.observe(&Figures::from(&outcome.metrics), &self.config.guards);
        if let Some(Alarm { key, message, .. }) = alarms.iter().find(|alarm| alarm.stops).cloned() {
            return self.after(Stage::Guards, Err(RunError::Guard { key, message }));
        }
        let is_due = self.is_evaluated(steps);
        let evaluation = is_due.then(|| self.after(Stage::Evaluation, self.evaluate())).transpose()?;
        let every = self.config.output.checkpoint_every;
        let is_saved = (every > 0 && steps.is_multiple_of(every)) || self.is_finished();
        let checkpoint = is_saved.then(|| self.after(Stage::Checkpoint, self.save())).transpose()?;
        Ok(RunStep { metrics: outcome.metrics, timings: outcome.timings, alarms, evaluation, checkpoint })
    }

    fn write_logs(&self, outcome: &StepOutcome) -> Result<(), RunError> {
        if self.config.output.completions {
            let step = outcome.metrics.step;
            self.folder.write_completions(step, outcome.groups.iter().flat_map(|record| lines(step, record)))?;
        }
        self.folder.append(RunFolder::METRICS, &outcome.metrics)?;
        self.folder.append(RunFolder::TIMINGS, &outcome.timings)
    }

    /// Whether an evaluation is due after this number of steps.
    fn is_evaluated(&self, steps: u64) -> bool {
        let is_last = steps == self.config.train.steps;
        self.config.eval.every.is_some_and(|every| is_last || steps.is_multiple_of(every))
    }

    /// Writes a checkpoint of the present state, unless it exists.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<PathBuf, RunError> {
        let path = self.folder.checkpoint(self.trainer.steps());
        if !path.exists() {
            self.trainer.save(&path, &self.base_model)?;
            self.folder.prune(self.config.output.keep_checkpoints)?;
        }
        Ok(path)
    }

    fn evaluate(&self) -> Result<EvalReport, RunError> {
        let eval = &self.config.eval;
        let generation = GenerationConfig {
            max_new_tokens: eval.max_new_tokens.unwrap_or(self.config.rollout.max_new_tokens),
            sampling: eval.sampling(),
            stop: self.trainer.stop_tokens().clone(),
            stop_strings: self.eval_stop.clone(),
            seed: self.config.seed,
            purpose: Purpose::Evaluation,
            cache_bytes: self.trainer.config().cache_bytes,
        };
        let (policy, tokenizer) = (self.trainer.policy(), self.trainer.tokenizer());
        let judge = self.judge.as_ref().unwrap_or(self.trainer.rewards());
        let evaluation = evaluate(policy, tokenizer, &self.validation, eval.samples, &generation, judge)
            .map_err(|error| self.of_model(error))?;
        let mut report = evaluation.report(&self.config.accuracy().grader);
        report.per_problem.clear();
        self.folder.append(RunFolder::EVALUATIONS, &EvaluationLine { step: self.trainer.steps(), report: &report })?;
        Ok(report)
    }
}

/// The first key that a run cannot change and that differs, with both values.
fn changed_for_good(before: &RunConfig, after: &RunConfig) -> Option<(String, String, String)> {
    let (before, after) = (serde_json::to_value(before).ok()?, serde_json::to_value(after).ok()?);
    // A run may go on elsewhere.
    let free = |key: &str| key == "model.device";
    let fixed = |key: &str| key == "seed" || ["model.", "lora.", "data."].iter().any(|table| key.starts_with(table));
    let fixed = |key: &str| fixed(key) && !free(key);
    keys().iter().filter(|key| fixed(&key.path)).find_map(|key| {
        let pointer = format!("/{}", key.path.replace('.', "/"));
        let value = |settings: &Value| {
            let value = settings.pointer(&pointer).filter(|value| !value.is_null());
            value.map_or_else(|| "unset".into(), Value::to_string)
        };
        let (was, is) = (value(&before), value(&after));
        (was != is).then(|| (key.path.clone(), was, is))
    })
}

/// The settings of a run folder with changes on top, for [`Run::resume`].
///
/// # Errors
/// When the folder has no settings, or a change is not one.
pub fn settings_of(dir: &Path, changes: &[String]) -> Result<Resolved, RunError> {
    let file = RunFolder::at(dir).config_file();
    if let Err(source) = fs::metadata(&file) {
        return Err(RunError::Io { path: file, source });
    }
    let mut layers = vec![Layer::File(file)];
    layers.extend(changes.iter().map(|change| Layer::Override(change.clone())));
    Ok(resolve(&layers)?)
}
