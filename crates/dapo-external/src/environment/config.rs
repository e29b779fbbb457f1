//! The settings of an environment that answers elsewhere.

use dapo_reward::{EnvLimits, OnAbstain, RewardError, TurnTemplate};
use serde::{Deserialize, Serialize};

use crate::config::{CommandReward, OnError, PythonReward, UrlReward};

/// An environment that answers the model's turns: a program, a server or a Python class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvConfig {
    /// A program that answers lines of JSON, and its arguments. No shell interprets them.
    pub command: Option<Vec<String>>,
    /// A server's address instead, which gets the same JSON by `POST`.
    pub url: Option<String>,
    /// A Python file and the class in it instead: `calculator.py:Calculator`.
    pub python: Option<String>,
    /// Where a command or Python runs, and relative paths begin; unset: the working directory.
    pub dir: Option<String>,
    /// Weight of the environment's reward in the sum.
    pub weight: f64,
    /// What an abstention does, as in `rewards.accuracy`.
    pub on_abstain: OnAbstain,
    /// Turns of the model in an episode.
    pub max_turns: usize,
    /// Tokens that the model may generate in a turn; unset: as many as in all, `rollout.max_new_tokens`.
    pub max_turn_tokens: Option<usize>,
    /// Tokens of the environment in an episode, between the model's turns. Memory for them is set apart.
    pub max_context_tokens: usize,
    /// How what the environment says becomes tokens: `exact`, by the chat template over the whole conversation; `turns`, by the
    /// chat template for each turn; `raw`, as it is.
    pub template: TurnTemplate,
    /// Seconds that the environment may take to answer; for a server, per attempt.
    pub timeout_s: f64,
    /// What a failed answer does: `stop` ends the run; with `abstain` the episode ends and its sample abstains.
    pub on_error: OnError,
    /// Processes of a command or of Python, or requests to a server, side by side.
    pub workers: usize,
    /// The Python that runs the class, 3.9 or newer. With `python`.
    pub python_bin: String,
    /// The environment variable with the key that is sent as `Authorization: Bearer KEY`. With `url`.
    pub api_key_env: Option<String>,
    /// Seconds that a request may take with all its attempts and the pauses between them. With `url`.
    pub deadline_s: f64,
    /// Further attempts after a refused connection, a timeout, or the status 408, 429 or 5xx. With `url`.
    pub retries: usize,
    /// Seconds before the first further attempt; doubled after each. With `url`.
    pub backoff_s: f64,
}

impl Default for EnvConfig {
    fn default() -> Self {
        let EnvLimits { max_turns, max_turn_tokens, max_context_tokens } = EnvLimits::default();
        let UrlReward { deadline_s, retries, backoff_s, timeout_s, .. } = UrlReward::default();
        Self {
            command: None,
            url: None,
            python: None,
            dir: None,
            weight: 1.0,
            on_abstain: OnAbstain::default(),
            max_turns,
            max_turn_tokens,
            max_context_tokens,
            template: TurnTemplate::default(),
            timeout_s,
            on_error: OnError::default(),
            workers: 1,
            python_bin: PythonReward::default().python_bin,
            api_key_env: None,
            deadline_s,
            retries,
            backoff_s,
        }
    }
}

/// Where an environment answers.
pub(super) enum Way {
    Command(CommandReward),
    Url(UrlReward),
    Python(PythonReward),
}

impl EnvConfig {
    /// The limits of episodes.
    pub fn limits(&self) -> EnvLimits {
        let Self { max_turns, max_turn_tokens, max_context_tokens, .. } = *self;
        EnvLimits { max_turns, max_turn_tokens, max_context_tokens }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// [`RewardError::Config`] where not exactly one of `command`, `url` and `python` is set, a value is outside its range, or
    /// a field is set that another way has.
    pub fn validate(&self) -> Result<(), RewardError> {
        let fails =
            |field, value: String, allowed| Err(RewardError::Config { owner: "EnvConfig", field, value, allowed });
        if self.max_turns == 0 {
            return fails("max_turns", "0".into(), "at least 1");
        }
        if self.max_turn_tokens == Some(0) {
            return fails("max_turn_tokens", "0".into(), "at least 1, or unset");
        }
        if !self.weight.is_finite() {
            return fails("weight", self.weight.to_string(), "a finite number");
        }
        if self.workers == 0 {
            return fails("workers", "0".into(), "at least 1");
        }
        match self.way()? {
            Way::Command(config) => config.validate(),
            Way::Url(config) => config.validate(),
            Way::Python(config) => config.validate(),
        }
    }

    /// Where it answers, with what the settings say of that.
    pub(super) fn way(&self) -> Result<Way, RewardError> {
        let Self { timeout_s, workers, .. } = *self;
        let url = || Self { url: self.url.clone(), ..Self::default() };
        let foreign = match (&self.command, &self.url, &self.python) {
            (_, Some(_), _) => None,
            _ if self.api_key_env.is_some() => Some("api_key_env"),
            _ if self.deadline_s != url().deadline_s => Some("deadline_s"),
            _ if self.retries != url().retries => Some("retries"),
            _ if self.backoff_s != url().backoff_s => Some("backoff_s"),
            _ => None,
        };
        if let Some(field) = foreign {
            let (value, allowed) = ("set".to_owned(), "unset without url");
            return Err(RewardError::Config { owner: "EnvConfig", field, value, allowed });
        }
        match (&self.command, &self.url, &self.python) {
            (Some(command), None, None) => Ok(Way::Command(CommandReward {
                command: command.clone(),
                timeout_s,
                workers,
                ..CommandReward::default()
            })),
            (None, Some(url), None) => Ok(Way::Url(UrlReward {
                url: url.clone(),
                api_key_env: self.api_key_env.clone(),
                timeout_s,
                deadline_s: self.deadline_s,
                retries: self.retries,
                backoff_s: self.backoff_s,
                concurrency: workers,
                ..UrlReward::default()
            })),
            (None, None, Some(python)) => Ok(Way::Python(PythonReward {
                python: python.clone(),
                python_bin: self.python_bin.clone(),
                timeout_s,
                workers,
                ..PythonReward::default()
            })),
            _ => {
                let set = [self.command.is_some(), self.url.is_some(), self.python.is_some()];
                let set =
                    ["command", "url", "python"].into_iter().zip(set).filter_map(|(name, set)| set.then_some(name));
                let set: Vec<&str> = set.collect();
                let value =
                    if set.is_empty() { "unset".to_owned() } else { format!("set beside {}", set[1..].join(" and ")) };
                let field = set.first().copied().unwrap_or("command");
                Err(RewardError::Config { owner: "EnvConfig", field, value, allowed: "one of command, url and python" })
            }
        }
    }
}
