//! Systems other than Linux, where there is no sandbox.

use std::path::PathBuf;

use crate::config::CodeReward;
use crate::error::CodeError;

/// The program that makes sandboxes, on Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    _path: PathBuf,
}

impl Launcher {
    /// The running program.
    ///
    /// # Errors
    /// Never on this system.
    pub fn current_exe() -> Result<Self, CodeError> {
        Ok(Self::at(""))
    }

    /// Another program.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { _path: path.into() }
    }
}

/// Does nothing on this system.
pub fn run_launcher_if_asked() {}

/// The reward function, which this system has none of.
#[derive(Debug)]
pub enum CodeScorer {}

impl dapo_reward::RewardFn for CodeScorer {
    fn name(&self) -> &str {
        match *self {}
    }

    fn score(&self, _: &dapo_reward::RewardInput<'_>) -> Result<dapo_reward::Score, dapo_reward::RewardFault> {
        match *self {}
    }
}

impl CodeReward {
    /// Refuses: programs are run on Linux alone.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate), and [`CodeError::Refused`].
    pub fn open(&self, _: impl Into<String>, _: Launcher) -> Result<CodeScorer, CodeError> {
        self.validate()?;
        let reason = format!("programs are run on Linux alone, and this is {}", std::env::consts::OS);
        Err(CodeError::Refused { layer: "Linux kernel".to_owned(), reason })
    }
}
