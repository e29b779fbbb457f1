//! From prompts to judged groups of completions.

use crate::{Prompt, TrainerError};
use dapo_policy::{Completion, FinishReason, GenerationConfig, Policy, Request, Tokenizer};
use dapo_reward::{Reward, RewardInput, RewardSum};
use serde::{Deserialize, Serialize};

/// A prompt's completions and their rewards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The prompt.
    pub prompt: Prompt,
    /// G completions; the tokens that were generated are the tokens that are trained.
    pub completions: Vec<Completion>,
    /// Their texts, without special tokens.
    pub texts: Vec<String>,
    /// Their rewards.
    pub rewards: Vec<Reward>,
    /// What KL in the reward adds to each, at most a little above 0; empty where it is off.
    pub kl_terms: Vec<f64>,
}

impl Group {
    /// 1 for a right completion, 0 for a wrong one, `None` where the judge abstained.
    pub fn accuracies(&self) -> Vec<Option<f64>> {
        self.rewards.iter().map(|r| r.correct.map(|c| if c { 1.0 } else { 0.0 })).collect()
    }

    /// Whether a completion used up its tokens.
    pub fn is_truncated(&self, completion: usize) -> bool {
        self.completions[completion].finish_reason == FinishReason::Length
    }

    /// A completion's reward with its KL term; `None` where a component abstained.
    pub fn final_reward(&self, completion: usize) -> Option<f64> {
        Some(self.rewards[completion].total? + self.kl_terms.get(completion).unwrap_or(&0.0))
    }
}

/// Completes every prompt `group_size` times and judges the completions. Each prompt comes with its draw index, which keys its
/// random numbers.
///
/// # Errors
/// When generation fails, or a completion cannot be decoded.
pub fn roll_out(
    policy: &impl Policy,
    tokenizer: &Tokenizer,
    prompts: &[(u64, &Prompt)],
    group_size: usize,
    generation: &GenerationConfig,
    rewards: &RewardSum,
) -> Result<Vec<Group>, TrainerError> {
    let empty = |(draw, prompt): &(u64, &Prompt)| {
        let (completions, texts, rewards, kl_terms) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        (*draw, Group { prompt: (*prompt).clone(), completions, texts, rewards, kl_terms })
    };
    let mut groups: Vec<(u64, Group)> = prompts.iter().map(empty).collect();
    let more = vec![group_size; groups.len()];
    add_completions(policy, tokenizer, &mut groups, &more, generation, rewards)?;
    Ok(groups.into_iter().map(|(_, group)| group).collect())
}

/// Adds `more[i]` judged completions to group i; the groups are as if all had been made at once.
///
/// # Errors
/// As [`roll_out`]; the groups are then unchanged.
pub fn add_completions(
    policy: &impl Policy,
    tokenizer: &Tokenizer,
    groups: &mut [(u64, Group)],
    more: &[usize],
    generation: &GenerationConfig,
    rewards: &RewardSum,
) -> Result<(), TrainerError> {
    let requests: Vec<Request> = groups
        .iter()
        .zip(more)
        .map(|((draw, group), more)| Request {
            prompt_ids: group.prompt.token_ids.clone(),
            samples: *more,
            first_sample: group.completions.len(),
            draw: *draw,
        })
        .collect();
    let completions = policy.generate(&requests, generation)?;
    let decode = |c: &Completion| tokenizer.decode(&c.token_ids, true);
    let texts = completions
        .iter()
        .map(|group| group.iter().map(decode).collect::<Result<Vec<_>, _>>())
        .collect::<Result<Vec<_>, _>>()?;
    let mut inputs = Vec::with_capacity(more.iter().sum());
    for (((_, group), completions), texts) in groups.iter().zip(&completions).zip(&texts) {
        inputs.extend(completions.iter().zip(texts).map(|(completion, text)| RewardInput {
            prompt: &group.prompt.text,
            completion: text,
            answer: &group.prompt.answer,
            num_tokens: completion.token_ids.len(),
            truncated: completion.finish_reason == FinishReason::Length,
        }));
    }
    let mut judged = rewards.score_batch(&inputs).into_iter();
    for (((_, group), completions), texts) in groups.iter_mut().zip(completions).zip(texts) {
        group.rewards.extend(judged.by_ref().take(completions.len()));
        group.completions.extend(completions);
        group.texts.extend(texts);
    }
    Ok(())
}
