//! What the policy is asked.

use dapo_policy::ChatOptions;
use serde_json::Value;
use std::sync::Arc;

/// A problem as the policy sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Prompt {
    /// Identifies the problem.
    pub id: String,
    /// The rendered prompt.
    pub text: String,
    /// Token ids of the rendered prompt.
    pub token_ids: Vec<u32>,
    /// The gold answer, the first where several are accepted; empty where the problem has none.
    pub answer: String,
    /// Further gold answers: any one is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
    /// The conversation that the text was rendered from: objects with `role` and `content`. No part of checkpoints.
    #[serde(skip)]
    pub messages: Arc<[Value]>,
    /// The problem's entry in its data file, or null; see [`Problem::columns`](crate::Problem::columns). No part of
    /// checkpoints.
    #[serde(skip)]
    pub columns: Arc<Value>,
    /// What the chat template got besides the conversation. No part of checkpoints.
    #[serde(skip)]
    pub chat: Arc<ChatOptions>,
    /// How an environment has begun the episodes of this prompt. No part of checkpoints.
    #[serde(skip)]
    pub begun: Option<Arc<Begun>>,
}

/// How an environment begins the episodes of a draw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// The state in which each episode begins.
    pub state: Value,
    /// Whether it failed to begin them: they end with their first turn and abstain.
    pub is_faulty: bool,
    /// The prompt's text without what the environment says first.
    pub text: String,
    /// The prompt's messages without those of the environment.
    pub messages: Arc<[Value]>,
}

impl Prompt {
    /// Every gold answer; none where the problem has no answer.
    pub fn answers(&self) -> impl Iterator<Item = &str> + Clone {
        let all = std::iter::once(&self.answer).chain(&self.alternatives);
        all.map(String::as_str).filter(|answer| !answer.trim().is_empty())
    }
}
