//! Servers that score over HTTP.

use dapo_reward::Score;

use crate::client::{Client, Target};
use crate::config::{Dialect, UrlReward};
use crate::counters::Tally;
use crate::error::ExternalError;
use crate::fault::Fault;
use crate::openrlhf;
use crate::reply::ReplyId;
use crate::transport::{Batch, Exchange, Read, Transport};
use crate::wire::{self, TokenIds};

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

impl Exchange for UrlTransport {
    fn lanes(&self) -> usize {
        self.concurrency
    }

    fn reply_id(&self) -> ReplyId {
        ReplyId::Optional
    }

    fn exchange(&self, _: usize, line: Vec<u8>, tally: &Tally, read: &mut Read<'_>) -> Result<(), Fault> {
        let reply = self.client.post(&line, tally)?;
        read(&reply).map_err(|fault| self.client.fault_without_key(fault))
    }
}

impl Transport for UrlTransport {
    fn lanes(&self) -> usize {
        self.concurrency
    }

    fn ask(&self, lane: usize, batch: &Batch<'_, '_>, tally: &Tally) -> Result<Vec<Score>, Fault> {
        let mut scores = Vec::new();
        let line = match self.dialect {
            Dialect::Dapo => wire::request(batch, TokenIds::Absent),
            Dialect::Openrlhf => openrlhf::request(batch),
        };
        self.exchange(lane, line, tally, &mut |reply| {
            scores = match self.dialect {
                Dialect::Dapo => wire::scores(reply, batch, self.reply_id())?,
                Dialect::Openrlhf => openrlhf::scores(reply, batch)?,
            };
            Ok(())
        })?;
        Ok(scores)
    }
}
