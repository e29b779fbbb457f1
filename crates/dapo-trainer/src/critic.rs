//! PPO's critic: values of tokens, the advantages and returns that follow from them, and its updates.

use crate::critic_config::{CriticConfig, CriticLayers};
use crate::error::TrainerError;
use crate::optimizer::AdamW;
use crate::optimizer_config::OptimizerConfig;
use crate::owned::Owned;
use crate::pack::{PackedBatch, TokenTargets, TrainingGroup, TrainingSequence};
use crate::sample::SampleId;
use crate::score::by_completion_together;
use crate::sharded::sum_over_shards;
use crate::team::Team;
use dapo_loss::{
    Denominator, GaeBatch, KlEstimator, LossError, TokenKl, ValueBatch, ValueOutput, batch_gae, token_rewards,
    value_loss, whiten,
};
use dapo_policy::{
    CompletionTokens, Decoder, Gradients, LARGEST_WEIGHT, PolicyError, TokenGroup, ValueHead, ValueLossFn,
    read_tensors, write_tensors, write_weights_with,
};
use std::path::Path;

/// One update of the critic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CriticUpdate {
    /// Loss and figures before the update.
    pub(crate) output: ValueOutput,
    /// Norm of the gradient before clipping; that of policy and critic together with shared layers.
    pub(crate) grad_norm: f64,
}

/// A value head, and the layers under it where they are its own.
#[derive(Debug)]
pub(crate) struct Critic {
    config: CriticConfig,
    head: ValueHead,
    own: Option<OwnLayers>,
}

#[derive(Debug)]
struct OwnLayers {
    model: Decoder,
    optimizer: AdamW,
    gradients: Gradients,
}

/// Files of a checkpoint.
const HEAD: &str = "value_head.safetensors";
const WEIGHTS: &str = "critic.safetensors";
const MOMENTS: &str = "critic_optimizer.safetensors";

impl Critic {
    /// A critic at the start: its layers are those of the policy, all values are 0.
    pub(crate) fn new(policy: &Decoder, config: CriticConfig) -> Result<Self, TrainerError> {
        let own = match config.layers {
            CriticLayers::Shared => None,
            CriticLayers::Own => {
                let model = policy.trainable_copy()?;
                let optimizer = AdamW::new(&model, config.optimizer)?;
                Some(OwnLayers { gradients: Gradients::new(model.parameters().len()), model, optimizer })
            }
        };
        Ok(Self { config, head: ValueHead::new(policy.config().hidden_size), own })
    }

    /// Divides what training keeps of layers of its own among the ranks of a team.
    ///
    /// # Errors
    /// As [`AdamW::divide`].
    pub(crate) fn divide(&mut self, team: &Team) -> Result<(), TrainerError> {
        let of_head = self.head.hidden_size() + 1;
        self.own.as_mut().map_or(Ok(()), |own| own.optimizer.divide(&mut own.model, of_head, team))
    }

    /// What this rank owns of layers of its own, where the ranks divide it.
    pub(crate) fn divided(&mut self) -> Option<&mut Owned> {
        self.own.as_mut()?.optimizer.divided()
    }

    /// As [`AdamW::bytes`], of layers of its own.
    pub(crate) fn bytes(&self) -> u64 {
        self.own.as_ref().map_or(0, |own| own.optimizer.bytes(&own.model))
    }

    /// Updates of layers of its own; those with shared layers are the policy's.
    pub(crate) fn updates(&self) -> u64 {
        self.own.as_ref().map_or(0, |own| own.optimizer.steps())
    }

    /// Whether an update failed half way.
    pub(crate) fn is_torn(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.optimizer.is_torn())
    }

    /// Whether only the critic learns in a step, from 1.
    pub(crate) fn is_warming_up(&self, step: u64) -> bool {
        step <= self.config.warmup_steps
    }

    /// Learning rate of a step, from 0; that of the policy with shared layers.
    pub(crate) fn lr_at(&self, step: u64, policy: &OptimizerConfig) -> f64 {
        let own = self.own.as_ref().map(|_| &self.config.optimizer);
        own.unwrap_or(policy).lr_at(step)
    }

    /// The head, where the policy's pass and update have to take it along.
    pub(crate) fn shared_head(&mut self) -> Option<&mut ValueHead> {
        if self.own.is_some() { None } else { Some(&mut self.head) }
    }

    /// Values of every token, token rewards, and from both advantages and returns of the sequences in the loss.
    ///
    /// `kl` is the weight of the KL penalty; where it is not 0 the sequences have their reference log-probs.
    pub(crate) fn judge(
        &self,
        team: &Team,
        policy: &Decoder,
        groups: &mut [TrainingGroup],
        kl: f32,
        max_tokens: usize,
    ) -> Result<(), TrainerError> {
        let values = self.values(team, policy, groups, max_tokens)?;
        let samples: Vec<SampleId> = groups
            .iter()
            .flat_map(|group| group.computed().map(|of| SampleId { draw: group.draw, sample: of.sample }))
            .collect();
        let named = |error: LossError| TrainerError::of_sequence(error, &samples);
        let mut sequences: Vec<&mut TrainingSequence> =
            groups.iter_mut().flat_map(TrainingGroup::computed_mut).collect();
        let mut step = Step { cu_seqlens: vec![0], ..Step::default() };
        for (sequence, mut values) in sequences.iter().zip(values) {
            let length = sequence.token_ids.len();
            step.cu_seqlens.push(step.cu_seqlens.last().map_or(0, |end| end + length));
            let of_turns: f64 = sequence.turn_rewards.iter().map(|(_, reward)| reward).sum();
            step.outcomes.push(sequence.reward - of_turns);
            step.bootstraps.push(values.get(length).copied().unwrap_or(0.0));
            values.truncate(length);
            step.values.extend(values);
            step.old_logprobs.extend(&sequence.old_logprobs);
            step.ref_logprobs.extend(sequence.ref_logprobs.iter().flatten());
        }
        let penalty = TokenKl {
            coef: kl,
            estimator: KlEstimator::K1,
            logprobs: &step.old_logprobs,
            ref_logprobs: &step.ref_logprobs,
        };
        let penalty = (kl != 0.0).then_some(penalty);
        let mut rewards = token_rewards(&step.outcomes, None, &step.cu_seqlens, penalty).map_err(named)?;
        for (sequence, start) in sequences.iter().zip(&step.cu_seqlens) {
            for (token, reward) in &sequence.turn_rewards {
                rewards[start + token] += *reward as f32;
            }
        }
        let batch = GaeBatch {
            cu_seqlens: &step.cu_seqlens,
            mask: None,
            rewards: &rewards,
            values: &step.values,
            bootstraps: &step.bootstraps,
        };
        let mut advantages = batch_gae(batch, self.config.discounts()).map_err(named)?;
        let returns: Vec<f32> = advantages.iter().zip(&step.values).map(|(a, v)| a + v).collect();
        if self.config.whiten {
            whiten(&mut advantages, None).map_err(named)?;
        }
        for (sequence, ends) in sequences.iter_mut().zip(step.cu_seqlens.windows(2)) {
            let of_sequence = |values: &[f32]| values[ends[0]..ends[1]].to_vec();
            let (advantages, returns) = (of_sequence(&advantages), of_sequence(&returns));
            sequence.advantage = mean(&advantages);
            sequence.critic = Some(TokenTargets { advantages, old_values: of_sequence(&step.values), returns });
        }
        Ok(())
    }

    /// The value of every token of the sequences in the loss; of a truncated one also that of the state after its last.
    fn values(
        &self,
        team: &Team,
        policy: &Decoder,
        groups: &[TrainingGroup],
        max_tokens: usize,
    ) -> Result<Vec<Vec<f32>>, TrainerError> {
        // The state after the last token is that in which another one would be chosen, whichever.
        let extended: Vec<Vec<Vec<u32>>> = groups
            .iter()
            .map(|group| {
                let next = |sequence: &TrainingSequence| sequence.is_truncated.then_some(0);
                group.computed().map(|of| of.token_ids.iter().copied().chain(next(of)).collect()).collect()
            })
            .collect();
        let tokens: Vec<TokenGroup<'_>> = groups
            .iter()
            .zip(&extended)
            .map(|(group, completions)| {
                let of = group.computed().zip(completions);
                let tokens = of.map(|(of, token_ids)| CompletionTokens { token_ids, context: &of.context });
                TokenGroup::new(&group.prompt_ids, tokens)
            })
            .collect();
        let model = self.own.as_ref().map_or(policy, |own| &own.model);
        by_completion_together(team, &tokens, max_tokens, |batch| model.values(batch, &self.head))
    }

    /// One update of layers of its own on the micro-batches of this rank's shards; `None` where it has none, or no shard has a
    /// token. `made` updates of the policy had been made in the step.
    ///
    /// # Errors
    /// [`TrainerError::NotFinite`], and what the loss or the model returns.
    pub(crate) fn update(
        &mut self,
        team: &Team,
        shards: &[Vec<PackedBatch>],
        denominator_of: &dyn Fn(&PackedBatch) -> Option<Denominator>,
        step: u64,
        made: u64,
    ) -> Result<Option<CriticUpdate>, TrainerError> {
        let Some(OwnLayers { model, optimizer, gradients }) = &mut self.own else { return Ok(None) };
        let (config, number) = (&self.config, optimizer.steps() + 1);
        let mut of_shard = |_, batches: &[PackedBatch], gradients: &mut Gradients, head: Option<&mut ValueHead>| {
            let mut output = ValueOutput::default();
            let Some(head) = head else { return Ok(output.to_words()) };
            for batch in batches {
                let Some(denominator) = denominator_of(batch) else { continue };
                let mut loss = value_pass(config, batch, denominator, 1.0, &mut output)?;
                let outcome = model.values_backward(&batch.tokens, head, gradients, &mut *loss);
                outcome.map_err(|error| of_loss(error, &batch.samples))?;
                drop(loss);
                team.heartbeat();
            }
            if output.loss.is_finite() {
                return Ok(output.to_words());
            }
            let (update, value) = (number, output.loss);
            let error = TrainerError::NotFinite { update, step: None, what: "the value loss", value };
            Err(error.in_step(step, made))
        };
        let (sum, outputs) = sum_over_shards(team, model, gradients, Some(&mut self.head), shards, &mut of_shard)?;
        let mut update = CriticUpdate { output: sum_of(outputs), grad_norm: 0.0 };
        if update.output.metrics.tokens == 0 {
            return Ok(None);
        }
        let lr = self.config.optimizer.lr_at(step - 1);
        update.grad_norm = sum.update(team, model, optimizer, gradients, Some(&mut self.head), lr)?;
        let norm = optimizer.weights_norm(model, team)?;
        if !norm.is_finite() || norm > f64::from(LARGEST_WEIGHT) {
            return Err(TrainerError::Diverged { update: optimizer.steps(), step: None, norm });
        }
        gradients.release();
        Ok(Some(update))
    }

    /// The value loss of a micro-batch as the policy's pass takes it along.
    pub(crate) fn shared_pass<'a>(
        config: &'a CriticConfig,
        batch: &'a PackedBatch,
        denominator: Denominator,
        output: &'a mut ValueOutput,
    ) -> Result<Box<ValueLossFn<'a>>, TrainerError> {
        value_pass(config, batch, denominator, config.coef, output)
    }

    /// Writes everything that a run continues from.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), TrainerError> {
        write_tensors(&dir.join(HEAD), &self.head.tensors()?)?;
        if let Some(OwnLayers { model, optimizer, .. }) = &self.own {
            let shapes: Vec<_> =
                model.parameters().into_iter().map(|(name, shape)| (name.to_owned(), shape.clone())).collect();
            write_weights_with(&dir.join(WEIGHTS), &shapes, |index| optimizer.parameter(model, index))?;
            optimizer.save(model, &dir.join(MOMENTS))?;
        }
        Ok(())
    }

    /// Continues from what [`Critic::save`] wrote after `updates` updates.
    pub(crate) fn restore(&mut self, dir: &Path, updates: u64) -> Result<(), TrainerError> {
        self.head.load(&read_tensors(&dir.join(HEAD))?)?;
        if let Some(OwnLayers { model, optimizer, .. }) = &mut self.own {
            model.read_trainable(&dir.join(WEIGHTS))?;
            optimizer.take_weights(model)?;
            optimizer.load(model, updates, &dir.join(MOMENTS))?;
        }
        Ok(())
    }
}

/// A step's tokens, end to end.
#[derive(Default)]
struct Step {
    cu_seqlens: Vec<usize>,
    outcomes: Vec<f64>,
    bootstraps: Vec<f32>,
    values: Vec<f32>,
    old_logprobs: Vec<f32>,
    ref_logprobs: Vec<f32>,
}

fn mean(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
    (sum / values.len().max(1) as f64) as f32
}

/// The sum of what the shards measured, in their order.
pub(crate) fn sum_of(shards: Vec<[u64; ValueOutput::FIELDS]>) -> ValueOutput {
    let mut sum = ValueOutput::default();
    for words in shards {
        sum += ValueOutput::from_words(words);
    }
    sum
}

/// The value loss of a micro-batch, added to `output`; its gradient is multiplied by `coef`.
fn value_pass<'a>(
    config: &CriticConfig,
    batch: &'a PackedBatch,
    denominator: Denominator,
    coef: f64,
    output: &'a mut ValueOutput,
) -> Result<Box<ValueLossFn<'a>>, TrainerError> {
    let Some(TokenTargets { old_values, returns, .. }) = &batch.critic else {
        return Err(TrainerError::setting("critic", &"a batch without returns", "one that the critic has judged"));
    };
    let loss = config.loss();
    Ok(Box::new(move |values: &[f32], gradient: &mut [f32]| {
        let batch = ValueBatch { cu_seqlens: &batch.cu_seqlens, mask: None, old_values, returns };
        let of_batch = value_loss(&loss, denominator, batch, values, gradient);
        *output += of_batch.map_err(|error| PolicyError::Loss(Box::new(error)))?;
        for g in gradient.iter_mut() {
            *g = (f64::from(*g) * coef) as f32;
        }
        Ok(())
    }))
}

/// An error of a pass; where the loss returned it, with the sample's name.
pub(crate) fn of_loss(error: PolicyError, samples: &[SampleId]) -> TrainerError {
    match error {
        // The policy hands on what its loss returned.
        PolicyError::Loss(error) => match error.downcast::<LossError>() {
            Ok(error) => TrainerError::of_sequence(*error, samples),
            Err(error) => PolicyError::Loss(error).into(),
        },
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use dapo_policy::ModelConfig;
    use std::collections::BTreeMap;

    /// A policy and a critic with shared layers, all of whose values are ½.
    fn half(config: CriticConfig) -> (Decoder, Critic) {
        let small = ModelConfig { num_hidden_layers: 1, vocab_size: 20, ..ModelConfig::qwen3_0_6b() };
        let policy = Decoder::random(small, 1).unwrap();
        let config = CriticConfig { layers: CriticLayers::Shared, ..config };
        let mut critic = Critic::new(&policy, config).unwrap();
        let width = policy.config().hidden_size;
        let weight = Tensor::zeros((1, width), candle_core::DType::F32, &Device::Cpu).unwrap();
        let bias = Tensor::new(&[0.5f32], &Device::Cpu).unwrap();
        let tensors = [("value_head.weight", weight), ("value_head.bias", bias)];
        critic.head.load(&BTreeMap::from(tensors.map(|(name, tensor)| (name.to_owned(), tensor)))).unwrap();
        (policy, critic)
    }

    fn alone() -> Team {
        Team::alone(1).unwrap()
    }

    fn group(sequences: &[(&[u32], f64, bool)]) -> TrainingGroup {
        let sequence = |(sample, (tokens, reward, is_truncated)): (usize, &(&[u32], f64, bool))| TrainingSequence {
            sample,
            token_ids: tokens.to_vec(),
            old_logprobs: vec![-1.0; tokens.len()],
            ref_logprobs: Some(vec![-1.5; tokens.len()]),
            reward: *reward,
            is_truncated: *is_truncated,
            in_loss: true,
            ..TrainingSequence::default()
        };
        let sequences = sequences.iter().enumerate().map(sequence).collect();
        TrainingGroup { prompt_ids: vec![1, 2], sequences, ..TrainingGroup::default() }
    }

    #[test]
    fn a_truncated_completion_is_worth_what_its_last_state_is() {
        let config = CriticConfig { gamma: 1.0, lambda: 0.0, whiten: false, ..CriticConfig::default() };
        let (policy, critic) = half(config);
        let mut groups = [group(&[(&[3, 4], 1.0, false), (&[5, 6], 1.0, true)])];
        critic.judge(&alone(), &policy, &mut groups, 0.0, 100).unwrap();
        let of = |i: usize| groups[0].sequences[i].critic.clone().unwrap();
        // δ = r + V_next − V: nothing follows the first sequence, ½ the second.
        assert_eq!(of(0).advantages, [0.0, 0.5]);
        assert_eq!(of(1).advantages, [0.0, 1.0]);
        assert_eq!((of(0).returns, of(1).returns), (vec![0.5, 1.0], vec![0.5, 1.5]));
        assert_eq!(of(1).old_values, [0.5, 0.5]);
        assert_eq!(groups[0].sequences[1].advantage, 0.5, "the mean stands in the log");
    }

    #[test]
    fn the_kl_penalty_is_each_tokens_own() {
        let config = CriticConfig { gamma: 1.0, lambda: 1.0, whiten: false, ..CriticConfig::default() };
        let (policy, critic) = half(config);
        let mut groups = [group(&[(&[3, 4, 5], 1.0, false)])];
        critic.judge(&alone(), &policy, &mut groups, 0.2, 100).unwrap();
        let returns = groups[0].sequences[0].critic.clone().unwrap().returns;
        // −0.2·(−1 + 1.5) from each token on to the end.
        for (found, expected) in returns.iter().zip([0.7, 0.8, 0.9]) {
            assert!((found - expected).abs() < 1e-6, "{returns:?}");
        }
    }

    #[test]
    fn rewards_of_turns_stand_at_their_last_tokens() {
        let config = CriticConfig { gamma: 1.0, lambda: 1.0, whiten: false, ..CriticConfig::default() };
        let (policy, critic) = half(config);
        let mut groups = [group(&[(&[3, 4, 5, 6], 1.0, false)])];
        groups[0].sequences[0].turn_rewards = vec![(0, 0.25), (2, -0.5)];
        critic.judge(&alone(), &policy, &mut groups, 0.0, 100).unwrap();
        // What is still to come: all of the reward, then it without what the turns before earned.
        assert_eq!(groups[0].sequences[0].critic.clone().unwrap().returns, [1.0, 0.75, 0.75, 1.25]);
    }

    #[test]
    fn whitened_advantages_have_mean_0_over_the_step() {
        let (policy, critic) = half(CriticConfig::default());
        let mut groups = [group(&[(&[3], 1.0, false), (&[4, 5], -1.0, false)]), group(&[(&[6], 0.0, false)])];
        critic.judge(&alone(), &policy, &mut groups, 0.0, 100).unwrap();
        let targets = groups.iter().flat_map(|group| &group.sequences).filter_map(|of| of.critic.as_ref());
        let advantages: Vec<f32> = targets.flat_map(|of| &of.advantages).copied().collect();
        let mean = advantages.iter().sum::<f32>() / 4.0;
        let variance = advantages.iter().map(|a| (a - mean).powi(2)).sum::<f32>() / 3.0;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{advantages:?}");
    }
}
