//! The fate of each group of a step.

use crate::sample::Group;
use dapo_sampler::{DropReason, DroppedGroup, DynamicSampler, GroupVerdict, KeptGroup, TakenBatch};
use serde::Serialize;
use std::sync::Arc;

/// How a group left a step: a term of the step's account, or `Kept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Trained on.
    Trained,
    /// Dropped, and put back to fill the batch.
    Filled,
    /// Dropped: every completion was correct.
    AllCorrect,
    /// Dropped: every completion was incorrect.
    AllWrong,
    /// Dropped: too few completions were judged, or they differ too little.
    Other,
    /// Beyond the batch, and not carried.
    Discarded,
    /// Beyond the batch, and too old for the next step.
    Expired,
    /// Beyond the batch, left for the next step.
    CarriedOut,
    /// Informative, but the step found too few such groups and failed; no term of an account.
    Kept,
}

impl Fate {
    pub(crate) fn of_taken(verdict: GroupVerdict) -> Self {
        if verdict == GroupVerdict::Keep { Self::Trained } else { Self::Filled }
    }

    pub(crate) fn of_dropped(reason: DropReason, verdict: GroupVerdict) -> Self {
        match (reason, verdict) {
            (DropReason::Discarded, _) => Self::Discarded,
            (DropReason::Expired, _) => Self::Expired,
            (_, GroupVerdict::AllCorrect) => Self::AllCorrect,
            (_, GroupVerdict::AllIncorrect) => Self::AllWrong,
            _ => Self::Other,
        }
    }

    /// Whether the group was trained on.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Trained | Self::Filled)
    }
}

/// A group of a step: one it generated, or one carried into it.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRecord {
    /// How many steps ago it was generated.
    pub age: u32,
    /// How it left the step.
    pub fate: Fate,
    /// The group, with what training made of each sample.
    pub group: Arc<Group>,
}

/// Everything that took part in a step, by draw index.
pub(crate) fn records(taken: TakenBatch<Arc<Group>>, carried: &[KeptGroup<Arc<Group>>]) -> Vec<GroupRecord> {
    let trained = taken.groups.into_iter();
    let mut records: Vec<GroupRecord> = trained
        .map(|kept| GroupRecord { age: kept.age, fate: Fate::of_taken(kept.verdict), group: kept.group })
        .collect();
    records.extend(taken.dropped.into_iter().map(dropped_record));
    for kept in carried {
        // The sampler counts the coming step already.
        let age = kept.age.saturating_sub(1);
        records.push(GroupRecord { age, fate: Fate::CarriedOut, group: kept.group.clone() });
    }
    records.sort_by_key(|record| record.group.draw);
    records
}

/// Everything that a step has found so far, by draw index.
pub(crate) fn records_so_far(sampler: &DynamicSampler<Arc<Group>>) -> Vec<GroupRecord> {
    let kept = sampler.kept().iter();
    let mut records: Vec<GroupRecord> =
        kept.map(|kept| GroupRecord { age: kept.age, fate: Fate::Kept, group: kept.group.clone() }).collect();
    records.extend(sampler.dropped().iter().cloned().map(dropped_record));
    records.sort_by_key(|record| record.group.draw);
    records
}

fn dropped_record(dropped: DroppedGroup<Arc<Group>>) -> GroupRecord {
    let fate = Fate::of_dropped(dropped.reason, dropped.verdict);
    GroupRecord { age: dropped.age, fate, group: dropped.group }
}
