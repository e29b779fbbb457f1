//! Ways into parsers that the public interface reaches through a process or a server alone, for the fuzz targets in
//! `fuzz/`. No part of the public interface.

use crate::address;
use crate::config::Dialect;
use crate::fault::Fault;
use crate::openrlhf;
use crate::reply::ReplyId;
use crate::transport::Batch;
use crate::wire;
use dapo_reward::Score;

/// The scores in a reply.
///
/// # Errors
/// As of a reply that came from a server or a command.
pub fn scores(dialect: Dialect, reply: &[u8], batch: &Batch<'_, '_>) -> Result<Vec<Score>, Fault> {
    match dialect {
        Dialect::Dapo => wire::scores(reply, batch, ReplyId::Optional),
        Dialect::Openrlhf => openrlhf::scores(reply, batch),
    }
}

/// An address as messages show it.
pub fn shown_address(url: &str) -> String {
    address::shown(url)
}
