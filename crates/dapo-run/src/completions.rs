//! The lines of the completions files.

use dapo_policy::FinishReason;
use dapo_reward::{AnswerRule, RewardInput, RewardSum};
use dapo_trainer::{Fate, GroupRecord};
use serde::Serialize;
use std::collections::BTreeMap;

/// A line of the completions files.
#[derive(Serialize)]
pub(crate) struct CompletionLine<'a> {
    step: u64,
    prompt_id: &'a str,
    draw: u64,
    sample: usize,
    prompt: &'a str,
    completion: &'a str,
    /// The gold answer, the first where several are accepted; null where the problem has none.
    answer: Option<&'a str>,
    /// The other gold answers.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    alternatives: &'a [String],
    /// What the judge compared with it, and how it was found; null where it found nothing, or compares no answers.
    extracted: Option<&'a str>,
    rule: Option<AnswerRule>,
    tokens: usize,
    finish_reason: FinishReason,
    /// Each component before weighting; null where it abstained.
    rewards: BTreeMap<&'a str, Option<f64>>,
    /// With KL in the reward; null where a component abstained.
    reward: Option<f64>,
    correct: Option<bool>,
    advantage: Option<f32>,
    in_loss: bool,
    fate: Fate,
    age: u32,
}

/// The samples of a group as lines.
pub(crate) fn lines<'a>(
    step: u64,
    record: &'a GroupRecord,
    rewards: &'a RewardSum,
) -> impl Iterator<Item = CompletionLine<'a>> {
    let group = &*record.group;
    group.samples.iter().enumerate().map(move |(number, sample)| {
        let prompt = &group.prompt;
        let input =
            RewardInput::new(&prompt.text, &sample.text, &prompt.answer).with_alternatives(&prompt.alternatives);
        let found = rewards.compared(&input);
        CompletionLine {
            step,
            prompt_id: &prompt.id,
            draw: group.draw,
            sample: number,
            prompt: &prompt.text,
            completion: &sample.text,
            answer: Some(prompt.answer.as_str()).filter(|answer| !answer.trim().is_empty()),
            alternatives: &prompt.alternatives,
            extracted: found.map(|found| found.text),
            rule: found.map(|found| found.rule),
            tokens: sample.completion.token_ids.len(),
            finish_reason: sample.completion.finish_reason,
            rewards: sample.reward.components.iter().map(|c| (c.name.as_str(), c.value)).collect(),
            reward: sample.final_reward(),
            correct: sample.reward.correct,
            advantage: sample.advantage,
            in_loss: sample.in_loss(),
            fate: record.fate,
            age: record.age,
        }
    })
}
