//! The one error type of the crate.

use crate::{account::Account, shortage::Shortage};

/// Errors of the settings, the rounds and the outcome of a step.
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
        /// The value.
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

impl Account {
    /// Checks that no group was lost or counted twice.
    ///
    /// # Errors
    /// [`SamplerError::Account`] if the identity does not hold or more groups were filled than dropped.
    pub fn check(&self) -> Result<(), SamplerError> {
        if self.is_balanced() { Ok(()) } else { Err(SamplerError::Account { account: Box::new(*self) }) }
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
