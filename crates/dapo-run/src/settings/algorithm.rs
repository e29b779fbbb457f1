//! The algorithm that a run's settings begin with.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An algorithm whose settings a recipe has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// DAPO (arXiv 2503.14476).
    Dapo,
    /// GRPO (arXiv 2402.03300), without a KL term.
    Grpo,
    /// PPO (arXiv 1707.06347) with a critic.
    Ppo,
    /// RLOO (arXiv 2402.14740): each reward against the mean of the others.
    Rloo,
    /// REINFORCE++ (arXiv 2501.03262), with the group's mean as baseline.
    #[serde(rename = "reinforce++")]
    ReinforcePlusPlus,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Dapo, Self::Grpo, Self::Ppo, Self::Rloo, Self::ReinforcePlusPlus];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReinforcePlusPlus => "reinforce++",
            other => other.recipe_name(),
        }
    }

    /// The name of the recipe with its settings.
    pub fn recipe_name(self) -> &'static str {
        match self {
            Self::Dapo => "dapo",
            Self::Grpo => "grpo",
            Self::Ppo => "ppo",
            Self::Rloo => "rloo",
            Self::ReinforcePlusPlus => "reinforce-plus-plus",
        }
    }

    /// Their names, or none.
    pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<Option<&str>> =
            Self::ALL.map(|algorithm| Some(algorithm.name())).into_iter().chain([None]).collect();
        json_schema!({"type": ["string", "null"], "enum": names})
    }

    /// The algorithm of a name in settings.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}
