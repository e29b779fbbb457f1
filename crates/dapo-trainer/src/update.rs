//! Optimizer updates from training groups: μ passes, mini-batches, micro-batches.

use crate::config::TrainerConfig;
use crate::error::TrainerError;
use crate::optimizer::AdamW;
use crate::pack::{PackedBatch, TrainingGroup, TrainingSequence, pack};
use crate::score::score;
use dapo_loss::{
    Advantages, Aggregation, Denominator, LossBatch, LossConfig, LossError, LossMetrics, LossPlan, TokenChunk,
};
use dapo_policy::{Decoder, Gradients, Policy, PolicyError};

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

/// How far two log-probs of the same tokens are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Tokens compared.
    pub tokens: u64,
    /// Sum of the absolute differences, in nats.
    pub sum: f64,
    /// Largest of them.
    pub max: f64,
}

impl Difference {
    fn add(&mut self, a: f32, b: f32) {
        let difference = f64::from((a - b).abs());
        self.tokens += 1;
        self.sum += difference;
        self.max = self.max.max(difference);
    }

    /// Mean absolute difference; 0 without tokens.
    pub fn mean(&self) -> f64 {
        self.sum / self.tokens.max(1) as f64
    }
}

/// Scores the groups of this policy anew where log-probs of its rollouts differ by rounding from those of training. The
/// new ones become the old log-probs, so that the ratio is 1 on the first update; the difference is returned. Groups of an
/// earlier policy keep the log-probs of their rollout.
pub(crate) fn rescore(
    policy: &impl Policy,
    groups: &mut [TrainingGroup],
    config: &TrainerConfig,
) -> Result<Option<Difference>, TrainerError> {
    if policy.exact_rollout() {
        return Ok(None);
    }
    let fresh: Vec<_> = groups.iter().filter(|group| group.on_policy).map(TrainingGroup::tokens_in_loss).collect();
    let temperature = config.sampling.temperature;
    let scored = score(&fresh, config.micro_batch_tokens, |batch| policy.logprobs(batch, temperature))?;
    let mut difference = Difference::default();
    let fresh = groups.iter_mut().filter(|group| group.on_policy);
    for (sequence, scored) in fresh.flat_map(TrainingGroup::in_loss_mut).zip(scored) {
        for (new, old) in scored.iter().zip(&sequence.old_logprobs) {
            difference.add(*new, *old);
        }
        sequence.old_logprobs = scored;
    }
    Ok(Some(difference))
}

/// μ passes over the groups, each divided into mini-batches, each one optimiser update; a mini-batch without a token in the
/// loss makes none.
pub(crate) fn update(
    policy: &mut Decoder,
    optimizer: &mut AdamW,
    gradients: &mut Gradients,
    groups: &[TrainingGroup],
    config: &TrainerConfig,
    lr: f64,
) -> Result<Vec<Update>, TrainerError> {
    let mut updates = Vec::new();
    let mini_batches = config.mini_batches.min(groups.len());
    for _ in 0..config.epochs {
        for i in 0..mini_batches {
            let range = groups.len() * i / mini_batches..groups.len() * (i + 1) / mini_batches;
            updates.extend(update_once(policy, optimizer, gradients, &groups[range], config, lr)?);
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
) -> Result<Option<Update>, TrainerError> {
    let loss = &config.loss;
    let lengths: Vec<usize> = groups.iter().flat_map(|g| &g.sequences).map(TrainingSequence::loss_tokens).collect();
    let Some(step_denominator) = Denominator::of_step(loss.aggregation, &lengths, loss.empty_sequences) else {
        return Ok(None);
    };
    let batches = pack(groups, config.micro_batch_tokens)?;
    let denominator_of = |batch: &PackedBatch| match loss.aggregation {
        Aggregation::LocalTokenMean => Denominator::of_micro_batch(&[batch.tokens.targets.len()], batches.len()),
        _ => Some(step_denominator),
    };
    gradients.clear();
    let mut update = Update::default();
    for batch in &batches {
        let Some(denominator) = denominator_of(batch) else { continue };
        let temperature = config.sampling.temperature;
        accumulate(policy, batch, temperature, loss, denominator, gradients, &mut update)?;
    }
    if !update.loss.is_finite() {
        return Err(TrainerError::NotFinite { update: optimizer.steps() + 1, what: "the loss", value: update.loss });
    }
    update.grad_norm = optimizer.update(policy, gradients, lr)?;
    Ok(Some(update))
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
    let named = |error: LossError| TrainerError::of_sequence(error, &batch.samples);
    let mut plan = LossPlan::new(loss, denominator, loss_batch).map_err(named)?;
    if plan.needs_sequence_ratios() {
        plan.set_sequence_ratios(&policy.logprobs(&batch.tokens, temperature)?.logprobs).map_err(named)?;
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
