//! What a reward function sees of a sample.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// How a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// By a stop token or a stop text.
    #[default]
    Stop,
    /// The token budget ran out before.
    Length,
}

/// What an environment said of an episode.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EpisodeScore {
    /// The sum of the turns' rewards; `None`: the environment failed, or ended the episode without a reward.
    pub value: Option<f64>,
    /// Whether the episode's answer is correct, where the environment said so.
    pub correct: Option<bool>,
    /// Further numbers to log.
    pub log: BTreeMap<String, f64>,
}

/// One completion to be judged, with what is known about its sample.
///
/// # Example
/// ```
/// use dapo_reward::{Ending, RewardInput};
/// use serde_json::json;
///
/// let columns = json!({"level": 3, "tests": [{"input": "1", "output": "2"}]});
/// let input = RewardInput::new("1+1?", "It is 2.", "2")
///     .with_token_ids(&[40, 374, 17, 2])
///     .with_ending(Ending::Length)
///     .with_columns(&columns)
///     .with_place(7, 0, 1);
/// assert_eq!((input.num_tokens, input.is_truncated()), (4, true));
/// assert_eq!(input.column("level"), Some(&json!(3)));
/// assert_eq!(input.column("source"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RewardInput<'a> {
    /// The prompt's text, as the chat template renders it.
    pub prompt: &'a str,
    /// The conversation that the prompt was rendered from: objects with `role` and `content`. Empty for a plain prompt.
    pub messages: &'a [Value],
    /// The completion's text.
    pub completion: &'a str,
    /// The completion's tokens, end token included. Empty where only the text is known.
    pub token_ids: &'a [u32],
    /// Completion length in tokens, end token included; 0 where only the text is known.
    pub num_tokens: usize,
    /// How the completion ended.
    pub ending: Ending,
    /// The gold answer, the first where several are accepted; empty where the problem has none.
    pub answer: &'a str,
    /// Further gold answers: a completion is correct if it gives any of them or [`answer`](Self::answer).
    pub alternatives: &'a [String],
    /// The problem's columns as its data file has them: an object, or null without columns.
    pub columns: &'a Value,
    /// Draw index of the prompt: completions of one draw are a group.
    pub draw: u64,
    /// Position of the completion in its group.
    pub sample: usize,
    /// The training step, from 1 on; 0 outside training.
    pub step: u64,
    /// What the environment said of the sample, where there is one; the completion is then what the model said in all turns.
    pub episode: Option<&'a EpisodeScore>,
}

impl<'a> RewardInput<'a> {
    /// A completion of which only the texts are known.
    pub fn new(prompt: &'a str, completion: &'a str, answer: &'a str) -> Self {
        Self {
            prompt,
            messages: &[],
            completion,
            token_ids: &[],
            num_tokens: 0,
            ending: Ending::Stop,
            answer,
            alternatives: &[],
            columns: &Value::Null,
            draw: 0,
            sample: 0,
            step: 0,
            episode: None,
        }
    }

    /// Sets the conversation.
    #[must_use]
    pub fn with_messages(self, messages: &'a [Value]) -> Self {
        Self { messages, ..self }
    }

    /// Sets the completion's tokens and its length.
    #[must_use]
    pub fn with_token_ids(self, token_ids: &'a [u32]) -> Self {
        Self { token_ids, num_tokens: token_ids.len(), ..self }
    }

    /// Sets the completion's length in tokens where the tokens are not at hand.
    #[must_use]
    pub fn with_num_tokens(self, num_tokens: usize) -> Self {
        Self { num_tokens, ..self }
    }

    /// Sets how the completion ended.
    #[must_use]
    pub fn with_ending(self, ending: Ending) -> Self {
        Self { ending, ..self }
    }

    /// Sets further gold answers.
    #[must_use]
    pub fn with_alternatives(self, alternatives: &'a [String]) -> Self {
        Self { alternatives, ..self }
    }

    /// Sets the problem's columns.
    #[must_use]
    pub fn with_columns(self, columns: &'a Value) -> Self {
        Self { columns, ..self }
    }

    /// Sets draw index, position in the group and training step.
    #[must_use]
    pub fn with_place(self, draw: u64, sample: usize, step: u64) -> Self {
        Self { draw, sample, step, ..self }
    }

    /// Sets what the environment said of the sample.
    #[must_use]
    pub fn with_episode(self, episode: Option<&'a EpisodeScore>) -> Self {
        Self { episode, ..self }
    }

    /// Every gold answer; none where the problem has no answer.
    pub fn answers(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let all = std::iter::once(self.answer).chain(self.alternatives.iter().map(String::as_str));
        all.filter(|answer| !answer.trim().is_empty())
    }

    /// One of the problem's columns.
    pub fn column(&self, name: &str) -> Option<&'a Value> {
        self.columns.get(name)
    }

    /// Whether the token budget ran out before the completion ended.
    pub fn is_truncated(&self) -> bool {
        self.ending == Ending::Length
    }
}
