//! A run from its first step to its last, with everything it writes on the way.

use crate::estimate::cache_left;
use crate::{ModelSource, Placed, ProblemCounts, Resolved, RunConfig, RunError, RunFolder, load_problems, place};
use dapo_policy::{Device, FinishReason, GenerationConfig, Purpose, SamplingConfig, cuda_memory};
use dapo_reward::RewardSum;
use dapo_trainer::{EvalReport, Fate, GroupRecord, Prompt, StepMetrics, StepTimings, Trainer, evaluate};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A run in its folder.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
    config: RunConfig,
    trainer: Trainer,
    validation: Vec<Prompt>,
    judge: RewardSum,
    counts: ProblemCounts,
    /// What an adapter's folder names as its model.
    base_model: String,
    placed: Placed,
    /// Held for as long as the run is.
    lock: Option<File>,
}

/// What a step of a run did.
#[derive(Clone, Debug)]
pub struct RunStep {
    /// Its numbers.
    pub metrics: StepMetrics,
    /// How long it took.
    pub timings: StepTimings,
    /// The evaluation after it, where one was due.
    pub evaluation: Option<EvalReport>,
    /// The checkpoint after it, where one was due.
    pub checkpoint: Option<PathBuf>,
}

/// A line of the completions files.
#[derive(Serialize)]
struct CompletionLine<'a> {
    step: u64,
    prompt_id: &'a str,
    draw: u64,
    sample: usize,
    prompt: &'a str,
    completion: &'a str,
    tokens: usize,
    finish_reason: FinishReason,
    /// Each component before weighting; null where it abstained.
    rewards: BTreeMap<&'a str, Option<f64>>,
    /// With KL in the reward; null where a component abstained.
    reward: Option<f64>,
    correct: Option<bool>,
    advantage: Option<f32>,
    in_loss: bool,
    fate: Fate,
    age: u32,
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
        let folder = RunFolder::at(dir);
        folder.check_is_free()?;
        let mut run = Self::build(&settings.config, folder)?;
        run.folder.create()?;
        run.lock = Some(run.folder.lock()?);
        run.folder.write(RunFolder::CONFIG, settings.to_toml()?.as_bytes())?;
        Ok(run)
    }

    /// Goes on with a run from its last checkpoint, or from the start where it has none; later lines of its logs are taken back,
    /// so that they end as those of a run that was never stopped. `settings` are those of the folder with changes on top.
    ///
    /// # Errors
    /// When the folder is not a run's, a setting was changed that a run cannot change, or model or data have changed.
    pub fn resume(settings: &Resolved, dir: &Path) -> Result<Self, RunError> {
        let folder = RunFolder::at(dir);
        let before = crate::resolve(&[crate::Layer::File(folder.config_file())])?.config;
        let config = &settings.config;
        if let Some((key, was, is)) = changed_for_good(&before, config) {
            let expected = format!("{was} as it was: start a new run, from this one's checkpoint if you like");
            return Err(RunError::setting(&key, is, expected));
        }
        let lock = folder.lock()?;
        let mut run = Self::build(config, folder)?;
        run.lock = Some(lock);
        let checkpoint = run.folder.last_checkpoint()?;
        if let Some((_, path)) = &checkpoint {
            run.trainer.restore(path)?;
        }
        run.folder.rewind(run.trainer.steps(), |steps| run.is_evaluated(steps))?;
        // Settings that train nothing leave no trace.
        if before != *config && !run.is_finished() {
            run.folder.write(RunFolder::CONFIG, settings.to_toml()?.as_bytes())?;
        }
        Ok(run)
    }

    fn build(config: &RunConfig, folder: RunFolder) -> Result<Self, RunError> {
        config.validate()?;
        let source = ModelSource::find(&config.model.path, &config.model.revision)?;
        let (policy, tokenizer) = source.load()?;
        let context = policy.config().max_position_embeddings;
        let longest = config.rollout.max_new_tokens.max(config.eval.max_new_tokens);
        if longest >= context {
            let key = if longest == config.rollout.max_new_tokens { "rollout" } else { "eval" };
            let expected = format!("less than the model's context of {context} tokens");
            return Err(RunError::setting(&format!("{key}.max_new_tokens"), longest, expected));
        }
        let limit = config.data.max_prompt_tokens.min(context - longest);
        let problems = load_problems(&config.data, config.seed, &tokenizer, &config.prompt_style(), limit)?;
        if config.eval.every > 0 && problems.validation.is_empty() {
            let expected = "0, or problems in data.validation or data.validation_split";
            return Err(RunError::setting("eval.every", config.eval.every, expected));
        }
        let mut validation = problems.validation;
        if config.eval.limit > 0 {
            validation.truncate(config.eval.limit);
        }
        let mut policy = match config.lora_config()? {
            Some(lora) => policy.with_lora(&lora, config.seed)?,
            None => policy,
        };
        policy.set_layer_memory(config.layer_memory());
        let placed = place(&mut policy, config.model.device.parse()?)?;
        let mut trainer_config = config.trainer_config()?;
        if let (None, Device::Cuda(ordinal)) = (trainer_config.cache_bytes, placed.device) {
            trainer_config.cache_bytes = Some(cache_left(config, policy.config(), cuda_memory(ordinal)?));
        }
        let trainer = Trainer::new(policy, tokenizer, problems.train, config.reward_sum()?, trainer_config)?;
        let judge = RewardSum::new(vec![(1.0, Box::new(config.accuracy()?))]);
        let (base_model, config, counts) = (source.base()?, config.clone(), problems.counts);
        Ok(Self { folder, config, trainer, validation, judge, counts, base_model, placed, lock: None })
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

    /// Whether all steps are made.
    pub fn is_finished(&self) -> bool {
        self.trainer.steps() >= self.config.train.steps
    }

    /// The evaluation before the first step, where evaluations are asked for and the run is at its start.
    ///
    /// # Errors
    /// When it fails, or cannot be written.
    pub fn evaluate_at_start(&mut self) -> Result<Option<EvalReport>, RunError> {
        if self.config.eval.every == 0 || self.trainer.steps() > 0 {
            return Ok(None);
        }
        self.evaluate().map(Some)
    }

    /// A step: trains, logs, and evaluates and writes a checkpoint where these are due.
    ///
    /// # Errors
    /// When training fails, or something cannot be written; the run can be resumed from its last checkpoint.
    pub fn step(&mut self) -> Result<RunStep, RunError> {
        let outcome = self.trainer.step()?;
        let steps = self.trainer.steps();
        if self.config.output.completions {
            let step = outcome.metrics.step;
            self.folder.write_completions(step, outcome.groups.iter().flat_map(|record| lines(step, record)))?;
        }
        self.folder.append(RunFolder::METRICS, &outcome.metrics)?;
        self.folder.append(RunFolder::TIMINGS, &outcome.timings)?;
        let evaluation = if self.is_evaluated(steps) { Some(self.evaluate()?) } else { None };
        let every = self.config.output.checkpoint_every;
        let is_saved = (every > 0 && steps.is_multiple_of(every)) || self.is_finished();
        let checkpoint = if is_saved { Some(self.save()?) } else { None };
        Ok(RunStep { metrics: outcome.metrics, timings: outcome.timings, evaluation, checkpoint })
    }

    /// Whether an evaluation is due after so many steps.
    fn is_evaluated(&self, steps: u64) -> bool {
        let every = self.config.eval.every;
        every > 0 && (steps.is_multiple_of(every) || steps == self.config.train.steps)
    }

    /// Writes a checkpoint of the present state, if there is none yet.
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
        let tokens = if eval.max_new_tokens == 0 { self.config.rollout.max_new_tokens } else { eval.max_new_tokens };
        let generation = GenerationConfig {
            max_new_tokens: tokens,
            sampling: SamplingConfig { temperature: eval.temperature, top_p: eval.top_p, top_k: 0 },
            stop_token_ids: self.trainer.policy().config().eos_token_ids.clone(),
            seed: self.config.seed,
            purpose: Purpose::Evaluation,
            cache_bytes: self.trainer.config().cache_bytes,
        };
        let (policy, tokenizer) = (self.trainer.policy(), self.trainer.tokenizer());
        let evaluation = evaluate(policy, tokenizer, &self.validation, eval.samples, &generation, &self.judge)?;
        let mut report = evaluation.report(&self.config.accuracy()?.grader);
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
    crate::keys().iter().filter(|key| fixed(&key.path)).find_map(|key| {
        let pointer = format!("/{}", key.path.replace('.', "/"));
        let (was, is) = (before.pointer(&pointer)?, after.pointer(&pointer)?);
        (was != is).then(|| (key.path.clone(), was.to_string(), is.to_string()))
    })
}

/// The completions of a group as lines.
fn lines(step: u64, record: &GroupRecord) -> impl Iterator<Item = CompletionLine<'_>> {
    let group = &record.group;
    (0..group.completions.len()).map(move |i| CompletionLine {
        step,
        prompt_id: &group.prompt.id,
        draw: record.draw,
        sample: i,
        prompt: &group.prompt.text,
        completion: &group.texts[i],
        tokens: group.completions[i].token_ids.len(),
        finish_reason: group.completions[i].finish_reason,
        rewards: group.rewards[i].components.iter().map(|c| (c.name.as_str(), c.value)).collect(),
        reward: group.final_reward(i),
        correct: group.rewards[i].correct,
        advantage: record.advantages[i],
        in_loss: record.in_loss[i],
        fate: record.fate,
        age: record.age,
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
    let mut layers = vec![crate::Layer::File(file)];
    layers.extend(changes.iter().map(|change| crate::Layer::Override(change.clone())));
    Ok(crate::resolve(&layers)?)
}
