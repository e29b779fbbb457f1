//! Counts of the groups of a step: each one in exactly one term.

use std::{iter::Sum, ops::AddAssign};

use serde::{Deserialize, Serialize};

use crate::verdict::GroupVerdict;

/// How many groups a step drew, trained and dropped, each group in exactly one term.
///
/// ```text
/// generated + carried_in = trained + all_correct + all_incorrect + other + discarded + carried_out + expired
/// ```
///
/// `filled` and `rounds` stand apart. Accounts of several steps add up, and their sum obeys the same identity.
///
/// ```
/// use dapo_sampler::Account;
///
/// let step = Account { rounds: 1, generated: 5, trained: 2, all_incorrect: 2, carried_out: 1, ..Account::default() };
/// assert!(step.check().is_ok());
/// let total: Account = [step, step].into_iter().sum();
/// assert_eq!((total.generated, total.trained, total.rounds), (10, 4, 2));
/// assert!(Account { trained: 3, ..step }.check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Rounds drawn.
    pub rounds: u64,
    /// Groups drawn in this step.
    pub generated: u64,
    /// Groups left over from earlier steps.
    pub carried_in: u64,
    /// Informative groups in the batch.
    pub trained: u64,
    /// Dropped: every completion was correct.
    pub all_correct: u64,
    /// Dropped: every completion was incorrect.
    #[serde(alias = "all_wrong")]
    pub all_incorrect: u64,
    /// Dropped: fewer than two graded completions, or values that differ by no more than the tolerance.
    pub other: u64,
    /// Informative but beyond the batch, and not carried.
    pub discarded: u64,
    /// Informative but beyond the batch, left for the next step.
    pub carried_out: u64,
    /// Informative but beyond the batch, and too old for the next step.
    pub expired: u64,
    /// Dropped groups put back into the batch. They stay counted under `all_correct`, `all_incorrect` or `other`.
    pub filled: u64,
}

impl Account {
    /// Whether every group that came in went out, and no more were filled than dropped.
    pub(crate) fn is_balanced(&self) -> bool {
        self.came_in() == self.went_out() && self.filled <= self.uninformative()
    }

    /// Every term with its name in metrics, where `all_incorrect` keeps its earlier name, `all_wrong`.
    pub fn terms(&self) -> [(&'static str, u64); 11] {
        [
            ("rounds", self.rounds),
            ("generated", self.generated),
            ("carried_in", self.carried_in),
            ("trained", self.trained),
            ("all_correct", self.all_correct),
            ("all_wrong", self.all_incorrect),
            ("other", self.other),
            ("discarded", self.discarded),
            ("carried_out", self.carried_out),
            ("expired", self.expired),
            ("filled", self.filled),
        ]
    }

    /// The left side of the identity.
    pub(crate) fn came_in(&self) -> u64 {
        self.generated + self.carried_in
    }

    /// The right side of the identity.
    pub(crate) fn went_out(&self) -> u64 {
        self.trained + self.uninformative() + self.discarded + self.carried_out + self.expired
    }

    /// Groups dropped for their values.
    pub(crate) fn uninformative(&self) -> u64 {
        self.all_correct + self.all_incorrect + self.other
    }

    /// Counts a group just generated; a kept one gets its term when the batch is taken.
    pub(crate) fn count_generated(&mut self, verdict: GroupVerdict) {
        self.generated += 1;
        match verdict {
            GroupVerdict::Keep => {}
            GroupVerdict::AllCorrect => self.all_correct += 1,
            GroupVerdict::AllIncorrect => self.all_incorrect += 1,
            GroupVerdict::Other => self.other += 1,
        }
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, step: Self) {
        // Named in full, so that a new term cannot be forgotten here.
        let Self {
            rounds,
            generated,
            carried_in,
            trained,
            all_correct,
            all_incorrect,
            other,
            discarded,
            carried_out,
            expired,
            filled,
        } = step;
        self.rounds += rounds;
        self.generated += generated;
        self.carried_in += carried_in;
        self.trained += trained;
        self.all_correct += all_correct;
        self.all_incorrect += all_incorrect;
        self.other += other;
        self.discarded += discarded;
        self.carried_out += carried_out;
        self.expired += expired;
        self.filled += filled;
    }
}

impl Sum for Account {
    fn sum<I: Iterator<Item = Self>>(steps: I) -> Self {
        steps.fold(Self::default(), |mut total, step| {
            total += step;
            total
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALANCED: Account = Account {
        rounds: 2,
        generated: 28,
        carried_in: 8,
        trained: 1,
        all_correct: 2,
        all_incorrect: 3,
        other: 4,
        discarded: 5,
        carried_out: 6,
        expired: 15,
        filled: 9,
    };

    #[test]
    fn every_term_of_the_identity_counts() {
        assert_eq!(BALANCED.check(), Ok(()));
        for (one_more, name) in [
            (Account { generated: 29, ..BALANCED }, "generated"),
            (Account { carried_in: 9, ..BALANCED }, "carried_in"),
            (Account { trained: 2, ..BALANCED }, "trained"),
            (Account { all_correct: 3, ..BALANCED }, "all_correct"),
            (Account { all_incorrect: 4, ..BALANCED }, "all_incorrect"),
            (Account { other: 5, ..BALANCED }, "other"),
            (Account { discarded: 6, ..BALANCED }, "discarded"),
            (Account { carried_out: 7, ..BALANCED }, "carried_out"),
            (Account { expired: 16, ..BALANCED }, "expired"),
            (Account { filled: 10, ..BALANCED }, "filled"),
        ] {
            assert!(one_more.check().is_err(), "{name}");
        }
    }

    #[test]
    fn sums_term_by_term() {
        let total: Account = [BALANCED, BALANCED].into_iter().sum();
        for ((name, one), (_, both)) in BALANCED.terms().into_iter().zip(total.terms()) {
            assert_eq!(both, 2 * one, "{name}");
        }
        assert_eq!(total.check(), Ok(()));
    }

    #[test]
    fn the_message_gives_both_sides() {
        let error = Account { trained: 2, ..BALANCED }.check().unwrap_err().to_string();
        assert!(error.starts_with("account: 36 groups came in and 37 went out, 9 filled of 9 dropped"), "{error}");
    }
}
