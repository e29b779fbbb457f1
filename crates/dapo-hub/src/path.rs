//! Addresses of models and data files.

use crate::error::HubError;
use crate::repo::{check_file, check_id, check_revision};
use std::str::FromStr;

/// What an address names.
///
/// - `hf://ORG/NAME` or `hf://ORG/NAME@REVISION`, or the same without `hf://` (but with the slash): a model.
/// - `hf://datasets/ORG/NAME/PATH` or `hf://datasets/ORG/NAME@REVISION/PATH`: a file of a data set.
///
/// Without a revision it is `main`. One that holds a slash must be `refs/pr/…` or `refs/convert/…` in front of a path.
///
/// ```
/// use dapo_hub::HubPath;
///
/// let model = |id: &str, revision: &str| HubPath::Model { id: id.into(), revision: revision.into() };
/// assert_eq!("Qwen/Qwen3-0.6B".parse::<HubPath>()?, model("Qwen/Qwen3-0.6B", "main"));
/// assert_eq!("hf://Qwen/Qwen3-0.6B@c1899de".parse::<HubPath>()?, model("Qwen/Qwen3-0.6B", "c1899de"));
/// let file = HubPath::DatasetFile {
///     id: "BytedTsinghua-SIA/DAPO-Math-17k".into(),
///     revision: "main".into(),
///     path: "data/dapo-math-17k.parquet".into(),
/// };
/// assert_eq!("hf://datasets/BytedTsinghua-SIA/DAPO-Math-17k/data/dapo-math-17k.parquet".parse::<HubPath>()?, file);
/// assert!("./models/mine".parse::<HubPath>().is_err());
/// # Ok::<(), dapo_hub::HubError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubPath {
    /// A model.
    Model {
        /// `ORG/NAME`.
        id: String,
        /// A branch, a tag or a commit.
        revision: String,
    },
    /// A file of a data set.
    DatasetFile {
        /// `ORG/NAME`.
        id: String,
        /// A branch, a tag or a commit.
        revision: String,
        /// The file's path in the repository.
        path: String,
    },
}

const SCHEME: &str = "hf://";

impl FromStr for HubPath {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let address = text.strip_prefix(SCHEME);
        let wrong = || {
            let expected = "hf://ORG/NAME[@REVISION], ORG/NAME or hf://datasets/ORG/NAME[@REVISION]/PATH";
            HubError::setting("the address", text, expected)
        };
        if let Some(rest) = address.and_then(|address| address.strip_prefix("datasets/")) {
            let (organisation, rest) = rest.split_once('/').ok_or_else(wrong)?;
            let name = rest.find(['/', '@']).ok_or_else(wrong)?;
            let id = format!("{organisation}/{}", &rest[..name]);
            let (revision, path) = match rest[name..].strip_prefix('@') {
                None => ("main", &rest[name + 1..]),
                Some(rest) => rest.split_at(revision_length(rest)),
            };
            let path = path.trim_start_matches('/');
            check_id(&id)
                .and_then(|()| check_revision(revision))
                .and_then(|()| check_file(path))
                .map_err(|_| wrong())?;
            return Ok(Self::DatasetFile { id, revision: revision.into(), path: path.into() });
        }
        let model = address.unwrap_or(text);
        let (id, revision) = model.split_once('@').unwrap_or((model, "main"));
        check_id(id).and_then(|()| check_revision(revision)).map_err(|_| wrong())?;
        // A plain word may be anything, and these are no organisations.
        let kind = id.split('/').next().is_some_and(|word| ["datasets", "models", "spaces"].contains(&word));
        if kind || (address.is_none() && !id.contains('/')) {
            return Err(wrong());
        }
        Ok(Self::Model { id: id.into(), revision: revision.into() })
    }
}

/// Where a revision ends that a path follows.
fn revision_length(text: &str) -> usize {
    let slashes = if text.starts_with("refs/pr/") || text.starts_with("refs/convert/") { 2 } else { 0 };
    text.match_indices('/').nth(slashes).map_or(text.len(), |(place, _)| place)
}
