//! An HTTP client that tries again, within limits.

use std::env;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::StatusCode;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use ureq::{Agent, RequestBuilder, typestate::WithBody};

use crate::address;
use crate::counters::Tally;
use crate::error::ExternalError;
use crate::fault::Fault;
use crate::wire;

/// Longest reply, in bytes.
const LONGEST: u64 = 1 << 28;
/// Servers close connections that are not used; a new one costs less than a failed request.
const IDLE: Duration = Duration::from_secs(2);

/// Where requests go, and for how long.
pub(crate) struct Target<'a> {
    pub(crate) url: String,
    pub(crate) api_key_env: Option<&'a str>,
    /// Of one attempt.
    pub(crate) timeout_s: f64,
    /// Of all attempts of a request together.
    pub(crate) deadline_s: f64,
    pub(crate) retries: usize,
    pub(crate) backoff_s: f64,
    pub(crate) concurrency: usize,
}

/// A client of one server.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    /// The address without secrets.
    server: String,
    key: Option<Key>,
    timeout: Duration,
    deadline: Duration,
    retries: usize,
    backoff: Duration,
}

struct Key {
    text: String,
    header: HeaderValue,
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may succeed, after the time that the server asks for.
    Passing(Fault, Option<Duration>),
    Final(Fault),
}

impl Client {
    /// A client of a server whose address and limits are checked. Nothing is sent.
    ///
    /// # Errors
    /// [`ExternalError::Key`] and [`ExternalError::Tls`].
    pub(crate) fn open(target: Target<'_>) -> Result<Self, ExternalError> {
        let server = address::shown(&target.url);
        if target.url.starts_with("https://") && cfg!(not(feature = "tls")) {
            return Err(ExternalError::Tls { url: server });
        }
        let agent = Agent::config_builder()
            .user_agent(concat!("dapo-external/", env!("CARGO_PKG_VERSION")))
            // No other host gets the key.
            .max_redirects(0)
            .http_status_as_error(false)
            .max_idle_age(IDLE)
            .max_idle_connections_per_host(target.concurrency)
            .build()
            .new_agent();
        Ok(Self {
            agent,
            server,
            key: target.api_key_env.map(key).transpose()?,
            timeout: Duration::from_secs_f64(target.timeout_s),
            deadline: Duration::from_secs_f64(target.deadline_s),
            retries: target.retries,
            backoff: Duration::from_secs_f64(target.backoff_s),
            url: target.url,
        })
    }

    fn request(&self, limit: Duration) -> RequestBuilder<WithBody> {
        let request = self.agent.post(&self.url).header(CONTENT_TYPE, "application/json");
        let request = match &self.key {
            Some(key) => request.header(AUTHORIZATION, key.header.clone()),
            None => request,
        };
        request.config().timeout_global(Some(limit)).build()
    }

    /// The body of the reply.
    fn attempt(&self, body: &[u8], limit: Duration) -> Result<Vec<u8>, Failure> {
        let mut response = self.request(limit).send(body).map_err(|error| self.failure(error, limit))?;
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = response.body_mut().with_config().limit(LONGEST).read_to_vec();
        if status.is_success() {
            return body.map_err(|error| self.failure(error, limit));
        }
        let said = match body {
            Ok(body) if !body.is_empty() => format!(": {}", self.without_key(&wire::quoted(&body))),
            _ => String::new(),
        };
        let fault = Fault::Status { server: self.server.clone(), status: status.as_u16(), said };
        let may_pass =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(if may_pass { Failure::Passing(fault, pause.map(Duration::from_secs)) } else { Failure::Final(fault) })
    }

    fn failure(&self, error: ureq::Error, limit: Duration) -> Failure {
        let is_timeout = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        let timeout = || Fault::Timeout { seconds: limit.as_secs_f64(), hint: String::new() };
        let connection = |reason: String| Fault::Connection { server: self.server.clone(), reason };
        match error {
            ureq::Error::Timeout(_) => Failure::Passing(timeout(), None),
            ureq::Error::Io(error) if is_timeout(&error) => Failure::Passing(timeout(), None),
            ureq::Error::Io(error) => Failure::Passing(connection(error.to_string()), None),
            ureq::Error::ConnectionFailed => Failure::Passing(connection("no connection".to_owned()), None),
            ureq::Error::HostNotFound => Failure::Passing(connection("the host is not known".to_owned()), None),
            ureq::Error::BodyExceedsLimit(limit) => {
                Failure::Final(connection(format!("the reply is longer than {limit} bytes")))
            }
            // Their texts repeat the address.
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::Final(connection("the request cannot be made".to_owned()))
            }
            error => Failure::Passing(connection(self.without_key(&error.to_string())), None),
        }
    }

    /// A text from outside without the key, which servers like to repeat.
    pub(crate) fn without_key(&self, text: &str) -> String {
        match &self.key {
            Some(key) => text.replace(&key.text, "***"),
            None => text.to_owned(),
        }
    }

    /// The reply to the first attempt that succeeds.
    pub(crate) fn post(&self, body: &[u8], tally: &Tally) -> Result<Vec<u8>, Fault> {
        let start = Instant::now();
        let mut pause = self.backoff;
        let mut attempts = 1;
        loop {
            let limit = self.timeout.min(self.deadline.saturating_sub(start.elapsed()));
            let (fault, wanted) = match self.attempt(body, limit) {
                Ok(reply) => return Ok(reply),
                Err(Failure::Final(fault)) => return Err(fault),
                Err(Failure::Passing(fault, wanted)) => (fault, wanted),
            };
            let wait = pause.max(wanted.unwrap_or_default());
            let is_last = attempts > self.retries || start.elapsed().saturating_add(wait) >= self.deadline;
            if is_last {
                return Err(fault);
            }
            thread::sleep(wait);
            tally.retry();
            pause = pause.saturating_mul(2);
            attempts += 1;
        }
    }

    /// A fault of a reply without the key.
    pub(crate) fn fault_without_key(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Json { found, expected } => Fault::Json { found: self.without_key(&found), expected },
            Fault::Reported { message } => Fault::Reported { message: self.without_key(&message) },
            Fault::Judgement { found, expected } => Fault::Judgement { found: self.without_key(&found), expected },
            fault => fault,
        }
    }
}

/// The key that an environment variable holds.
fn key(variable: &str) -> Result<Key, ExternalError> {
    let missing = || ExternalError::Key { variable: variable.to_owned() };
    let text = env::var(variable).ok().filter(|key| !key.trim().is_empty()).ok_or_else(missing)?;
    let text = text.trim().to_owned();
    let mut header = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| missing())?;
    header.set_sensitive(true);
    Ok(Key { text, header })
}
