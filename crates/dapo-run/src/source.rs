//! Where settings come from.

use std::fmt;
use std::path::{PathBuf, absolute};

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// No layer sets it.
    Default,
    /// The settings of `algorithm`, which lie beneath all layers.
    Algorithm {
        /// Name of the algorithm.
        name: &'static str,
    },
    /// A recipe.
    Recipe {
        /// Name of the recipe.
        name: String,
    },
    /// A file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
    },
    /// An override.
    CommandLine,
}

impl Source {
    /// The folder in which relative paths begin: that of a file, and the working directory for the command line.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::File { path, .. } => Some(absolute(path).ok()?.parent()?.to_owned()),
            Self::CommandLine => std::env::current_dir().ok(),
            Self::Default | Self::Algorithm { .. } | Self::Recipe { .. } => None,
        }
    }

    /// Whether both are the same recipe, the same file or the command line.
    pub(crate) fn is_of_one_layer(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { path, .. }, Self::File { path: other, .. }) => path == other,
            _ => self == other,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Algorithm { name } => write!(f, "algorithm {name}"),
            Self::Recipe { name } => write!(f, "recipe {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}
