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
        critic.judge(&self.team, &self.policy, training, kl, max_tokens)?;
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

/// The weighted rewards of an episode's turns but the last, each with the index of the turn's last token. The last turn
/// ends with the completion, whose reward has what is left of the total.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Episode;
    use dapo_policy::{Completion, ContextTokens, FinishReason};
    use dapo_reward::Reward;

    #[test]
    fn a_turn_earns_its_reward_at_its_last_token_and_the_last_turn_what_is_left() {
        let said = |at| ContextTokens { at, token_ids: vec![9, 9] };
        let completion = Completion {
            token_ids: vec![1, 2, 3, 4, 5],
            context: vec![said(2), said(4)],
            logprobs: vec![-1.0; 5],
            finish_reason: FinishReason::Stop,
        };
        let reward = || Reward { correct: None, components: Vec::new(), total: None };
        let of = |rewards: &[f64], context: Vec<ContextTokens>| {
            let completion = Completion { context, ..completion.clone() };
            let episode = Episode { rewards: rewards.to_vec(), ..Episode::default() };
            Sample::new(completion, String::new(), reward()).with_episode(Some(episode))
        };
        let context = completion.context.clone();
        assert_eq!(of_turns(&of(&[1.0, -3.0, 5.0], context.clone()), 0.5), [(1, 0.5), (3, -1.5)]);
        assert_eq!(of_turns(&of(&[0.0, 2.0, 5.0], context.clone()), 1.0), [(3, 2.0)]);
        assert_eq!(of_turns(&of(&[1.0, 1.0, 1.0], context), 0.0), []);
        // What is said before the first turn or after the last one ends no turn of the model's.
        assert_eq!(of_turns(&of(&[1.0], vec![said(5)]), 1.0), []);
        assert_eq!(of_turns(&Sample::new(completion.clone(), String::new(), reward()), 1.0), []);
    }
}
