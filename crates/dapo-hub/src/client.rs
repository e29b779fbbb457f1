//! Access to a hub.

use crate::cache::Cache;
use crate::connect::{agent, split_credentials};
use crate::error::HubError;
use crate::repo::{Kind, Repo, check_file};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;

/// Access to a hub, and the cache of what came from it.
#[derive(Clone)]
pub struct Hub {
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// The cache's folder.
    pub cache: PathBuf,
    /// An access token, sent to the hub alone and not to where it redirects.
    pub token: Option<String>,
    /// Whether the hub may be asked.
    pub network: Network,
    /// What to do when a connection fails.
    pub retry: Retry,
    /// `user:password` of the address, sent to the hub where there is no token, and never shown.
    pub(crate) credentials: Option<String>,
    pub(crate) agent: Agent,
}

/// Whether the hub may be asked for what the cache lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// It may.
    #[default]
    Online,
    /// It may not: what the cache lacks is an error.
    Offline,
}

/// How often a request is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Times it is tried at most, at least once.
    pub attempts: u32,
    /// Pause after the first failure; after each further one it is twice as long.
    pub pause: Duration,
}

impl Default for Retry {
    /// Five times, with 15 seconds of pauses in all.
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_secs(1) }
    }
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file's path in its repository.
    pub file: &'a str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

impl Hub {
    /// A hub at an address, with a cache folder of its own choice and no token. A user name and password in the address
    /// (`https://user:password@host`) are sent to the hub alone; `endpoint` and messages are without them.
    ///
    /// # Errors
    /// When the address is not `http://…` or `https://…`.
    pub fn new(endpoint: &str, cache: &Path) -> Result<Self, HubError> {
        if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            let endpoint = split_credentials(endpoint).0;
            return Err(HubError::setting("endpoint", &endpoint, "an address that begins with https:// or http://"));
        }
        let (endpoint, credentials) = split_credentials(endpoint);
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            credentials,
            cache: cache.into(),
            token: None,
            network: Network::default(),
            retry: Retry::default(),
            agent: agent(),
        })
    }

    /// A file of a data set, by its path in the repository; returns where it is in the cache.
    ///
    /// `revision` is a branch, a tag or a commit; `progress` gets how far the download is.
    ///
    /// # Errors
    /// When an argument is malformed, the file does not exist or may not be read, or the connection keeps failing. When what
    /// comes is not what the hub says it is, or the cache cannot be written. Each names the file and its repository.
    pub fn dataset_file(
        &self,
        id: &str,
        revision: &str,
        path: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        let repo = Repo::new(Kind::Dataset, id, revision)?;
        check_file(path)?;
        let cache = Cache::new(&self.cache, &repo);
        if let Some(commit) = cache.commit(revision)? {
            let file = cache.pointer(&commit, path);
            if file.exists() {
                return Ok(file);
            }
        }
        self.online(&repo.what(path))?;
        let facts = self.facts(&repo, revision, path)?;
        let file = self.file(&repo, &cache, &facts, path, progress)?;
        cache.set_commit(revision, &facts.commit)?;
        Ok(file)
    }

    pub(crate) fn online(&self, what: &str) -> Result<(), HubError> {
        match self.network {
            Network::Online => Ok(()),
            Network::Offline => Err(HubError::Offline { what: what.to_owned(), cache: self.cache.clone() }),
        }
    }
}

impl std::fmt::Debug for Hub {
    /// Keeps the token and the password to itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Hub")
            .field("endpoint", &split_credentials(&self.endpoint).0)
            .field("cache", &self.cache)
            .field("token", &token)
            .field("network", &self.network)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
