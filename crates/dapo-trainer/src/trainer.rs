//! The training loop: roll out, select, compare, update.

use crate::metrics::{StepMetrics, Update, loss_lengths, of_groups, of_updates};
use crate::{
    AdamW, Group, PackedBatch, Prompt, TrainerConfig, TrainerError, TrainingGroup, TrainingSequence, pack, roll_out,
};
use dapo_loss::{Advantages, Denominator, LossBatch, LossPlan, TokenChunk, batch_advantages};
use dapo_policy::{Decoder, FinishReason, GenerationConfig, Gradients, Policy, PolicyError, Purpose, Tokenizer};
use dapo_reward::RewardSum;
use dapo_sampler::{DataOrder, Drawn, DynamicSampler, FilterMetric};
use std::time::Instant;

/// A run: a policy, what it learns from, and where it stands.
#[derive(Debug)]
pub struct Trainer {
    policy: Decoder,
    tokenizer: Tokenizer,
    prompts: Vec<Prompt>,
    rewards: RewardSum,
    config: TrainerConfig,
    generation: GenerationConfig,
    optimizer: AdamW,
    sampler: DynamicSampler<Group>,
    order: DataOrder,
    step: u64,
    num_tokens: u64,
}

/// What a step did.
#[derive(Clone, Debug)]
pub struct StepOutcome {
    /// Its numbers.
    pub metrics: StepMetrics,
    /// The groups it trained on.
    pub trained: Vec<Group>,
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
        let generation = GenerationConfig {
            max_new_tokens: config.max_new_tokens,
            sampling: config.sampling,
            stop_token_ids: policy.config().eos_token_ids.clone(),
            seed: config.seed,
            purpose: Purpose::Rollout,
            cache_bytes: config.cache_bytes,
        };
        let optimizer = AdamW::new(&policy, config.optimizer)?;
        let sampler = DynamicSampler::new(config.sampler.clone(), prompts.len())?;
        let order = DataOrder::new(config.seed, prompts.len())?;
        let (step, num_tokens) = (0, 0);
        Ok(Self {
            policy,
            tokenizer,
            prompts,
            rewards,
            config,
            generation,
            optimizer,
            sampler,
            order,
            step,
            num_tokens,
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

    /// The rewards.
    pub fn rewards(&self) -> &RewardSum {
        &self.rewards
    }

    /// One step of DAPO (the paper's Algorithm 1): roll out until enough groups carry a signal, then update the policy.
    ///
    /// # Errors
    /// When no group carries a signal, a number is not finite (then no update was made), or a part fails.
    pub fn step(&mut self) -> Result<StepOutcome, TrainerError> {
        let started = Instant::now();
        let mut metrics = StepMetrics { step: self.step, num_tokens: self.num_tokens, ..StepMetrics::default() };
        let taken = self.sample(&mut metrics)?;
        metrics.rollout_time = started.elapsed().as_secs_f64();

        let groups = self.training_groups(&taken)?;
        metrics.lr = self.config.optimizer.lr_at(self.step);
        let updates = self.update(&groups, metrics.lr)?;
        of_updates(&mut metrics, &updates);
        if let Some(first) = updates.first() {
            metrics.logp_difference_max = f64::from(first.metrics.max_abs_log_ratio);
            metrics.logp_difference_mean = first.difference_sum / first.metrics.tokens.max(1) as f64;
        }

        let generated = metrics.num_tokens - self.num_tokens;
        self.num_tokens = metrics.num_tokens;
        self.step += 1;
        metrics.step_time = started.elapsed().as_secs_f64();
        metrics.tokens_per_second = generated as f64 / metrics.step_time;
        Ok(StepOutcome { metrics, trained: taken })
    }

    /// Rounds of roll-outs until the sampler is satisfied.
    fn sample(&mut self, metrics: &mut StepMetrics) -> Result<Vec<Group>, TrainerError> {
        let mut generated = Vec::new();
        while let Some(count) = self.sampler.next_round() {
            let drawn: Vec<(u64, usize)> = (0..count).map(|_| self.order.next_draw()).collect();
            let prompts: Vec<(u64, &Prompt)> = drawn.iter().map(|(draw, i)| (*draw, &self.prompts[*i])).collect();
            let groups = roll_out(
                &self.policy,
                &self.tokenizer,
                &prompts,
                self.config.group_size,
                &self.generation,
                &self.rewards,
            )?;
            let round = drawn.iter().zip(&groups).map(|((draw, _), group)| Drawn {
                draw: *draw,
                metric: metric(&self.config.sampler.metric, group),
                group: group.clone(),
            });
            self.sampler.push_round(round.collect())?;
            generated.extend(groups);
        }
        of_groups(metrics, generated.iter());
        let taken = self.sampler.take_batch()?;
        metrics.dynamic_sampling = taken.account;
        Ok(taken.groups.into_iter().map(|kept| kept.group).collect())
    }

    /// Advantages of the groups' completions; members that abstained or are dropped as overlong leave the group.
    fn training_groups(&self, groups: &[Group]) -> Result<Vec<TrainingGroup>, TrainerError> {
        let filter = self.config.overlong_filter;
        let truncated = |group: &Group, i: usize| group.completions[i].finish_reason == FinishReason::Length;
        let rewards_of = |group: &Group| -> Vec<Option<f64>> {
            let kept = |(i, reward): (usize, &dapo_reward::Reward)| {
                reward.total.filter(|_| filter.keeps_member(truncated(group, i)))
            };
            group.rewards.iter().enumerate().map(kept).collect()
        };
        let mut kept_groups = Vec::new();
        let (mut rewards, mut sizes) = (Vec::new(), Vec::new());
        for group in groups {
            let of_group = rewards_of(group);
            // Without a second member there is no baseline.
            if of_group.iter().flatten().count() >= 2 {
                sizes.push(of_group.len());
                rewards.extend(of_group);
                kept_groups.push(group);
            }
        }
        let mut advantages = batch_advantages(&rewards, &sizes, &self.config.advantage)?.into_iter();
        let mut training = Vec::with_capacity(kept_groups.len());
        for group in kept_groups {
            let mut sequences = Vec::with_capacity(group.completions.len());
            for (i, (completion, advantage)) in group.completions.iter().zip(advantages.by_ref()).enumerate() {
                let Some(advantage) = advantage else { continue };
                sequences.push(TrainingSequence {
                    token_ids: completion.token_ids.clone(),
                    old_logprobs: completion.logprobs.clone(),
                    advantage,
                    in_loss: filter.keeps_tokens(truncated(group, i)),
                });
            }
            training.push(TrainingGroup { prompt_ids: group.prompt.token_ids.clone(), sequences });
        }
        Ok(training)
    }

    /// μ passes over the groups, each divided into mini-batches, each one optimiser update.
    fn update(&mut self, groups: &[TrainingGroup], lr: f64) -> Result<Vec<Update>, TrainerError> {
        let mut updates = Vec::new();
        let mini_batches = self.config.mini_batches.min(groups.len());
        for _ in 0..self.config.epochs {
            for i in 0..mini_batches {
                let range = groups.len() * i / mini_batches..groups.len() * (i + 1) / mini_batches;
                updates.extend(self.update_once(&groups[range], lr)?);
            }
        }
        Ok(updates)
    }

    /// One optimiser update; `None` when no token is in the loss.
    fn update_once(&mut self, groups: &[TrainingGroup], lr: f64) -> Result<Option<Update>, TrainerError> {
        let loss = &self.config.loss;
        let lengths = loss_lengths(groups);
        let Some(denominator) = Denominator::of_step(loss.aggregation, &lengths, loss.empty_sequences) else {
            return Ok(None);
        };
        let mut gradients = Gradients::new(self.policy.parameters().len());
        let mut update = Update::default();
        for batch in pack(groups, self.config.micro_batch_tokens)? {
            accumulate(
                &self.policy,
                &batch,
                self.config.sampling.temperature,
                loss,
                denominator,
                &mut gradients,
                &mut update,
            )?;
        }
        if !update.loss.is_finite() {
            return Err(TrainerError::NotFinite { step: self.step, what: "the loss", value: update.loss });
        }
        update.grad_norm = self.optimizer.update(&mut self.policy, &gradients, lr)?;
        Ok(Some(update))
    }
}

/// Adds a micro-batch's part of the step's loss and gradients.
///
/// # Errors
/// When the loss finds its input inconsistent or not finite, or the policy fails.
pub fn accumulate(
    policy: &impl Policy,
    batch: &PackedBatch,
    temperature: f32,
    loss: &dapo_loss::LossConfig,
    denominator: Denominator,
    gradients: &mut Gradients,
    update: &mut Update,
) -> Result<(), TrainerError> {
    let mut plan = LossPlan::new(
        loss,
        denominator,
        LossBatch {
            cu_seqlens: &batch.cu_seqlens,
            mask: None,
            advantages: Advantages::PerSequence(&batch.advantages),
            old_logprobs: &batch.old_logprobs,
            ref_logprobs: None,
            rollout_logprobs: None,
        },
    )?;
    if plan.needs_sequence_ratios() {
        plan.set_sequence_ratios(&policy.logprobs(&batch.tokens, temperature)?.logprobs)?;
    }
    policy.logprobs_backward(&batch.tokens, temperature, gradients, &mut |rows, row_gradients| {
        let old = &batch.old_logprobs[rows.start..][..rows.logprobs.len()];
        update.difference_sum += rows.logprobs.iter().zip(old).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
        let chunk = TokenChunk { start: rows.start, logprobs: rows.logprobs, entropies: Some(rows.entropies) };
        let into = dapo_loss::Gradients { logprobs: row_gradients.logprobs, entropies: Some(row_gradients.entropies) };
        let output = plan.evaluate(chunk, into).map_err(|error| PolicyError::Loss(Box::new(error)))?;
        update.loss += output.loss;
        update.metrics += output.metrics;
        Ok(())
    })?;
    Ok(())
}

/// The values by which a group is kept or dropped.
fn metric(metric: &FilterMetric, group: &Group) -> Vec<Option<f64>> {
    let component = |name: &str| -> Vec<Option<f64>> {
        let value = |r: &dapo_reward::Reward| r.components.iter().find(|c| c.name == name).and_then(|c| c.value);
        group.rewards.iter().map(value).collect()
    };
    match metric {
        FilterMetric::Acc => group.accuracies(),
        FilterMetric::Score => component("accuracy"),
        FilterMetric::SeqReward | FilterMetric::SeqFinalReward => group.rewards.iter().map(|r| r.total).collect(),
        FilterMetric::Component(name) => component(name),
    }
}
