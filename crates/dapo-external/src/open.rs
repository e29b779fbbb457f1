//! From settings to rewards: [`open`].

use std::path::{Path, PathBuf};

use dapo_reward::RewardError;

use crate::command::CommandTransport;
use crate::config::{CommandReward, OnError, PythonReward, UrlReward};
use crate::error::ExternalError;
use crate::external::{ExternalReward, Rules};
use crate::http::UrlTransport;
use crate::judge::{JudgeReward, JudgeTransport};
use crate::python;
use crate::transport::Transport;

/// The settings of a reward of any kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ExternalConfig {
    /// A command.
    Command(CommandReward),
    /// A server.
    Url(UrlReward),
    /// A Python function.
    Python(PythonReward),
    /// A language model that judges.
    Judge(JudgeReward),
}

impl ExternalConfig {
    /// Checks the fields. Files and programs are not looked at.
    ///
    /// # Errors
    /// [`RewardError::Config`] for one outside what is allowed.
    pub fn validate(&self) -> Result<(), RewardError> {
        match self {
            Self::Command(config) => config.validate(),
            Self::Url(config) => config.validate(),
            Self::Python(config) => config.validate(),
            Self::Judge(config) => config.validate(),
        }
    }
}

impl From<CommandReward> for ExternalConfig {
    fn from(config: CommandReward) -> Self {
        Self::Command(config)
    }
}

impl From<UrlReward> for ExternalConfig {
    fn from(config: UrlReward) -> Self {
        Self::Url(config)
    }
}

impl From<PythonReward> for ExternalConfig {
    fn from(config: PythonReward) -> Self {
        Self::Python(config)
    }
}

impl From<JudgeReward> for ExternalConfig {
    fn from(config: JudgeReward) -> Self {
        Self::Judge(config)
    }
}

/// Opens the reward of this name. Nothing is started or sent before the first sample.
///
/// Relative paths are those of `base_dir`, which is also a command's working directory. `state_dir` is the run's folder:
/// answers are kept in `reward_cache/NAME.jsonl`, and what a command writes to stderr in `log-NAME.txt`. Without one no
/// answer is kept, and a command's stderr is that of this process.
///
/// # Errors
/// [`ExternalError::Config`] for settings outside what is allowed, [`ExternalError::Name`], [`ExternalError::Missing`] for
/// a program or file that is not there, [`ExternalError::Key`], [`ExternalError::Tls`], and [`ExternalError::Io`] and
/// [`ExternalError::Cache`] of the kept answers.
pub fn open(
    name: &str,
    config: &ExternalConfig,
    base_dir: &Path,
    state_dir: Option<&Path>,
) -> Result<ExternalReward, ExternalError> {
    let log: Option<PathBuf> = state_dir.map(|dir| dir.join(format!("log-{name}.txt")));
    let rules = |batch, on_error: OnError, max_error_fraction| Rules { batch, on_error, max_error_fraction };
    let (transport, rules): (Box<dyn Transport>, Rules) = match config {
        ExternalConfig::Command(config) => (
            Box::new(CommandTransport::open(config, base_dir, log.as_deref())?),
            rules(config.batch, config.on_error, config.max_error_fraction),
        ),
        ExternalConfig::Url(config) => {
            (Box::new(UrlTransport::open(config)?), rules(config.batch, config.on_error, config.max_error_fraction))
        }
        ExternalConfig::Python(config) => (
            Box::new(python::open(config, base_dir, log.as_deref())?),
            rules(config.batch, config.on_error, config.max_error_fraction),
        ),
        ExternalConfig::Judge(config) => {
            (Box::new(JudgeTransport::open(config)?), rules(Some(1), config.on_error, config.max_error_fraction))
        }
    };
    ExternalReward::new(name, transport, rules, state_dir)
}
