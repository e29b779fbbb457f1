//! The one error type of the crate.

use std::fmt;

use crate::{Account, FilterMetric};

/// What can be wrong with the settings, the rounds or the outcome of a step.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// A setting is out of range.
    #[error("{field} is {value}, expected {allowed}")]
    Config {
        /// Path of the field, for example `gen_batch.adaptive.max`.
        field: &'static str,
        /// The value it has.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// A round holds more or fewer groups than [`next_round`](crate::DynamicSampler::next_round) asked for.
    #[error("push_round: the round has {got} groups, expected {expected}")]
    RoundSize {
        /// Groups in the round.
        got: usize,
        /// Groups asked for; 0 when the step wants no further round.
        expected: usize,
    },
    /// A draw index was used in an earlier round or twice in this one.
    #[error("push_round: draw index {draw} is used twice or too low, expected distinct indices from {expected} on")]
    Draw {
        /// The offending index.
        draw: u64,
        /// The lowest index a new group may have.
        expected: u64,
    },
    /// A metric value is NaN or infinite.
    #[error("push_round: completion {completion} of draw {draw} has the metric {value}, expected a finite number")]
    Metric {
        /// Draw index of the group.
        draw: u64,
        /// Position of the completion in its group.
        completion: usize,
        /// Its value.
        value: f64,
    },
    /// The batch was taken although groups are missing and rounds are left.
    #[error("take_batch: {missing} groups are missing, expected a round of {prompts} more prompts first")]
    Unfinished {
        /// Groups missing.
        missing: usize,
        /// Prompts of the next round.
        prompts: usize,
    },
    /// The rounds ended with too few informative groups, and [`OnExhausted::Error`](crate::OnExhausted::Error) is set.
    #[error("take_batch: {0}")]
    Exhausted(Box<Shortage>),
    /// The rounds ended without a single group to train on.
    #[error("take_batch: nothing to train on: {0}")]
    NothingKept(Box<Shortage>),
    /// The settings were to change in the middle of a step.
    #[error("reconfigure: {rounds} rounds of this step are judged already, expected a call between two steps")]
    MidStep {
        /// Rounds judged.
        rounds: u64,
    },
    /// An account lost or invented groups.
    #[error(
        "account: {} groups came in and {} went out, {} filled of {} dropped: {account:?}",
        account.came_in(), account.went_out(), account.filled, account.uninformative()
    )]
    Account {
        /// The account.
        account: Box<Account>,
    },
}

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
    /// Groups of these that were all wrong.
    pub all_wrong: u64,
    /// Groups of these that were dropped for another reason.
    pub other: u64,
    /// The metric over the graded completions of all dropped groups.
    pub values: ValueSummary,
}

impl Shortage {
    /// Whether there was nothing to train on because the policy has mastered its data: no group was kept, and most of those
    /// drawn were all correct.
    pub fn is_mastered(&self) -> bool {
        self.kept == 0 && self.all_correct > self.all_wrong + self.other
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, train_batch, kept, rounds, generated, all_correct, all_wrong, other, values } = self;
        write!(
            f,
            "{kept} of {train_batch} groups were kept after {rounds} rounds of {generated} prompts; \
             dropped: {all_correct} all correct, {all_wrong} all wrong, {other} other, whose {metric} was {values}"
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

/// Fails unless `ok`, naming a configuration field.
pub(crate) fn expect_config(
    ok: bool,
    field: &'static str,
    value: &impl ToString,
    allowed: &str,
) -> Result<(), SamplerError> {
    expect(ok, field, value, || allowed.to_owned())
}

/// As [`expect_config`], for a bound that depends on other fields.
pub(crate) fn expect(
    ok: bool,
    field: &'static str,
    value: &impl ToString,
    allowed: impl FnOnce() -> String,
) -> Result<(), SamplerError> {
    if ok { Ok(()) } else { Err(SamplerError::Config { field, value: value.to_string(), allowed: allowed() }) }
}
