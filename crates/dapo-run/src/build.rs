//! From settings to the parts they configure, and how sections go together.

use crate::best::check_metric;
use crate::external::{ENV, Externals, Opening, open_env, open_own};
use crate::placement::DeviceChoice;
use crate::run_error::RunError;
use crate::settings::{DistSection, Judging, RunConfig, Weighted};
use dapo_policy::{Compute, Device, WeightFormat};
use dapo_reward::{
    Accuracy, CosineLength, OnAbstain, ProportionalOverlong, Repetition, RewardError, RewardFn, RewardSum, RewardTerm,
    SoftOverlong, TagCount,
};
use dapo_trainer::{CriticLayers, TrainerConfig, TrainerError};
use std::sync::LazyLock;

/// Where the trainer's own settings stand among a run's; all others have the same path in both.
const KEYS: [(&str, &str); 11] = [
    ("group_size", "rollout.group_size"),
    ("max_new_tokens", "rollout.max_new_tokens"),
    ("sampling.", "rollout."),
    ("stop[", "rollout.stop["),
    ("kl_in_reward", "rewards.kl_coef"),
    ("mini_batches", "train.mini_batches"),
    ("min_mini_batch", "train.min_mini_batch"),
    ("updates_per_batch", "train.updates_per_batch"),
    ("micro_batch_tokens", "train.micro_batch_tokens"),
    ("shards", "train.shards"),
    ("overlong_filter", "overlong.filter"),
];

/// A part's complaint about a setting, under the key of its section.
fn at<E: Into<TrainerError>>(section: &str) -> impl FnOnce(E) -> RunError {
    move |error| of_setting(error.into().within(section))
}

/// A complaint about a setting, as a run makes it.
pub(crate) fn of_setting(error: TrainerError) -> RunError {
    match error {
        TrainerError::Setting { field, found, expected } => RunError::setting(&field, found, expected),
        other => other.into(),
    }
}

fn at_least_1(key: &str, value: Option<u64>) -> Result<(), RunError> {
    if value == Some(0) { Err(RunError::setting(key, 0, "at least 1")) } else { Ok(()) }
}

impl RunConfig {
    /// Checks every value's range and how values go together. Files and programs that they name are not looked at.
    ///
    /// # Errors
    /// [`RunError::Setting`] names the first key, its value and what is allowed.
    pub fn validate(&self) -> Result<(), RunError> {
        if !(0.0..1.0).contains(&self.data.validation_split) {
            let expected = "at least 0 and below 1";
            return Err(RunError::setting("data.validation_split", self.data.validation_split, expected));
        }
        if let (Some(_), Some(column)) = (&self.data.style.system, &self.data.fields.system) {
            let expected = "unset beside data.system: a problem has one system message";
            return Err(RunError::setting("data.fields.system", column, expected));
        }
        at_least_1("data.max_prompt_tokens", Some(self.data.max_prompt_tokens as u64))?;
        at_least_1("data.limit", self.data.limit.map(|limit| limit as u64))?;
        at_least_1("rollout.cache_mib", self.rollout.cache_mib.map(|mib| mib as u64))?;
        at_least_1("train.steps", Some(self.train.steps))?;
        if let Some(passes) = self.train.passes.filter(|passes| !(passes.is_finite() && *passes > 0.0)) {
            return Err(RunError::setting("train.passes", passes, "a finite number above 0"));
        }
        at_least_1("eval.every", self.eval.every)?;
        at_least_1("eval.samples", Some(self.eval.samples as u64))?;
        at_least_1("eval.max_new_tokens", self.eval.max_new_tokens.map(|tokens| tokens as u64))?;
        at_least_1("eval.limit", self.eval.limit.map(|limit| limit as u64))?;
        if let Some(i) = self.eval.stop.iter().flatten().position(String::is_empty) {
            return Err(RunError::setting(&format!("eval.stop[{i}]"), "\"\"", "a text of at least one character"));
        }
        if let Some(minutes) = self.output.checkpoint_minutes.filter(|minutes| !(minutes.is_finite() && *minutes > 0.0))
        {
            return Err(RunError::setting("output.checkpoint_minutes", minutes, "a finite number above 0, or unset"));
        }
        if !DistSection::RANGE.contains(&self.dist.timeout_s) {
            return Err(RunError::setting("dist.timeout_s", self.dist.timeout_s, "a number from 1 to 1000000"));
        }
        if let Some(metric) = &self.output.keep_best {
            check_metric(metric, self.eval.every)?;
        }
        self.model.device.parse::<DeviceChoice>()?;
        if (self.model.weights, self.model.compute) == (WeightFormat::F32, Compute::Bf16) {
            let expected = "\"f32\" with model.weights = \"f32\"; products in bf16 need weights in bf16";
            return Err(RunError::setting("model.compute", "\"bf16\"", expected));
        }
        self.eval.sampling().validate().map_err(at("eval"))?;
        if let Some(lora) = &self.lora {
            // Its fields have the section's name already.
            lora.validate().map_err(|error| of_setting(TrainerError::from(error).within("")))?;
            if let Some(every) = self.reference_sync.every {
                let expected = "unset with lora: the reference is the model without its adapters";
                return Err(RunError::setting("reference_sync.every", every, expected));
            }
        }
        if let Some(env) = &self.env {
            env.validate().map_err(at(ENV))?;
        }
        self.guards.validate()?;
        self.sum(self.terms(Opening::Checked)?.0)?;
        self.trainer_config().validate().map_err(|error| match of_setting(error) {
            RunError::Setting { key, found, expected } => {
                let ours = KEYS.iter().find_map(|(field, ours)| Some(format!("{ours}{}", key.strip_prefix(field)?)));
                RunError::Setting { key: ours.unwrap_or(key), found, expected }
            }
            other => other,
        })
    }

    /// Rollout steps of a run on this number of problems:
    ///
    /// ```text
    /// ⌈passes · problems / train_batch⌉
    /// ```
    ///
    /// and at least 1, or `train.steps` where no passes are set.
    ///
    /// ```
    /// let mut config = dapo_run::RunConfig::default();
    /// config.sampler.train_batch = 128;
    /// assert_eq!(config.steps_on(7473), 100);
    /// config.train.passes = Some(3.0);
    /// assert_eq!(config.steps_on(7473), 176);
    /// ```
    pub fn steps_on(&self, problems: usize) -> u64 {
        let Some(passes) = self.train.passes else { return self.train.steps };
        let steps = passes * problems as f64 / self.sampler.train_batch.max(1) as f64;
        // What rounding adds to a whole number is no further step.
        ((steps * (1.0 - 1e-12)).ceil() as u64).max(1)
    }

    /// Tokens that may follow a prompt: those that are generated, and those of an environment.
    pub(crate) fn max_tokens_after_prompt(&self) -> usize {
        self.rollout.max_new_tokens.saturating_add(self.env.as_ref().map_or(0, |env| env.max_context_tokens))
    }

    /// Fails where a setting asks for what only a CPU does.
    pub(crate) fn check_on(&self, device: Device) -> Result<(), RunError> {
        if device == Device::Cpu && !self.model.compute.is_supported() {
            let expected = "\"f32\" on this CPU, which lacks AVX512-BF16";
            return Err(RunError::setting("model.compute", "\"bf16\"", expected));
        }
        let penalties = [
            ("rollout.repetition_penalty", self.rollout.sampling.repetition_penalty),
            ("eval.repetition_penalty", self.eval.repetition_penalty),
        ];
        match penalties.into_iter().find(|(_, penalty)| device != Device::Cpu && *penalty != 1.0) {
            Some((key, penalty)) => {
                let expected = "1 on a GPU, which draws without a penalty; or model.device = \"cpu\"";
                Err(RunError::setting(key, penalty, expected))
            }
            None => Ok(()),
        }
    }

    /// The texts that end a completion of an evaluation.
    pub(crate) fn eval_stop(&self) -> &[String] {
        self.eval.stop.as_ref().unwrap_or(&self.rollout.stop)
    }

    /// The trainer's settings.
    pub fn trainer_config(&self) -> TrainerConfig {
        let mut loss = self.loss;
        loss.aggregation = loss.aggregation.or_max_len(self.rollout.max_new_tokens);
        let mut optimizer = self.optimizer;
        optimizer.decay_steps.get_or_insert(self.train.steps);
        TrainerConfig {
            seed: self.seed,
            group_size: self.rollout.group_size,
            max_new_tokens: self.rollout.max_new_tokens,
            sampling: self.rollout.sampling,
            stop: self.rollout.stop.clone(),
            sampler: self.sampler.clone(),
            advantage: self.advantage,
            overlong_filter: self.overlong.filter,
            loss,
            kl_in_reward: self.rewards.kl_coef,
            reference_sync: self.reference_sync,
            optimizer,
            critic: self.critic.map(|mut critic| {
                critic.optimizer.decay_steps.get_or_insert(self.train.steps);
                critic
            }),
            mini_batches: self.train.mini_batches,
            min_mini_batch: self.train.min_mini_batch,
            updates_per_batch: self.train.updates_per_batch,
            micro_batch_tokens: self.train.micro_batch_tokens,
            shards: self.train.shards,
            on_mastered: self.train.on_mastered,
            cache_bytes: self.rollout.cache_mib.map(|mib| mib.saturating_mul(1 << 20)),
            keep_activations_bytes: self.rollout.keep_activations_mib.map(|mib| mib.saturating_mul(1 << 20)),
            ignore_eos: self.rollout.ignore_eos,
            draft_tokens: self.rollout.draft_tokens,
        }
    }

    /// Whether a reference model is needed.
    pub fn has_reference(&self) -> bool {
        self.loss.kl.coef > 0.0 || self.rewards.kl_coef > 0.0
    }

    /// Whether PPO's critic has layers of its own.
    pub(crate) fn has_own_critic(&self) -> bool {
        self.critic.is_some_and(|critic| critic.layers == CriticLayers::Own)
    }

    /// The reward: a weighted sum of the components that the settings have.
    ///
    /// # Errors
    /// When a component's values are outside their range, or `rewards.correct` is none of the judges.
    pub fn reward_sum(&self) -> Result<RewardSum, RunError> {
        self.sum(self.reward_terms()?)
    }

    /// The reward of a run, and those of its components that are computed elsewhere.
    pub(crate) fn opened(&self) -> Result<(RewardSum, Externals), RunError> {
        let (terms, externals) = self.terms(Opening::Opened)?;
        Ok((self.sum(terms)?, externals))
    }

    fn sum(&self, terms: Vec<RewardTerm>) -> Result<RewardSum, RunError> {
        let sum = RewardSum::of(terms).map_err(at("rewards"))?;
        let Some(name) = &self.rewards.correct else { return Ok(sum) };
        sum.judged_by(name).map_err(|error| match error {
            RewardError::Judge { name, judges } => {
                // One of the user's own judges as soon as it is named.
                let judges: Vec<&str> = judges.iter().chain(self.rewards.own.0.keys()).map(String::as_str).collect();
                let expected = format!("a reward that judges: {}", judges.join(", "));
                RunError::setting("rewards.correct", name, expected)
            }
            other => at("rewards")(other),
        })
    }

    /// The terms of [`reward_sum`](Self::reward_sum). In a run those of them that are computed elsewhere keep no answers, unlike
    /// those of [`run_rewards`](Self::run_rewards).
    ///
    /// # Errors
    /// When a component's values are outside their range, or a program or file that it names is not there.
    pub fn reward_terms(&self) -> Result<Vec<RewardTerm>, RunError> {
        Ok(self.terms(Opening::Opened)?.0)
    }

    /// The terms, and those of them that are computed elsewhere.
    pub(crate) fn terms(&self, opening: Opening) -> Result<(Vec<RewardTerm>, Externals), RunError> {
        let rewards = &self.rewards;
        let max_new_tokens = self.rollout.max_new_tokens;
        let mut terms = Terms::default();
        terms.judging("accuracy", rewards.accuracy.as_ref(), Accuracy::validate)?;
        terms.add("format", rewards.format.as_ref(), |_| Ok(()))?;
        if let Some(tags) = &rewards.tag_count {
            terms.push("tag_count", tags.weight, OnAbstain::default(), TagCount)?;
        }
        let mut soft = rewards.soft_overlong.clone();
        if let Some(Weighted { reward, .. }) = &mut soft {
            reward.max_len.get_or_insert(max_new_tokens);
        }
        terms.add("soft_overlong", soft.as_ref(), SoftOverlong::validate)?;
        let mut proportional = rewards.proportional_overlong.clone();
        if let Some(Weighted { reward, .. }) = &mut proportional {
            reward.threshold.get_or_insert((max_new_tokens * 4 / 5).max(1));
        }
        terms.add("proportional_overlong", proportional.as_ref(), ProportionalOverlong::validate)?;
        terms.add("repetition", rewards.repetition.as_ref(), Repetition::validate)?;
        let mut length = rewards.length.clone();
        if let Some(Judging { reward, .. }) = &mut length {
            reward.accuracy = self.accuracy().clone();
        }
        terms.judging("length", length.as_ref(), CosineLength::validate)?;
        let mut externals = Externals::default();
        for (name, own) in &rewards.own.0 {
            let judges = rewards.correct.as_ref() == Some(name);
            let reward = open_own(name, own, judges, opening, &mut externals)?;
            terms.push(name, own.weight, own.on_abstain, reward)?;
        }
        if let Some(env) = &self.env {
            let judges = rewards.correct.as_deref() == Some(ENV);
            terms.push(ENV, env.weight, env.on_abstain, open_env(env, &mut externals)?.judging(judges))?;
        }
        Ok((terms.0, externals))
    }

    /// The judge of answers; the default one where the settings have it off.
    pub fn accuracy(&self) -> &Accuracy {
        static DEFAULT: LazyLock<Accuracy> = LazyLock::new(Accuracy::default);
        self.rewards.accuracy.as_ref().map_or(&DEFAULT, |accuracy| &accuracy.reward)
    }
}

/// The terms of a sum of rewards.
#[derive(Default)]
struct Terms(Vec<RewardTerm>);

impl Terms {
    fn add<T: RewardFn + Clone + Default + 'static>(
        &mut self,
        name: &str,
        component: Option<&Weighted<T>>,
        validate: impl FnOnce(&T) -> Result<(), RewardError>,
    ) -> Result<(), RunError> {
        let Some(Weighted { weight, reward }) = component else { return Ok(()) };
        validate(reward).map_err(at(&format!("rewards.{name}")))?;
        self.push(name, *weight, OnAbstain::default(), reward.clone())
    }

    fn judging<T: RewardFn + Clone + Default + 'static>(
        &mut self,
        name: &str,
        component: Option<&Judging<T>>,
        validate: impl FnOnce(&T) -> Result<(), RewardError>,
    ) -> Result<(), RunError> {
        let Some(Judging { weight, on_abstain, reward }) = component else { return Ok(()) };
        validate(reward).map_err(at(&format!("rewards.{name}")))?;
        self.push(name, *weight, *on_abstain, reward.clone())
    }

    fn push(
        &mut self,
        name: &str,
        weight: f64,
        on_abstain: OnAbstain,
        reward: impl RewardFn + 'static,
    ) -> Result<(), RunError> {
        if !weight.is_finite() {
            return Err(RunError::setting(&format!("rewards.{name}.weight"), weight, "a finite number"));
        }
        self.0.push(RewardTerm::new(weight, reward).on_abstain(on_abstain));
        Ok(())
    }
}
