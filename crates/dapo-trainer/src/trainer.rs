//! The training loop: roll out, select, compare, update.

use crate::advantages::{advantages, filter_metric, training_group};
use crate::checkpoint::base_fingerprint;
use crate::metrics::{GroupSums, of_updates, share};
use crate::reference::Reference;
use crate::update::{rescore, update};
use crate::{
    AdamW, Fate, Group, GroupRecord, NoSignal, OnMastered, Prompt, StepMetrics, StepTimings, TrainerConfig,
    TrainerError, TrainingGroup, add_completions, roll_out,
};
use dapo_loss::kl_in_reward;
use dapo_policy::{Decoder, GenerationConfig, Gradients, Purpose, StopTokens, Tokenizer};
use dapo_reward::{OverlongFilter, RewardSum};
use dapo_sampler::{DataOrder, Drawn, DroppedGroup, DynamicSampler, KeptGroup, SamplerError, Shortage, TakenBatch};
use std::sync::Arc;
use std::time::Instant;

/// A run: a policy, what it learns from, and where it stands.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) policy: Decoder,
    tokenizer: Tokenizer,
    pub(crate) prompts: Vec<Prompt>,
    rewards: RewardSum,
    config: TrainerConfig,
    generation: GenerationConfig,
    pub(crate) reference: Option<Reference>,
    /// Of the weights the run began with, where a checkpoint relies on them.
    pub(crate) base: Option<String>,
    pub(crate) optimizer: AdamW,
    /// Memory for gradients, from one update to the next.
    gradients: Gradients,
    pub(crate) sampler: DynamicSampler<Arc<Group>>,
    pub(crate) order: DataOrder,
    pub(crate) step: u64,
    pub(crate) num_tokens: u64,
    /// Groups drawn in the latest steps that found nothing left to learn.
    pub(crate) mastered_groups: u64,
    /// Whether a step failed after it had changed the weights.
    pub(crate) is_torn: bool,
}

/// What a step did.
#[derive(Clone, Debug)]
pub struct StepOutcome {
    /// Its numbers.
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
    /// A run at its start.
    ///
    /// # Errors
    /// When a setting is invalid, or there are no prompts.
    pub fn new(
        policy: Decoder,
        tokenizer: Tokenizer,
        prompts: Vec<Prompt>,
        rewards: RewardSum,
        config: TrainerConfig,
    ) -> Result<Self, TrainerError> {
        config.validate()?;
        if prompts.is_empty() {
            return Err(TrainerError::setting("prompts", &0, "at least 1"));
        }
        check_metric(&config, &rewards)?;
        let generation = GenerationConfig {
            max_new_tokens: config.max_new_tokens,
            sampling: config.sampling,
            stop: StopTokens::of(policy.config(), &tokenizer),
            seed: config.seed,
            purpose: Purpose::Rollout,
            cache_bytes: config.cache_bytes,
        };
        let reference = Reference::of(&policy, &config)?;
        Ok(Self {
            base: base_fingerprint(&policy, reference.as_ref(), &config)?,
            reference,
            optimizer: AdamW::new(&policy, config.optimizer)?,
            gradients: Gradients::new(policy.parameters().len()),
            sampler: DynamicSampler::new(config.sampler.clone(), prompts.len())?,
            order: DataOrder::new(config.seed, prompts.len())?,
            policy,
            tokenizer,
            prompts,
            rewards,
            config,
            generation,
            step: 0,
            num_tokens: 0,
            mastered_groups: 0,
            is_torn: false,
        })
    }

    /// The policy as it is now.
    pub fn policy(&self) -> &Decoder {
        &self.policy
    }

    /// The policy's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens that end a completion.
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
        let (sampler, draws, updates) = (self.sampler.clone(), self.order.draws(), self.optimizer.steps());
        let outcome = self.try_step();
        if outcome.is_err() {
            self.is_torn |= self.optimizer.steps() != updates || self.optimizer.is_torn();
            if !self.is_torn {
                self.sampler = sampler;
                self.order.rewind(draws)?;
            }
        }
        outcome
    }

    /// Whether the state is that after a whole step, so that it can be saved.
    pub fn is_whole(&self) -> bool {
        !self.is_torn
    }

    fn try_step(&mut self) -> Result<StepOutcome, TrainerError> {
        let started = Instant::now();
        self.gradients.release_large();
        let mut metrics = StepMetrics { step: self.step + 1, num_tokens: self.num_tokens, ..StepMetrics::default() };
        let taken = self.sample(&mut metrics)?;
        let rolled_out = Instant::now();

        let filter = self.config.overlong_filter;
        let chosen: Vec<&Group> = taken.groups.iter().map(|kept| &*kept.group).collect();
        let advantages = advantages(&chosen, &self.config.advantage, filter)?;
        let groups = taken.groups.iter().zip(&advantages);
        let mut training: Vec<TrainingGroup> =
            groups.map(|(kept, of)| training_group(&kept.group, of, filter, kept.age == 0)).collect();
        let difference = rescore(&self.policy, &mut training, &self.config)?;
        self.add_reference(&mut training)?;
        metrics.lr = self.config.optimizer.lr_at(self.step);
        let updates =
            update(&mut self.policy, &mut self.optimizer, &mut self.gradients, &training, &self.config, metrics.lr)?;
        let kl_in_loss = self.reference.is_some() && self.config.loss.kl.coef != 0.0;
        of_updates(&mut metrics, &updates, kl_in_loss);
        let stale = taken.groups.iter().filter(|kept| kept.age > 0).count();
        metrics.stale_fraction = share(stale as f64, taken.groups.len() as u64);
        if let Some(difference) = difference.or(updates.first().map(|first| first.difference)) {
            metrics.logp_difference_max = (difference.tokens > 0).then_some(difference.max);
            metrics.logp_difference_mean = share(difference.sum, difference.tokens);
        }
        let updated = Instant::now();

        let generated = metrics.num_tokens - self.num_tokens;
        if let Some(reference) = &mut self.reference {
            let synced = reference.sync(&self.policy, self.config.reference_sync, metrics.step);
            self.is_torn |= synced.is_err();
            synced?;
        }
        self.num_tokens = metrics.num_tokens;
        self.step = metrics.step;
        self.mastered_groups =
            if taken.groups.is_empty() { self.mastered_groups + metrics.dynamic_sampling.generated } else { 0 };
        let step_time = started.elapsed().as_secs_f64();
        let timings = StepTimings {
            step: metrics.step,
            step_time,
            rollout_time: (rolled_out - started).as_secs_f64(),
            update_time: (updated - rolled_out).as_secs_f64(),
            tokens_per_second: generated as f64 / step_time,
        };
        Ok(StepOutcome { metrics, timings, groups: records(taken, advantages, self.sampler.kept(), filter) })
    }

    /// Rounds of roll-outs until the sampler is satisfied.
    fn sample(&mut self, metrics: &mut StepMetrics) -> Result<TakenBatch<Arc<Group>>, TrainerError> {
        let mut sums = GroupSums::of(self.rewards.names());
        let mut kl_sum = 0.0;
        while let Some(count) = self.sampler.next_round() {
            let drawn = self.order.next_draws(count);
            let groups = self.round(&drawn, &mut kl_sum)?;
            let drawn = groups.into_iter().map(|(draw, group)| {
                sums.add(&group);
                let metric = filter_metric(&self.config.sampler.metric, &group, self.config.overlong_filter);
                Drawn { draw, metric, group: Arc::new(group) }
            });
            self.sampler.push_round(drawn.collect())?;
        }
        if self.reference.is_some() && self.config.kl_in_reward > 0.0 {
            metrics.ref_kl = share(kl_sum, sums.tokens());
        }
        sums.write(metrics);
        let taken = match self.sampler.take_batch() {
            Ok(taken) => taken,
            Err(SamplerError::NothingKept(shortage) | SamplerError::Exhausted(shortage)) if shortage.kept == 0 => {
                self.without_signal(*shortage)?
            }
            Err(error) => return Err(error.into()),
        };
        metrics.dynamic_sampling = taken.account;
        Ok(taken)
    }

    /// What a step does that found no group with a signal: an empty batch where it is skipped, else an error that shows its groups.
    fn without_signal(&mut self, shortage: Shortage) -> Result<TakenBatch<Arc<Group>>, TrainerError> {
        let groups = self.sampler.dropped().iter().cloned().map(dropped_record).collect();
        let mut end = NoSignal { step: self.step + 1, shortage, groups, ends_well: false };
        let outcomes = end.outcomes();
        if outcomes.are_mastered() {
            // A small step may find nothing by chance: it takes groups as many as four batches, or all problems, to be sure.
            let enough = self.prompts.len().min(4 * self.config.sampler.train_batch) as u64;
            let is_sure = self.mastered_groups + outcomes.groups() >= enough;
            match self.config.on_mastered {
                OnMastered::Stop if is_sure => end.ends_well = true,
                OnMastered::Stop | OnMastered::Skip => return Ok(self.sampler.skip_step()?),
                OnMastered::Error => {}
            }
        }
        Err(TrainerError::NoSignal(Box::new(end)))
    }

    /// One round's groups, with more completions where the per-prompt mode asks for them, and KL in the reward.
    fn round(&self, drawn: &[(u64, usize)], kl_sum: &mut f64) -> Result<Vec<(u64, Group)>, TrainerError> {
        let prompts: Vec<(u64, &Prompt)> = drawn.iter().map(|(draw, i)| (*draw, &self.prompts[*i])).collect();
        let (policy, size) = (&self.policy, self.config.group_size);
        let groups = roll_out(policy, &self.tokenizer, &prompts, size, &self.generation, &self.rewards)?;
        let mut groups: Vec<(u64, Group)> = drawn.iter().map(|(draw, _)| *draw).zip(groups).collect();
        self.add_kl_terms(&mut groups, kl_sum)?;
        loop {
            let metric = |group| filter_metric(&self.config.sampler.metric, group, self.config.overlong_filter);
            let more: Vec<usize> =
                groups.iter().map(|(_, group)| self.config.sampler.more_completions(&metric(group))).collect();
            if more.iter().all(|more| *more == 0) {
                return Ok(groups);
            }
            add_completions(policy, &self.tokenizer, &mut groups, &more, &self.generation, &self.rewards)?;
            self.add_kl_terms(&mut groups, kl_sum)?;
        }
    }

    /// KL terms of the completions that have none yet.
    fn add_kl_terms(&self, groups: &mut [(u64, Group)], kl_sum: &mut f64) -> Result<(), TrainerError> {
        let Some(reference) = self.reference.as_ref().filter(|_| self.config.kl_in_reward > 0.0) else {
            return Ok(());
        };
        for (_, group) in groups {
            let from = group.kl_terms.len();
            let fresh = Group {
                completions: group.completions[from..].to_vec(),
                rewards: group.rewards[from..].to_vec(),
                ..group.clone()
            };
            let zeros = vec![Some(0.0); fresh.completions.len()];
            let training = training_group(&fresh, &zeros, OverlongFilter::Off, true);
            let mut ends = vec![0];
            for completion in &fresh.completions {
                ends.push(ends[ends.len() - 1] + completion.token_ids.len());
            }
            let logprobs: Vec<f32> = fresh.completions.iter().flat_map(|c| c.logprobs.iter().copied()).collect();
            let ref_logprobs = reference.logprobs(&self.policy, &[training], &self.config)?.concat();
            let coef = self.config.kl_in_reward;
            let terms = kl_in_reward(coef, &logprobs, &ref_logprobs, None, &ends)?;
            *kl_sum -= terms.iter().sum::<f64>() / f64::from(coef);
            group.kl_terms.extend(terms);
        }
        Ok(())
    }

    /// Reference log-probs of the sequences in the loss, where the loss has a KL term.
    fn add_reference(&self, groups: &mut [TrainingGroup]) -> Result<(), TrainerError> {
        let Some(reference) = self.reference.as_ref().filter(|_| self.config.loss.kl.coef != 0.0) else {
            return Ok(());
        };
        let logprobs = reference.logprobs(&self.policy, groups, &self.config)?;
        let sequences = groups.iter_mut().flat_map(|group| &mut group.sequences).filter(|s| s.in_loss);
        for (sequence, logprobs) in sequences.zip(logprobs) {
            sequence.ref_logprobs = Some(logprobs);
        }
        Ok(())
    }
}

/// A filter metric must be something that the rewards measure.
fn check_metric(config: &TrainerConfig, rewards: &RewardSum) -> Result<(), TrainerError> {
    use dapo_sampler::FilterMetric;
    let name = match &config.sampler.metric {
        FilterMetric::Acc | FilterMetric::SeqReward | FilterMetric::SeqFinalReward => return Ok(()),
        FilterMetric::Score => "accuracy",
        FilterMetric::Component(name) => name,
    };
    if rewards.names().any(|known| known == name) {
        return Ok(());
    }
    let names: Vec<&str> = rewards.names().collect();
    let expected = format!("acc, seq_reward, seq_final_reward, or a reward component: {}", names.join(", "));
    Err(TrainerError::setting("sampler.metric", &config.sampler.metric, &expected))
}

/// Everything that took part in a step, by draw index.
fn records(
    taken: TakenBatch<Arc<Group>>,
    advantages: Vec<Vec<Option<f32>>>,
    carried: &[KeptGroup<Arc<Group>>],
    filter: OverlongFilter,
) -> Vec<GroupRecord> {
    let mut records = Vec::new();
    for (KeptGroup { draw, group, verdict, age, .. }, advantages) in taken.groups.into_iter().zip(advantages) {
        let in_loss =
            |(i, advantage): (usize, &Option<f32>)| advantage.is_some() && filter.keeps_tokens(group.is_truncated(i));
        let in_loss = advantages.iter().enumerate().map(in_loss).collect();
        records.push(GroupRecord { draw, age, fate: Fate::of_taken(verdict), group, advantages, in_loss });
    }
    records.extend(taken.dropped.into_iter().map(dropped_record));
    for kept in carried {
        // The sampler counts the coming step already.
        records.push(idle(kept.draw, kept.age.saturating_sub(1), Fate::CarriedOut, kept.group.clone()));
    }
    records.sort_by_key(|record| record.draw);
    records
}

fn dropped_record(dropped: DroppedGroup<Arc<Group>>) -> GroupRecord {
    let fate = Fate::of_dropped(dropped.reason, dropped.verdict);
    idle(dropped.draw, dropped.age, fate, dropped.group)
}

/// A group that is not trained on.
fn idle(draw: u64, age: u32, fate: Fate, group: Arc<Group>) -> GroupRecord {
    let n = group.completions.len();
    GroupRecord { draw, age, fate, group, advantages: vec![None; n], in_loss: vec![false; n] }
}
