//! Repositories, revisions and files by name.

use crate::error::HubError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::{Component, Path};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Dataset,
}

/// A repository at a revision.
pub(super) struct Repo<'a> {
    kind: Kind,
    id: &'a str,
    revision: &'a str,
}

/// Everything but what an address may hold as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl<'a> Repo<'a> {
    pub(super) fn new(kind: Kind, id: &'a str, revision: &'a str) -> Result<Self, HubError> {
        check_id(id)?;
        check_revision(revision)?;
        Ok(Self { kind, id, revision })
    }

    /// The words for a file, or for the whole repository if its name is empty.
    pub(super) fn what(&self, file: &str) -> String {
        let kind = match self.kind {
            Kind::Model => "model",
            Kind::Dataset => "data set",
        };
        let of = if file.is_empty() { "" } else { " of " };
        format!("{file}{of}{kind} {} at revision {}", self.id, self.revision)
    }

    /// The cache folder's name.
    pub(super) fn folder(&self) -> String {
        format!("{}--{}", self.plural(), self.id.replace('/', "--"))
    }

    /// The page for people, below the endpoint.
    pub(super) fn page(&self) -> String {
        match self.kind {
            Kind::Model => self.id.to_owned(),
            Kind::Dataset => format!("datasets/{}", self.id),
        }
    }

    /// The address of a file, below the endpoint.
    pub(super) fn file(&self, revision: &str, path: &str) -> String {
        let path: Vec<String> = path.split('/').map(encoded).collect();
        format!("{}/resolve/{}/{}", self.page(), encoded(revision), path.join("/"))
    }

    /// The address of the list of files, below the endpoint.
    pub(super) fn listing(&self) -> String {
        format!("api/{}/{}/revision/{}", self.plural(), self.id, encoded(self.revision))
    }

    fn plural(&self) -> &'static str {
        match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The hub's own rule for names; it also keeps them inside the cache.
pub(super) fn check_id(id: &str) -> Result<(), HubError> {
    let name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            && !name.starts_with(['-', '.'])
            && !name.ends_with(['-', '.'])
            && !name.contains("--")
            && !name.contains("..")
    };
    if id.split('/').count() <= 2 && id.split('/').all(name) {
        Ok(())
    } else {
        Err(HubError::setting("the repository", id, "ORGANISATION/NAME, of letters, digits, '-', '.' and '_'"))
    }
}

pub(super) fn check_revision(revision: &str) -> Result<(), HubError> {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && !part.contains("..")
            && !part.contains(|c: char| c.is_whitespace() || c.is_control() || "\\:?*[~^".contains(c))
    };
    if revision.split('/').all(part) {
        Ok(())
    } else {
        Err(HubError::setting("the revision", revision, "a branch, a tag or a commit"))
    }
}

/// A file's path below the repository's root.
pub(super) fn check_file(path: &str) -> Result<(), HubError> {
    if is_file_path(path) {
        Ok(())
    } else {
        Err(HubError::setting("the file", path, "a path below the root of the repository"))
    }
}

pub(super) fn is_file_path(path: &str) -> bool {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    plain
        && !path.contains(|c: char| c == '\\' || c.is_control())
        && path.split('/').all(|part| !["", "."].contains(&part))
}

/// A commit, which never changes, rather than a name for one.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}
