//! The outcome for each key of the source.

use std::fmt;

/// A key of the source that decided a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The key in the source.
    pub source_key: String,
    /// Ours.
    pub key: String,
    /// The value it got, as TOML.
    pub value: String,
    /// The source's line, from 1.
    pub line: usize,
}

/// A setting that the source leaves to its own default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// Our key.
    pub key: String,
    /// The value it got, as TOML.
    pub value: String,
    /// Whose default it is.
    pub reason: String,
}

/// A translation with a difference worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The key in the source; empty if it is about a key that is missing there.
    pub key: String,
    /// The source's line, from 1.
    pub line: Option<usize>,
    /// The difference.
    pub text: String,
}

impl fmt::Display for Note {
    /// With its key and line, where it has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, line, text } = self;
        match line {
            Some(line) if !key.is_empty() => write!(f, "{key}, line {line}: {text}"),
            Some(line) => write!(f, "line {line}: {text}"),
            None if !key.is_empty() => write!(f, "{key}: {text}"),
            None => f.write_str(text),
        }
    }
}

/// A key of the source that decided nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The key in the source; `key[1]` for an item of a list; a word of the shell for what is no key.
    pub key: String,
    /// The value found.
    pub value: String,
    /// The source's line, from 1.
    pub line: usize,
    /// Why it was left out.
    pub reason: String,
    /// Whether training differs without it, or may: false for what has no effect here, such as how the other trainer
    /// divides its work.
    pub changes_training: bool,
}
