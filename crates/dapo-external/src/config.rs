//! The settings of rewards that are computed elsewhere.

use dapo_reward::RewardError;
use serde::{Deserialize, Serialize};

use crate::address;

/// Longest time limit, in seconds: a year.
const LONGEST: f64 = 31_536_000.0;

/// What a request without an answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnError {
    /// The run stops, naming the reward, the fault and the step.
    #[default]
    Stop,
    /// The samples of the request abstain; the fault is counted.
    Abstain,
}

/// The form of a server's requests and replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Dialect {
    /// That of commands.
    #[default]
    Dapo,
    /// OpenRLHF's remote reward model: `query`, `prompts`, `labels`, answered by `rewards`, `scores`, `extra_logs`.
    Openrlhf,
}

/// A reward that a command computes, over lines of JSON on its stdin and stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandReward {
    /// The program and its arguments. No shell reads them.
    pub command: Vec<String>,
    /// Seconds that a request may take, the first included.
    pub timeout_s: f64,
    /// Processes that are started and asked side by side.
    pub workers: usize,
    /// Most samples in one request; unset: all samples of a round, spread evenly over the workers.
    pub batch: Option<usize>,
    /// What a failed request does: `stop` or `abstain`.
    pub on_error: OnError,
    /// Largest share of a round's samples that may abstain because of faults before the run stops. With `abstain`.
    pub max_error_fraction: f64,
}

impl Default for CommandReward {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            timeout_s: 30.0,
            workers: 1,
            batch: None,
            on_error: OnError::Stop,
            max_error_fraction: 1.0,
        }
    }
}

impl CommandReward {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`RewardError::Config`] when there is no command, a limit is not positive, or the share is not within 0 and 1.
    pub fn validate(&self) -> Result<(), RewardError> {
        let check = Check("CommandReward");
        if self.command.first().is_none_or(String::is_empty) {
            return check.fails("command", format!("{:?}", self.command), "a program and its arguments");
        }
        check.seconds("timeout_s", self.timeout_s)?;
        check.at_least_one("workers", self.workers)?;
        check.round(self.batch, self.max_error_fraction)
    }
}

/// A reward that a Python function computes, in the user's own Python.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PythonReward {
    /// The file and the function in it: `rewards.py:accuracy`.
    pub python: String,
    /// The Python that runs it, 3.9 or newer.
    pub python_bin: String,
    /// Seconds that a request may take; the first includes the imports.
    pub timeout_s: f64,
    /// Processes that are started and asked side by side.
    pub workers: usize,
    /// Most samples in one request; unset: all samples of a round, spread evenly over the workers.
    pub batch: Option<usize>,
    /// What a failed request does: `stop` or `abstain`.
    pub on_error: OnError,
    /// Largest share of a round's samples that may abstain because of faults before the run stops. With `abstain`.
    pub max_error_fraction: f64,
}

impl Default for PythonReward {
    fn default() -> Self {
        Self {
            python: String::new(),
            python_bin: "python3".to_owned(),
            timeout_s: 30.0,
            workers: 1,
            batch: None,
            on_error: OnError::Stop,
            max_error_fraction: 1.0,
        }
    }
}

impl PythonReward {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`RewardError::Config`] when file or function is missing, a limit is not positive, or the share is not within 0
    /// and 1.
    pub fn validate(&self) -> Result<(), RewardError> {
        let check = Check("PythonReward");
        if self.target().is_none() {
            return check.fails(
                "python",
                format!("{:?}", self.python),
                "a file and a function: \"rewards.py:accuracy\"",
            );
        }
        if self.python_bin.is_empty() {
            return check.fails("python_bin", "empty", "a program");
        }
        check.seconds("timeout_s", self.timeout_s)?;
        check.at_least_one("workers", self.workers)?;
        check.round(self.batch, self.max_error_fraction)
    }

    /// The file and the function.
    pub(crate) fn target(&self) -> Option<(&str, &str)> {
        self.python.rsplit_once(':').filter(|(file, function)| !file.is_empty() && !function.is_empty())
    }
}

/// A reward that a server computes, by `POST`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UrlReward {
    /// The address, `http://` or `https://`, without user, password and key.
    pub url: String,
    /// The form of requests and replies: `dapo` or `openrlhf`.
    pub dialect: Dialect,
    /// The environment variable with the key that is sent as `Authorization: Bearer KEY`; unset: no key.
    pub api_key_env: Option<String>,
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
    /// Most samples in one request; unset: all samples of a round, spread evenly over `concurrency`.
    pub batch: Option<usize>,
    /// What a failed request does: `stop` or `abstain`.
    pub on_error: OnError,
    /// Largest share of a round's samples that may abstain because of faults before the run stops. With `abstain`.
    pub max_error_fraction: f64,
}

impl Default for UrlReward {
    fn default() -> Self {
        Self {
            url: String::new(),
            dialect: Dialect::Dapo,
            api_key_env: None,
            timeout_s: 30.0,
            deadline_s: 120.0,
            retries: 3,
            backoff_s: 0.5,
            concurrency: 1,
            batch: None,
            on_error: OnError::Stop,
            max_error_fraction: 1.0,
        }
    }
}

impl UrlReward {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`RewardError::Config`] when the address is none or may hold a secret, a limit is not positive, or the share is not
    /// within 0 and 1.
    pub fn validate(&self) -> Result<(), RewardError> {
        let check = Check("UrlReward");
        check.server("url", &self.url, self.api_key_env.as_deref())?;
        check.times(self.timeout_s, self.deadline_s, self.backoff_s)?;
        check.at_least_one("concurrency", self.concurrency)?;
        check.round(self.batch, self.max_error_fraction)
    }
}

/// Checks of the configuration of this name.
pub(crate) struct Check(pub(crate) &'static str);

impl Check {
    pub(crate) fn fails(
        &self,
        field: &'static str,
        value: impl std::fmt::Display,
        allowed: &'static str,
    ) -> Result<(), RewardError> {
        Err(RewardError::Config { owner: self.0, field, value: value.to_string(), allowed })
    }

    fn seconds(&self, field: &'static str, value: f64) -> Result<(), RewardError> {
        if value > 0.0 && value <= LONGEST {
            return Ok(());
        }
        self.fails(field, value, "more than 0 seconds and at most a year")
    }

    /// An address that holds no secret, and the variable that does.
    pub(crate) fn server(&self, field: &'static str, url: &str, api_key_env: Option<&str>) -> Result<(), RewardError> {
        if !address::is_valid(url) {
            return self.fails(field, address::shown(url), "an address: \"http://localhost:8000/score\"");
        }
        if address::has_user(url) {
            let allowed = "no user and password: name an environment variable in api_key_env";
            return self.fails(field, address::shown(url), allowed);
        }
        if address::has_query(url) {
            let allowed = "nothing after \"?\" or \"#\" but api-version: the run keeps the address, so name an environment \
                           variable with the key in api_key_env";
            return self.fails(field, format!("{}?…", address::shown(url)), allowed);
        }
        if api_key_env.is_some_and(str::is_empty) {
            return self.fails("api_key_env", "empty", "the name of an environment variable");
        }
        Ok(())
    }

    /// The limits of a request's attempts.
    pub(crate) fn times(&self, timeout_s: f64, deadline_s: f64, backoff_s: f64) -> Result<(), RewardError> {
        self.seconds("timeout_s", timeout_s)?;
        self.seconds("deadline_s", deadline_s)?;
        if (0.0..=LONGEST).contains(&backoff_s) {
            return Ok(());
        }
        self.fails("backoff_s", backoff_s, "at least 0 seconds and at most a year")
    }

    pub(crate) fn at_least_one(&self, field: &'static str, value: usize) -> Result<(), RewardError> {
        if value > 0 { Ok(()) } else { self.fails(field, value, "at least 1") }
    }

    pub(crate) fn round(&self, batch: Option<usize>, max_error_fraction: f64) -> Result<(), RewardError> {
        self.at_least_one("batch", batch.unwrap_or(1))?;
        if (0.0..=1.0).contains(&max_error_fraction) {
            return Ok(());
        }
        self.fails("max_error_fraction", max_error_fraction, "between 0 and 1")
    }
}
