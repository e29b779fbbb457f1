//! How the whole configuration is read from files.

use serde::{Deserialize, Deserializer};

use crate::{
    aggregation::Aggregation, config::LossConfig, denominator::EmptySequences, kl::Kl, policy::PolicyLoss,
    rollout_correction::RolloutCorrection,
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
    top_entropy_quantile: Option<f64>,
    rollout_correction: Option<RolloutCorrection>,
}

impl<'de> Deserialize<'de> for LossConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = LossConfigTable::deserialize(deserializer)?;
        Ok(Self {
            policy_loss: table.policy_loss,
            aggregation: table.aggregation.unwrap_or(table.policy_loss.usual_aggregation()),
            empty_sequences: table.empty_sequences,
            kl: table.kl,
            entropy_coef: table.entropy_coef,
            top_entropy_quantile: table.top_entropy_quantile.unwrap_or(Self::default().top_entropy_quantile),
            rollout_correction: table.rollout_correction,
        })
    }
}
