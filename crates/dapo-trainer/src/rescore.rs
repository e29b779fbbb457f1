//! How far the log-probs of a rollout are from those of training, new old log-probs where they differ, and the sequences
//! that are rejected because they differ too much.

use crate::config::TrainerConfig;
use crate::error::TrainerError;
use crate::pack::{TrainingGroup, mini_batches};
use crate::sample::{Group, Sample, SampleOutcome};
use crate::score::score_together;
use crate::team::Team;
use dapo_loss::LossConfig;
use dapo_policy::{Policy, TokenBatch, TokenGroup};
use std::sync::Arc;

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

impl std::ops::AddAssign for Difference {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

impl Difference {
    pub(crate) fn add(&mut self, a: f32, b: f32) {
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
/// earlier policy keep their old log-probs. `training` is made of `groups`, which keep the new ones too.
pub(crate) fn rescore<'a>(
    team: &Team,
    policy: &impl Policy,
    training: &mut [TrainingGroup],
    groups: impl Iterator<Item = &'a mut Arc<Group>>,
    config: &TrainerConfig,
) -> Result<Option<Difference>, TrainerError> {
    if policy.exact_rollout() {
        return Ok(None);
    }
    let mut scored = score_fresh(team, policy, training, config)?.into_iter();
    let mut difference = Difference::default();
    for (of_training, group) in training.iter_mut().zip(groups).filter(|(of_training, _)| of_training.on_policy) {
        let samples = &mut Arc::make_mut(group).samples;
        for (sequence, scored) in of_training.computed_mut().zip(&mut scored) {
            for (new, rollout) in scored.iter().zip(&sequence.rollout_logprobs) {
                difference.add(*new, *rollout);
            }
            if let Some(sample) = samples.get_mut(sequence.sample) {
                sample.old_logprobs = Some(scored.clone());
            }
            sequence.old_logprobs = scored;
        }
    }
    Ok(Some(difference))
}

/// What the rollout correction takes out of a step's policy loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Corrected {
    pub(crate) sequences: u64,
    /// Sequences of which a token has no policy loss.
    pub(crate) masked_sequences: u64,
    pub(crate) tokens: u64,
    pub(crate) masked_tokens: u64,
}

/// Takes the sequences that the rollout correction rejects out of the loss and its denominator, before any update, and
/// counts what it masks. `None` without a correction. `training` is made of `groups`, which get the outcome.
pub(crate) fn reject<'a>(
    training: &mut [TrainingGroup],
    groups: impl Iterator<Item = &'a mut Arc<Group>>,
    loss: &LossConfig,
) -> Option<Corrected> {
    let correction = loss.rollout_correction?;
    let mut corrected = Corrected::default();
    for (of_training, group) in training.iter_mut().zip(groups) {
        for sequence in of_training.computed_mut() {
            let found = correction.of_sequence(&sequence.old_logprobs, &sequence.rollout_logprobs);
            corrected.sequences += 1;
            corrected.tokens += sequence.token_ids.len() as u64;
            corrected.masked_sequences += u64::from(found.masked_tokens > 0);
            corrected.masked_tokens += found.masked_tokens as u64;
            if found.is_rejected {
                sequence.in_loss = false;
                if let Some(sample) = Arc::make_mut(group).samples.get_mut(sequence.sample) {
                    sample.outcome = SampleOutcome::Rejected;
                }
            }
        }
    }
    Some(corrected)
}

/// Gives groups that are carried to a later step their old log-probs, while the policy that generated them is still there.
/// Nothing happens where log-probs of rollouts are those of training.
pub(crate) fn rescore_carried<'a>(
    team: &Team,
    policy: &impl Policy,
    groups: impl Iterator<Item = &'a mut Arc<Group>>,
    config: &TrainerConfig,
) -> Result<(), TrainerError> {
    if policy.exact_rollout() {
        return Ok(());
    }
    // Truncated completions that are filtered never come into the loss.
    let is_needed = |sample: &Sample| config.overlong_filter.keeps_tokens(sample.is_truncated());
    let mut groups: Vec<&mut Group> = groups.map(Arc::make_mut).collect();
    let tokens: Vec<TokenGroup<'_>> = groups
        .iter()
        .map(|group| {
            let needed = group.samples.iter().filter(|sample| is_needed(sample));
            TokenGroup::new(&group.prompt.token_ids, needed.map(|sample| &sample.completion))
        })
        .collect();
    let logprobs = |batch: &TokenBatch| policy.logprobs(batch, config.sampling.temperature);
    let scored = score_together(team, &tokens, config.micro_batch_tokens, logprobs)?;
    let needed = groups.iter_mut().flat_map(|group| &mut group.samples).filter(|sample| is_needed(sample));
    for (sample, scored) in needed.zip(scored) {
        sample.old_logprobs = Some(scored);
    }
    Ok(())
}

/// The difference that the first update cannot measure as it goes, because its mini-batch has no group of this policy:
/// that of the first mini-batch which has one, scored before the policy moves. `None` where the first update can, or no
/// mini-batch has such a group.
pub(crate) fn difference_of_later(
    team: &Team,
    policy: &impl Policy,
    groups: &[TrainingGroup],
    config: &TrainerConfig,
) -> Result<Option<Difference>, TrainerError> {
    let has_fresh = |of: &&[TrainingGroup]| of.iter().any(|group| group.on_policy && group.computed().next().is_some());
    let mini_batches = mini_batches(groups, config);
    let Some((1.., groups)) = mini_batches.enumerate().find(|(_, groups)| has_fresh(groups)) else {
        return Ok(None);
    };
    let scored = score_fresh(team, policy, groups, config)?;
    let mut difference = Difference::default();
    let fresh = groups.iter().filter(|group| group.on_policy).flat_map(TrainingGroup::computed);
    for (sequence, scored) in fresh.zip(scored) {
        for (new, old) in scored.iter().zip(&sequence.old_logprobs) {
            difference.add(*new, *old);
        }
    }
    Ok(Some(difference))
}

/// Log-probs of the sequences in the loss of the groups that this policy generated.
fn score_fresh(
    team: &Team,
    policy: &impl Policy,
    groups: &[TrainingGroup],
    config: &TrainerConfig,
) -> Result<Vec<Vec<f32>>, TrainerError> {
    let fresh: Vec<TokenGroup<'_>> =
        groups.iter().filter(|group| group.on_policy).map(TrainingGroup::computed_tokens).collect();
    let logprobs = |batch: &TokenBatch| policy.logprobs(batch, config.sampling.temperature);
    score_together(team, &fresh, config.micro_batch_tokens, logprobs)
}
