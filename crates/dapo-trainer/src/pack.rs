//! Micro-batches for an update: packed tokens with what the loss needs to know of them.

use crate::config::TrainerConfig;
use crate::error::TrainerError;
use crate::sample::{Group, SampleId};
use dapo_loss::{Aggregation, LossConfig};
use dapo_policy::{CompletionTokens, ContextTokens, TokenBatch, TokenGroup, pack_tokens};

/// A completion with all that its update needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingSequence {
    /// Number of the sample within the draw; it names the sequence in errors.
    pub sample: usize,
    /// Token ids of the completion, those that were generated.
    pub token_ids: Vec<u32>,
    /// What others said in between: read, and in neither the loss nor its denominator.
    pub context: Vec<ContextTokens>,
    /// Log-probs of these tokens under the policy that generated them, as training computes them, in nats.
    pub old_logprobs: Vec<f32>,
    /// Log-probs of these tokens as the rollout reported them, in nats; on a CPU the old ones to the bit. Empty where an
    /// update needs none.
    pub rollout_logprobs: Vec<f32>,
    /// Log-probs of these tokens under the reference model, where there is one.
    pub ref_logprobs: Option<Vec<f32>>,
    /// The completion's advantage A; under a critic the mean of its tokens'.
    pub advantage: f32,
    /// The completion's reward, with its KL term where that is no matter of tokens.
    pub reward: f64,
    /// The parts of it that a token before the last earned, each with the token's index: those of an episode's earlier turns.
    pub turn_rewards: Vec<(usize, f64)>,
    /// Whether the completion used up its tokens, so that a critic says what was still to come.
    pub is_truncated: bool,
    /// What a critic says of these tokens, where there is one.
    pub critic: Option<TokenTargets>,
    /// Whether the tokens are in the loss (not so for a truncated completion under overlong filtering).
    pub in_loss: bool,
}

impl TrainingSequence {
    /// The tokens to compute.
    fn tokens(&self) -> CompletionTokens<'_> {
        CompletionTokens { token_ids: &self.token_ids, context: &self.context }
    }

    /// Number of tokens in the loss.
    pub fn loss_tokens(&self) -> usize {
        if self.in_loss { self.token_ids.len() } else { 0 }
    }
}

/// What follows from a critic's values of tokens, one number for each; in units of the reward.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenTargets {
    /// A_t.
    pub advantages: Vec<f32>,
    /// V_t before the step's updates.
    pub old_values: Vec<f32>,
    /// R_t, what the values are fitted to.
    pub returns: Vec<f32>,
}

/// A prompt's tokens and its completions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingGroup {
    /// Index of the draw; it names the group in errors.
    pub draw: u64,
    /// Token ids of the prompt.
    pub prompt_ids: Vec<u32>,
    /// The completions that have an advantage.
    pub sequences: Vec<TrainingSequence>,
    /// Whether the policy that is now updated generated them, and not an earlier one.
    pub on_policy: bool,
    /// Whether the gradient of the loss is exactly 0 for every token of the group. Its tokens count in the denominator, but
    /// nothing of them is computed.
    pub zero_gradient: bool,
}

/// Whether tokens with A = 0 have a gradient of 0, so that leaving them out changes no other token's.
fn advantage_is_all(loss: &LossConfig) -> bool {
    let has_other_terms = loss.kl.coef != 0.0 || loss.entropy_coef != 0.0;
    // The mean of each micro-batch depends on what is packed into it, a quantile of entropies on all tokens, and the
    // denominator on which sequences are rejected.
    let rejects = loss.rollout_correction.is_some_and(|correction| correction.reject.is_some());
    let needs_all = loss.aggregation == Aggregation::LocalTokenMean || loss.selects_by_entropy() || rejects;
    !has_other_terms && !needs_all
}

impl TrainingGroup {
    /// The samples of a group that have an advantage, with their old log-probs and those of the rollout.
    ///
    /// The gradient is 0 where every advantage is, and the loss has neither a KL term nor an entropy bonus.
    pub fn of(group: &Group, on_policy: bool, loss: &LossConfig) -> Self {
        let sequences = group.samples.iter().enumerate().filter_map(|(number, sample)| {
            Some(TrainingSequence {
                sample: number,
                token_ids: sample.completion.token_ids.clone(),
                context: sample.completion.context.clone(),
                old_logprobs: sample.old_logprobs().to_vec(),
                rollout_logprobs: sample.completion.logprobs.clone(),
                ref_logprobs: None,
                advantage: sample.advantage?,
                reward: sample.final_reward().unwrap_or_default(),
                turn_rewards: Vec::new(),
                is_truncated: sample.is_truncated(),
                critic: None,
                in_loss: sample.in_loss(),
            })
        });
        let (draw, prompt_ids, sequences) = (group.draw, group.prompt.token_ids.clone(), sequences.collect::<Vec<_>>());
        let zero_gradient = advantage_is_all(loss) && sequences.iter().all(|sequence| sequence.advantage == 0.0);
        Self { draw, prompt_ids, sequences, on_policy, zero_gradient }
    }

    /// The sequences that are computed: those in the loss, of none where the gradient is 0.
    pub(crate) fn computed(&self) -> impl Iterator<Item = &TrainingSequence> {
        self.sequences.iter().filter(|sequence| sequence.in_loss && !self.zero_gradient)
    }

    /// The sequences that are computed, to change them.
    pub(crate) fn computed_mut(&mut self) -> impl Iterator<Item = &mut TrainingSequence> {
        let zero_gradient = self.zero_gradient;
        self.sequences.iter_mut().filter(move |sequence| sequence.in_loss && !zero_gradient)
    }

    /// The tokens of the sequences that are computed, to score them.
    pub(crate) fn computed_tokens(&self) -> TokenGroup<'_> {
        TokenGroup::new(&self.prompt_ids, self.computed().map(TrainingSequence::tokens))
    }
}

/// The groups of each update of a pass: mini-batches of one size, of which the last may be smaller.
pub(crate) fn mini_batches<'a>(
    groups: &'a [TrainingGroup],
    config: &TrainerConfig,
) -> impl Iterator<Item = &'a [TrainingGroup]> + use<'a> {
    groups.chunks(config.mini_batch_groups())
}

/// One micro-batch, for the policy and for the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedBatch {
    /// What the policy computes: prompt segments followed by their completions; the completions' tokens are the targets.
    pub tokens: TokenBatch,
    /// Offsets of the completions among the targets.
    pub cu_seqlens: Vec<usize>,
    /// The name of each completion.
    pub samples: Vec<SampleId>,
    /// An advantage for each completion.
    pub advantages: Vec<f32>,
    /// An old log-prob for each target.
    pub old_logprobs: Vec<f32>,
    /// A log-prob for each target as the rollout reported it, where every completion has them.
    pub rollout_logprobs: Option<Vec<f32>>,
    /// The entropy in nats from which on a target has a policy loss, over all micro-batches of the update; `None`: that of
    /// this micro-batch alone, where [`LossConfig::top_entropy_quantile`] asks for one.
    pub entropy_threshold: Option<f32>,
    /// A log-prob under the reference model for each target, where every completion has them.
    pub ref_logprobs: Option<Vec<f32>>,
    /// For each target, whether the policy that is now updated generated it.
    pub on_policy: Vec<bool>,
    /// What a critic says of the targets, where it says something of every completion.
    pub critic: Option<TokenTargets>,
}

/// Packs completions into micro-batches of at most `max_tokens` tokens each, prompts included; a completion longer than
/// that has one of its own. Completions outside the loss and groups without a gradient are left out: nothing of them is
/// computed.
///
/// # Errors
/// When a prompt is empty.
pub fn pack(groups: &[TrainingGroup], max_tokens: usize) -> Result<Vec<PackedBatch>, TrainerError> {
    let tokens: Vec<TokenGroup<'_>> = groups.iter().map(TrainingGroup::computed_tokens).collect();
    let all: Vec<_> = groups.iter().flat_map(|group| group.computed().map(move |sequence| (group, sequence))).collect();
    let batches = pack_tokens(&tokens, max_tokens)?.into_iter().map(|packed| {
        let members = || packed.numbers.iter().map(|number| all[*number]);
        let mut on_policy = Vec::with_capacity(packed.tokens.targets.len());
        for (group, sequence) in members() {
            on_policy.resize(on_policy.len() + sequence.token_ids.len(), group.on_policy);
        }
        let references: Option<Vec<&[f32]>> = members().map(|(_, sequence)| sequence.ref_logprobs.as_deref()).collect();
        let has_rollout = |(_, of): (_, &TrainingSequence)| of.rollout_logprobs.len() == of.token_ids.len();
        let rollouts = members().flat_map(|(_, sequence)| &sequence.rollout_logprobs).copied();
        let judged: Option<Vec<&TokenTargets>> = members().map(|(_, sequence)| sequence.critic.as_ref()).collect();
        let concat = |of: fn(&TokenTargets) -> &Vec<f32>, judged: &[&TokenTargets]| -> Vec<f32> {
            judged.iter().flat_map(|targets| of(targets)).copied().collect()
        };
        PackedBatch {
            critic: judged.map(|judged| TokenTargets {
                advantages: concat(|of| &of.advantages, &judged),
                old_values: concat(|of| &of.old_values, &judged),
                returns: concat(|of| &of.returns, &judged),
            }),
            rollout_logprobs: members().all(has_rollout).then(|| rollouts.collect()),
            samples: members().map(|(group, of)| SampleId { draw: group.draw, sample: of.sample }).collect(),
            advantages: members().map(|(_, sequence)| sequence.advantage).collect(),
            old_logprobs: members().flat_map(|(_, sequence)| &sequence.old_logprobs).copied().collect(),
            entropy_threshold: None,
            ref_logprobs: references.map(|logprobs| logprobs.concat()),
            on_policy,
            tokens: packed.tokens,
            cu_seqlens: packed.cu_seqlens,
        }
    });
    Ok(batches.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(sample: usize, tokens: &[u32], advantage: f32, in_loss: bool) -> TrainingSequence {
        let old_logprobs = tokens.iter().map(|t| -(*t as f32)).collect();
        let rollout_logprobs = tokens.iter().map(|t| -(*t as f32) - 0.5).collect();
        let token_ids = tokens.to_vec();
        let of = TrainingSequence { sample, token_ids, old_logprobs, rollout_logprobs, ..TrainingSequence::default() };
        TrainingSequence { advantage, in_loss, ..of }
    }

    fn groups() -> Vec<TrainingGroup> {
        vec![
            TrainingGroup {
                draw: 4,
                prompt_ids: vec![1, 2],
                sequences: vec![
                    sequence(0, &[3, 4, 5], 1.0, true),
                    sequence(2, &[7], 0.5, false),
                    sequence(3, &[6], -1.0, true),
                ],
                on_policy: true,
                zero_gradient: false,
            },
            TrainingGroup {
                draw: 9,
                prompt_ids: vec![8],
                sequences: vec![sequence(1, &[9, 10], 2.0, true)],
                on_policy: false,
                zero_gradient: false,
            },
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
        assert_eq!(batch.samples, [(4, 0), (4, 3), (9, 1)].map(|(draw, sample)| SampleId { draw, sample }));
        assert_eq!(batch.advantages, [1.0, -1.0, 2.0]);
        assert_eq!(batch.old_logprobs, [-3.0, -4.0, -5.0, -6.0, -9.0, -10.0]);
        assert_eq!(batch.rollout_logprobs, Some(vec![-3.5, -4.5, -5.5, -6.5, -9.5, -10.5]));
        assert_eq!(batch.on_policy, [true, true, true, true, false, false]);
        assert_eq!(batch.ref_logprobs, None);
    }

    #[test]
    fn what_others_say_is_computed_and_has_no_part_in_the_loss() {
        let mut groups = groups();
        let said = |at, token_ids: &[u32]| ContextTokens { at, token_ids: token_ids.to_vec() };
        groups[0].sequences[0].context = vec![said(1, &[90, 91]), said(2, &[92])];
        let plain = &pack(&self::groups(), 100).unwrap()[0];
        let batch = &pack(&groups, 100).unwrap()[0];
        assert_eq!(batch.tokens.token_ids, [1, 2, 3, 90, 91, 4, 92, 5, 6, 8, 9, 10]);
        assert_eq!(batch.tokens.targets, [2, 5, 7, 8, 10, 11]);
        assert_eq!(groups[0].sequences[0].loss_tokens(), 3);
        // All that the loss is told of the targets is as if nothing had been said.
        let tokens = plain.tokens.clone();
        assert_eq!(&PackedBatch { tokens, ..batch.clone() }, plain);
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
                let of_targets: Vec<f32> =
                    batch.tokens.targets.iter().map(|t| -(batch.tokens.token_ids[*t] as f32)).collect();
                assert_eq!(batch.old_logprobs, of_targets, "budget {budget}");
            }
        }
    }

    #[test]
    fn reference_log_probs_are_packed_where_every_completion_has_them() {
        let mut groups = groups();
        groups[0].computed_mut().for_each(|sequence| sequence.ref_logprobs = Some(sequence.old_logprobs.clone()));
        assert_eq!(pack(&groups, 100).unwrap()[0].ref_logprobs, None);
        groups[1].computed_mut().for_each(|sequence| sequence.ref_logprobs = Some(vec![-1.0, -2.0]));
        assert_eq!(pack(&groups, 100).unwrap()[0].ref_logprobs, Some(vec![-3.0, -4.0, -5.0, -6.0, -1.0, -2.0]));
    }
}
