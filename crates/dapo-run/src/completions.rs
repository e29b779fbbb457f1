//! The lines of the completions files, and of the dump of a failed step.

use crate::settings::RunConfig;
use crate::token_logprobs::{chosen, texts};
use dapo_policy::{ContextTokens, FinishReason, Tokenizer};
use dapo_reward::{AnswerRule, RewardInput, RewardSum, Said};
use dapo_trainer::{Fate, GroupRecord, Sample, SampleOutcome, Trainer};
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
    /// The text that each token adds, special tokens included.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_texts: Option<Vec<String>>,
    /// Log-probs of the tokens in the rollout, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_logprobs: Option<&'a [f32]>,
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
    /// What others said in between.
    #[serde(skip_serializing_if = "<[ContextTokens]>::is_empty")]
    context: &'a [ContextTokens],
    /// In the rollout, in nats.
    logprobs: &'a [f32],
    /// Of the denominator of the importance ratio, in nats.
    old_logprobs: &'a [f32],
}

/// What the completions of a run are logged with.
#[derive(Clone, Copy)]
pub(crate) struct CompletionLog<'a> {
    rewards: &'a RewardSum,
    tokenizer: &'a Tokenizer,
    /// Completions of a step whose tokens are logged.
    token_logprobs: usize,
}

impl<'a> CompletionLog<'a> {
    pub(crate) fn of(trainer: &'a Trainer, config: &RunConfig) -> Self {
        let token_logprobs = config.output.token_logprobs;
        Self { rewards: trainer.rewards(), tokenizer: trainer.tokenizer(), token_logprobs }
    }

    /// The samples of a step's groups as lines.
    pub(crate) fn lines(self, step: u64, records: &'a [GroupRecord]) -> impl Iterator<Item = CompletionLine<'a>> {
        let chosen = chosen(records, self.token_logprobs);
        let samples = records.iter().enumerate().flat_map(|(place, record)| {
            record.group.samples.iter().enumerate().map(move |(number, sample)| (place, record, number, sample))
        });
        samples.map(move |(place, record, number, sample)| {
            let has_tokens = chosen.contains(&(place, number));
            self.line(step, record, (number, sample), has_tokens)
        })
    }

    /// The samples of a failed step's groups as lines of a dump.
    pub(crate) fn failed_lines(self, step: u64, records: &'a [GroupRecord]) -> impl Iterator<Item = FailedLine<'a>> {
        let samples = records.iter().flat_map(|record| record.group.samples.iter().map(move |sample| (record, sample)));
        self.lines(step, records).zip(samples).map(|(line, (record, sample))| FailedLine {
            line,
            outcome: sample.outcome,
            kl_term: sample.kl_term,
            prompt_token_ids: &record.group.prompt.token_ids,
            token_ids: &sample.completion.token_ids,
            context: &sample.completion.context,
            logprobs: &sample.completion.logprobs,
            old_logprobs: sample.old_logprobs(),
        })
    }

    fn line(
        self,
        step: u64,
        record: &'a GroupRecord,
        (number, sample): (usize, &'a Sample),
        has_tokens: bool,
    ) -> CompletionLine<'a> {
        let group = &*record.group;
        let (prompt, completion) = (&group.prompt, &sample.completion);
        let input =
            RewardInput::new(&prompt.text, &sample.text, &prompt.answer).with_alternatives(&prompt.alternatives);
        let found = self.rewards.compared(&input);
        let texts = || texts(&completion.token_ids, |ids| self.tokenizer.decode(ids, false)).ok();
        let token_texts = has_tokens.then(texts).flatten();
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
            tokens: completion.token_ids.len(),
            finish_reason: completion.finish_reason,
            rewards: sample.reward.components.iter().map(|c| (c.name.as_str(), c.value)).collect(),
            reward: sample.final_reward(),
            correct: sample.reward.correct,
            advantage: sample.advantage,
            in_loss: sample.in_loss(),
            fate: record.fate,
            age: record.age,
            token_logprobs: token_texts.as_ref().map(|_| completion.logprobs.as_slice()),
            token_texts,
        }
    }
}
