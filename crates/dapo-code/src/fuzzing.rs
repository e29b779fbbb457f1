//! Ways into parsers that the public interface reaches through a sandbox alone, for the fuzz targets in `fuzz/`. No part
//! of the public interface.

use crate::config::CodeReward;
use crate::error::CodeError;
use crate::problem::Problem;
use crate::wire::{Ask, Reply};
use serde_json::Value;

/// How many tests a problem's column has; `None`: it has no column of tests.
///
/// # Errors
/// As of the reward.
pub fn num_tests(column: Option<&Value>, config: &CodeReward) -> Result<Option<usize>, CodeError> {
    Ok(Problem::read(column, config)?.map(|problem| problem.num_tests(config)))
}

/// A line between host and launcher as it is understood, written anew; `None`: it is none.
pub fn message(line: &[u8]) -> Option<String> {
    let ask = serde_json::from_slice::<Ask>(line).and_then(|ask| serde_json::to_string(&ask));
    ask.or_else(|_| serde_json::from_slice::<Reply>(line).and_then(|reply| serde_json::to_string(&reply))).ok()
}
