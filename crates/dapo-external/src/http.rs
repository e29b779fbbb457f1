//! Servers that score over HTTP.

use dapo_reward::Score;

use crate::client::{Client, Target};
use crate::config::{Dialect, UrlReward};
use crate::counters::Tally;
use crate::error::ExternalError;
use crate::fault::Fault;
use crate::openrlhf;
use crate::transport::{Batch, Transport};
use crate::wire::{self, ReplyId, TokenIds};

/// A server.
pub(crate) struct UrlTransport {
    client: Client,
    dialect: Dialect,
    concurrency: usize,
}

impl UrlTransport {
    /// The server of a configuration. Nothing is sent.
    ///
    /// # Errors
    /// [`ExternalError::Config`], [`ExternalError::Key`] and [`ExternalError::Tls`].
    pub(crate) fn open(config: &UrlReward) -> Result<Self, ExternalError> {
        config.validate()?;
        let client = Client::open(Target {
            url: config.url.clone(),
            api_key_env: config.api_key_env.as_deref(),
            timeout_s: config.timeout_s,
            deadline_s: config.deadline_s,
            retries: config.retries,
            backoff_s: config.backoff_s,
            concurrency: config.concurrency,
        })?;
        Ok(Self { client, dialect: config.dialect, concurrency: config.concurrency })
    }
}

impl Transport for UrlTransport {
    fn lanes(&self) -> usize {
        self.concurrency
    }

    fn ask(&self, _: usize, batch: &Batch<'_, '_>, tally: &Tally) -> Result<Vec<Score>, Fault> {
        let scores = match self.dialect {
            Dialect::Dapo => {
                let reply = self.client.post(&wire::request(batch, TokenIds::Absent), tally)?;
                wire::scores(&reply, batch, ReplyId::Optional)
            }
            Dialect::Openrlhf => {
                let reply = self.client.post(&openrlhf::request(batch), tally)?;
                openrlhf::scores(&reply, batch)
            }
        };
        scores.map_err(|fault| self.client.fault_without_key(fault))
    }
}
