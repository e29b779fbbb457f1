//! The training loop: roll out, select, compare, update.

use crate::activity::{Activity, Observer};
use crate::advantages::{set_advantages, set_members, settled_metric};
use crate::config::TrainerConfig;
use crate::critic::Critic;
use crate::error::TrainerError;
use crate::fingerprint::fingerprint_of_weights;
use crate::judge::Clock;
use crate::kept::release_untrained;
use crate::metrics::{StepMetrics, StepTimings, of_correction, of_critic, of_updates, share};
use crate::optimizer::AdamW;
use crate::pack::TrainingGroup;
use crate::record::{GroupRecord, records, records_so_far};
use crate::reference::Reference;
use crate::rescore::{difference_of_later, reject, rescore, rescore_carried};
use crate::sample::Group;
use crate::team::Team;
use crate::update::{Learner, update};
use dapo_data::Prompt;
use dapo_dist::World;
use dapo_policy::{Decoder, GenerationConfig, Gradients, Purpose, StopStrings, StopTokens, Tokenizer};
use dapo_reward::RewardSum;
use dapo_sampler::{DataOrder, DynamicSampler, TakenBatch};
use std::{sync::Arc, time::Instant};

/// A run: a policy, what it learns from, and where it stands.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) policy: Decoder,
    tokenizer: Tokenizer,
    pub(crate) prompts: Vec<Prompt>,
    rewards: RewardSum,
    config: TrainerConfig,
    pub(crate) generation: GenerationConfig,
    /// The ranks that train as one.
    pub(crate) team: Team,
    pub(crate) reference: Option<Reference>,
    /// Fingerprint of the weights the run began with.
    pub(crate) base: String,
    /// Fingerprint of the weights that it was made, or as one of several ranks restored, with.
    pub(crate) taken_from: String,
    /// Whether the reference came from a checkpoint and may differ from what the run began with.
    pub(crate) has_moved_reference: bool,
    pub(crate) optimizer: AdamW,
    pub(crate) critic: Option<Critic>,
    /// Memory for gradients, from one update to the next.
    gradients: Gradients,
    pub(crate) sampler: DynamicSampler<Arc<Group>>,
    pub(crate) order: DataOrder,
    pub(crate) step: u64,
    pub(crate) num_tokens: u64,
    /// Groups drawn in the latest steps that found nothing left to learn.
    pub(crate) mastered_groups: u64,
    /// Steps whose batch was too small for an update.
    pub(crate) skipped_steps: u64,
    /// Whether a step failed after it had changed the weights.
    pub(crate) is_torn: bool,
    /// The groups of the latest step, where it failed.
    failed: Vec<GroupRecord>,
}

/// What a step did.
#[derive(Clone, Debug)]
pub struct StepOutcome {
    /// What the step measured.
    pub metrics: StepMetrics,
    /// How long it took.
    pub timings: StepTimings,
    /// Every group that was generated in the step or carried into it, by draw index.
    pub groups: Vec<GroupRecord>,
}

impl StepOutcome {
    /// The groups the step trained on.
    pub fn trained(&self) -> impl Iterator<Item = &GroupRecord> {
        self.groups.iter().filter(|record| record.fate.is_trained())
    }
}

impl Trainer {
    /// A run at its start. Where no reward judges what is correct, the filter metric `acc` becomes `seq_reward`.
    ///
    /// # Errors
    /// When a setting is invalid, or there are no prompts.
    pub fn new(
        policy: Decoder,
        tokenizer: Tokenizer,
        prompts: Vec<Prompt>,
        rewards: RewardSum,
        mut config: TrainerConfig,
    ) -> Result<Self, TrainerError> {
        config.validate()?;
        if prompts.is_empty() {
            return Err(TrainerError::setting("prompts", &0, "at least 1"));
        }
        config.sampler.metric = settled_metric(&config.sampler.metric, &rewards)?;
        config.sampler.keeps_lone = config.critic.is_some();
        let generation = GenerationConfig {
            max_new_tokens: config.max_new_tokens,
            sampling: config.sampling,
            stop: if config.ignore_eos { StopTokens::none() } else { StopTokens::of(policy.config(), &tokenizer) },
            stop_strings: StopStrings::new(&config.stop, &tokenizer)?,
            seed: config.seed,
            purpose: Purpose::Rollout,
            cache_bytes: config.cache_bytes,
            keep_activations_bytes: config.kept_activation_bytes(policy.config(), policy.layer_memory()),
            draft_tokens: config.draft_tokens,
            turns: None,
        };
        let has_kl = config.loss.kl.coef != 0.0 || config.kl_in_reward != 0.0;
        let reference = has_kl.then(|| Reference::of(&policy, config.reference_sync)).transpose()?;
        let base = fingerprint_of_weights(&policy)?;
        let mut trainer = Self {
            taken_from: base.clone(),
            base,
            has_moved_reference: false,
            reference,
            optimizer: AdamW::new(&policy, config.optimizer)?,
            critic: config.critic.map(|critic| Critic::new(&policy, critic)).transpose()?,
            gradients: Gradients::new(policy.parameters().len()),
            sampler: DynamicSampler::new(config.sampler.clone(), prompts.len())?,
            order: DataOrder::new(config.seed, prompts.len())?,
            team: Team::alone(config.shards)?,
            policy,
            tokenizer,
            prompts,
            rewards,
            config,
            generation,
            step: 0,
            num_tokens: 0,
            mastered_groups: 0,
            skipped_steps: 0,
            is_torn: false,
            failed: Vec::new(),
        };
        trainer.divide()?;
        Ok(trainer)
    }

    /// Trains as one of the ranks of `world` from now on: they divide rollouts and gradients, and come to the same state, which
    /// does not depend on how many they are. Every rank has a trainer that was made, or restored, alike, and takes each step
    /// with the others. By default the world is [`Solo`](dapo_dist::Solo).
    ///
    /// # Errors
    /// [`TrainerError::Setting`] when [`TrainerConfig::shards`] is below the world's size, or the trainer is one of several
    /// ranks already and has a part of what they divide.
    pub fn set_world(&mut self, world: Arc<dyn World>) -> Result<(), TrainerError> {
        self.team = Team::new(world, self.config.shards)?;
        self.divide()
    }

    /// Gives this rank what it owns: moments, and f32 values of weights in bf16.
    fn divide(&mut self) -> Result<(), TrainerError> {
        let of_head = self.critic.as_mut().and_then(Critic::shared_head).map_or(0, |head| head.hidden_size() + 1);
        self.optimizer.divide(&mut self.policy, of_head, &self.team)?;
        self.critic.as_mut().map_or(Ok(()), |critic| critic.divide(&self.team))
    }

    /// Brings the optimizer's moments, and the f32 values of weights in bf16, to one rank, which can [`save`](Self::save) until
    /// the next step. Every rank calls it, as each holds those that it owns. With one rank, one shard, or a GPU there is
    /// nothing to do.
    ///
    /// # Errors
    /// [`TrainerError::Dist`].
    pub fn gather_moments(&mut self, to: usize) -> Result<(), TrainerError> {
        let world = Arc::clone(self.team.world());
        for moments in self.optimizer.divided().into_iter().chain(self.critic.as_mut().and_then(Critic::divided)) {
            moments.gather(&*world, to)?;
        }
        Ok(())
    }

    /// Gives up what [`gather_moments`](Self::gather_moments) brought here. A step does so as well.
    pub fn forget_moments(&mut self) {
        for moments in self.optimizer.divided().into_iter().chain(self.critic.as_mut().and_then(Critic::divided)) {
            moments.forget();
        }
    }

    /// Bytes of what this rank holds for the optimizer: moments, and with several shards the f32 values of weights in bf16.
    pub fn optimizer_bytes(&self) -> u64 {
        self.optimizer.bytes(&self.policy) + self.critic.as_ref().map_or(0, Critic::bytes)
    }

    /// Fingerprint of the weights that this trainer was made with, or as one of several ranks restored with.
    pub fn fingerprint(&self) -> &str {
        &self.taken_from
    }

    /// The ranks that train as one.
    pub fn world(&self) -> &Arc<dyn World> {
        self.team.world()
    }

    /// The policy as it is now. With several shards, one that trains in bf16 has the rounded weights alone: the ranks divide
    /// the f32 values, which [`save`](Self::save) writes.
    pub fn policy(&self) -> &Decoder {
        &self.policy
    }

    /// The policy's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens that end a rollout's completion; none with [`ignore_eos`](TrainerConfig::ignore_eos).
    pub fn stop_tokens(&self) -> &StopTokens {
        &self.generation.stop
    }

    /// The rewards.
    pub fn rewards(&self) -> &RewardSum {
        &self.rewards
    }

    /// The settings.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// One step of DAPO (the paper's Algorithm 1): roll out until enough groups carry a signal, then update the policy.
    ///
    /// # Errors
    /// When no group carries a signal ([`TrainerError::NoSignal`]; see [`OnMastered`](crate::OnMastered) for a policy that has
    /// mastered its data), a number is not finite, or a part fails. Unless the step had made an update already, the trainer is
    /// then as it was before the step, and can be saved.
    pub fn step(&mut self) -> Result<StepOutcome, TrainerError> {
        self.step_observed(&mut |_| ())
    }

    /// As [`step`](Self::step); `observer` is shown what it is doing.
    ///
    /// # Errors
    /// As there.
    pub fn step_observed(&mut self, observer: &mut Observer<'_>) -> Result<StepOutcome, TrainerError> {
        let (sampler, draws, updates) = (self.sampler.clone(), self.order.draws(), self.updates());
        self.failed.clear();
        let world = Arc::clone(self.team.world());
        let outcome = self.try_step(&mut |activity| {
            world.heartbeat();
            observer(activity);
        });
        let is_done = outcome.is_ok();
        let outcome = self.team.end(outcome);
        // Another rank has failed where this one is done: it cannot take the step back.
        self.is_torn |= is_done && outcome.is_err();
        self.policy.release_activations(&|_, _| false);
        if outcome.is_err() {
            if self.failed.is_empty() {
                self.failed = records_so_far(&self.sampler);
            }
            let critic_is_torn = self.critic.as_ref().is_some_and(Critic::is_torn);
            self.is_torn |= self.updates() != updates || self.optimizer.is_torn() || critic_is_torn;
            if !self.is_torn {
                self.sampler = sampler;
                self.order.rewind(draws)?;
            }
        }
        outcome
    }

    /// What the latest step had generated or taken up before it failed, by draw index; empty after one that succeeded. A fate
    /// is the one that the group would have had.
    pub fn failed_groups(&self) -> &[GroupRecord] {
        &self.failed
    }

    /// Updates of the policy, and of a critic's own layers.
    fn updates(&self) -> (u64, u64) {
        (self.optimizer.steps(), self.critic.as_ref().map_or(0, Critic::updates))
    }

    /// Whether the state is that after a whole step, so that it can be saved.
    pub fn is_whole(&self) -> bool {
        !self.is_torn
    }

    fn try_step(&mut self, observer: &mut Observer<'_>) -> Result<StepOutcome, TrainerError> {
        let started = Instant::now();
        self.forget_moments();
        let mut metrics = StepMetrics { step: self.step + 1, num_tokens: self.num_tokens, ..StepMetrics::default() };
        let clock = Clock::default();
        let mut taken = self.sample(&mut metrics, &clock, observer)?;
        let rolled_out = Instant::now();
        if let Err(error) = self.train(&mut taken, &mut metrics, observer) {
            self.failed = records(taken, self.sampler.kept());
            return Err(error);
        }
        let updated = Instant::now();
        let generated = metrics.num_tokens - self.num_tokens;
        if let Some(reference) = &mut self.reference {
            let (policy, optimizer, when) = (&self.policy, &self.optimizer, self.config.reference_sync);
            let synced = reference.sync(policy, optimizer, &self.team, when, metrics.step);
            self.is_torn |= synced.is_err();
            synced?;
        }
        self.num_tokens = metrics.num_tokens;
        self.step = metrics.step;
        self.skipped_steps += u64::from(self.config.is_too_small(taken.groups.len()));
        self.mastered_groups =
            if taken.groups.is_empty() { self.mastered_groups + metrics.dynamic_sampling.generated } else { 0 };
        let step_time = started.elapsed().as_secs_f64();
        let timings = StepTimings {
            step: metrics.step,
            step_time,
            rollout_time: (rolled_out - started).as_secs_f64(),
            reward_time: clock.seconds(),
            update_time: (updated - rolled_out).as_secs_f64(),
            tokens_per_second: generated as f64 / step_time,
        };
        Ok(StepOutcome { metrics, timings, groups: records(taken, self.sampler.kept()) })
    }

    /// Compares the groups of a step and updates the policy.
    fn train(
        &mut self,
        taken: &mut TakenBatch<Arc<Group>>,
        metrics: &mut StepMetrics,
        observer: &mut Observer<'_>,
    ) -> Result<(), TrainerError> {
        let is_skipped = self.config.is_too_small(taken.groups.len());
        metrics.skipped_steps = self.config.min_mini_batch.map(|_| self.skipped_steps + u64::from(is_skipped));
        // A carried group is shared with the state that an error falls back to, and is copied here.
        let mut chosen: Vec<&mut Group> = taken.groups.iter_mut().map(|kept| Arc::make_mut(&mut kept.group)).collect();
        match &self.critic {
            None => set_advantages(&mut chosen, &self.config.advantage, self.config.overlong_filter)?,
            Some(_) => set_members(&mut chosen, self.config.overlong_filter),
        }
        let trained = taken.groups.iter().filter(|_| !is_skipped);
        let mut training: Vec<TrainingGroup> =
            trained.map(|kept| TrainingGroup::of(&kept.group, kept.age == 0, &self.config.loss)).collect();
        if self.critic.is_some() {
            // Whether a token has an advantage does not follow from its group's rewards.
            for group in &mut training {
                group.zero_gradient = false;
            }
        }
        observer(Activity::LogProbs);
        self.team.phase(metrics.step, format_args!("log-probs"));
        let difference = match rescore(
            &self.team,
            &self.policy,
            &mut training,
            taken.groups.iter_mut().map(|kept| &mut kept.group),
            &self.config,
        )? {
            None => difference_of_later(&self.team, &self.policy, &training, &self.config)?,
            rescored => rescored,
        };
        let groups = taken.groups.iter_mut().map(|kept| &mut kept.group);
        of_correction(metrics, reject(&mut training, groups, &self.config.loss));
        release_untrained(&self.team, &self.policy, &training, &self.config);
        // The sampler counts the coming step already: a group of this step has the age 1.
        let carried = self.sampler.kept_mut().filter(|(age, _)| *age == 1).map(|(_, group)| group);
        rescore_carried(&self.team, &self.policy, carried, &self.config)?;
        self.add_reference(&mut training)?;
        self.judge_tokens(&mut training, taken.groups.iter_mut().map(|kept| &mut kept.group), metrics)?;
        metrics.lr = self.config.optimizer.lr_at(self.step);
        let learner = Learner {
            policy: &mut self.policy,
            optimizer: &mut self.optimizer,
            gradients: &mut self.gradients,
            critic: self.critic.as_mut(),
            team: &self.team,
        };
        let updates = update(learner, &training, &self.config, metrics.step, observer);
        // Nothing needs them before the next update, and evaluations and rollouts need memory.
        self.gradients.release();
        let updates = updates?;
        metrics.critic = self
            .critic
            .as_ref()
            .map(|critic| of_critic(&updates.critic, critic.lr_at(self.step, &self.config.optimizer)));
        let updates = updates.policy;
        let kl_in_loss = self.reference.is_some() && self.config.loss.kl.coef != 0.0;
        of_updates(metrics, &updates, &self.config.loss, kl_in_loss);
        let stale = taken.groups.iter().filter(|kept| kept.age > 0).count();
        metrics.stale_fraction = share(stale as f64, taken.groups.len() as u64);
        if let Some(difference) = difference.or(updates.first().map(|first| first.difference)) {
            metrics.logp_difference_max = (difference.tokens > 0).then_some(difference.max);
            metrics.logp_difference_mean = share(difference.sum, difference.tokens);
        }
        Ok(())
    }
}
