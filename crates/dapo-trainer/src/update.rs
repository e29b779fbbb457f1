//! Optimizer updates from training groups: μ passes, mini-batches, micro-batches.

use crate::activity::{Activity, Observer, UpdateProgress};
use crate::config::TrainerConfig;
use crate::critic::{Critic, CriticUpdate, of_loss};
use crate::error::TrainerError;
use crate::optimizer::AdamW;
use crate::pack::{PackedBatch, TrainingGroup, TrainingSequence, mini_batches, pack};
use crate::rescore::Difference;
use dapo_loss::{
    Advantages, Aggregation, Denominator, LossBatch, LossConfig, LossError, LossMetrics, LossPlan, TokenChunk,
    ValueOutput, top_entropy_threshold,
};
use dapo_policy::{Decoder, Gradients, LARGEST_WEIGHT, Loss, Policy, PolicyError, TokenGroup, pack_tokens};

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
}

/// μ passes over the groups, each divided into mini-batches, each one optimiser update; a mini-batch without a token in the
/// loss makes none. A critic learns from the same mini-batches. `step` is the rollout step, from 1; `observer` is shown each
/// micro-batch.
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
    let Learner { policy, optimizer, gradients, critic } = of;
    let (policy, gradients) = (&mut **policy, &mut **gradients);
    let loss = &config.loss;
    let lengths: Vec<usize> = groups.iter().flat_map(|g| &g.sequences).map(TrainingSequence::loss_tokens).collect();
    let Some(step_denominator) = Denominator::of_step(loss.aggregation, &lengths, loss.empty_sequences) else {
        return Ok(());
    };
    let mut batches = pack(groups, config.micro_batch_tokens)?;
    set_entropy_threshold(policy, &mut batches, config)?;
    let denominator_of = |batch: &PackedBatch| match loss.aggregation {
        Aggregation::LocalTokenMean => Denominator::of_micro_batch(&[batch.tokens.targets.len()], batches.len()),
        _ => Some(step_denominator),
    };
    if let Some(critic) = critic.as_deref_mut() {
        let with_denominators = batches.iter().filter_map(|batch| Some((batch, denominator_of(batch)?)));
        updates.critic.extend(critic.update(with_denominators, step)?);
        if critic.is_warming_up(step) {
            return Ok(());
        }
    }
    let mut head = critic.as_deref_mut().and_then(Critic::shared_head);
    gradients.clear();
    if let Some(head) = &mut head {
        head.clear();
    }
    if batches.is_empty() {
        zero_gradients(policy, groups, gradients)?;
    }
    let (mut update, mut value) = (Update::default(), ValueOutput::default());
    seen(0, batches.len());
    for (done, batch) in (1..).zip(&batches) {
        let Some(denominator) = denominator_of(batch) else { continue };
        let temperature = config.sampling.temperature;
        match (head.as_deref_mut(), &config.critic) {
            (Some(head), Some(critic)) => {
                let mut of_values = Critic::shared_pass(critic, batch, denominator, &mut value)?;
                let pass = |of_logprobs: &mut Loss<'_>| {
                    let (tokens, of_values) = (&batch.tokens, of_values.as_mut());
                    policy.logprobs_and_values_backward(tokens, temperature, head, gradients, of_logprobs, of_values)
                };
                accumulate_by(policy, batch, temperature, loss, denominator, &mut update, pass)?;
            }
            _ => accumulate(policy, batch, temperature, loss, denominator, gradients, &mut update)?,
        }
        seen(done, batches.len());
    }
    if !update.loss.is_finite() {
        let update_number = optimizer.steps() + 1;
        return Err(TrainerError::NotFinite {
            update: update_number,
            step: None,
            what: "the loss",
            value: update.loss,
        });
    }
    let (is_shared, lr) = (head.is_some(), config.optimizer.lr_at(step - 1));
    update.grad_norm = optimizer.update_with_head(policy, head, gradients, lr)?;
    let norm = policy.weights_norm()?;
    if !norm.is_finite() || norm > f64::from(LARGEST_WEIGHT) {
        return Err(TrainerError::Diverged { update: optimizer.steps(), step: None, norm });
    }
    if is_shared {
        updates.critic.push(CriticUpdate { output: value, grad_norm: update.grad_norm });
    }
    updates.policy.push(update);
    Ok(())
}

/// Gives the micro-batches of an update the quantile of the entropies of all their targets, where the loss is that of the
/// highest ones: a forward pass over all of them, before the policy moves.
fn set_entropy_threshold(
    policy: &impl Policy,
    batches: &mut [PackedBatch],
    config: &TrainerConfig,
) -> Result<(), TrainerError> {
    if !config.loss.selects_by_entropy() {
        return Ok(());
    }
    let mut entropies = Vec::new();
    for batch in batches.iter() {
        entropies.extend(policy.logprobs(&batch.tokens, config.sampling.temperature)?.entropies);
    }
    let threshold = top_entropy_threshold(config.loss.top_entropy_quantile, entropies);
    for batch in batches {
        batch.entropy_threshold = threshold;
    }
    Ok(())
}

/// Gradients of 0 for an update in which no token has another: the optimizer's moments and weight decay continue as they would
/// after computing all of its tokens. A pass over two tokens makes them, on every device.
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
