//! Which value of a completion decides whether its group is informative.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The value per completion that decides whether a group is informative.
///
/// The sampler never computes it: the caller puts the values into [`Drawn::metric`](crate::Drawn::metric), and the
/// name appears in error messages. In files it is a string; one that is none of the four names is a component's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub enum FilterMetric {
    /// 1 for a correct completion, 0 for an incorrect one. With tolerance 0 a group is kept iff 0 < #correct < G.
    #[default]
    Acc,
    /// The accuracy reward before any shaping, for example ±1.
    Score,
    /// The total reward with its shaping terms, without a KL term.
    SeqReward,
    /// The total reward with its shaping terms and, where one is configured, the KL term.
    SeqFinalReward,
    /// One reward component by its name.
    Component(String),
}

impl From<String> for FilterMetric {
    fn from(name: String) -> Self {
        match name.as_str() {
            "acc" => Self::Acc,
            "score" => Self::Score,
            "seq_reward" => Self::SeqReward,
            "seq_final_reward" => Self::SeqFinalReward,
            _ => Self::Component(name),
        }
    }
}

impl From<FilterMetric> for String {
    fn from(metric: FilterMetric) -> Self {
        metric.to_string()
    }
}

impl fmt::Display for FilterMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acc => "acc",
            Self::Score => "score",
            Self::SeqReward => "seq_reward",
            Self::SeqFinalReward => "seq_final_reward",
            Self::Component(name) => name,
        })
    }
}
