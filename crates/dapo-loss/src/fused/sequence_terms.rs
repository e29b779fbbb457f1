//! What a token's loss needs to know about the whole of its sequence: weight, importance, sequence-level loss.

use crate::{
    aggregation::Aggregation,
    batch::{Advantages, LossBatch},
    config::LossConfig,
    denominator::Denominator,
    fused::block_sums::sum_log_ratios,
    policy::PolicyLoss,
    rollout_correction::{ImportanceLevel, sequence_importance},
    token::{TokenLoss, gmpo, gmpo_bounds, gspo, sequence_ratio},
};

/// What is the same for all tokens of a sequence.
#[derive(Clone, Copy, Default)]
pub(crate) struct SequenceTerms {
    /// A, where there is one per sequence.
    pub(crate) advantage: f32,
    /// The token weight of the step's denominator.
    pub(crate) weight: f64,
    /// Ratio of the behaviour policy to the rollout engine over the whole sequence, 1 unless asked for.
    pub(crate) importance: f32,
    /// Loss and slope of every token under a sequence-level loss.
    pub(crate) token: TokenLoss,
    /// Where a sequence-level ratio lies: below its bound, above it.
    pub(crate) clipped: (bool, bool),
}

/// The terms of all sequences of a batch.
#[derive(Debug, Clone)]
pub(crate) struct PlanTerms {
    /// The weight of every sequence's tokens, unless `weights` has one per sequence.
    weight: f64,
    weights: Vec<f64>,
    /// Tokens left by the mask, where the aggregation or a sequence-level loss needs them.
    lengths: Vec<usize>,
    importance: Vec<f32>,
    /// Loss and clipping of each sequence, once its ratio is known.
    tokens: Vec<(TokenLoss, (bool, bool))>,
}

impl PlanTerms {
    /// The terms that are known before the forward pass.
    pub(crate) fn new(config: &LossConfig, denominator: Denominator, batch: &LossBatch<'_>) -> Self {
        let by_length = config.aggregation == Aggregation::SeqMeanTokenMean;
        let sequence_level = config.policy_loss.is_sequence_level();
        let lengths = if by_length || sequence_level { batch.lengths() } else { Vec::new() };
        let weights =
            if by_length { lengths.iter().map(|&length| denominator.weight(length)).collect() } else { Vec::new() };
        let by_sequence =
            config.rollout_correction.is_some_and(|correction| correction.level == ImportanceLevel::Sequence);
        let importance = if by_sequence { sequence_importance(batch) } else { Vec::new() };
        Self { weight: denominator.weight(1), weights, lengths, importance, tokens: Vec::new() }
    }

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

    /// How many sequences have their loss.
    pub(crate) fn sequence_losses(&self) -> usize {
        self.tokens.len()
    }

    /// Sets the losses of all sequences; returns whether they are finite.
    pub(crate) fn set_sequence_losses(&mut self, tokens: Vec<(TokenLoss, (bool, bool))>) -> bool {
        self.tokens = tokens;
        self.tokens.iter().all(|(token, _)| token.loss.is_finite())
    }

    /// Loss and slope of the tokens of a sequence whose ratio is one for all of them; where that ratio lies.
    pub(crate) fn sequence_loss(
        &self,
        config: &LossConfig,
        batch: &LossBatch<'_>,
        sequence: usize,
        logprobs: &[f32],
    ) -> (TokenLoss, (bool, bool)) {
        let (Advantages::PerSequence(advantages), length) = (batch.advantages, self.lengths[sequence]) else {
            return Default::default();
        };
        if length == 0 {
            return Default::default();
        }
        let advantage = advantages[sequence];
        let tokens = batch.cu_seqlens[sequence]..batch.cu_seqlens[sequence + 1];
        let (logprobs, old) = (&logprobs[tokens.clone()], &batch.old_logprobs[tokens.clone()]);
        let mask = batch.mask.map(|mask| &mask[tokens]);
        let mean = |bounds| sum_log_ratios(logprobs, old, mask, bounds) / length as f64;
        match config.policy_loss {
            PolicyLoss::Gspo { clip } => {
                let mean = mean((f32::NEG_INFINITY, f32::INFINITY));
                let ratio = sequence_ratio(mean);
                let below = advantage < 0.0 && ratio < 1.0 - clip.low;
                let above = advantage > 0.0 && ratio > 1.0 + clip.high;
                (gspo(mean, advantage, clip), (below, above))
            }
            PolicyLoss::Gmpo { clip } => (gmpo(mean(gmpo_bounds(advantage, clip)), advantage), (false, false)),
            PolicyLoss::Ppo { .. } | PolicyLoss::Cispo { .. } | PolicyLoss::Sapo { .. } => Default::default(),
        }
    }
}
