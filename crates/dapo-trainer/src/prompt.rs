//! What the policy is asked.

/// A problem as the policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Prompt {
    /// Identifies the problem.
    pub id: String,
    /// The rendered prompt.
    pub text: String,
    /// Token ids of the rendered prompt.
    pub token_ids: Vec<u32>,
    /// The gold answer.
    pub answer: String,
}
