//! Requests, their redirects and their repetition.

use crate::client::Hub;
use crate::connect::split_credentials;
use crate::error::HubError;
use crate::repo::Repo;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::thread;
use ureq::Body;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};

/// Redirects followed for one request.
const REDIRECTS: usize = 10;

/// Why an attempt failed.
pub(super) enum Failure {
    /// Another attempt may succeed.
    Passing(String),
    /// A host, to which another attempt may find a way, and why this one did not.
    Unreachable(String, String),
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Get,
}

impl Hub {
    /// The headers that describe a file: its hash is stated before the redirect to where it lies.
    pub(super) fn head(&self, repo: &Repo<'_>, what: &str, url: &str) -> Result<HeaderMap, Failure> {
        let mut url = url.to_owned();
        let mut commit = None;
        for _ in 0..=REDIRECTS {
            let response = self.request(Method::Head, what, &url, 0)?;
            commit = commit.or_else(|| response.headers().get("x-repo-commit").cloned());
            let target = target(&response, &url).filter(|_| !response.headers().contains_key("x-linked-etag"));
            if let Some(target) = target {
                url = target;
                continue;
            }
            let redirects = response.status().is_redirection();
            if !redirects {
                self.accepted(repo, what, &response)?;
            }
            let mut headers = response.into_parts().0.headers;
            if redirects {
                // Of the page that says so, not of the file.
                headers.remove(CONTENT_LENGTH);
            }
            if let Some(commit) = commit {
                headers.insert("x-repo-commit", commit);
            }
            return Ok(headers);
        }
        Err(HubError::answer(what, format!("more than {REDIRECTS} redirects"), "a file").into())
    }

    pub(super) fn get(&self, repo: &Repo<'_>, what: &str, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS {
            let response = self.request(Method::Get, what, &url, from)?;
            if let Some(target) = target(&response, &url) {
                url = target;
                continue;
            }
            if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
                self.accepted(repo, what, &response)?;
            }
            return Ok(response);
        }
        Err(HubError::answer(what, format!("more than {REDIRECTS} redirects"), "a file").into())
    }

    fn request(&self, method: Method, what: &str, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut request = if method == Method::Head { self.agent.head(url) } else { self.agent.get(url) };
        if origin(url) == origin(&self.endpoint)
            && let Some(authorization) = self.authorization()
        {
            request = request.header(AUTHORIZATION, authorization);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| {
            let shown = split_credentials(url).0;
            let host = origin(&shown).map_or_else(|| shown.clone(), |(_, host)| host);
            let reason = error.to_string().replace(url, &shown);
            match error {
                // Nothing that time heals.
                ureq::Error::HostNotFound => HubError::Unreachable { what: what.to_owned(), host, reason }.into(),
                ureq::Error::Io(_) | ureq::Error::ConnectionFailed => Failure::Unreachable(host, reason),
                ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::Rustls(_) => {
                    let reason = format!("{host}: {reason}");
                    HubError::Connection { what: what.to_owned(), attempts: 1, reason }.into()
                }
                _ => Failure::Passing(format!("{host}: {reason}")),
            }
        })
    }

    fn authorization(&self) -> Option<String> {
        let token = self.token.as_ref().map(|token| format!("Bearer {token}"));
        token.or_else(|| self.credentials.as_ref().map(|pair| format!("Basic {}", STANDARD.encode(pair))))
    }

    /// Whether an answer is the one hoped for.
    fn accepted(&self, repo: &Repo<'_>, what: &str, response: &Response<Body>) -> Result<(), Failure> {
        let status = response.status();
        let message = response.headers().get("x-error-message").and_then(|message| message.to_str().ok());
        let reason =
            format!("HTTP {}", message.map_or_else(|| status.to_string(), |m| format!("{}: {m}", status.as_u16())));
        let what = what.to_owned();
        Err(match status {
            status if status.is_success() => return Ok(()),
            StatusCode::NOT_FOUND => HubError::NotFound { what, reason }.into(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => HubError::Denied {
                what,
                reason,
                page: format!("{}/{}", split_credentials(&self.endpoint).0, repo.page()),
            }
            .into(),
            StatusCode::TOO_MANY_REQUESTS => Failure::Passing(reason),
            status if status.is_server_error() => Failure::Passing(reason),
            _ => HubError::answer(&what, reason, "the file").into(),
        })
    }

    pub(super) fn retried<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let attempts = self.retry.attempts.max(1);
        let mut pause = self.retry.pause;
        let mut made = 1;
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason)) if made == attempts => {
                    return Err(HubError::Connection { what: what.to_owned(), attempts, reason });
                }
                Err(Failure::Unreachable(host, reason)) if made == attempts => {
                    return Err(HubError::Unreachable { what: what.to_owned(), host, reason });
                }
                Err(Failure::Passing(_) | Failure::Unreachable(..)) => {
                    thread::sleep(pause);
                    pause = pause.saturating_mul(2);
                    made += 1;
                }
            }
        }
    }
}

/// Where an answer redirects to.
fn target(response: &Response<Body>, url: &str) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok().filter(|_| response.status().is_redirection())?;
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let (scheme, authority) = origin(url)?;
    Some(match location.strip_prefix("//") {
        Some(rest) => format!("{scheme}://{rest}"),
        None => format!("{scheme}://{authority}/{}", location.trim_start_matches('/')),
    })
}

/// Scheme, and host with port.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_owned(), uri.authority()?.as_str().to_ascii_lowercase()))
}
