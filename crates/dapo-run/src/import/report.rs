//! What became of the keys of the source.

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

/// A key of the source that decided nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The key in the source; `key[1]` for an item of a list; a word of the shell for what is no key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The source's line, from 1.
    pub line: usize,
    /// Why it was left out.
    pub reason: String,
}
