//! Log-probs under the reference, and what follows from them before an update: KL terms of rewards, and those of the loss.

use crate::error::TrainerError;
use crate::pack::TrainingGroup;
use crate::sample::{Group, SampleId};
use crate::trainer::Trainer;
use dapo_loss::kl_in_reward;
use dapo_policy::TokenGroup;

impl Trainer {
    /// KL terms of the samples that have none yet.
    pub(crate) fn add_kl_terms(&self, groups: &mut [Group], kl_sum: &mut f64) -> Result<(), TrainerError> {
        let coef = self.config().kl_in_reward;
        // Under a critic it is a penalty on tokens.
        if coef == 0.0 || self.critic.is_some() {
            return Ok(());
        }
        let fresh: Vec<TokenGroup<'_>> = groups
            .iter()
            .map(|group| {
                let fresh = group.samples.iter().filter(|sample| sample.kl_term.is_none());
                TokenGroup::new(&group.prompt.token_ids, fresh.map(|sample| &sample.completion))
            })
            .collect();
        let mut references = self.reference_logprobs(&fresh)?.into_iter();
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
            *kl_sum -= sum / f64::from(coef);
        }
        Ok(())
    }

    /// Reference log-probs of the sequences in the loss, where the loss or the rewards of tokens have a KL term.
    pub(crate) fn add_reference(&self, groups: &mut [TrainingGroup]) -> Result<(), TrainerError> {
        let on_tokens = self.critic.is_some() && self.config().kl_in_reward != 0.0;
        if self.config().loss.kl.coef == 0.0 && !on_tokens {
            return Ok(());
        }
        let tokens: Vec<TokenGroup<'_>> = groups.iter().map(TrainingGroup::computed_tokens).collect();
        let scored = self.reference_logprobs(&tokens)?;
        for (sequence, logprobs) in groups.iter_mut().flat_map(TrainingGroup::computed_mut).zip(scored) {
            sequence.ref_logprobs = Some(logprobs);
        }
        Ok(())
    }

    /// Log-probs of every completion's tokens under the reference; of none where there is no reference.
    fn reference_logprobs(&self, groups: &[TokenGroup<'_>]) -> Result<Vec<Vec<f32>>, TrainerError> {
        let (temperature, max_tokens) = (self.config().sampling.temperature, self.config().micro_batch_tokens);
        match &self.reference {
            Some(reference) => reference.logprobs(&self.policy, groups, temperature, max_tokens),
            None => Ok(Vec::new()),
        }
    }
}
