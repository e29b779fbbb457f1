//! Whose settings a file holds.

use std::{fmt, str::FromStr};

use crate::error::ImportError;

/// Whose settings a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigFormat {
    /// verl: YAML, a list of dotted overrides, or a script that starts `main_ppo` or `main_dapo`.
    Verl,
    /// TRL's GRPO trainer, with open-r1's additions, or its PPO trainer: YAML or arguments.
    Trl,
    /// ms-swift's `swift rlhf --rlhf_type grpo` or `ppo`: YAML, JSON or arguments.
    Swift,
}

impl ConfigFormat {
    /// The name as its makers write it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Verl => "verl",
            Self::Trl => "TRL",
            Self::Swift => "ms-swift",
        }
    }
}

impl fmt::Display for ConfigFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl FromStr for ConfigFormat {
    type Err = ImportError;

    fn from_str(name: &str) -> Result<Self, ImportError> {
        match name.to_ascii_lowercase().as_str() {
            "verl" => Ok(Self::Verl),
            "trl" | "open-r1" => Ok(Self::Trl),
            "ms-swift" | "swift" => Ok(Self::Swift),
            _ => Err(ImportError::FormatName { found: name.into() }),
        }
    }
}
