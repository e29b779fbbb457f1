//! Groups on their way through the sampler.

use serde::{Deserialize, Serialize};

use crate::{account::Account, verdict::GroupVerdict};

/// One prompt's completions as they come from a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn<G> {
    /// Draw index of the prompt, never used before; a prompt drawn twice has two.
    pub draw: u64,
    /// Whatever the caller needs to train on the group.
    pub group: G,
    /// The filter metric of each completion, `None` where its grader abstained.
    pub metric: Vec<Option<f64>>,
}

/// A group of the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptGroup<G> {
    /// Draw index of the prompt.
    pub draw: u64,
    /// The caller's group.
    pub group: G,
    /// The filter metric of each completion; serialised as its bits, so that it reads back exactly.
    #[serde(with = "bits")]
    pub metric: Vec<Option<f64>>,
    /// [`GroupVerdict::Keep`], or the reason why a group put back by
    /// [`OnExhausted::KeepZeroStd`](crate::OnExhausted::KeepZeroStd) would have been dropped.
    pub verdict: GroupVerdict,
    /// How many steps ago it was generated. 0: by this step's policy, so that its probability ratios start at 1.
    pub age: u32,
}

/// A group that is not in the batch and will not be in a later one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DroppedGroup<G> {
    /// Draw index of the prompt.
    pub draw: u64,
    /// The caller's group.
    pub group: G,
    /// The filter metric of each completion; serialised as its bits, so that it reads back exactly.
    #[serde(with = "bits")]
    pub metric: Vec<Option<f64>>,
    /// What its metric said.
    pub verdict: GroupVerdict,
    /// How many steps ago it was generated.
    pub age: u32,
    /// Why it was dropped.
    pub reason: DropReason,
}

/// Why a group was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Its verdict is not [`GroupVerdict::Keep`].
    Uninformative,
    /// It was beyond the batch, and surplus is discarded.
    Discarded,
    /// It was beyond the batch, and too old for the next step.
    Expired,
}

/// The outcome of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenBatch<G> {
    /// The groups to train on: the informative ones by draw index, then those put back, by draw index.
    pub groups: Vec<KeptGroup<G>>,
    /// How many groups fewer than `train_batch` there are.
    pub missing: usize,
    /// The groups dropped in this step, by draw index.
    pub dropped: Vec<DroppedGroup<G>>,
    /// The counts of all groups, by outcome.
    pub account: Account,
}

impl<G> KeptGroup<G> {
    pub(crate) fn dropped(self, reason: DropReason) -> DroppedGroup<G> {
        let Self { draw, group, metric, verdict, age } = self;
        DroppedGroup { draw, group, metric, verdict, age, reason }
    }
}

impl<G> DroppedGroup<G> {
    pub(crate) fn put_back(self) -> KeptGroup<G> {
        let Self { draw, group, metric, verdict, age, .. } = self;
        KeptGroup { draw, group, metric, verdict, age }
    }
}

/// Metric values as their bits: not every text format reads a decimal back to the last bit.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(metric: &[Option<f64>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(metric.iter().map(|value| value.map(f64::to_bits)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Option<f64>>, D::Error> {
        let metric = Vec::<Option<u64>>::deserialize(deserializer)?;
        Ok(metric.into_iter().map(|value| value.map(f64::from_bits)).collect())
    }
}
