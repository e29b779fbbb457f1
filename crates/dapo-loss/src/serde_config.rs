//! How the whole configuration is read from files.

use serde::{Deserialize, Deserializer};

use crate::{
    aggregation::Aggregation, config::LossConfig, denominator::EmptySequences, importance::TruncatedImportance, kl::Kl,
    policy::PolicyLoss,
};

/// The configuration as a table, before the aggregation follows from the policy loss.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LossConfigTable {
    policy_loss: PolicyLoss,
    aggregation: Option<Aggregation>,
    empty_sequences: EmptySequences,
    kl: Kl,
    entropy_coef: f32,
    truncated_importance: Option<TruncatedImportance>,
}

impl<'de> Deserialize<'de> for LossConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let LossConfigTable { policy_loss, aggregation, empty_sequences, kl, entropy_coef, truncated_importance } =
            LossConfigTable::deserialize(deserializer)?;
        let aggregation = aggregation.unwrap_or(policy_loss.usual_aggregation());
        Ok(Self { policy_loss, aggregation, empty_sequences, kl, entropy_coef, truncated_importance })
    }
}
