//! Micro-batches: groups packed end to end, each prompt once, its completions continuing it.

use crate::TrainerError;
use dapo_policy::{Segments, TokenBatch};
use std::sync::Arc;

/// A completion with all that its update needs.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSequence {
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// Log-probs of its tokens under the policy that generated it.
    pub old_logprobs: Vec<f32>,
    /// Log-probs of its tokens under the reference model, where there is one.
    pub ref_logprobs: Option<Vec<f32>>,
    /// Its advantage.
    pub advantage: f32,
    /// Whether its tokens are in the loss (not so for a truncated completion under overlong filtering).
    pub in_loss: bool,
}

impl TrainingSequence {
    /// Number of tokens in the loss.
    pub fn loss_tokens(&self) -> usize {
        if self.in_loss { self.token_ids.len() } else { 0 }
    }
}

/// A prompt's tokens and its completions.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingGroup {
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// Its completions that have an advantage.
    pub sequences: Vec<TrainingSequence>,
    /// Whether the policy that is now updated generated them, and not an earlier one.
    pub on_policy: bool,
}

/// One micro-batch, for the policy and for the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedBatch {
    /// What the policy computes: prompt segments followed by their completions; the completions' tokens are the targets.
    pub tokens: TokenBatch,
    /// Offsets of the completions among the targets.
    pub cu_seqlens: Vec<usize>,
    /// An advantage for each completion.
    pub advantages: Vec<f32>,
    /// A log-prob for each target.
    pub old_logprobs: Vec<f32>,
    /// A log-prob under the reference model for each target, where every completion has them.
    pub ref_logprobs: Option<Vec<f32>>,
    /// For each target, whether the policy that is now updated generated it.
    pub on_policy: Vec<bool>,
}

#[derive(Default)]
struct Builder {
    token_ids: Vec<u32>,
    segments: Vec<(usize, Option<usize>)>,
    targets: Vec<usize>,
    cu_seqlens: Vec<usize>,
    advantages: Vec<f32>,
    old_logprobs: Vec<f32>,
    ref_logprobs: Vec<f32>,
    on_policy: Vec<bool>,
}

impl Builder {
    fn segment(&mut self, tokens: &[u32], parent: Option<usize>) -> usize {
        self.token_ids.extend_from_slice(tokens);
        self.segments.push((tokens.len(), parent));
        self.segments.len() - 1
    }

    fn finish(self) -> Result<PackedBatch, TrainerError> {
        let segments = Arc::new(Segments::new(self.segments)?);
        let mut cu_seqlens = vec![0];
        cu_seqlens.extend(self.cu_seqlens);
        let ref_logprobs = (self.ref_logprobs.len() == self.targets.len()).then_some(self.ref_logprobs);
        Ok(PackedBatch {
            tokens: TokenBatch { token_ids: self.token_ids, segments, targets: self.targets },
            cu_seqlens,
            advantages: self.advantages,
            old_logprobs: self.old_logprobs,
            ref_logprobs,
            on_policy: self.on_policy,
        })
    }
}

/// Packs completions into micro-batches of at most `max_tokens` tokens each, prompts included; a completion longer than that
/// has one of its own. Completions outside the loss are left out: nothing of them is computed.
///
/// # Errors
/// When a prompt is empty.
pub fn pack(groups: &[TrainingGroup], max_tokens: usize) -> Result<Vec<PackedBatch>, TrainerError> {
    let mut batches = Vec::new();
    let mut builder = Builder::default();
    for group in groups {
        let mut parent = None;
        for sequence in group.sequences.iter().filter(|s| s.in_loss && !s.token_ids.is_empty()) {
            let prompt = if parent.is_none() { group.prompt_ids.len() } else { 0 };
            let size = prompt + sequence.token_ids.len();
            if !builder.targets.is_empty() && builder.token_ids.len() + size > max_tokens {
                batches.push(std::mem::take(&mut builder).finish()?);
                parent = None;
            }
            let parent = *parent.get_or_insert_with(|| builder.segment(&group.prompt_ids, None));
            let start = builder.token_ids.len();
            builder.segment(&sequence.token_ids, Some(parent));
            builder.targets.extend(start..builder.token_ids.len());
            builder.cu_seqlens.push(builder.targets.len());
            builder.on_policy.resize(builder.targets.len(), group.on_policy);
            builder.advantages.push(sequence.advantage);
            builder.old_logprobs.extend_from_slice(&sequence.old_logprobs);
            builder.ref_logprobs.extend(sequence.ref_logprobs.iter().flatten());
        }
    }
    if !builder.targets.is_empty() {
        batches.push(builder.finish()?);
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(tokens: &[u32], advantage: f32, in_loss: bool) -> TrainingSequence {
        let old_logprobs = tokens.iter().map(|t| -(*t as f32)).collect();
        TrainingSequence { token_ids: tokens.to_vec(), old_logprobs, ref_logprobs: None, advantage, in_loss }
    }

    fn groups() -> Vec<TrainingGroup> {
        vec![
            TrainingGroup {
                prompt_ids: vec![1, 2],
                sequences: vec![
                    sequence(&[3, 4, 5], 1.0, true),
                    sequence(&[6], -1.0, true),
                    sequence(&[7], 0.5, false),
                ],
                on_policy: true,
            },
            TrainingGroup { prompt_ids: vec![8], sequences: vec![sequence(&[9, 10], 2.0, true)], on_policy: false },
        ]
    }

    #[test]
    fn a_prompt_is_packed_once_and_masked_completions_not_at_all() {
        let batches = pack(&groups(), 100).unwrap();
        assert_eq!(batches.len(), 1);
        let batch = &batches[0];
        assert_eq!(batch.tokens.token_ids, [1, 2, 3, 4, 5, 6, 8, 9, 10]);
        assert_eq!(batch.tokens.segments.positions(), [0, 1, 2, 3, 4, 2, 0, 1, 2]);
        assert_eq!(batch.tokens.targets, [2, 3, 4, 5, 7, 8]);
        assert_eq!(batch.cu_seqlens, [0, 3, 4, 6]);
        assert_eq!(batch.advantages, [1.0, -1.0, 2.0]);
        assert_eq!(batch.old_logprobs, [-3.0, -4.0, -5.0, -6.0, -9.0, -10.0]);
        assert_eq!(batch.on_policy, [true, true, true, true, false, false]);
        assert_eq!(batch.ref_logprobs, None);
    }

    #[test]
    fn a_split_group_repeats_its_prompt_and_loses_no_target() {
        for budget in 1..12 {
            let batches = pack(&groups(), budget).unwrap();
            let targets: Vec<u32> =
                batches.iter().flat_map(|b| b.tokens.targets.iter().map(|t| b.tokens.token_ids[*t])).collect();
            assert_eq!(targets, [3, 4, 5, 6, 9, 10], "budget {budget}");
            for batch in &batches {
                assert!(batch.tokens.token_ids.len() <= budget.max(5), "budget {budget}");
                assert_eq!(batch.tokens.segments.list()[0].parent, None);
            }
        }
    }
}
