//! Errors of the hub.

use std::path::{Path, PathBuf};

/// An error of the hub, the way to it, or its cache.
///
/// `what` is what was asked for: a file, its repository and the revision.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// An argument or a variable of the environment is malformed.
    #[error("{field} is {found}, expected {expected}")]
    Setting {
        /// The field's name.
        field: String,
        /// The value found.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// The repository, the revision or the file does not exist.
    #[error("{what}: not found ({reason})")]
    NotFound {
        /// What was asked for.
        what: String,
        /// What the hub said.
        reason: String,
    },
    /// The hub asks for a token, another token, or the acceptance of terms.
    #[error(
        "{what}: access denied ({reason}); set HF_TOKEN to a token that may read it, and accept the terms at {page} if it \
         has any"
    )]
    Denied {
        /// What was asked for.
        what: String,
        /// What the hub said.
        reason: String,
        /// The repository's page.
        page: String,
    },
    /// The cache lacks it, and the hub may not be asked.
    #[error("{what}: not in the cache {}, and the network is switched off", cache.display())]
    Offline {
        /// What was asked for.
        what: String,
        /// The cache's folder.
        cache: PathBuf,
    },
    /// Connections to the hub keep breaking, or it keeps failing. What has come of a file is kept: the next
    /// download continues from there.
    #[error("{what}: no success in {attempts} attempt{}: {reason}", if *attempts == 1 { "" } else { "s" })]
    Connection {
        /// What was asked for.
        what: String,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong the last time.
        reason: String,
    },
    /// No connection could be made.
    #[error("{what}: cannot reach {host} (no network?): {reason}")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// The host.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The hub's answer is not what this crate knows of hubs.
    #[error("{what}: the server sent {found}, expected {expected}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What came.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// What came is not the file. It was removed.
    #[error("{what}: its {property} is {found}, expected {expected}; the file was removed")]
    Damaged {
        /// What was asked for.
        what: String,
        /// What differs: the size or a hash.
        property: &'static str,
        /// That of what came.
        found: String,
        /// What the hub states.
        expected: String,
    },
    /// The cache could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl HubError {
    pub(super) fn setting(field: &str, found: &str, expected: &str) -> Self {
        Self::Setting { field: field.into(), found: format!("{found:?}"), expected: expected.into() }
    }

    pub(super) fn answer(what: &str, found: impl Into<String>, expected: &str) -> Self {
        Self::Answer { what: what.into(), found: found.into(), expected: expected.into() }
    }

    pub(super) fn io(file: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { file: file.into(), source }
    }
}
