//! From prompts to judged groups of completions.

use crate::{Prompt, TrainerError};
use dapo_policy::{Completion, FinishReason, GenerationConfig, Policy, Request, Tokenizer};
use dapo_reward::{Reward, RewardInput, RewardSum};

/// A prompt's completions and their rewards.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The prompt.
    pub prompt: Prompt,
    /// G completions; the tokens that were generated are the tokens that are trained.
    pub completions: Vec<Completion>,
    /// Their texts, without special tokens.
    pub texts: Vec<String>,
    /// Their rewards.
    pub rewards: Vec<Reward>,
}

impl Group {
    /// 1 for a right completion, 0 for a wrong one, `None` where the judge abstained.
    pub fn accuracies(&self) -> Vec<Option<f64>> {
        self.rewards.iter().map(|r| r.correct.map(|c| if c { 1.0 } else { 0.0 })).collect()
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
    let requests: Vec<Request> = prompts
        .iter()
        .map(|(draw, p)| Request { prompt_ids: p.token_ids.clone(), samples: group_size, draw: *draw })
        .collect();
    let completions = policy.generate(&requests, generation)?;
    let texts = completions
        .iter()
        .map(|group| group.iter().map(|c| tokenizer.decode(&c.token_ids, true)).collect::<Result<Vec<_>, _>>())
        .collect::<Result<Vec<_>, _>>()?;
    let mut inputs = Vec::with_capacity(prompts.len() * group_size);
    for (((_, prompt), completions), texts) in prompts.iter().zip(&completions).zip(&texts) {
        inputs.extend(completions.iter().zip(texts).map(|(completion, text)| RewardInput {
            prompt: &prompt.text,
            completion: text,
            answer: &prompt.answer,
            num_tokens: completion.token_ids.len(),
            truncated: completion.finish_reason == FinishReason::Length,
        }));
    }
    let mut judged = rewards.score_batch(&inputs).into_iter();
    let mut groups = Vec::with_capacity(prompts.len());
    for (((_, prompt), completions), texts) in prompts.iter().zip(completions).zip(texts) {
        let rewards = judged.by_ref().take(completions.len()).collect();
        groups.push(Group { prompt: (*prompt).clone(), completions, texts, rewards });
    }
    Ok(groups)
}
