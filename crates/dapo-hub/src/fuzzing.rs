//! Ways into parsers that the public interface reaches through requests alone, for the fuzz targets in `fuzz/`. No part
//! of the public interface.

use crate::error::HubError;
use crate::model::{Listing, shards_of};

/// The commit and the files of the hub's answer about a repository.
///
/// # Errors
/// Where it is none.
pub fn listing(answer: &str) -> Result<(String, Vec<String>), HubError> {
    let Listing { commit, files } = Listing::read(answer, "the model")?;
    Ok((commit, files.into_iter().collect()))
}

/// The shards that the text of an index names.
///
/// # Errors
/// Where it is none.
pub fn shards(index: &str) -> Result<Vec<String>, HubError> {
    Ok(shards_of(index, "the index")?.into_iter().collect())
}
