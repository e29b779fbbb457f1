//! A group on its way to the other ranks: bit for bit, without what follows from its draw.

use crate::error::TrainerError;
use crate::groups;
use crate::sample::{Group, Sample};
use crate::team::unreadable;
use dapo_data::{Begun, Prompt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Display;
use std::sync::Arc;

/// A group that was made, and the sum of the KL terms that each pass over the round's groups added to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Made {
    pub(crate) group: Group,
    pub(crate) kl_sums: Vec<f64>,
}

/// What is written as JSON, which keeps every finite f64; token ids and log-probs follow in binary.
#[derive(Serialize, Deserialize)]
struct Letter {
    samples: Vec<Sample>,
    /// As bits.
    kl_sums: Vec<u64>,
    begun: Option<BegunPrompt>,
}

/// What an environment made of the prompt.
#[derive(Serialize, Deserialize)]
struct BegunPrompt {
    text: String,
    messages: Vec<Value>,
    state: Value,
    is_faulty: bool,
    text_before: String,
    messages_before: Vec<Value>,
}

impl BegunPrompt {
    fn of(prompt: &Prompt, begun: &Begun) -> Self {
        Self {
            text: prompt.text.clone(),
            messages: prompt.messages.to_vec(),
            state: begun.state.clone(),
            is_faulty: begun.is_faulty,
            text_before: begun.text.clone(),
            messages_before: begun.messages.to_vec(),
        }
    }

    fn put(self, prompt: &mut Prompt) {
        let Self { text, messages, state, is_faulty, text_before, messages_before } = self;
        prompt.text = text;
        prompt.messages = messages.into();
        prompt.begun = Some(Arc::new(Begun { state, is_faulty, text: text_before, messages: messages_before.into() }));
    }
}

impl Made {
    /// As bytes.
    ///
    /// # Errors
    /// When a text cannot be written.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, TrainerError> {
        let Self { mut group, kl_sums } = self;
        let begun = group.prompt.begun.take();
        let begun = begun.as_deref().map(|begun| BegunPrompt::of(&group.prompt, begun));
        if begun.is_none() {
            group.prompt.token_ids.clear();
        }
        let field = format!("the group of draw {}", group.draw);
        let unwritable = |error: &dyn Display| TrainerError::setting(&field, &error, "one that can be sent");
        let numbers = groups::take(&mut group).map_err(|error| unwritable(&error))?;
        let kl_sums = kl_sums.into_iter().map(f64::to_bits).collect();
        let letter = Letter { samples: group.samples, kl_sums, begun };
        let json = serde_json::to_vec(&letter).map_err(|error| unwritable(&error))?;
        Ok([&(json.len() as u64).to_le_bytes(), json.as_slice(), &numbers].concat())
    }

    /// What `rank` sent of a draw of `prompt`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of_bytes(bytes: &[u8], rank: usize, draw: u64, prompt: &Prompt) -> Result<Self, TrainerError> {
        let wrong = |found: &str| unreadable(rank, found, &format!("the group of draw {draw}"));
        let parts = bytes
            .split_first_chunk()
            .and_then(|(length, rest)| rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?));
        let (json, numbers) = parts.ok_or_else(|| wrong("cut short"))?;
        let letter = serde_json::from_slice(json).map_err(|error| wrong(&error.to_string()))?;
        let Letter { samples, kl_sums, begun } = letter;
        let mut group = Group { draw, prompt: prompt.clone(), samples };
        let is_begun = begun.is_some();
        if let Some(begun) = begun {
            begun.put(&mut group.prompt);
        }
        let own = group.prompt.token_ids.clone();
        groups::put(numbers, &mut group).map_err(|found| wrong(&found))?;
        if !is_begun {
            group.prompt.token_ids = own;
        }
        Ok(Self { group, kl_sums: kl_sums.into_iter().map(f64::from_bits).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Episode;
    use dapo_policy::{Completion, ContextTokens, FinishReason};
    use dapo_reward::{Component, Reward, Said};
    use serde_json::json;

    fn made() -> Made {
        let completion = Completion {
            token_ids: vec![7, 8],
            logprobs: vec![-0.0, -1.234_567_9e-12],
            finish_reason: FinishReason::Length,
            context: vec![ContextTokens { at: 1, token_ids: vec![9] }],
        };
        let log = [("x".to_owned(), -0.0), ("y".to_owned(), 0.1 + 0.2)].into();
        let component = Component { name: "own".to_owned(), weight: 1.0, value: Some(5e-324), log };
        let reward = Reward { correct: Some(false), components: vec![component], total: Some(f64::MAX) };
        let episode = Episode { turns: vec![Said::new("user", "\u{0}\"ü")], rewards: vec![1.0 / 3.0], is_done: true };
        let sample = Sample::new(completion, "a\nb".to_owned(), reward).with_episode(Some(episode));
        let sample = Sample { kl_term: Some(-1e-17), old_logprobs: Some(vec![-2.0, -3.0]), ..sample };
        let prompt = Prompt { id: "p".to_owned(), token_ids: vec![1, 2, 3], text: "t".to_owned(), ..Prompt::default() };
        Made { group: Group { draw: 5, prompt, samples: vec![sample] }, kl_sums: vec![f64::NAN, -0.0, 0.1] }
    }

    #[test]
    fn a_group_arrives_bit_for_bit() {
        let sent = made();
        let prompt = sent.group.prompt.clone();
        let arrived = Made::of_bytes(&sent.clone().into_bytes().unwrap(), 1, 5, &prompt).unwrap();
        assert_eq!(arrived.group, sent.group);
        // Zeros keep their sign, which `==` does not see.
        assert_eq!(format!("{arrived:?}"), format!("{sent:?}"));
    }

    #[test]
    fn a_prompt_that_an_environment_has_begun_travels() {
        let mut sent = made();
        let before = sent.group.prompt.clone();
        let prompt = &mut sent.group.prompt;
        prompt.token_ids.extend([4, 4]);
        prompt.text += " and more";
        prompt.messages = vec![json!({"role": "user", "content": "t"})].into();
        let state = json!({"n": [1, 2.5, null]});
        prompt.begun = Some(Arc::new(Begun { state, text: "t".to_owned(), ..Begun::default() }));
        let arrived = Made::of_bytes(&sent.clone().into_bytes().unwrap(), 1, 5, &before).unwrap();
        assert_eq!(arrived.group, sent.group);
    }

    #[test]
    fn what_is_cut_short_is_refused_with_its_sender() {
        let bytes = made().into_bytes().unwrap();
        let prompt = made().group.prompt;
        for end in [0, 7, 20, bytes.len() - 1] {
            let error = Made::of_bytes(&bytes[..end], 3, 5, &prompt).unwrap_err().to_string();
            assert!(error.starts_with("what rank 3 sent is ") && error.ends_with("the group of draw 5"), "{error}");
        }
    }
}
