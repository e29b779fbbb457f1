//! Optimizer updates from training groups: μ passes, mini-batches, micro-batches.

use crate::activity::{Activity, Observer, UpdateProgress};
use crate::config::TrainerConfig;
use crate::error::TrainerError;
use crate::optimizer::AdamW;
use crate::pack::{PackedBatch, TrainingGroup, TrainingSequence, mini_batches, pack};
use crate::rescore::Difference;
use dapo_loss::{
    Advantages, Aggregation, Denominator, LossBatch, LossConfig, LossError, LossMetrics, LossPlan, TokenChunk,
    top_entropy_threshold,
};
use dapo_policy::{Decoder, Gradients, LARGEST_WEIGHT, Policy, PolicyError, TokenGroup, pack_tokens};

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

/// μ passes over the groups, each divided into mini-batches, each one optimiser update; a mini-batch without a token in the
/// loss makes none. `step` is the rollout step, from 1; `observer` is shown each micro-batch.
///
/// # Errors
/// [`TrainerError::NotFinite`] and [`TrainerError::Diverged`] name the step and the update of it; those before it have been
/// made.
pub(crate) fn update(
    policy: &mut Decoder,
    optimizer: &mut AdamW,
    gradients: &mut Gradients,
    groups: &[TrainingGroup],
    config: &TrainerConfig,
    step: u64,
    observer: &mut Observer<'_>,
) -> Result<Vec<Update>, TrainerError> {
    let mut updates = Vec::new();
    let lr = config.optimizer.lr_at(step - 1);
    let a_pass = mini_batches(groups, config).count();
    let mut progress = UpdateProgress { updates: config.updates_per_batch * a_pass, ..UpdateProgress::default() };
    for _ in 0..config.updates_per_batch {
        for groups in mini_batches(groups, config) {
            let made = updates.len() as u64;
            progress.update += 1;
            let mut seen = |done, micro_batches| {
                observer(Activity::Update(UpdateProgress { done, micro_batches, ..progress }));
            };
            let update = update_once(policy, optimizer, gradients, groups, config, lr, &mut seen);
            updates.extend(update.map_err(|error| error.in_step(step, made))?);
        }
    }
    Ok(updates)
}

fn update_once(
    policy: &mut Decoder,
    optimizer: &mut AdamW,
    gradients: &mut Gradients,
    groups: &[TrainingGroup],
    config: &TrainerConfig,
    lr: f64,
    seen: &mut dyn FnMut(usize, usize),
) -> Result<Option<Update>, TrainerError> {
    let loss = &config.loss;
    let lengths: Vec<usize> = groups.iter().flat_map(|g| &g.sequences).map(TrainingSequence::loss_tokens).collect();
    let Some(step_denominator) = Denominator::of_step(loss.aggregation, &lengths, loss.empty_sequences) else {
        return Ok(None);
    };
    let mut batches = pack(groups, config.micro_batch_tokens)?;
    set_entropy_threshold(policy, &mut batches, config)?;
    let denominator_of = |batch: &PackedBatch| match loss.aggregation {
        Aggregation::LocalTokenMean => Denominator::of_micro_batch(&[batch.tokens.targets.len()], batches.len()),
        _ => Some(step_denominator),
    };
    gradients.clear();
    if batches.is_empty() {
        zero_gradients(policy, groups, gradients)?;
    }
    let mut update = Update::default();
    seen(0, batches.len());
    for (done, batch) in (1..).zip(&batches) {
        let Some(denominator) = denominator_of(batch) else { continue };
        let temperature = config.sampling.temperature;
        accumulate(policy, batch, temperature, loss, denominator, gradients, &mut update)?;
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
    update.grad_norm = optimizer.update(policy, gradients, lr)?;
    let norm = policy.weights_norm()?;
    if !norm.is_finite() || norm > f64::from(LARGEST_WEIGHT) {
        return Err(TrainerError::Diverged { update: optimizer.steps(), step: None, norm });
    }
    Ok(Some(update))
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
    let advantages = Advantages::PerSequence(&batch.advantages);
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
    let outcome = policy.logprobs_backward(&batch.tokens, temperature, gradients, &mut |rows, row_gradients| {
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
    match outcome {
        // The policy hands on what its loss returned.
        Err(PolicyError::Loss(error)) => Err(match error.downcast::<LossError>() {
            Ok(error) => named(*error),
            Err(error) => PolicyError::Loss(error).into(),
        }),
        other => Ok(other?),
    }
}
