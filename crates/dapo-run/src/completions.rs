//! The lines of the completions files.

use dapo_policy::FinishReason;
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
pub(crate) fn lines(step: u64, record: &GroupRecord) -> impl Iterator<Item = CompletionLine<'_>> {
    let group = &*record.group;
    group.samples.iter().enumerate().map(move |(number, sample)| CompletionLine {
        step,
        prompt_id: &group.prompt.id,
        draw: group.draw,
        sample: number,
        prompt: &group.prompt.text,
        completion: &sample.text,
        tokens: sample.completion.token_ids.len(),
        finish_reason: sample.completion.finish_reason,
        rewards: sample.reward.components.iter().map(|c| (c.name.as_str(), c.value)).collect(),
        reward: sample.final_reward(),
        correct: sample.reward.correct,
        advantage: sample.advantage,
        in_loss: sample.in_loss(),
        fate: record.fate,
        age: record.age,
    })
}
