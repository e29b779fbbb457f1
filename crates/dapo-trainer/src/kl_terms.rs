//! Log-probs under the reference, and what follows from them before an update: KL terms of rewards, and those of the loss.

use crate::error::TrainerError;
use crate::pack::TrainingGroup;
use crate::sample::{Group, SampleId};
use crate::score::{score, score_together};
use crate::trainer::Trainer;
use dapo_loss::kl_in_reward;
use dapo_policy::{TokenBatch, TokenGroup};

impl Trainer {
    /// KL terms of the samples that have none yet; their sum in each group.
    pub(crate) fn add_kl_terms(&self, groups: &mut [Group]) -> Result<Vec<f64>, TrainerError> {
        let coef = self.config().kl_in_reward;
        let mut sums = Vec::new();
        let Some(reference) = &self.reference else { return Ok(sums) };
        // Under a critic it is a penalty on tokens.
        if coef == 0.0 || self.critic.is_some() {
            return Ok(sums);
        }
        let fresh: Vec<TokenGroup<'_>> = groups
            .iter()
            .map(|group| {
                let fresh = group.samples.iter().filter(|sample| sample.kl_term.is_none());
                TokenGroup::new(&group.prompt.token_ids, fresh.map(|sample| &sample.completion))
            })
            .collect();
        let (temperature, max_tokens) = (self.config().sampling.temperature, self.config().micro_batch_tokens);
        let scored = score(&fresh, max_tokens, |batch| {
            self.team.heartbeat();
            reference.logprobs(&self.policy, batch, temperature)
        })?;
        let mut references = scored.into_iter();
        for group in groups {
            let mut sum = 0.0;
            let fresh = group.samples.iter_mut().enumerate().filter(|(_, sample)| sample.kl_term.is_none());
            for ((number, sample), reference) in fresh.zip(&mut references) {
                let logprobs = &sample.completion.logprobs;
                let terms = kl_in_reward(coef, logprobs, &reference, None, &[0, logprobs.len()]).map_err(|error| {
                    TrainerError::of_sequence(error, &[SampleId { draw: group.draw, sample: number }])
                })?;
                sum += terms.iter().sum::<f64>();
                sample.kl_term = terms.first().copied();
            }
            sums.push(sum);
        }
        Ok(sums)
    }

    /// Reference log-probs of the sequences in the loss, where the loss or the rewards of tokens have a KL term.
    pub(crate) fn add_reference(&self, groups: &mut [TrainingGroup]) -> Result<(), TrainerError> {
        let on_tokens = self.critic.is_some() && self.config().kl_in_reward != 0.0;
        let Some(reference) = self.reference.as_ref().filter(|_| self.config().loss.kl.coef != 0.0 || on_tokens) else {
            return Ok(());
        };
        let tokens: Vec<TokenGroup<'_>> = groups.iter().map(TrainingGroup::computed_tokens).collect();
        let (temperature, max_tokens) = (self.config().sampling.temperature, self.config().micro_batch_tokens);
        let logprobs = |batch: &TokenBatch| reference.logprobs(&self.policy, batch, temperature);
        let scored = score_together(&self.team, &tokens, max_tokens, logprobs)?;
        for (sequence, logprobs) in groups.iter_mut().flat_map(TrainingGroup::computed_mut).zip(scored) {
            sequence.ref_logprobs = Some(logprobs);
        }
        Ok(())
    }
}
