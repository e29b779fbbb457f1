//! Ratings or an order: [`JudgeMode`].

use serde::{Deserialize, Serialize};

/// What a judge is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum JudgeMode {
    /// The rating of one completion.
    #[default]
    Absolute,
    /// The order of a draw's completions.
    Ranking,
}
