//! The problems to train on and to evaluate on.

use dapo_data::PromptStyle;
use dapo_data::{Fields, OnBadLine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The problems to train on and to evaluate on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// Files of problems (JSON lines, JSON or CSV, or Parquet with that feature), folders of these, `hf://datasets/…` files
    /// (with the hub feature), `builtin:addition` or `builtin:rust`.
    #[serde(deserialize_with = "one_or_many")]
    pub train: Vec<String>,
    /// Files of problems for evaluation.
    #[serde(deserialize_with = "one_or_many")]
    pub validation: Vec<String>,
    /// Share of the training problems set apart for evaluation, chosen by the seed.
    pub validation_split: f64,
    /// Use only this many problems, the first of the training files; by default all.
    pub limit: Option<usize>,
    /// Whether problems with the same prompt are used once.
    pub deduplicate: bool,
    /// Problems with longer prompts, in tokens, are left out.
    pub max_prompt_tokens: usize,
    /// What happens to an entry that is no problem: `error`, or `skip`, which leaves it out and counts it.
    pub on_bad_line: OnBadLine,
    /// Names of the columns of a problem, where the file has no known layout. Dots select fields of nested objects:
    /// `extra_info.question`.
    pub fields: Fields,
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
            on_bad_line: OnBadLine::default(),
            fields: Fields::default(),
            style: PromptStyle::default(),
        }
    }
}
