//! Ways into parsers that the public interface reaches through whole runs alone, for the fuzz targets in `fuzz/`. No part
//! of the public interface.

use crate::logs::lines_until;
use crate::run_error::RunError;
use std::path::Path;

/// Bytes of a log's lines up to a step.
///
/// # Errors
/// Where a line is damaged.
pub fn log_prefix(text: &[u8], steps: u64) -> Result<u64, RunError> {
    lines_until(Path::new("metrics.jsonl"), text, steps)
}
