//! Optimizer updates from training groups: μ passes, mini-batches, micro-batches.

use crate::activity::{Activity, Observer, UpdateProgress};
use crate::config::TrainerConfig;
use crate::critic::{Critic, CriticUpdate, of_loss};
use crate::error::TrainerError;
use crate::optimizer::AdamW;
use crate::pack::{PackedBatch, TrainingGroup, TrainingSequence, mini_batches, pack};
use crate::rescore::Difference;
use crate::sharded::sum_over_shards;
use crate::team::{self, Team};
use dapo_loss::{
    Advantages, Aggregation, Denominator, LossBatch, LossConfig, LossError, LossMetrics, LossPlan, TokenChunk,
    ValueOutput, top_entropy_threshold,
};
use dapo_policy::{Decoder, Gradients, LARGEST_WEIGHT, Loss, Policy, PolicyError, TokenGroup, ValueHead, pack_tokens};

/// One optimiser update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Update {
    /// The loss before the update.
    pub loss: f64,
    /// Norm of its gradient before clipping.
    pub grad_norm: f64,
    /// What the loss saw.
    pub metrics: LossMetrics,
    /// |log-prob − log-prob in the rollout| over the tokens in the loss that this very policy generated.
    pub difference: Difference,
}

/// The updates of a step.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    pub(crate) policy: Vec<Update>,
    pub(crate) critic: Vec<CriticUpdate>,
}

/// What updates change.
pub(crate) struct Learner<'a> {
    pub(crate) policy: &'a mut Decoder,
    pub(crate) optimizer: &'a mut AdamW,
    /// Memory for the policy's gradients.
    pub(crate) gradients: &'a mut Gradients,
    pub(crate) critic: Option<&'a mut Critic>,
    pub(crate) team: &'a Team,
}

/// μ passes over the groups, each divided into mini-batches, each one optimiser update; a mini-batch without a token in
/// the loss makes none. A critic learns from the same mini-batches. `step` is the rollout step, from 1; `observer` is
/// shown each micro-batch.
///
/// # Errors
/// [`TrainerError::NotFinite`] and [`TrainerError::Diverged`] name the step and the update of it; those before it have been
/// made.
pub(crate) fn update(
    mut of: Learner<'_>,
    groups: &[TrainingGroup],
    config: &TrainerConfig,
    step: u64,
    observer: &mut Observer<'_>,
) -> Result<Updates, TrainerError> {
    let mut updates = Updates::default();
    let a_pass = mini_batches(groups, config).count();
    let mut progress = UpdateProgress { updates: config.updates_per_batch * a_pass, ..UpdateProgress::default() };
    for _ in 0..config.updates_per_batch {
        for groups in mini_batches(groups, config) {
            let made = updates.policy.len().max(updates.critic.len()) as u64;
            progress.update += 1;
            of.team.phase(step, format_args!("update {}", progress.update));
            let mut seen = |done, micro_batches| {
                observer(Activity::Update(UpdateProgress { done, micro_batches, ..progress }));
            };
            let update = update_once(&mut of, groups, config, step, &mut updates, &mut seen);
            update.map_err(|error| error.in_step(step, made))?;
        }
    }
    Ok(updates)
}

fn update_once(
    of: &mut Learner<'_>,
    groups: &[TrainingGroup],
    config: &TrainerConfig,
    step: u64,
    updates: &mut Updates,
    seen: &mut dyn FnMut(usize, usize),
) -> Result<(), TrainerError> {
    let Learner { policy, optimizer, gradients, critic, team } = of;
    let (policy, gradients) = (&mut **policy, &mut **gradients);
    let loss = &config.loss;
    let made = updates.policy.len().max(updates.critic.len()) as u64;
    let lengths: Vec<usize> = groups.iter().flat_map(|g| &g.sequences).map(TrainingSequence::loss_tokens).collect();
    let Some(step_denominator) = Denominator::of_step(loss.aggregation, &lengths, loss.empty_sequences) else {
        return Ok(());
    };
    let (mut shards, micro_batches) = pack_shards(team, groups, config)?;
    set_entropy_threshold(team, policy, &mut shards, config)?;
    let denominator_of = |batch: &PackedBatch| match loss.aggregation {
        Aggregation::LocalTokenMean => Denominator::of_micro_batch(&[batch.tokens.targets.len()], micro_batches),
        _ => Some(step_denominator),
    };
    if let Some(critic) = critic.as_deref_mut() {
        updates.critic.extend(critic.update(team, &shards, &denominator_of, step, made)?);
        if critic.is_warming_up(step) {
            return Ok(());
        }
    }
    let mut head = critic.as_deref_mut().and_then(Critic::shared_head);
    let (own, mut done) = (shards.iter().map(Vec::len).sum(), 0);
    seen(0, own);
    let mut of_shard =
        |shard: usize, batches: &[PackedBatch], gradients: &mut Gradients, mut head: Option<&mut ValueHead>| {
            if shard == 0 && micro_batches == 0 {
                zero_gradients(policy, groups, gradients)?;
            }
            let (mut update, mut value) = (Update::default(), ValueOutput::default());
            for batch in batches {
                done += 1;
                let Some(denominator) = denominator_of(batch) else { continue };
                let temperature = config.sampling.temperature;
                match (head.as_deref_mut(), &config.critic) {
                    (Some(head), Some(critic)) => {
                        let mut of_values = Critic::shared_pass(critic, batch, denominator, &mut value)?;
                        let pass = |of_logprobs: &mut Loss<'_>| {
                            let (tokens, of_values) = (&batch.tokens, of_values.as_mut());
                            policy.logprobs_and_values_backward(
                                tokens,
                                temperature,
                                head,
                                gradients,
                                of_logprobs,
                                of_values,
                            )
                        };
                        accumulate_by(policy, batch, temperature, loss, denominator, &mut update, pass)?;
                    }
                    _ => accumulate(policy, batch, temperature, loss, denominator, gradients, &mut update)?,
                }
                seen(done, own);
            }
            if update.loss.is_finite() {
                return Ok(to_words(&update, &value));
            }
            let (what, value) = ("the loss", update.loss);
            Err(TrainerError::NotFinite { update: made + 1, step: Some(step), what, value })
        };
    let (sum, measured) = sum_over_shards(team, policy, gradients, head.as_deref_mut(), &shards, &mut of_shard)?;
    let (mut update, mut value) = (Update::default(), ValueOutput::default());
    for words in measured {
        let (of_update, of_value) = of_words(words);
        update.loss += of_update.loss;
        update.metrics += of_update.metrics;
        update.difference += of_update.difference;
        value += of_value;
    }
    let (is_shared, lr) = (head.is_some(), config.optimizer.lr_at(step - 1));
    update.grad_norm = sum.update(team, policy, optimizer, gradients, head, lr)?;
    let norm = optimizer.weights_norm(policy, team)?;
    if !norm.is_finite() || norm > f64::from(LARGEST_WEIGHT) {
        return Err(TrainerError::Diverged { update: optimizer.steps(), step: None, norm });
    }
    if is_shared {
        updates.critic.push(CriticUpdate { output: value, grad_norm: update.grad_norm });
    }
    updates.policy.push(update);
    Ok(())
}

/// The micro-batches of each of this rank's shards of a mini-batch, and the number of those of all shards.
fn pack_shards(
    team: &Team,
    groups: &[TrainingGroup],
    config: &TrainerConfig,
) -> Result<(Vec<Vec<PackedBatch>>, usize), TrainerError> {
    let of_shard = |shard| pack(&groups[team.shards().items(shard, groups.len())], config.micro_batch_tokens);
    let packed = team.own_shards().map(of_shard).collect::<Result<Vec<_>, _>>().map(|shards| {
        let own: usize = shards.iter().map(Vec::len).sum();
        (shards, team::to_bytes(&[own as u64]))
    });
    let (shards, counts) = team.exchange(packed)?;
    let micro_batches: u64 = counts.iter().flat_map(|bytes| team::to_words(bytes)).sum();
    Ok((shards, micro_batches as usize))
}

/// The words of an update's figures without its norm, and of a critic's with shared layers.
const FIGURES: usize = 4 + LossMetrics::FIELDS + ValueOutput::FIELDS;

fn to_words(update: &Update, value: &ValueOutput) -> [u64; FIGURES] {
    let Update { loss, grad_norm: _, metrics, difference } = update;
    let Difference { tokens, sum, max } = *difference;
    let mut words = [0; FIGURES];
    words[..4].copy_from_slice(&[loss.to_bits(), tokens, sum.to_bits(), max.to_bits()]);
    words[4..][..LossMetrics::FIELDS].copy_from_slice(&metrics.to_words());
    words[4 + LossMetrics::FIELDS..].copy_from_slice(&value.to_words());
    words
}

fn of_words(words: [u64; FIGURES]) -> (Update, ValueOutput) {
    let (mut metrics, mut value) = ([0; LossMetrics::FIELDS], [0; ValueOutput::FIELDS]);
    metrics.copy_from_slice(&words[4..][..LossMetrics::FIELDS]);
    value.copy_from_slice(&words[4 + LossMetrics::FIELDS..]);
    let [loss, sum, max] = [words[0], words[2], words[3]].map(f64::from_bits);
    let difference = Difference { tokens: words[1], sum, max };
    let metrics = LossMetrics::from_words(metrics);
    (Update { loss, grad_norm: 0.0, metrics, difference }, ValueOutput::from_words(value))
}

/// Gives the micro-batches of an update the quantile of the entropies of all their targets, where the loss is that of the
/// highest ones: a forward pass over all of them, before the policy moves.
fn set_entropy_threshold(
    team: &Team,
    policy: &impl Policy,
    shards: &mut [Vec<PackedBatch>],
    config: &TrainerConfig,
) -> Result<(), TrainerError> {
    if !config.loss.selects_by_entropy() {
        return Ok(());
    }
    let entropies = || {
        let mut bytes = Vec::new();
        for batch in shards.iter().flatten() {
            team.heartbeat();
            let scored = policy.logprobs(&batch.tokens, config.sampling.temperature)?;
            bytes.extend(scored.entropies.iter().flat_map(|entropy| entropy.to_le_bytes()));
        }
        Ok(((), bytes))
    };
    let ((), all) = team.exchange(entropies())?;
    let entropies = all.iter().flat_map(|bytes| bytes.as_chunks().0).map(|bytes| f32::from_le_bytes(*bytes));
    let threshold = top_entropy_threshold(config.loss.top_entropy_quantile, entropies.collect());
    for batch in shards.iter_mut().flatten() {
        batch.entropy_threshold = threshold;
    }
    Ok(())
}

/// Gradients of 0 for an update in which no token has another: the optimizer's moments and weight decay continue as
/// they would after computing all of its tokens. A pass over two tokens makes them, on every device.
fn zero_gradients(
    policy: &impl Policy,
    groups: &[TrainingGroup],
    gradients: &mut Gradients,
) -> Result<(), TrainerError> {
    let any = groups.iter().find_map(|group| {
        let sequence = group.sequences.iter().find(|sequence| sequence.loss_tokens() > 0)?;
        Some(TokenGroup::new(group.prompt_ids.get(..1)?, [sequence.token_ids.get(..1)?]))
    });
    for packed in pack_tokens(any.as_slice(), 2)? {
        policy.logprobs_backward(&packed.tokens, 1.0, gradients, &mut |_, of_rows| {
            of_rows.logprobs.fill(0.0);
            of_rows.entropies.fill(0.0);
            Ok(())
        })?;
    }
    Ok(())
}

/// Adds a micro-batch's part of the step's loss and gradients.
///
/// # Errors
/// [`TrainerError::Loss`] when the loss finds its input inconsistent or not finite, with the sample's name where one is at
/// fault; another error when the policy fails.
pub fn accumulate(
    policy: &impl Policy,
    batch: &PackedBatch,
    temperature: f32,
    loss: &LossConfig,
    denominator: Denominator,
    gradients: &mut Gradients,
    update: &mut Update,
) -> Result<(), TrainerError> {
    accumulate_by(policy, batch, temperature, loss, denominator, update, |of_logprobs| {
        policy.logprobs_backward(&batch.tokens, temperature, gradients, of_logprobs)
    })
}

/// The same by a pass that shows the loss the log-probs of the batch.
fn accumulate_by(
    policy: &impl Policy,
    batch: &PackedBatch,
    temperature: f32,
    loss: &LossConfig,
    denominator: Denominator,
    update: &mut Update,
    pass: impl FnOnce(&mut Loss<'_>) -> Result<(), PolicyError>,
) -> Result<(), TrainerError> {
    let advantages = match &batch.critic {
        Some(targets) => Advantages::PerToken(&targets.advantages),
        None => Advantages::PerSequence(&batch.advantages),
    };
    let mut loss_batch = LossBatch::new(&batch.cu_seqlens, advantages, &batch.old_logprobs);
    loss_batch.ref_logprobs = batch.ref_logprobs.as_deref();
    loss_batch.rollout_logprobs = batch.rollout_logprobs.as_deref().filter(|_| loss.rollout_correction.is_some());
    let named = |error: LossError| TrainerError::of_sequence(error, &batch.samples);
    let mut plan = LossPlan::new(loss, denominator, loss_batch).map_err(named)?;
    if let Some(threshold) = batch.entropy_threshold {
        plan.set_entropy_threshold(threshold);
    }
    let lacks_threshold = plan.needs_entropy_threshold() && batch.entropy_threshold.is_none();
    if plan.needs_sequence_ratios() || lacks_threshold {
        let scored = policy.logprobs(&batch.tokens, temperature)?;
        plan.set_sequence_ratios(&scored.logprobs).map_err(named)?;
        if lacks_threshold {
            plan.set_entropies(&scored.entropies).map_err(named)?;
        }
    }
    let outcome = pass(&mut |rows, row_gradients| {
        for (row, (logprob, old)) in rows.logprobs.iter().zip(&batch.old_logprobs[rows.start..]).enumerate() {
            if batch.on_policy[rows.start + row] {
                update.difference.add(*logprob, *old);
            }
        }
        let chunk = TokenChunk::at(rows.start, rows.logprobs).with_entropies(rows.entropies);
        let into = dapo_loss::LossGradients::new(row_gradients.logprobs).with_entropies(row_gradients.entropies);
        let output = plan.evaluate(chunk, into).map_err(|error| PolicyError::Loss(Box::new(error)))?;
        update.loss += output.loss;
        update.metrics += output.metrics;
        Ok(())
    });
    outcome.map_err(|error| of_loss(error, &batch.samples))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer_config::OptimizerConfig;
    use dapo_dist::threads;
    use dapo_policy::{ModelConfig, WeightFormat};
    use std::sync::Arc;
    use std::time::Duration;

    fn group(draw: u64, old: f32) -> TrainingGroup {
        let sequence = |sample, advantage| TrainingSequence {
            sample,
            token_ids: vec![5, 6, 7],
            old_logprobs: vec![-1.0, old, -1.0],
            advantage,
            in_loss: true,
            ..TrainingSequence::default()
        };
        let sequences = vec![sequence(0, 1.0), sequence(1, -1.0)];
        TrainingGroup { draw, prompt_ids: vec![3, 4], sequences, ..TrainingGroup::default() }
    }

    fn small() -> ModelConfig {
        ModelConfig { num_hidden_layers: 1, vocab_size: 20, ..ModelConfig::qwen3_0_6b() }
    }

    /// A rank after an update.
    #[derive(Debug)]
    struct Rank {
        /// Norms of the updates, or the error.
        norms: Result<Vec<f64>, TrainerError>,
        /// Updates of the optimizer.
        updates: u64,
        /// Of the moments that it holds.
        bytes: u64,
        weights: Vec<u32>,
    }

    fn one_step(team: &Team, groups: &[TrainingGroup]) -> Rank {
        let config = TrainerConfig { shards: team.shards().count(), ..TrainerConfig::default() };
        step_of(team, groups, &config, WeightFormat::F32)
    }

    fn step_of(team: &Team, groups: &[TrainingGroup], config: &TrainerConfig, format: WeightFormat) -> Rank {
        let mut policy = Decoder::random(small(), 1).unwrap();
        policy.set_weight_format(format).unwrap();
        let mut optimizer = AdamW::new(&policy, config.optimizer).unwrap();
        optimizer.divide(&mut policy, 0, team).unwrap();
        let mut gradients = Gradients::new(policy.parameters().len());
        let (policy, gradients) = (&mut policy, &mut gradients);
        let learner = Learner { policy, optimizer: &mut optimizer, gradients, critic: None, team };
        let updates = update(learner, groups, config, 7, &mut |_| ());
        let norms = updates.map(|updates| updates.policy.iter().map(|update| update.grad_norm).collect());
        let tensors = optimizer.gather_weights(policy, team).unwrap();
        let tensors = tensors.unwrap_or_else(|| policy.trainable_tensors().unwrap());
        let values = tensors.values().flat_map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let weights = values.map(f32::to_bits).collect();
        Rank { norms, updates: optimizer.steps(), bytes: optimizer.bytes(policy), weights }
    }

    fn on_ranks(size: usize, groups: &[TrainingGroup]) -> Vec<Rank> {
        ranks(size, |team| one_step(team, groups))
    }

    fn ranks(size: usize, step: impl Fn(&Team) -> Rank + Sync) -> Vec<Rank> {
        let step = &step;
        let worlds = threads::worlds(size, Duration::from_mins(1));
        std::thread::scope(|scope| {
            let ranks = worlds.into_iter().map(|world| {
                scope.spawn(move || {
                    let team = Team::new(Arc::from(world), 4).unwrap();
                    let outcome = step(&team);
                    team.world().finish().unwrap();
                    outcome
                })
            });
            ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_loss_that_one_rank_refuses_stops_the_update_of_all() {
        let sound = [group(10, -1.0), group(11, -1.0), group(12, -1.0), group(13, -1.0)];
        let alone = one_step(&Team::alone(4).unwrap(), &sound);
        let norms = alone.norms.unwrap();
        assert!(norms.len() == 1 && norms[0] > 0.0 && alone.updates == 1);
        for rank in on_ranks(2, &sound) {
            assert_eq!((rank.norms.unwrap(), rank.updates), (norms.clone(), 1));
        }
        let mut faulty = sound;
        faulty[2] = group(12, f32::NAN);
        for (number, rank) in on_ranks(2, &faulty).into_iter().enumerate() {
            let error = rank.norms.unwrap_err();
            let TrainerError::Rank { rank: 1, cause, .. } = &error else { panic!("{error}") };
            assert!(error.to_string().starts_with("rank 1: draw 12, sample 0: "), "{error}");
            assert_eq!((cause.is_some(), rank.updates), (number == 1, 0));
        }
    }

    #[test]
    fn a_rank_holds_its_share_of_the_moments() {
        let groups = [group(10, -1.0), group(11, -2.0), group(12, -0.5), group(13, -1.5)];
        let alone = one_step(&Team::alone(4).unwrap(), &groups);
        assert_eq!(alone.bytes, 8 * alone.weights.len() as u64);
        for size in [2, 3, 4] {
            let ranks = on_ranks(size, &groups);
            assert_eq!(ranks.iter().map(|rank| rank.bytes).sum::<u64>(), alone.bytes);
            // A block more or less.
            let (share, block) = (alone.bytes / size as u64, 8 * dapo_dist::Blocks::VALUES as u64);
            for rank in &ranks {
                assert!(rank.bytes.abs_diff(share) <= block && block < share / 4, "{} of {share}", rank.bytes);
                assert!(rank.weights == alone.weights, "{size} ranks");
            }
        }
    }

    /// A decoder that has its f32 values itself makes the same update of one group, without other shards and without clipping.
    #[test]
    fn divided_f32_values_take_the_step_that_a_decoder_takes_with_its_own() {
        let optimizer = OptimizerConfig { lr: 1e-3, max_grad_norm: f64::INFINITY, ..OptimizerConfig::default() };
        let config = |shards| TrainerConfig { optimizer, shards, ..TrainerConfig::default() };
        let groups = [group(10, -1.0)];
        let step = |team: &Team| step_of(team, &groups, &config(team.shards().count()), WeightFormat::Bf16);
        let own = step(&Team::alone(1).unwrap());
        let begin = Decoder::random(small(), 1).unwrap().trainable_tensors().unwrap();
        let begin = begin.values().flat_map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let moved = begin.zip(&own.weights).filter(|(before, after)| before.to_bits() != **after).count();
        assert!(moved > own.weights.len() / 2, "{moved}");
        for rank in ranks(3, |team| step(team)) {
            assert!(rank.weights == own.weights);
            assert!(rank.bytes < 12 * own.weights.len() as u64 / 2);
        }
    }

    #[test]
    fn a_mini_batch_of_fewer_groups_than_shards_is_the_same_at_two_ranks() {
        for groups in [&[group(10, -1.0)][..], &[group(10, -1.0), group(11, -2.0), group(12, -0.5)]] {
            let alone = one_step(&Team::alone(4).unwrap(), groups).norms.unwrap();
            assert!(on_ranks(2, groups).into_iter().all(|rank| rank.norms.unwrap() == alone));
        }
    }

    #[test]
    fn figures_survive_as_words() {
        let mut metrics = LossMetrics::default();
        (metrics.tokens, metrics.policy_loss, metrics.rejected) = (3, -0.0, 5);
        (metrics.max_abs_log_ratio, metrics.max_rollout_difference) = (0.1, f32::NAN);
        let update = Update {
            loss: f64::MIN_POSITIVE,
            grad_norm: 0.0,
            metrics,
            difference: Difference { tokens: 4, sum: 0.1, max: f64::INFINITY },
        };
        let mut value = ValueOutput::default();
        (value.loss, value.metrics.clipped, value.metrics.error_squares) = (1.0 / 3.0, 9, -1e300);
        let (of_update, of_value) = of_words(to_words(&update, &value));
        assert_eq!(format!("{of_update:?} {of_value:?}"), format!("{update:?} {value:?}"));
    }
}
