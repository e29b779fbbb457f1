//! Where benches leave rows for the summary.

use std::path::{Path, PathBuf};

/// Where the rows wait for the summary.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-rows")
}
