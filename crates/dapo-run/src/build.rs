//! From settings to the parts they configure.

use crate::{GenBatchSize, GraderName, LossSection, LrSchedule, PolicyLossName, RunConfig, RunError, SurplusName};
use dapo_loss::{AdvantageNorm, Aggregation, ClipRange, Kl, LossConfig, PolicyLoss};
use dapo_policy::{LayerMemory, LoraConfig, SamplingConfig};
use dapo_reward::{
    Accuracy, CosineLength, Format, Grader, Profile, ProportionalOverlong, Repetition, RewardFn, RewardSum,
    SoftOverlong, TagCount, TextOptions, VerifyConfig,
};
use dapo_sampler::{FilterMetric, GenBatch, PerPrompt, SamplerConfig, SurplusPolicy};
use dapo_trainer::{OptimizerConfig, PromptStyle, ReferenceSync, Schedule, TrainerConfig};

impl RunConfig {
    /// Checks every value's range and how values go together.
    ///
    /// # Errors
    /// [`RunError::Setting`] names the first key, its value and what is allowed.
    pub fn validate(&self) -> Result<(), RunError> {
        let share = |key: &str, value: f64, expected: &str| match value {
            v if (0.0..1.0).contains(&v) => Ok(()),
            v => Err(RunError::setting(key, v, expected)),
        };
        share("data.validation_split", self.data.validation_split, "at least 0 and below 1")?;
        share("optimizer.beta1", self.optimizer.beta1, "at least 0 and below 1")?;
        share("optimizer.beta2", self.optimizer.beta2, "at least 0 and below 1")?;
        for (key, value) in [
            ("data.max_prompt_tokens", self.data.max_prompt_tokens as u64),
            ("rollout.max_new_tokens", self.rollout.max_new_tokens as u64),
            ("sampler.train_batch", self.sampler.train_batch as u64),
            ("sampler.per_prompt_increment", self.sampler.per_prompt_increment as u64),
            ("train.steps", self.train.steps),
            ("train.epochs", self.train.epochs as u64),
            ("train.mini_batches", self.train.mini_batches as u64),
            ("train.micro_batch_tokens", self.train.micro_batch_tokens as u64),
            ("eval.samples", self.eval.samples as u64),
        ] {
            if value == 0 {
                return Err(RunError::setting(key, value, "at least 1"));
            }
        }
        self.model.device.parse::<crate::DeviceChoice>()?;
        if self.rollout.group_size < 2 {
            let expected = "at least 2: a group of one has no baseline";
            return Err(RunError::setting("rollout.group_size", self.rollout.group_size, expected));
        }
        let sampling = |section: &str, temperature: f32, top_p: f32, least: &str| {
            if !(temperature.is_finite() && temperature >= 0.0) || (temperature == 0.0 && least == "above 0") {
                return Err(RunError::setting(
                    &format!("{section}.temperature"),
                    temperature,
                    format!("a finite number {least}"),
                ));
            }
            if !(top_p > 0.0 && top_p <= 1.0) {
                return Err(RunError::setting(&format!("{section}.top_p"), top_p, "above 0 and at most 1"));
            }
            Ok(())
        };
        // Greedy completions of a prompt are all the same.
        sampling("rollout", self.rollout.temperature, self.rollout.top_p, "above 0")?;
        sampling("eval", self.eval.temperature, self.eval.top_p, "of at least 0")?;
        for (key, value) in [
            ("sampler.tolerance", self.sampler.tolerance),
            ("advantage.eps", self.advantage.eps),
            ("loss.entropy_coef", f64::from(self.loss.entropy_coef)),
            ("kl.coef", f64::from(self.kl.coef)),
            ("optimizer.lr", self.optimizer.lr),
            ("optimizer.eps", self.optimizer.eps),
            ("optimizer.weight_decay", self.optimizer.weight_decay),
            ("optimizer.max_grad_norm", self.optimizer.max_grad_norm),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(RunError::setting(key, value, "a finite number of at least 0"));
            }
        }
        for (key, value) in
            [("kl.sync_mixup", self.kl.sync_mixup), ("optimizer.min_lr_ratio", self.optimizer.min_lr_ratio)]
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(RunError::setting(key, value, "from 0 to 1"));
            }
        }
        self.check_names_of_ours()?;
        let (samples, group) = (self.sampler.per_prompt_max_samples, self.rollout.group_size);
        if samples != 0 && samples <= group {
            let expected = format!("0, or more than rollout.group_size = {group}");
            return Err(RunError::setting("sampler.per_prompt_max_samples", samples, expected));
        }
        if self.kl.sync_every > 0 && self.lora.rank > 0 {
            let expected = "0 with lora.rank above 0: the reference is the model without its adapters";
            return Err(RunError::setting("kl.sync_every", self.kl.sync_every, expected));
        }
        self.lora_config()?;
        self.reward_sum()?;
        self.trainer_config()?.validate()?;
        Ok(())
    }

    /// What the parts would refuse under names of their own.
    fn check_names_of_ours(&self) -> Result<(), RunError> {
        let loss = &self.loss;
        for (key, value, most) in [("loss.clip_low", loss.clip_low, 1.0), ("loss.clip_high", loss.clip_high, f32::MAX)]
        {
            if let Some(value) = value.filter(|value| !(0.0..=most).contains(value)) {
                let expected = if most == 1.0 { "from 0 to 1" } else { "a finite number of at least 0" };
                return Err(RunError::setting(key, value, expected));
            }
        }
        if loss.dual_clip != 0.0 && !(loss.dual_clip > 1.0 && loss.dual_clip.is_finite()) {
            return Err(RunError::setting("loss.dual_clip", loss.dual_clip, "0, or a finite number above 1"));
        }
        for (key, tau) in [("loss.tau_positive", loss.tau_positive), ("loss.tau_negative", loss.tau_negative)] {
            if !(tau > 0.0 && tau.is_finite()) {
                return Err(RunError::setting(key, tau, "a finite number above 0"));
            }
        }
        let sampler = &self.sampler;
        if sampler.gen_batch == GenBatchSize::Fixed(0) {
            return Err(RunError::setting("sampler.gen_batch", 0, "at least 1, or \"adaptive\""));
        }
        if sampler.surplus == SurplusName::Carry && sampler.max_age == 0 {
            return Err(RunError::setting("sampler.max_age", 0, "at least 1, or surplus = \"discard\""));
        }
        let least = sampler.gen_batch_min.max(1);
        if sampler.gen_batch_max != 0 && sampler.gen_batch_max < least {
            let expected = format!("0, or at least the {least} prompts that a round has at least");
            return Err(RunError::setting("sampler.gen_batch_max", sampler.gen_batch_max, expected));
        }
        Ok(())
    }

    /// The trainer's settings.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn trainer_config(&self) -> Result<TrainerConfig, RunError> {
        let optimizer = &self.optimizer;
        let (steps, min_ratio) = (self.train.steps, optimizer.min_lr_ratio);
        let (in_loss, in_reward) = if self.kl.in_reward { (0.0, self.kl.coef) } else { (self.kl.coef, 0.0) };
        Ok(TrainerConfig {
            seed: self.seed,
            group_size: self.rollout.group_size,
            max_new_tokens: self.rollout.max_new_tokens,
            sampling: SamplingConfig {
                temperature: self.rollout.temperature,
                top_p: self.rollout.top_p,
                top_k: self.rollout.top_k,
            },
            sampler: self.sampler_config(),
            advantage: AdvantageNorm {
                baseline: self.advantage.baseline,
                scale: self.advantage.scale,
                std: self.advantage.std,
                eps: self.advantage.eps,
            },
            overlong_filter: self.overlong.filter,
            loss: LossConfig {
                policy_loss: self.loss.surrogate(),
                aggregation: self.loss.aggregation(self.rollout.max_new_tokens)?,
                empty_sequences: self.loss.empty_sequences,
                kl: Kl { coef: in_loss, estimator: self.kl.estimator, times_ratio: self.kl.times_ratio },
                entropy_coef: self.loss.entropy_coef,
                truncated_importance: None,
            },
            kl_in_reward: in_reward,
            reference_sync: ReferenceSync { every: self.kl.sync_every, mixup: self.kl.sync_mixup },
            optimizer: OptimizerConfig {
                lr: optimizer.lr,
                warmup_steps: optimizer.warmup_steps,
                schedule: match optimizer.schedule {
                    LrSchedule::Constant => Schedule::Constant,
                    LrSchedule::Linear => Schedule::Linear { steps, min_ratio },
                    LrSchedule::Cosine => Schedule::Cosine { steps, min_ratio },
                },
                betas: (optimizer.beta1, optimizer.beta2),
                eps: optimizer.eps,
                weight_decay: optimizer.weight_decay,
                max_grad_norm: if optimizer.max_grad_norm == 0.0 { f64::INFINITY } else { optimizer.max_grad_norm },
            },
            mini_batches: self.train.mini_batches,
            min_mini_batch: None,
            epochs: self.train.epochs,
            micro_batch_tokens: self.train.micro_batch_tokens,
            on_mastered: self.train.on_mastered,
            cache_bytes: Some(self.rollout.cache_mib << 20).filter(|bytes| *bytes > 0),
        })
    }

    fn sampler_config(&self) -> SamplerConfig {
        let s = &self.sampler;
        let or = |value: usize, default: usize| if value == 0 { default } else { value };
        SamplerConfig {
            enabled: s.dynamic,
            metric: match s.metric.as_str() {
                "acc" => FilterMetric::Acc,
                "score" => FilterMetric::Score,
                "seq_reward" => FilterMetric::SeqReward,
                "seq_final_reward" => FilterMetric::SeqFinalReward,
                component => FilterMetric::Component(component.into()),
            },
            tolerance: s.tolerance,
            correct_above: 0.0,
            train_batch: s.train_batch,
            gen_batch: match s.gen_batch {
                GenBatchSize::Fixed(prompts) => GenBatch::Fixed(prompts),
                GenBatchSize::Adaptive(_) => {
                    GenBatch::Adaptive { min: or(s.gen_batch_min, 1), max: or(s.gen_batch_max, 3 * s.train_batch) }
                }
            },
            max_gen_rounds: s.max_gen_rounds,
            surplus: match s.surplus {
                SurplusName::Carry => SurplusPolicy::Carry { max_age: s.max_age },
                SurplusName::Discard => SurplusPolicy::Discard,
            },
            on_exhausted: s.on_exhausted,
            per_prompt: (s.per_prompt_max_samples > 0)
                .then_some(PerPrompt { increment: s.per_prompt_increment, max_samples: s.per_prompt_max_samples }),
        }
    }

    /// The reward: a weighted sum of the components that the settings have.
    ///
    /// # Errors
    /// When a component's values are outside their range.
    pub fn reward_sum(&self) -> Result<RewardSum, RunError> {
        let rewards = &self.rewards;
        let max_new_tokens = self.rollout.max_new_tokens;
        let or = |value: usize, default: usize| if value == 0 { default } else { value };
        let accuracy = self.accuracy()?;
        let mut terms: Vec<(&str, f64, Box<dyn RewardFn>)> =
            vec![("accuracy", rewards.accuracy.weight, Box::new(accuracy.clone()))];
        if let Some(format) = &rewards.format {
            terms.push(("format", format.weight, Box::new(Format { pattern: format.pattern })));
        }
        if let Some(tags) = &rewards.tag_count {
            terms.push(("tag_count", tags.weight, Box::new(TagCount)));
        }
        if let Some(overlong) = &rewards.soft_overlong {
            let max_len = or(overlong.max_len, max_new_tokens);
            let cache_len = or(overlong.cache_len, max_len.div_ceil(5));
            let (penalty_factor, floor) = (overlong.penalty_factor, overlong.floor);
            let reward = SoftOverlong { max_len, cache_len, penalty_factor, floor };
            reward.validate().map_err(|error| in_table("rewards.soft_overlong", error))?;
            terms.push(("soft_overlong", overlong.weight, Box::new(reward)));
        }
        if let Some(overlong) = &rewards.proportional_overlong {
            let threshold = or(overlong.threshold, (max_new_tokens * 4 / 5).max(1));
            let reward = ProportionalOverlong { threshold, factor: overlong.factor };
            reward.validate().map_err(|error| in_table("rewards.proportional_overlong", error))?;
            terms.push(("proportional_overlong", overlong.weight, Box::new(reward)));
        }
        if let Some(repetition) = &rewards.repetition {
            let reward = Repetition { ngram_size: repetition.ngram_size, max_penalty: repetition.max_penalty };
            reward.validate().map_err(|error| in_table("rewards.repetition", error))?;
            terms.push(("repetition", repetition.weight, Box::new(reward)));
        }
        if let Some(length) = &rewards.length {
            let reward = CosineLength {
                min_incorrect: length.min_wrong,
                max_incorrect: length.max_wrong,
                min_correct: length.min_correct,
                max_correct: length.max_correct,
                max_len: length.max_len,
                unit: length.unit,
                accuracy,
            };
            reward.validate().map_err(|error| in_table("rewards.length", error))?;
            terms.push(("length", length.weight, Box::new(reward)));
        }
        if let Some((name, weight, _)) = terms.iter().find(|(_, weight, _)| !weight.is_finite()) {
            return Err(RunError::setting(&format!("rewards.{name}.weight"), weight, "a finite number"));
        }
        RewardSum::new(terms.into_iter().map(|(_, weight, term)| (weight, term)).collect())
            .map_err(|error| in_table("rewards", error))
    }

    /// The judge of answers.
    ///
    /// # Errors
    /// When the extraction profile is unknown, or a value is not finite.
    pub fn accuracy(&self) -> Result<Accuracy, RunError> {
        let accuracy = &self.rewards.accuracy;
        for (key, value) in [("right", accuracy.right), ("wrong", accuracy.wrong)] {
            if !value.is_finite() {
                return Err(RunError::setting(&format!("rewards.accuracy.{key}"), value, "a finite number"));
            }
        }
        let grader = match accuracy.grader {
            GraderName::Math => {
                let profile: Profile = accuracy.extract.parse().map_err(|error: dapo_reward::UnknownProfile| {
                    RunError::unknown_name("rewards.accuracy.extract", &accuracy.extract, &error)
                })?;
                Grader::Math(VerifyConfig { profile, ..VerifyConfig::default() })
            }
            GraderName::Dapo => Grader::Dapo { strict_box: false },
            GraderName::StrictBox => Grader::Dapo { strict_box: true },
            GraderName::DapoOrBox => Grader::DapoOrBox,
            GraderName::Text => Grader::Text(TextOptions {
                ignore_case: accuracy.ignore_case,
                ignore_whitespace: accuracy.ignore_whitespace,
                ignore_punctuation: accuracy.ignore_punctuation,
                ignore_articles: accuracy.ignore_articles,
            }),
            GraderName::Choice => Grader::Choice,
        };
        Ok(Accuracy { correct: accuracy.right, incorrect: accuracy.wrong, grader })
    }

    /// What is put around a problem's question.
    pub fn prompt_style(&self) -> PromptStyle {
        PromptStyle {
            system: (!self.data.system.is_empty()).then(|| self.data.system.clone()),
            suffix: self.data.suffix.clone(),
            enable_thinking: self.data.enable_thinking,
        }
    }

    /// The adapters to train, if any.
    ///
    /// # Errors
    /// When a target is unknown or the scale not positive.
    pub fn lora_config(&self) -> Result<Option<LoraConfig>, RunError> {
        if self.lora.rank == 0 {
            return Ok(None);
        }
        if !(self.lora.alpha.is_finite() && self.lora.alpha > 0.0) {
            return Err(RunError::setting("lora.alpha", self.lora.alpha, "a finite number above 0"));
        }
        if self.lora.targets.is_empty() {
            return Err(RunError::setting("lora.targets", "[]", "at least one layer, such as \"q_proj\""));
        }
        let target = |name: &String| {
            name.parse().map_err(|error: dapo_policy::PolicyError| RunError::unknown_name("lora.targets", name, &error))
        };
        let targets = self.lora.targets.iter().map(target).collect::<Result<_, _>>()?;
        Ok(Some(LoraConfig { rank: self.lora.rank, alpha: self.lora.alpha, targets }))
    }

    /// What a backward pass keeps.
    pub fn layer_memory(&self) -> LayerMemory {
        match self.train.layer_memory {
            crate::LayerMemoryName::Keep => LayerMemory::Keep,
            crate::LayerMemoryName::Recompute => LayerMemory::Recompute,
        }
    }
}

/// A component's own complaint, under the key of its table.
fn in_table(table: &str, error: dapo_reward::RewardError) -> RunError {
    match error {
        dapo_reward::RewardError::Config { field, value, allowed, .. } => {
            RunError::setting(&format!("{table}.{field}"), value, allowed)
        }
        other => RunError::setting(table, other, "values that the reward accepts"),
    }
}

impl LossSection {
    fn surrogate(&self) -> PolicyLoss {
        let clip = |usual: ClipRange| ClipRange {
            low: self.clip_low.unwrap_or(usual.low),
            high: self.clip_high.unwrap_or(usual.high),
        };
        match self.policy_loss {
            PolicyLossName::Dapo | PolicyLossName::Ppo => PolicyLoss::Ppo {
                clip: clip(ClipRange::default()),
                dual_clip: (self.dual_clip != 0.0).then_some(self.dual_clip),
            },
            PolicyLossName::Gspo => PolicyLoss::Gspo { clip: clip(ClipRange { low: 3e-4, high: 4e-4 }) },
            PolicyLossName::Cispo => PolicyLoss::Cispo { clip: clip(ClipRange::default()) },
            PolicyLossName::Sapo => {
                PolicyLoss::Sapo { tau_positive: self.tau_positive, tau_negative: self.tau_negative }
            }
            PolicyLossName::Gmpo => PolicyLoss::Gmpo { clip: clip(ClipRange::symmetric(0.4)) },
        }
    }

    fn aggregation(&self, max_new_tokens: usize) -> Result<Aggregation, RunError> {
        let norm_len = if self.norm_len == 0 { max_new_tokens } else { self.norm_len };
        match &self.aggregation {
            None => Ok(self.surrogate().usual_aggregation()),
            Some(name) => Aggregation::from_name(name, norm_len)
                .map_err(|error| RunError::unknown_name("loss.aggregation", name, &error)),
        }
    }
}
