//! Downloads.

use crate::cache::Cache;
use crate::client::{Hub, Progress};
use crate::digest::Digest;
use crate::error::HubError;
use crate::repo::{Repo, is_commit};
use crate::request::Failure;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use ureq::http::{Response, StatusCode};

/// Bytes read between two reports of progress.
const CHUNK: usize = 1 << 18;

/// What the hub states about a file.
pub(super) struct Facts {
    pub(super) commit: String,
    digest: Digest,
    size: u64,
}

impl Hub {
    /// What the hub states about a file.
    pub(super) fn facts(&self, repo: &Repo<'_>, revision: &str, path: &str) -> Result<Facts, HubError> {
        let what = repo.what(path);
        let url = format!("{}/{}", self.endpoint, repo.file(revision, path));
        self.retried(&what, || {
            let headers = self.head(repo, &what, &url)?;
            let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
            let etag = text("x-linked-etag").or_else(|| text(ETAG.as_str()));
            let digest = etag.and_then(Digest::from_etag).ok_or_else(|| {
                let found = etag.map_or_else(|| "no ETag".to_owned(), |etag| format!("the ETag {etag}"));
                HubError::answer(&what, found, "a SHA-256 or a git SHA-1 to check the file against")
            })?;
            let size = text("x-linked-size").or_else(|| text(CONTENT_LENGTH.as_str()));
            let size = size.and_then(|size| size.parse().ok()).ok_or_else(|| {
                HubError::answer(&what, format!("the size {}", size.unwrap_or("none")), "a number of bytes")
            })?;
            let commit = [Some(revision), text("x-repo-commit")].into_iter().flatten().find(|commit| is_commit(commit));
            let commit = commit.ok_or_else(|| HubError::answer(&what, "no X-Repo-Commit", "the revision's commit"))?;
            Ok(Facts { commit: commit.to_owned(), digest, size })
        })
    }

    /// The text behind an address of the hub.
    pub(super) fn text(&self, repo: &Repo<'_>, what: &str, address: &str) -> Result<String, HubError> {
        let url = format!("{}/{address}", self.endpoint);
        self.retried(what, || {
            let mut response = self.get(repo, what, &url, 0)?;
            let text = response.body_mut().with_config().limit(1 << 26).read_to_string();
            text.map_err(|error| Failure::Passing(error.to_string()))
        })
    }

    /// Brings a file into the cache, unless it is there, and returns its place in the snapshot.
    pub(super) fn file(
        &self,
        repo: &Repo<'_>,
        cache: &Cache,
        facts: &Facts,
        path: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        let _lock = cache.lock(&facts.digest)?;
        let blob = cache.blob(&facts.digest);
        if !blob.exists() {
            self.download(repo, cache, facts, path, progress)?;
        }
        cache.link(&facts.digest, &facts.commit, path)
    }

    fn download(
        &self,
        repo: &Repo<'_>,
        cache: &Cache,
        facts: &Facts,
        path: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), HubError> {
        let (blob, partial) = (cache.blob(&facts.digest), cache.partial(&facts.digest));
        fs::create_dir_all(cache.blobs()).map_err(HubError::io(&cache.blobs()))?;
        let what = repo.what(path);
        let url = format!("{}/{}", self.endpoint, repo.file(&facts.commit, path));
        self.retried(&what, || {
            let result = self.continued(repo, &what, &url, &partial, facts.size, &mut |done| {
                progress(Progress { file: path, done, total: facts.size });
            });
            if let Err(Failure::Final(HubError::Damaged { .. })) = &result {
                remove(&partial)?;
            }
            result
        })?;
        let found = facts.digest.of_file(&partial).map_err(HubError::io(&partial))?;
        if found != facts.digest.hash() {
            remove(&partial)?;
            let expected = facts.digest.hash().to_owned();
            return Err(HubError::Damaged { what, property: facts.digest.name(), found, expected });
        }
        fs::rename(&partial, &blob).map_err(HubError::io(&blob))
    }

    /// Adds what is missing to a partial file.
    fn continued(
        &self,
        repo: &Repo<'_>,
        what: &str,
        url: &str,
        partial: &Path,
        size: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let io = || HubError::io(partial);
        let mut file = OpenOptions::new().create(true).append(true).open(partial).map_err(io())?;
        let mut done = file.metadata().map_err(io())?.len();
        if done == size {
            progress(done);
            return Ok(());
        }
        let response = self.get(repo, what, url, if done < size { done } else { 0 })?;
        let start = start(&response);
        if start != Some(done) {
            file.set_len(0).map_err(io())?;
            done = 0;
            if start != Some(0) {
                return Err(Failure::Passing("the server sent another part of the file than was asked for".into()));
            }
        }
        let damaged = |found| HubError::Damaged {
            what: what.to_owned(),
            property: "size",
            found: format!("{found} bytes"),
            expected: format!("{size} bytes"),
        };
        let announced =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = announced.filter(|length| done.saturating_add(*length) != size) {
            return Err(damaged(done.saturating_add(length)).into());
        }
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; CHUNK];
        progress(done);
        while done < size {
            let length = match body.read(&mut buffer) {
                Ok(0) => return Err(Failure::Passing(format!("the connection ended after {done} of {size} bytes"))),
                Ok(length) => length,
                Err(error) => return Err(Failure::Passing(format!("{error} after {done} of {size} bytes"))),
            };
            done += length as u64;
            if done > size {
                return Err(damaged(done).into());
            }
            file.write_all(&buffer[..length]).map_err(io())?;
            progress(done);
        }
        Ok(())
    }
}

/// Where in the file an answer begins; none if it has nothing of it.
fn start(response: &Response<Body>) -> Option<u64> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
            range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
        }
        StatusCode::RANGE_NOT_SATISFIABLE => None,
        _ => Some(0),
    }
}

fn remove(file: &Path) -> Result<(), HubError> {
    fs::remove_file(file).map_err(HubError::io(file))
}
