//! What a critic makes of a step: an advantage for every token.

use crate::error::TrainerError;
use crate::metrics::{StepMetrics, share};
use crate::pack::{TrainingGroup, TrainingSequence};
use crate::sample::{Group, Sample};
use crate::trainer::Trainer;
use std::sync::Arc;

impl Trainer {
    /// Where there is a critic, gives the tokens of the sequences in the loss their advantages, and samples the mean of
    /// theirs. `training` is made of `groups`.
    pub(crate) fn judge_tokens<'a>(
        &self,
        training: &mut [TrainingGroup],
        groups: impl Iterator<Item = &'a mut Arc<Group>>,
        metrics: &mut StepMetrics,
    ) -> Result<(), TrainerError> {
        let Some(critic) = &self.critic else { return Ok(()) };
        let (kl, max_tokens) = (self.config().kl_in_reward, self.config().micro_batch_tokens);
        let groups: Vec<&mut Arc<Group>> = groups.collect();
        let weight = self.rewards().episode_weight();
        for (training, group) in training.iter_mut().zip(&groups) {
            for sequence in training.computed_mut() {
                sequence.turn_rewards =
                    group.samples.get(sequence.sample).map(|sample| of_turns(sample, weight)).unwrap_or_default();
            }
        }
        critic.judge(&self.policy, training, kl, max_tokens)?;
        if kl != 0.0 {
            metrics.ref_kl = kl_to_reference(training);
        }
        for (training, group) in training.iter().zip(groups) {
            let group = Arc::make_mut(group);
            for sequence in training.computed() {
                if let Some(sample) = group.samples.get_mut(sequence.sample) {
                    sample.advantage = Some(sequence.advantage);
                }
            }
        }
        Ok(())
    }
}

/// The weighted rewards of an episode's turns but the last, each with the index of the turn's last token. The last turn ends
/// with the completion, whose reward has what is left of the total.
fn of_turns(sample: &Sample, weight: f64) -> Vec<(usize, f64)> {
    let Some(episode) = sample.episode.as_ref().filter(|_| weight != 0.0) else { return Vec::new() };
    let tokens = sample.completion.token_ids.len();
    let ends = sample.completion.context.iter().filter(|context| (1..tokens).contains(&context.at));
    let rewards = ends.zip(&episode.rewards).map(|(context, reward)| (context.at - 1, weight * reward));
    rewards.filter(|(_, reward)| *reward != 0.0).collect()
}

/// Mean over the tokens in the loss of log π_old − log π_ref, in nats.
fn kl_to_reference(training: &[TrainingGroup]) -> Option<f64> {
    let sequences = || training.iter().flat_map(TrainingGroup::computed);
    let of_token = |(old, reference): (&f32, &f32)| f64::from(*old) - f64::from(*reference);
    let of = |of: &TrainingSequence| -> f64 {
        of.old_logprobs.iter().zip(of.ref_logprobs.iter().flatten()).map(of_token).sum()
    };
    let tokens: usize = sequences().map(|sequence| sequence.token_ids.len()).sum();
    share(sequences().map(of).sum(), tokens as u64)
}
