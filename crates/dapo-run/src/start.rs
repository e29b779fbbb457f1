//! How a run begins: new in its folder, or from one of its checkpoints.

use crate::best::Scores;
use crate::build::of_setting;
use crate::estimate::cache_left;
use crate::folder::RunFolder;
use crate::guards::{Figures, Guards};
use crate::identity::{sealed, settings_hash, with_absolute_paths};
use crate::inputs::share_inputs;
use crate::layers::{Layer, Resolved, resolve};
use crate::logs::{LogState, Logs};
use crate::machine::fits;
use crate::model::ModelSource;
use crate::placement::place;
use crate::plan::prepare;
use crate::ranks::Ranks;
use crate::resume::{Found, Resume, send_folder};
use crate::run::Run;
use crate::run_error::RunError;
use crate::settings::RunConfig;
use crate::trackers::Trackers;
use crate::trial::RunRewards;
use crate::trust::Trust;
use crate::watch::Watcher;
use dapo_data::Prompt;
use dapo_dist::{Solo, World, handshake};
use dapo_policy::{Device, StopStrings, cuda_memory};
use dapo_reward::RewardSum;
use dapo_trainer::{Digest, Manifest, Trainer, TrainerError, fingerprint_of_data};
use serde_json::{Map, Value};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

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
        Self::start_among(Arc::new(Solo), settings, dir, trust, rewards)
    }

    /// As [`start`](Self::start), as one of the ranks of a world, all of which have the same settings. Rank 0 has the
    /// folder and writes what there is to write. The others get the model and the data from it if they lack them, and write
    /// temporary files alone.
    ///
    /// # Errors
    /// As there; and [`RunError::Dist`], also where the ranks have other models, data or CPUs.
    pub fn start_among(
        world: Arc<dyn World>,
        settings: &Resolved,
        dir: &Path,
        trust: Trust,
        rewards: Option<RunRewards>,
    ) -> Result<Self, RunError> {
        let ranks = Ranks::of(world)?;
        let folder = ranks.folder(dir);
        folder.check_is_free()?;
        let config = share_inputs(&ranks, &with_absolute_paths(&settings.config), trust)?;
        let mut run = Self::build(&config, folder, trust, rewards, ranks)?;
        run.lock = Some(run.folder.create(&sealed(&run.written)?)?);
        run.externals.attach(run.folder.path())?;
        run.shake_hands()?;
        Ok(run)
    }

    /// Resumes a run from its last checkpoint, or from the start where it has none. Later lines of its logs are removed, so
    /// that they end as those of a run that was never stopped. `settings` are those of the folder with changes on top.
    ///
    /// # Errors
    /// When the folder is not a run's, or its settings, logs or checkpoint are not as they were written. When a setting was
    /// changed that a run cannot change, or model or data have changed. The folder is then as it was.
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
        Self::resume_among(Arc::new(Solo), changed, dir, how, rewards)
    }

    /// As [`resume_from`](Self::resume_from), as one of the ranks of a world; their number need not be the one that the run
    /// had before. Rank 0 has the folder, and sends the others what they need of it.
    ///
    /// # Errors
    /// As there and for [`start_among`](Self::start_among).
    pub fn resume_among(
        world: Arc<dyn World>,
        changed: &Resolved,
        dir: &Path,
        how: Resume,
        rewards: Option<RunRewards>,
    ) -> Result<Self, RunError> {
        let ranks = Ranks::of(world)?;
        let config = with_absolute_paths(&changed.config);
        ranks.phase("start: the checkpoint");
        let (mut run, steps, is_changed) = if ranks.keeps() {
            let found = Found::in_folder(&config, dir, how)?;
            send_folder(&ranks, &found.folder, found.steps)?;
            Self::continued(found, &config, how, rewards, ranks)?
        } else {
            Self::following(&config, dir, how.trust, rewards, ranks)?
        };
        run.ranks.phase("start: the logs");
        let logs = [RunFolder::METRICS, RunFolder::EVALUATIONS].map(str::to_owned);
        run.ranks.send_files(run.folder.path(), &logs)?;
        run.recall(steps)?;
        run.shake_hands()?;
        if is_changed {
            run.folder.write_settings(&sealed(&run.written)?)?;
        }
        if steps > 0 && run.is_scheduled(steps) && !run.owes_evaluation {
            run.save()?;
        } else if run.ranks.keeps() {
            run.folder.tidy()?;
        }
        Ok(run)
    }

    /// The run of the rank that keeps it, its folder as it was after the steps of the checkpoint; these steps; and whether
    /// the settings are others than those in the folder.
    fn continued(
        found: Found,
        config: &RunConfig,
        how: Resume,
        rewards: Option<RunRewards>,
        ranks: Ranks,
    ) -> Result<(Self, u64, bool), RunError> {
        let Found { folder, lock, steps, manifest, mut logs, before, is_sealed } = found;
        let path = folder.checkpoint(steps);
        let config = share_inputs(&ranks, config, how.trust)?;
        let mut run = Self::build(&config, folder, how.trust, rewards, ranks)?;
        run.lock = Some(lock);
        run.externals.attach(run.folder.path())?;
        if steps > 0 {
            run.restore(&path, Trust::Unverified)?;
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
        // Settings that train nothing leave no trace.
        let is_changed = (before != run.written || !is_sealed) && !run.is_finished();
        Ok((run, steps, is_changed))
    }

    /// The same of a rank that keeps nothing.
    fn following(
        config: &RunConfig,
        dir: &Path,
        trust: Trust,
        rewards: Option<RunRewards>,
        ranks: Ranks,
    ) -> Result<(Self, u64, bool), RunError> {
        let folder = ranks.folder(dir);
        let lock = folder.create(&sealed(config)?)?;
        let steps = send_folder(&ranks, &folder, 0)?;
        let config = share_inputs(&ranks, config, trust)?;
        let path = folder.checkpoint(steps);
        let mut run = Self::build(&config, folder, trust, rewards, ranks)?;
        run.lock = Some(lock);
        run.externals.attach(run.folder.path())?;
        if steps > 0 {
            run.restore(&path, trust)?;
            fs::remove_dir_all(&path).map_err(RunError::io(&path))?;
        }
        Ok((run, steps, false))
    }

    fn restore(&mut self, checkpoint: &Path, trust: Trust) -> Result<(), RunError> {
        let is_verified = trust == Trust::Verified;
        let (ranks, trainer) = (&self.ranks, &mut self.trainer);
        let restored = ranks.alive_during(|| {
            if is_verified { trainer.restore(checkpoint) } else { trainer.restore_unverified(checkpoint) }
        });
        Ok(restored?)
    }

    /// Learns from the logs what the run has come to.
    fn recall(&mut self, steps: u64) -> Result<(), RunError> {
        for line in self.logs.read::<Map<String, Value>>(RunFolder::EVALUATIONS)? {
            self.scores.add_line(&line)?;
        }
        for figures in self.logs.read::<Figures>(RunFolder::METRICS)? {
            self.guards.observe(&figures, &self.config.guards);
        }
        self.owes_evaluation = steps > 0 && self.is_evaluated(steps) && !self.logs.has_evaluation(steps)?;
        Ok(())
    }

    /// Checks that all ranks train the same thing alike, on whatever they have loaded.
    fn shake_hands(&self) -> Result<(), RunError> {
        if !self.ranks.are_several() {
            return Ok(());
        }
        self.ranks.phase("start: handshake");
        // Where model and data are may differ.
        let mut settings = self.written.clone();
        settings.model.path.clear();
        settings.data.train.clear();
        settings.data.validation.clear();
        let items = [
            ("the version of dapo", env!("CARGO_PKG_VERSION").to_owned()),
            ("the settings' hash", Digest::of(settings.to_toml()?.as_bytes()).blake3),
            ("the weights' fingerprint", self.trainer.fingerprint().to_owned()),
            ("the tokenizer's hash", Digest::of(self.trainer.tokenizer().to_json()?.as_bytes()).blake3),
            ("the fingerprint of the problems to train on", self.data_fingerprint.clone()),
            ("the fingerprint of the problems for evaluation", self.validation_fingerprint.clone()),
            ("the CPU's instruction sets", dapo_dist::cpu()),
        ];
        Ok(handshake(&**self.ranks.world(), &items)?)
    }

    /// Makes a checkpoint the last one. Leaves out its evaluation where the present settings do not ask for it, such as that
    /// at the end of a run that now continues; the run has then not ended there.
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

    fn build(
        config: &RunConfig,
        folder: RunFolder,
        trust: Trust,
        own: Option<RunRewards>,
        ranks: Ranks,
    ) -> Result<Self, RunError> {
        config.validate()?;
        // Evaluations are judged by what is trained on, where that is not known to this crate.
        let is_own = own.is_some() || !config.rewards.own.0.is_empty() || config.env.is_some();
        let RunRewards { sum: rewards, externals } = own.map_or_else(|| config.run_rewards(), Ok)?;
        let source = ModelSource::find_with(&config.model.path, &config.model.revision, trust)?;
        let too_much = fits(config, &source.config()?, folder.path())?;
        let (policy, tokenizer) = ranks.alive_during(|| source.load())?;
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
        config.check_on(placed.device)?;
        policy.set_weight_format(config.model.weights)?;
        policy.set_compute(config.model.compute)?;
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
        let data_fingerprint = fingerprint_of_data(&problems.train);
        let mut trainer = Trainer::new(policy, tokenizer, problems.train, rewards, trainer_config)?;
        trainer.set_world(Arc::clone(ranks.world())).map_err(|error| of_setting(error.within("train")))?;
        let trackers = if ranks.keeps() { &config.output.trackers[..] } else { &[] };
        let base_model = source.base()?;
        ranks.forget_inputs();
        Ok(Self {
            logs: Logs::of(&folder),
            trackers: Trackers::of(&folder, trackers),
            scores: Scores::by(config.output.keep_best.as_deref()),
            folder,
            settings_hash: settings_hash(written)?,
            written: written.clone(),
            config,
            trainer,
            data_fingerprint,
            validation,
            validation_fingerprint,
            eval_stop,
            externals,
            judge,
            counts: problems.counts,
            unreadable: problems.unreadable,
            unanswered: problems.unanswered,
            folders: problems.folders,
            base_model,
            placed,
            guards: Guards::default(),
            too_much,
            mastered: false,
            owes_evaluation: false,
            saved: Instant::now(),
            lock: None,
            ranks,
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
