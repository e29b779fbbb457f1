//! What is asked of a policy that generates, and what comes back.

use crate::check::check_ids;
use crate::config::ModelConfig;
use crate::error::PolicyError;
use crate::sampling::{Purpose, SamplingConfig, StreamKey};
use crate::stop::StopTokens;
use crate::stop_strings::{StopStrings, Tail};

/// A prompt to complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The prompt; not empty.
    pub prompt_ids: Vec<u32>,
    /// Number of completions.
    pub samples: usize,
    /// Number of the first of them: above 0 to add to completions made before, as if all were made at once.
    pub first_sample: usize,
    /// Index of the draw: with the seed, the purpose and the sample's number it keys the random numbers.
    pub draw: u64,
}

/// How completions are generated.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Tokens at most, the stop token included.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: SamplingConfig,
    /// Tokens that end a completion (and belong to it).
    pub stop: StopTokens,
    /// Texts that end a completion (and belong to it).
    pub stop_strings: StopStrings,
    /// Seed of all random numbers.
    pub seed: u64,
    /// What the completions are for.
    pub purpose: Purpose,
    /// Memory for keys and values, in bytes; it bounds how many sequences are active at a time. On a GPU no more is taken
    /// than is free there. `None`: 2 GiB, on a GPU what is free.
    pub cache_bytes: Option<usize>,
    /// Memory in bytes in which a decoder on the CPU keeps what it computes of prompts and completions, for backward
    /// passes that come before its weights change: these then need no forward pass. Gradients are the same to the bit.
    /// 0: none is kept. See [`Decoder::release_activations`](crate::Decoder::release_activations).
    pub keep_activations_bytes: usize,
    /// Tokens that a decoder on the CPU guesses at most ahead of a sequence, up to three while one is active and up to one
    /// while two are: those that followed
    /// the same tokens in the prompt, in the completion or in others of the prompt that have ended (prompt lookup). One forward
    /// computes them all, and those are kept that are drawn. Completions and log-probs are the same to the bit. 0: none are
    /// guessed.
    pub draft_tokens: usize,
    /// Limits of completions of several turns, where somebody else speaks between them: see
    /// [`Policy::generate_turns`](crate::Policy::generate_turns).
    pub turns: Option<TurnLimits>,
}

/// Limits of completions of several turns, beside [`GenerationConfig::max_new_tokens`], which bounds the generated
/// tokens of all turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnLimits {
    /// Tokens that may be generated in one turn; `None`: as many as in all.
    pub max_turn_tokens: Option<usize>,
    /// Tokens of others that a completion may have.
    pub max_context_tokens: usize,
}

impl GenerationConfig {
    /// The default of [`draft_tokens`](Self::draft_tokens).
    pub const DRAFT_TOKENS: usize = 3;

    /// Up to 256 tokens at temperature 1, seed 0. There is no default for the stop tokens: take [`StopTokens::of`] the model.
    pub fn new(stop: StopTokens) -> Self {
        Self {
            max_new_tokens: 256,
            sampling: SamplingConfig::default(),
            stop,
            stop_strings: StopStrings::default(),
            seed: 0,
            purpose: Purpose::Rollout,
            cache_bytes: None,
            keep_activations_bytes: 0,
            draft_tokens: Self::DRAFT_TOKENS,
            turns: None,
        }
    }

    /// Tokens that may follow a prompt: those that are generated and those of others.
    pub(crate) fn max_tokens_after_prompt(&self) -> usize {
        self.max_new_tokens.saturating_add(self.turns.map_or(0, |turns| turns.max_context_tokens))
    }

    /// Tokens that may be generated in a turn before which there were `drawn` of them.
    pub(crate) fn turn_limit(&self, drawn: usize) -> usize {
        let left = self.max_new_tokens.saturating_sub(drawn);
        self.turns.and_then(|turns| turns.max_turn_tokens).map_or(left, |most| most.min(left))
    }

    /// The stopping rule: why a turn of `length` tokens, of which it may have `limit`, ends with `token`; `None` where it
    /// continues. `tail` is that of the turn's tokens before.
    pub(crate) fn finish(
        &self,
        tail: &mut Tail,
        token: u32,
        length: usize,
        limit: usize,
    ) -> Result<Option<FinishReason>, PolicyError> {
        if self.stop.contains(token) || self.stop_strings.completes(tail, token)? {
            return Ok(Some(FinishReason::Stop));
        }
        Ok((length >= limit).then_some(FinishReason::Length))
    }

    /// The stream of a request's sample, counted from its first.
    pub(crate) fn stream(&self, request: &Request, sample: usize) -> StreamKey {
        let (seed, purpose) = (self.seed, self.purpose);
        StreamKey { seed, purpose, draw: request.draw, sample: (request.first_sample + sample) as u64 }
    }

    /// Fails where the settings are out of range, or a request asks for what this model cannot generate.
    pub(crate) fn check(&self, requests: &[Request], model: &ModelConfig) -> Result<(), PolicyError> {
        self.sampling.validate()?;
        let bad = |field: String, found: String, expected: String| Err(PolicyError::Setting { field, found, expected });
        if self.max_new_tokens == 0 {
            return bad("max_new_tokens".into(), "0".into(), "at least 1".into());
        }
        if self.turns.is_some_and(|turns| turns.max_turn_tokens == Some(0)) {
            return bad("turns.max_turn_tokens".into(), "0".into(), "at least 1".into());
        }
        let limit = model.max_position_embeddings;
        for (i, request) in requests.iter().enumerate() {
            let length = request.prompt_ids.len();
            let new = self.max_tokens_after_prompt();
            if length == 0 || length.saturating_add(new) > limit {
                return bad(
                    format!("requests[{i}].prompt_ids"),
                    format!("{length} tokens"),
                    format!("at least 1, and at most the model's {limit} with {new} new ones"),
                );
            }
            check_ids(&format!("requests[{i}].prompt_ids"), &request.prompt_ids, model.vocab_size)?;
        }
        Ok(())
    }
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// It generated a stop token or a text that ends completions.
    Stop,
    /// It used up its tokens without either: it is truncated.
    Length,
}

/// A sampled completion: what the model generated, in one turn or several, and what others said in between.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Completion {
    /// The tokens that were generated, the stop token included, or the one that completes a stop string; those of all turns,
    /// one after another.
    pub token_ids: Vec<u32>,
    /// Log-prob of each of them in the full softmax of the model's logits, at the sampling temperature (at 1 where that is 0).
    /// Top-p, top-k, min-p and the repetition penalty do not change it.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What others said between the turns, in order; none where there is one turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<ContextTokens>,
}

/// Tokens within a completion that nobody drew from the model: it reads them, and does not learn to write them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContextTokens {
    /// Number of the completion's generated tokens that stand before them.
    pub at: usize,
    /// The tokens.
    pub token_ids: Vec<u32>,
}
