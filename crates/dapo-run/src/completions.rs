//! The lines of the completions files, and of the dump of a failed step.

use dapo_policy::FinishReason;
use dapo_reward::{AnswerRule, RewardInput, RewardSum, Said};
use dapo_trainer::{Fate, GroupRecord, SampleOutcome};
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
    /// What was said after the prompt, where an environment answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    turns: Option<&'a [Said]>,
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

/// A line of the dump of a failed step: also what the update computed with. A number that is not finite is null.
#[derive(Serialize)]
pub(crate) struct FailedLine<'a> {
    #[serde(flatten)]
    line: CompletionLine<'a>,
    outcome: SampleOutcome,
    kl_term: Option<f64>,
    prompt_token_ids: &'a [u32],
    token_ids: &'a [u32],
    /// In the rollout, in nats.
    logprobs: &'a [f32],
    /// Of the denominator of the importance ratio, in nats.
    old_logprobs: &'a [f32],
}

/// The samples of a group as lines of a dump.
pub(crate) fn failed_lines<'a>(
    step: u64,
    record: &'a GroupRecord,
    rewards: &'a RewardSum,
) -> impl Iterator<Item = FailedLine<'a>> {
    let group = &*record.group;
    lines(step, record, rewards).zip(&group.samples).map(|(line, sample)| FailedLine {
        line,
        outcome: sample.outcome,
        kl_term: sample.kl_term,
        prompt_token_ids: &group.prompt.token_ids,
        token_ids: &sample.completion.token_ids,
        logprobs: &sample.completion.logprobs,
        old_logprobs: sample.old_logprobs(),
    })
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
            turns: sample.episode.as_ref().map(|episode| &episode.turns[..]),
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
