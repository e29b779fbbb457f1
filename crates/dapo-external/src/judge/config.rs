//! The settings of a judge.

use dapo_reward::RewardError;
use serde::{Deserialize, Serialize};

use super::mode::JudgeMode;
use super::template::Template;
use crate::config::{Check, OnError};

/// A reward that a language model computes, behind an OpenAI-compatible server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JudgeReward {
    /// The server's address, `http://localhost:8000/v1`; `/chat/completions` is added to it.
    pub judge_url: String,
    /// The model's name, as the server has it.
    pub model: String,
    /// The environment variable with the key that is sent as `Authorization: Bearer KEY`; unset: no key.
    pub api_key_env: Option<String>,
    /// What the judge is asked for: `absolute`, a rating of each completion, or `ranking`, the order of a draw's completions.
    pub mode: JudgeMode,
    /// What the judge is asked, with placeholders such as `{prompt}` and `{completion}`; unset: a text for the mode.
    pub template: Option<String>,
    /// System message before what the judge is asked; unset: none.
    pub system: Option<String>,
    /// The worst rating, whose reward is 0.
    pub scale_min: f64,
    /// The best rating, whose reward is 1.
    pub scale_max: f64,
    /// A completion with at least this rating is correct; unset: the judge does not say which ones are.
    pub correct_from: Option<f64>,
    /// Sampling temperature of the judge.
    pub temperature: f64,
    /// Most tokens of an answer, reasoning included. One that is cut off is a fault.
    pub max_tokens: usize,
    /// Seconds that one attempt may take.
    pub timeout_s: f64,
    /// Seconds that a request may take with all its attempts and the pauses between them.
    pub deadline_s: f64,
    /// Further attempts after a refused connection, a timeout, or the status 408, 429 or 5xx.
    pub retries: usize,
    /// Seconds before the first further attempt; doubled after each.
    pub backoff_s: f64,
    /// Requests that are sent side by side.
    pub concurrency: usize,
    /// What a failed request does: `stop` or `abstain`.
    pub on_error: OnError,
    /// Largest share of a round's samples that may abstain because of faults before the run stops. With `abstain`.
    pub max_error_fraction: f64,
}

impl Default for JudgeReward {
    fn default() -> Self {
        Self {
            judge_url: String::new(),
            model: String::new(),
            api_key_env: None,
            mode: JudgeMode::Absolute,
            template: None,
            system: None,
            scale_min: 0.0,
            scale_max: 10.0,
            correct_from: None,
            temperature: 0.0,
            max_tokens: 1024,
            timeout_s: 60.0,
            deadline_s: 300.0,
            retries: 3,
            backoff_s: 0.5,
            concurrency: 8,
            on_error: OnError::Stop,
            max_error_fraction: 1.0,
        }
    }
}

impl JudgeReward {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`RewardError::Config`] when the address is invalid or may hold a secret, the model has no name, or a number is outside
    /// its range. So does a template with an unknown placeholder, or without one for what is to be judged.
    pub fn validate(&self) -> Result<(), RewardError> {
        self.checked_template().map(drop)
    }

    /// The lowest and the highest rating.
    pub(super) fn scale(&self) -> (f64, f64) {
        (self.scale_min, self.scale_max)
    }

    /// The template, after a check of all fields.
    pub(super) fn checked_template(&self) -> Result<Template, RewardError> {
        let check = Check("JudgeReward");
        check.server("judge_url", &self.judge_url, self.api_key_env.as_deref())?;
        if self.model.is_empty() {
            check.fails("model", "\"\"", "the name of a model on the server")?;
        }
        let (min, max) = (self.scale_min, self.scale_max);
        if !min.is_finite() {
            check.fails("scale_min", min, "a finite number")?;
        }
        if !(max.is_finite() && max > min) {
            check.fails("scale_max", max, "a finite number above scale_min")?;
        }
        match self.correct_from {
            Some(least) if self.mode == JudgeMode::Ranking => {
                check.fails("correct_from", least, "unset with mode = \"ranking\", which gives no ratings")?;
            }
            Some(least) if !(min..=max).contains(&least) => {
                check.fails("correct_from", least, "a rating between scale_min and scale_max")?;
            }
            _ => {}
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            check.fails("temperature", self.temperature, "between 0 and 2")?;
        }
        check.at_least_one("max_tokens", self.max_tokens)?;
        check.times(self.timeout_s, self.deadline_s, self.backoff_s)?;
        check.at_least_one("concurrency", self.concurrency)?;
        check.round(None, self.max_error_fraction)?;
        Template::of(self.template.as_deref(), self.mode).map_err(|found| RewardError::Config {
            owner: "JudgeReward",
            field: "template",
            value: found,
            allowed: match self.mode {
                JudgeMode::Absolute => {
                    "{completion}, and of {prompt}, {answer}, {min}, {max} and {columns.NAME} what is needed"
                }
                JudgeMode::Ranking => {
                    "{completions}, and of {prompt}, {answer}, {count} and {columns.NAME} what is needed"
                }
            },
        })
    }
}
