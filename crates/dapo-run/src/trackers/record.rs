//! What trackers are given.

use crate::figures::{EVAL, object, of_evaluation, of_step};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// The figures of a step or of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// Steps made.
    pub(super) step: u64,
    /// Seconds since 1970.
    pub(super) time: f64,
    /// By name; `None`: nothing was measured.
    pub(super) values: Vec<(String, Option<f64>)>,
}

impl Record {
    /// Of a step, from the lines of its logs.
    pub(super) fn of_step(step: u64, metrics: &impl Serialize, timings: &impl Serialize) -> Self {
        let mut values = of_step(&object(metrics));
        values.extend(of_step(&object(timings)));
        Self { step, time: now(), values }
    }

    /// Of an evaluation after `step` steps.
    pub(super) fn of_evaluation(step: u64, report: &impl Serialize) -> Self {
        let values = of_evaluation(&object(report)).into_iter().map(|(name, value)| (name, Some(value))).collect();
        Self { step, time: now(), values }
    }
}

/// Whether a figure of this name is of an evaluation.
pub(super) fn is_of_evaluation(name: &str) -> bool {
    name.starts_with(EVAL)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// What a tracker holds when a run is resumed: the records up to a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Steps made.
    pub(super) steps: u64,
    /// Whether the evaluation after the last of them counts.
    pub(super) evaluation: bool,
}

impl Kept {
    /// Whether a record stays.
    pub(super) fn has(self, step: u64, is_evaluation: bool) -> bool {
        step < self.steps || step == self.steps && (!is_evaluation || self.evaluation)
    }
}
