//! How a run begins: new in its folder, or from one of its checkpoints.

use crate::best::Scores;
use crate::build::of_setting;
use crate::estimate::cache_left;
use crate::folder::RunFolder;
use crate::guards::{Figures, Guards};
use crate::identity::{changed_for_good, check_seal, sealed, settings_hash, with_absolute_paths};
use crate::layers::{Layer, Resolved, resolve};
use crate::logs::{LogState, Logs};
use crate::machine::fits;
use crate::model::ModelSource;
use crate::placement::place;
use crate::plan::prepare;
use crate::run::Run;
use crate::run_error::RunError;
use crate::settings::RunConfig;
use crate::trackers::Trackers;
use crate::trial::RunRewards;
use crate::trust::Trust;
use crate::watch::Watcher;
use dapo_data::Prompt;
use dapo_policy::{Device, StopStrings, cuda_memory};
use dapo_reward::RewardSum;
use dapo_trainer::{Manifest, Trainer, TrainerError, fingerprint_of_data};
use serde_json::{Map, Value};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

/// From where a run is resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The checkpoint, by the steps made before it; 0 is the start. By default the last one.
    pub from_step: Option<u64>,
    /// What is accepted without a hash.
    pub trust: Trust,
}

impl Run {
    /// Starts a run in a new or empty folder. Nothing is written before model, data and settings are known to be good.
    ///
    /// # Errors
    /// When a setting is invalid, the model or data cannot be read, or the folder is not free.
    pub fn create(settings: &Resolved, dir: &Path) -> Result<Self, RunError> {
        Self::start(settings, dir, Trust::Verified, None)
    }

    /// As [`create`](Self::create); the model may come from a checkpoint that is not verified, and rewards may be one's own:
    /// see [`create_with`](Self::create_with).
    ///
    /// # Errors
    /// As there.
    pub fn start(settings: &Resolved, dir: &Path, trust: Trust, rewards: Option<RunRewards>) -> Result<Self, RunError> {
        let folder = RunFolder::at(dir);
        folder.check_is_free()?;
        let mut run = Self::build(&with_absolute_paths(&settings.config), folder, trust, rewards)?;
        run.lock = Some(run.folder.create(&sealed(&run.written)?)?);
        run.externals.attach(run.folder.path())?;
        Ok(run)
    }

    /// Resumes a run from its last checkpoint, or from the start where it has none. Later lines of its logs are removed, so
    /// that they end as those of a run that was never stopped. `settings` are those of the folder with changes on top.
    ///
    /// # Errors
    /// When the folder is not a run's, its settings, logs or checkpoint are not as they were written, a setting was changed
    /// that a run cannot change, or model or data have changed. The folder is then as it was.
    pub fn resume(settings: &Resolved, dir: &Path) -> Result<Self, RunError> {
        Self::resume_from(settings, dir, Resume::default(), None)
    }

    /// As [`resume`](Self::resume), from any checkpoint, whose successors are removed, or from one of an older version; with
    /// the rewards of one's own that the run was started with.
    ///
    /// # Errors
    /// As there.
    pub fn resume_from(
        changed: &Resolved,
        dir: &Path,
        how: Resume,
        rewards: Option<RunRewards>,
    ) -> Result<Self, RunError> {
        let folder = RunFolder::at(dir);
        let is_sealed = check_seal(&folder.config_file(), how.trust)?;
        let before = resolve(&[Layer::File(folder.config_file())])?.config;
        let config = with_absolute_paths(&changed.config);
        if let Some((key, was, is)) = changed_for_good(&before, &config) {
            let expected = format!("{was} as it was: start a new run, from this one's checkpoint if you like");
            return Err(RunError::setting(&key, is, expected));
        }
        let lock = folder.lock()?;
        let steps = match how.from_step {
            Some(steps) => steps,
            None => folder.last_checkpoint()?.map_or(0, |(steps, _)| steps),
        };
        let (path, settings) = (folder.checkpoint(steps), settings_hash(&before)?);
        let (manifest, mut logs) = match steps {
            0 => (None, LogState::default()),
            _ if !path.exists() => {
                let steps: Vec<String> = folder.checkpoints()?.iter().map(|(steps, _)| steps.to_string()).collect();
                let expected = match &steps[..] {
                    [] => "a checkpoint: the run has none".to_owned(),
                    steps => format!("one of the run's checkpoints, those of step {}", steps.join(", ")),
                };
                return Err(RunError::folder(&path, "missing", expected));
            }
            _ => {
                let verified = folder.verify(steps, &settings, how.trust);
                verified.map_err(|error| folder.damaged(error, steps, &settings))?
            }
        };
        let mut run = Self::build(&config, folder, how.trust, rewards)?;
        run.lock = Some(lock);
        run.externals.attach(run.folder.path())?;
        if steps > 0 {
            run.trainer.restore_unverified(&path)?;
        }
        let of_run = manifest.as_ref().and_then(|manifest| manifest.run.as_ref());
        if let Some(of_run) = of_run.filter(|of_run| of_run.validation != run.validation_fingerprint) {
            let found = format!("a run with other validation problems ({})", of_run.validation);
            let expected = format!("one with those given now ({})", run.validation_fingerprint);
            return Err(RunError::folder(&path.join(Manifest::FILE), found, expected));
        }
        let pending = of_run.map(|of_run| of_run.pending.clone()).unwrap_or_default();
        logs.drop_pending_timings(&run.folder, steps, &pending)?;
        run.take_back(steps, manifest, &mut logs)?;
        run.logs.rewind(steps, logs)?;
        run.logs.complete(steps, pending)?;
        run.trackers.rewind(steps, run.logs.has_evaluation(steps)?);
        for line in run.logs.read::<Map<String, Value>>(RunFolder::EVALUATIONS)? {
            run.scores.add_line(&line)?;
        }
        for figures in run.logs.read::<Figures>(RunFolder::METRICS)? {
            run.guards.observe(&figures, &run.config.guards);
        }
        run.owes_evaluation = steps > 0 && run.is_evaluated(steps) && !run.logs.has_evaluation(steps)?;
        // Settings that train nothing leave no trace.
        if (before != run.written || !is_sealed) && !run.is_finished() {
            run.folder.write_settings(&sealed(&run.written)?)?;
        }
        if steps > 0 && run.is_scheduled(steps) && !run.owes_evaluation {
            run.save()?;
        } else {
            run.folder.tidy()?;
        }
        Ok(run)
    }

    /// Makes a checkpoint the last one, and leaves out its evaluation where it is not due by the present settings, such as
    /// that at the end of a run that now continues; the run has then not ended there.
    fn take_back(&self, steps: u64, manifest: Option<Manifest>, logs: &mut LogState) -> Result<(), RunError> {
        self.folder.remove_later(steps)?;
        let is_kept = self.is_finished() || self.is_evaluated(steps);
        let drops = !is_kept && logs.drop_evaluation(&self.folder, steps)?;
        // The manifest first: a log may be longer than it says, and not shorter.
        if let Some(mut manifest) = manifest
            && let Some(of_run) = &mut manifest.run
            && (drops || of_run.ended && !self.is_finished())
        {
            if drops {
                of_run.logs = logs.digests();
            }
            of_run.ended = self.is_finished();
            manifest.write(&self.folder.checkpoint(steps))?;
        }
        Ok(())
    }

    fn build(config: &RunConfig, folder: RunFolder, trust: Trust, own: Option<RunRewards>) -> Result<Self, RunError> {
        config.validate()?;
        // Evaluations are judged by what is trained on, where that is not known to this crate.
        let is_own = own.is_some() || !config.rewards.own.0.is_empty() || config.env.is_some();
        let RunRewards { sum: rewards, externals } = own.map_or_else(|| config.run_rewards(), Ok)?;
        let source = ModelSource::find_with(&config.model.path, &config.model.revision, trust)?;
        let too_much = fits(config, &source.config()?, folder.path())?;
        let (policy, tokenizer) = source.load()?;
        let written = config;
        let (config, problems) = prepare(written, &rewards, policy.config().max_position_embeddings, &tokenizer)?;
        let have_answers = |prompts: &[Prompt]| prompts.iter().any(|prompt| prompt.answers().next().is_some());
        let rewards = if have_answers(&problems.train) { rewards } else { rewards.without_answers() };
        let mut validation = problems.validation;
        let validation_fingerprint = fingerprint_of_data(&validation);
        if let Some(limit) = config.eval.limit {
            validation.truncate(limit);
        }
        let mut policy = match &config.lora {
            Some(lora) => policy.with_lora(lora, config.seed)?,
            None => policy,
        };
        policy.set_layer_memory(config.train.layer_memory);
        let placed = place(&mut policy, config.model.device.parse()?)?;
        policy.set_weight_format(config.model.weights)?;
        config.check_on(placed.device)?;
        let stop_strings = |stop: &[String], section: &str| {
            StopStrings::new(stop, &tokenizer).map_err(|error| of_setting(TrainerError::from(error).within(section)))
        };
        stop_strings(&config.rollout.stop, "rollout")?;
        let eval_stop = stop_strings(config.eval_stop(), "eval")?;
        let mut trainer_config = config.trainer_config();
        if let (None, Device::Cuda(ordinal)) = (trainer_config.cache_bytes, placed.device) {
            trainer_config.cache_bytes = Some(cache_left(&config, policy.config(), cuda_memory(ordinal)?));
        }
        let is_judged = validation.is_empty() || have_answers(&validation);
        let accuracy = (!is_own && is_judged).then(|| config.accuracy().clone());
        let judge = accuracy.map(|accuracy| RewardSum::new(vec![(1.0, Box::new(accuracy))])).transpose();
        let judge = judge.map_err(TrainerError::from)?;
        let trainer = Trainer::new(policy, tokenizer, problems.train, rewards, trainer_config)?;
        Ok(Self {
            logs: Logs::of(&folder),
            trackers: Trackers::of(&folder, &config.output.trackers),
            scores: Scores::by(config.output.keep_best.as_deref()),
            folder,
            settings_hash: settings_hash(written)?,
            written: written.clone(),
            config,
            trainer,
            validation,
            validation_fingerprint,
            eval_stop,
            externals,
            judge,
            counts: problems.counts,
            unreadable: problems.unreadable,
            folders: problems.folders,
            base_model: source.base()?,
            placed,
            guards: Guards::default(),
            too_much,
            mastered: false,
            owes_evaluation: false,
            saved: Instant::now(),
            lock: None,
            watcher: Watcher::default(),
        })
    }
}

/// The settings of a run folder with changes on top, for [`Run::resume`].
///
/// # Errors
/// When the folder has no settings, or a change is not one.
pub fn settings_of(dir: &Path, changes: &[String]) -> Result<Resolved, RunError> {
    let file = RunFolder::at(dir).config_file();
    match fs::metadata(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(RunError::NoRun { path: dir.to_owned() }),
        other => other.map(|_| ()).map_err(RunError::io(&file))?,
    }
    let mut layers = vec![Layer::File(file)];
    layers.extend(changes.iter().map(|change| Layer::Override(change.clone())));
    Ok(resolve(&layers)?)
}
