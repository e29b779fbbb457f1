//! What became of each group of a step.

use crate::Group;
use dapo_sampler::{DropReason, GroupVerdict};
use serde::Serialize;
use std::sync::Arc;

/// What became of a group in a step; the terms of the step's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Trained on.
    Trained,
    /// Dropped, and put back to fill the batch.
    Filled,
    /// Dropped: every completion was right.
    AllCorrect,
    /// Dropped: every completion was wrong.
    AllWrong,
    /// Dropped: too few completions were judged, or they differ too little.
    Other,
    /// Beyond the batch, and not carried.
    Discarded,
    /// Beyond the batch, and too old for the next step.
    Expired,
    /// Beyond the batch, left for the next step.
    CarriedOut,
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
            (_, GroupVerdict::AllWrong) => Self::AllWrong,
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
    /// Draw index of its prompt.
    pub draw: u64,
    /// How many steps ago it was generated.
    pub age: u32,
    /// What became of it.
    pub fate: Fate,
    /// The group.
    pub group: Arc<Group>,
    /// Each completion's advantage, where it was trained on; `None` outside the baseline.
    pub advantages: Vec<Option<f32>>,
    /// Whether each completion's tokens were in the loss.
    pub in_loss: Vec<bool>,
}
