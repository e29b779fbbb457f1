//! Which tokens end a completion.

use crate::config::ModelConfig;
use crate::tokenizer::Tokenizer;

/// The tokens that end a completion, and belong to it.
///
/// Checkpoints name them in up to four places that need not agree: many base models and fine-tunes end a turn with the
/// tokenizer's `eos_token` while `config.json` still names another one. [`StopTokens::of`] takes all of them, as vLLM
/// and TRL do; everything in this project that generates text asks it.
///
/// ```
/// use dapo_policy::StopTokens;
///
/// let stops = StopTokens::new([2, 7, 2]);
/// assert_eq!(stops.ids(), [2, 7]);
/// assert!(stops.contains(7) && StopTokens::none().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopTokens {
    ids: Vec<u32>,
}

impl StopTokens {
    /// The stop tokens of a model: the `eos_token_id`s of `config.json` and `generation_config.json`, the tokenizer's
    /// `eos_token`, and that of `special_tokens_map.json`.
    ///
    /// The set is empty where none of them names a token; completions then always use up their tokens, which is worth a
    /// warning.
    pub fn of(model: &ModelConfig, tokenizer: &Tokenizer) -> Self {
        Self::new(model.eos_token_ids.iter().chain(tokenizer.stop_token_ids()).copied())
    }

    /// These tokens, each once, in the order of their first mention.
    pub fn new(ids: impl IntoIterator<Item = u32>) -> Self {
        let mut unique = Vec::new();
        for id in ids {
            if !unique.contains(&id) {
                unique.push(id);
            }
        }
        Self { ids: unique }
    }

    /// No token: every completion uses up its tokens, as benchmarks want.
    pub fn none() -> Self {
        Self { ids: Vec::new() }
    }

    /// The token ids.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Whether a token ends a completion.
    pub fn contains(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    /// Whether no token ends a completion.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
