//! What a step that fell short had to choose from, for its error message.

use std::fmt;

use crate::metric::FilterMetric;

/// What a step that fell short had to choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortage {
    /// Name of the metric.
    pub metric: FilterMetric,
    /// Groups the step wanted.
    pub train_batch: usize,
    /// Informative groups, carried ones included.
    pub kept: usize,
    /// Rounds drawn.
    pub rounds: u64,
    /// Groups drawn.
    pub generated: u64,
    /// Groups of these that were all correct.
    pub all_correct: u64,
    /// Groups of these whose completions were all incorrect.
    pub all_incorrect: u64,
    /// Groups of these that were dropped for another reason.
    pub other: u64,
    /// The metric over the graded completions of all dropped groups.
    pub values: ValueSummary,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, train_batch, kept, rounds, generated, all_correct, all_incorrect, other, values } = self;
        write!(
            f,
            "{kept} of {train_batch} groups were kept after {rounds} rounds of {generated} prompts; \
             dropped: {all_correct} all correct, {all_incorrect} all incorrect, {other} other, whose {metric} was {values}"
        )
    }
}

/// The extent of some metric values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ValueSummary {
    /// How many values there are.
    pub graded: usize,
    /// How many completions abstained.
    pub abstained: usize,
    /// The smallest value; 0 without values.
    pub min: f64,
    /// The mean of the values; 0 without values.
    pub mean: f64,
    /// The largest value; 0 without values.
    pub max: f64,
}

impl ValueSummary {
    pub(crate) fn of<'a>(metric: impl Iterator<Item = &'a Option<f64>>) -> Self {
        let mut summary = Self::default();
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in metric {
            if let Some(value) = *value {
                summary.graded += 1;
                // A running mean cannot overflow where a sum would.
                summary.mean += (value - summary.mean) / summary.graded as f64;
                (min, max) = (min.min(value), max.max(value));
            } else {
                summary.abstained += 1;
            }
        }
        if summary.graded > 0 {
            (summary.min, summary.max) = (min, max);
        }
        summary
    }
}

impl fmt::Display for ValueSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { graded, abstained, min, mean, max } = self;
        if *graded == 0 {
            write!(f, "never graded ({abstained} completions abstained)")
        } else {
            write!(f, "{min} to {max}, {mean:.3} on average ({graded} completions, {abstained} abstained)")
        }
    }
}
