//! Processes that train as one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Processes that train as one: ranks that `mpirun` or `srun` starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DistSection {
    /// Seconds for which a rank may give no sign of life before the others end the job. It changes no result.
    ///
    /// From 1 to 1000000.
    pub timeout_s: f64,
}

impl Default for DistSection {
    fn default() -> Self {
        Self { timeout_s: 600.0 }
    }
}

impl DistSection {
    /// The values that `timeout_s` may have.
    pub(crate) const RANGE: std::ops::RangeInclusive<f64> = 1.0..=1e6;

    /// `timeout_s` as a duration; the default's where it is outside its range.
    pub fn timeout(&self) -> Duration {
        let is_valid = Self::RANGE.contains(&self.timeout_s);
        Duration::from_secs_f64(if is_valid { self.timeout_s } else { Self::default().timeout_s })
    }
}
