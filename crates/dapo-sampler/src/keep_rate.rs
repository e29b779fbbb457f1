//! How many of the recent groups were informative.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Counts of the latest rounds. Whole numbers only, so that stored state reads back exactly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct KeepRate {
    rounds: VecDeque<Round>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Round {
    judged: u64,
    kept: u64,
}

impl KeepRate {
    /// Adds a round and forgets the oldest ones that are not needed for a total of `window` groups.
    pub(crate) fn push(&mut self, judged: usize, kept: usize, window: usize) {
        self.rounds.push_back(Round { judged: judged as u64, kept: kept as u64 });
        while let Some(oldest) = self.rounds.front()
            && self.total().judged - oldest.judged >= window as u64
        {
            self.rounds.pop_front();
        }
    }

    /// How many prompts should yield `missing` informative groups, counting the rate as (kept + 1) / (judged + 2).
    pub(crate) fn prompts_for(&self, missing: usize) -> usize {
        let Round { judged, kept } = self.total();
        (missing as u64).saturating_mul(judged + 2).div_ceil(kept + 1) as usize
    }

    /// Half of these, so that hardly ever more are kept than are missing, but at least one for each missing group.
    pub(crate) fn cautious_prompts_for(&self, missing: usize) -> usize {
        missing.max(self.prompts_for(missing) / 2)
    }

    fn total(&self) -> Round {
        self.rounds.iter().fold(Round { judged: 0, kept: 0 }, |sum, round| Round {
            judged: sum.judged + round.judged,
            kept: sum.kept + round.kept,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_twice_the_missing_groups_before_the_first_round() {
        assert_eq!(KeepRate::default().prompts_for(8), 16);
    }

    #[test]
    fn follows_the_observed_rate() {
        let mut rate = KeepRate::default();
        rate.push(98, 24, 1000);
        assert_eq!(rate.prompts_for(8), 32);
        rate.push(100, 25, 1000);
        assert_eq!(rate.prompts_for(1), 4);
    }

    #[test]
    fn caution_asks_for_the_missing_groups_alone_unless_fewer_than_half_are_kept() {
        assert_eq!(KeepRate::default().cautious_prompts_for(8), 8);
        let mut rate = KeepRate::default();
        rate.push(98, 50, 1000);
        assert_eq!(rate.cautious_prompts_for(8), 8);
        rate.push(100, 0, 1000);
        assert_eq!((rate.prompts_for(8), rate.cautious_prompts_for(8)), (32, 16));
    }

    #[test]
    fn stays_finite_when_nothing_is_kept() {
        let mut rate = KeepRate::default();
        rate.push(10, 0, 1000);
        assert_eq!(rate.prompts_for(8), 96);
    }

    #[test]
    fn forgets_rounds_beyond_the_window() {
        let mut rate = KeepRate::default();
        rate.push(30, 0, 32);
        rate.push(16, 16, 32);
        assert_eq!(rate.total(), Round { judged: 46, kept: 16 });
        rate.push(16, 16, 32);
        assert_eq!(rate.total(), Round { judged: 32, kept: 32 });
    }
}
