//! `trainer.json` of a checkpoint, in this version's format and in earlier ones.

use crate::error::TrainerError;
use crate::groups;
use crate::sample::{Group, Sample};
use dapo_data::Prompt;
use dapo_files::read_file;
use dapo_policy::Completion;
use dapo_reward::Reward;
use dapo_sampler::{DataOrder, DynamicSampler, SamplerConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// The format that is written. 2 had the token ids and log-probs of carried groups in `trainer.json`; 1 had another form of
/// groups, too ([`GroupV1`]).
pub(crate) const FORMAT: u32 = 3;

/// The file of a reference that is no longer what the run began with.
pub(crate) const REFERENCE: &str = "reference.safetensors";

/// `trainer.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) format: u32,
    pub(crate) step: u64,
    pub(crate) num_tokens: u64,
    pub(crate) updates: u64,
    /// Updates of a critic's own layers; 0 is left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) critic_updates: u64,
    /// Groups drawn in the latest steps that found nothing left to learn; 0 is left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) mastered_groups: u64,
    /// Steps whose batch was too small for an update; 0 is left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) skipped_steps: u64,
    /// Of the prompts: their order is meaningless for others.
    pub(crate) data: String,
    /// Fingerprint of the weights that the run began with; formats 1 and 2 have it only where the checkpoint relies on them.
    pub(crate) base: Option<String>,
    /// Whether the reference is no longer what the run began with, and so is in the checkpoint; false is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_reference: bool,
    pub(crate) order: DataOrder,
    pub(crate) sampler: DynamicSampler<Arc<Group>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl State {
    /// Reads the state that this version or an earlier one wrote, with the numbers of carried groups beside it. Where
    /// the sampler's settings have a form that is gone, `sampler` stands for them.
    ///
    /// # Errors
    /// [`TrainerError::Io`] and [`TrainerError::Checkpoint`].
    pub(crate) fn read(file: &Path, sampler: &SamplerConfig) -> Result<Self, TrainerError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let text = read_file(file).map_err(|source| TrainerError::Io { path: file.into(), source })?;
        let unreadable = |error: serde_json::Error| {
            wrong(file, error.to_string(), "the state of a trainer as this version writes it")
        };
        let dir = file.parent().unwrap_or(Path::new(""));
        let Format { format } = serde_json::from_slice(&text).map_err(unreadable)?;
        let mut state: Self = match format {
            1 => serde_json::from_slice(&text)
                .and_then(from_format_1)
                .and_then(|state| with_sampler(state, sampler))
                .map_err(unreadable)?,
            2 | FORMAT => serde_json::from_slice(&text)
                .or_else(|_| with_sampler(serde_json::from_slice(&text)?, sampler))
                .map_err(unreadable)?,
            _ => return Err(wrong(file, format!("format {format}"), &format!("format 1 to {FORMAT}"))),
        };
        if format == FORMAT {
            groups::read(dir, &mut state.sampler)?;
        } else {
            state.has_reference = dir.join(REFERENCE).exists();
        }
        Ok(state)
    }
}

/// The error for a file of a checkpoint that does not fit.
pub(crate) fn wrong(file: &Path, found: String, expected: &str) -> TrainerError {
    TrainerError::Checkpoint { path: file.into(), found, expected: expected.into() }
}

/// A group in format 1: a list for each property of its samples, and its draw beside it.
#[derive(Deserialize)]
struct GroupV1 {
    prompt: Prompt,
    completions: Vec<Completion>,
    texts: Vec<String>,
    rewards: Vec<Reward>,
    /// Empty where KL in the reward was off.
    kl_terms: Vec<f64>,
}

impl GroupV1 {
    fn upgrade(self, draw: u64) -> Group {
        let samples = self.completions.into_iter().zip(self.texts).zip(self.rewards);
        let terms = self.kl_terms.into_iter().map(Some).chain(std::iter::repeat(None));
        let samples = samples
            .zip(terms)
            .map(|(((completion, text), reward), kl_term)| Sample { kl_term, ..Sample::new(completion, text, reward) });
        Group { draw, prompt: self.prompt, samples: samples.collect() }
    }
}

/// The state with these settings of the sampler.
fn with_sampler(mut state: Value, sampler: &SamplerConfig) -> Result<State, serde_json::Error> {
    if let Some(config) = state.pointer_mut("/sampler/config") {
        *config = serde_json::to_value(sampler)?;
    }
    serde_json::from_value(state)
}

fn from_format_1(mut state: Value) -> Result<Value, serde_json::Error> {
    for list in ["kept", "dropped"] {
        let entries = state.pointer_mut(&format!("/sampler/{list}")).and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            let draw = u64::deserialize(&entry["draw"])?;
            let group: GroupV1 = serde_json::from_value(entry["group"].take())?;
            entry["group"] = serde_json::to_value(group.upgrade(draw))?;
        }
    }
    Ok(state)
}
