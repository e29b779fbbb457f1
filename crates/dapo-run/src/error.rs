//! Errors of settings.

use crate::source::Source;
use std::fmt;
use std::path::PathBuf;

/// Why settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file could not be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A word of the command line is none of what it may be.
    #[error(
        "{word:?} is no recipe, no TOML file (a path ends in .toml or has a separator) and no override (key=value); {hint}"
    )]
    Word {
        /// The word.
        word: String,
        /// The nearest recipe, or all of them.
        hint: String,
    },
    /// A word of the command line is a setting without a value.
    #[error("{word} is a setting without a value, expected {word}=VALUE")]
    NoValue {
        /// The setting.
        word: String,
    },
    /// There is no recipe of this name.
    #[error("there is no recipe {name:?}; {hint}")]
    Recipe {
        /// The name.
        name: String,
        /// The nearest recipe, or all of them.
        hint: String,
    },
    /// A text is not TOML.
    #[error("{place}{}: {message}", column.map(|c| format!(":{c}")).unwrap_or_default())]
    Syntax {
        /// Where it stands.
        place: Source,
        /// The column, from 1 on.
        column: Option<usize>,
        /// What the parser says.
        message: String,
    },
    /// Keys that do not exist or have values they cannot take; all there are, in the order of the layers.
    #[error("{}", lines(.0))]
    Keys(Vec<KeyError>),
    /// Settings that cannot be written as TOML.
    #[error("settings cannot be written as TOML: {0}")]
    Write(#[from] toml::ser::Error),
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// Where it stands.
    pub place: Source,
    /// The key, with its tables.
    pub key: String,
    /// What is wrong.
    pub fault: KeyFault,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// There is no such key; perhaps another one was meant.
    Unknown {
        /// The nearest key or table.
        nearest: Option<String>,
    },
    /// Its value is not one it can take.
    Value {
        /// The value.
        found: String,
        /// What it can be.
        expected: String,
    },
    /// One layer sets it twice, under different names.
    Twice,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, fault } = self;
        match fault {
            KeyFault::Unknown { nearest: Some(nearest) } => {
                write!(f, "{place}: unknown key {key}; did you mean {nearest}?")
            }
            KeyFault::Unknown { nearest: None } => write!(f, "{place}: unknown key {key}"),
            KeyFault::Value { found, expected } => write!(f, "{place}: {key} is {found}, expected {expected}"),
            KeyFault::Twice => write!(f, "{place}: {key} is set a second time, under another name"),
        }
    }
}

fn lines(errors: &[KeyError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
