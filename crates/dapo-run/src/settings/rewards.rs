//! What completions are rewarded for.

use super::own::OwnRewards;
use dapo_reward::{Accuracy, CosineLength, Format, OnAbstain, ProportionalOverlong, Repetition, SoftOverlong};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The reward's components, each a table of its own. A component of weight 0 is
/// measured and reported, and counts for nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct RewardsSection {
    /// β of KL in the reward: each reward gets −β·Σ k1 before group statistics.
    pub kl_coef: f32,
    /// The component that says which completions are correct. By default the only one that does; if several do, `accuracy`.
    pub correct: Option<String>,
    /// Whether the answer is correct. Off by default if a command, a server, a Python function or a judge scores.
    #[schemars(with = "Judging<Accuracy>")]
    pub accuracy: Option<Judging<Accuracy>>,
    /// Whether the completion has the shape that was asked for: 1 or 0.
    pub format: Option<Weighted<Format>>,
    /// A quarter for each of `<think>`, `</think>`, `<answer>`, `</answer>` that occurs exactly once.
    pub tag_count: Option<TagCountReward>,
    /// Soft overlong punishment (paper, Eq. 13): 0 up to `max_len − cache_len` tokens, then down to −1 at `max_len`; also
    /// known as `soft_overlong_punishment`.
    pub soft_overlong: Option<Weighted<SoftOverlong>>,
    /// Punishment in proportion to the tokens beyond a threshold.
    pub proportional_overlong: Option<Weighted<ProportionalOverlong>>,
    /// Punishment of repeated n-grams (open-r1).
    pub repetition: Option<Weighted<Repetition>>,
    /// open-r1's cosine-scaled length reward: short correct answers earn most, long incorrect ones lose least.
    pub length: Option<Judging<CosineLength>>,
    /// Rewards under names of one's own.
    #[serde(flatten)]
    #[schemars(skip)]
    pub own: OwnRewards,
}

impl Default for RewardsSection {
    fn default() -> Self {
        Self {
            kl_coef: 0.0,
            correct: None,
            accuracy: Some(Judging::default()),
            format: None,
            tag_count: None,
            soft_overlong: None,
            proportional_overlong: None,
            repetition: None,
            length: None,
            own: OwnRewards::default(),
        }
    }
}

/// A component of the reward and its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(bound = "T: JsonSchema + Serialize + Default")]
pub struct Weighted<T: Default> {
    /// Weight in the sum.
    pub weight: f64,
    /// The component.
    #[serde(flatten)]
    pub reward: T,
}

impl<T: Default> Default for Weighted<T> {
    fn default() -> Self {
        Self { weight: 1.0, reward: T::default() }
    }
}

/// A component that judges answers, and abstains where the gold answer is missing or cannot be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(bound = "T: JsonSchema + Serialize + Default")]
pub struct Judging<T: Default> {
    /// Weight in the sum.
    pub weight: f64,
    /// What an abstention does: with `drop` the completion has no reward and no place in its group; with `ignore` the other
    /// components decide.
    pub on_abstain: OnAbstain,
    /// The component.
    #[serde(flatten)]
    pub reward: T,
}

impl<T: Default> Default for Judging<T> {
    fn default() -> Self {
        Self { weight: 1.0, on_abstain: OnAbstain::default(), reward: T::default() }
    }
}

/// Partial credit for tags, which has no options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TagCountReward {
    /// Weight in the sum.
    pub weight: f64,
}

impl Default for TagCountReward {
    fn default() -> Self {
        Self { weight: 1.0 }
    }
}
