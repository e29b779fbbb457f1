//! The problems to train on and to evaluate on.

use dapo_trainer::PromptStyle;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The problems to train on and to evaluate on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// Files of problems with answers (JSON lines, or Parquet with that feature), `hf://datasets/…` files (with the hub
    /// feature), or `builtin:addition`.
    #[serde(deserialize_with = "one_or_many")]
    pub train: Vec<String>,
    /// Files of problems for evaluation.
    #[serde(deserialize_with = "one_or_many")]
    pub validation: Vec<String>,
    /// Share of the training problems set apart for evaluation, chosen by the seed.
    pub validation_split: f64,
    /// Use only the first problems of the training files; by default all.
    pub limit: Option<usize>,
    /// Whether problems with the same prompt are used once.
    pub deduplicate: bool,
    /// Problems with longer prompts, in tokens, are left out.
    pub max_prompt_tokens: usize,
    /// What is put around a question.
    #[serde(flatten)]
    pub style: PromptStyle,
}

/// A list, or one string as a list of one.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a string or a list of strings")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            validation_split: 0.0,
            limit: None,
            deduplicate: true,
            max_prompt_tokens: 2048,
            style: PromptStyle::default(),
        }
    }
}
