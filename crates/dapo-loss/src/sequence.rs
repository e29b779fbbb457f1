//! What a token's loss needs to know about the whole of its sequence.

use crate::{
    Advantages, LossBatch, LossPlan, PolicyLoss,
    kernel::{SequenceTerms, sum_log_ratios},
    token::{MAX_LOG_RATIO, TokenLoss, clipped_surrogate, gmpo_bounds},
};

/// What the sweep knows about each sequence.
#[derive(Debug, Clone)]
pub(crate) struct PlanTerms {
    /// The weight of every sequence's tokens, unless `weights` has one a sequence.
    pub(crate) weight: f64,
    pub(crate) weights: Vec<f64>,
    /// Tokens left by the mask, where a sequence-level loss needs them.
    pub(crate) lengths: Vec<usize>,
    pub(crate) importance: Vec<f32>,
    pub(crate) tokens: Vec<(TokenLoss, (bool, bool))>,
}

impl PlanTerms {
    pub(crate) fn of(&self, sequence: usize, batch: &LossBatch<'_>) -> SequenceTerms {
        let (token, clipped) = self.tokens.get(sequence).copied().unwrap_or_default();
        SequenceTerms {
            advantage: match batch.advantages {
                Advantages::PerSequence(values) => values[sequence],
                Advantages::PerToken(_) => 0.0,
            },
            weight: self.weights.get(sequence).copied().unwrap_or(self.weight),
            importance: self.importance.get(sequence).copied().unwrap_or(1.0),
            token,
            clipped,
        }
    }
}

impl LossPlan<'_> {
    /// The tokens of a sequence that count.
    pub(crate) fn kept(&self, sequence: usize) -> impl Iterator<Item = usize> + '_ {
        let (start, end) = (self.batch.cu_seqlens[sequence], self.batch.cu_seqlens[sequence + 1]);
        (start..end).filter(|&token| self.batch.mask.is_none_or(|mask| mask[token] != 0))
    }

    /// Loss and slope of the tokens of a sequence whose ratio is one for all of them; where that ratio lies.
    pub(crate) fn sequence_token(&self, sequence: usize, logprobs: &[f32]) -> (TokenLoss, (bool, bool)) {
        let (Advantages::PerSequence(advantages), length) = (self.batch.advantages, self.terms.lengths[sequence])
        else {
            return Default::default();
        };
        if length == 0 {
            return Default::default();
        }
        let advantage = advantages[sequence];
        let tokens = self.batch.cu_seqlens[sequence]..self.batch.cu_seqlens[sequence + 1];
        let (logprobs, old) = (&logprobs[tokens.clone()], &self.batch.old_logprobs[tokens.clone()]);
        let mask = self.batch.mask.map(|mask| &mask[tokens]);
        let mean = |bounds| sum_log_ratios(logprobs, old, mask, bounds) / length as f64;
        match self.config.policy_loss {
            PolicyLoss::Gspo { clip } => {
                let ratio = mean((f32::NEG_INFINITY, f32::INFINITY)).exp() as f32;
                let below = advantage < 0.0 && ratio < 1.0 - clip.low;
                let above = advantage > 0.0 && ratio > 1.0 + clip.high;
                (clipped_surrogate(ratio, advantage, clip, None), (below, above))
            }
            PolicyLoss::Gmpo { clip } => {
                let loss = -advantage * mean(gmpo_bounds(advantage, clip)).exp() as f32;
                (TokenLoss { loss, slope: loss }, (false, false))
            }
            PolicyLoss::Ppo { .. } | PolicyLoss::Cispo { .. } | PolicyLoss::Sapo { .. } => Default::default(),
        }
    }

    /// exp(Σ (old − rollout)) of every sequence, before the cap.
    pub(crate) fn sequence_importance(&self) -> Vec<f32> {
        let Some(rollout) = self.batch.rollout_logprobs else {
            return Vec::new();
        };
        let difference = |token: usize| f64::from(self.batch.old_logprobs[token]) - f64::from(rollout[token]);
        let limit = f64::from(MAX_LOG_RATIO);
        (0..self.batch.sequences())
            .map(|sequence| {
                let sum: f64 = self.kept(sequence).map(difference).sum();
                sum.clamp(-limit, limit).exp() as f32
            })
            .collect()
    }
}
