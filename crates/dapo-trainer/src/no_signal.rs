//! A step without enough groups to train on.

use crate::record::GroupRecord;
use dapo_sampler::Shortage;

/// A step that found too few groups to train on, usually none, and what it looked at.
#[derive(Clone, PartialEq)]
pub struct NoSignal {
    /// The step, from 1.
    pub step: u64,
    /// What it had to choose from.
    pub shortage: Shortage,
    /// Every group of the step, by draw index.
    pub groups: Vec<GroupRecord>,
    /// Whether training ends well: the policy has mastered its data, and [`OnMastered::Stop`](crate::OnMastered::Stop) is set.
    pub ends_well: bool,
}

impl NoSignal {
    /// How the groups came out, by the judge of answers rather than by the sampler's metric.
    pub fn outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for record in self.groups.iter().filter(|record| record.age == 0) {
            let verdicts = || record.group.samples.iter().map(|sample| sample.reward.correct);
            if verdicts().all(|correct| correct == Some(true)) {
                outcomes.all_correct += 1;
            } else if verdicts().all(|correct| correct == Some(false)) {
                outcomes.all_incorrect += 1;
            } else {
                outcomes.other += 1;
            }
        }
        outcomes
    }

    /// Whether the policy has mastered its data: no group carries a signal, and [`Outcomes::are_mastered`].
    pub fn is_mastered(&self) -> bool {
        self.shortage.kept == 0 && self.outcomes().are_mastered()
    }
}

/// How the groups of a step came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Groups in which every completion is correct.
    pub all_correct: u64,
    /// Groups in which every completion is incorrect.
    pub all_incorrect: u64,
    /// Groups with both, or with completions that nobody judged.
    pub other: u64,
}

impl Outcomes {
    /// All groups.
    pub fn groups(self) -> u64 {
        self.all_correct + self.all_incorrect + self.other
    }

    /// Whether at least nine groups in ten are all correct: problems that remain unsolved may have a wrong gold answer.
    pub fn are_mastered(self) -> bool {
        self.all_correct > 0 && 10 * self.all_correct >= 9 * self.groups()
    }
}

/// Without the groups, which are large.
impl std::fmt::Debug for NoSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, shortage, groups, ends_well } = self;
        let mut out = f.debug_struct("NoSignal");
        out.field("step", step)
            .field("shortage", shortage)
            .field("groups", &groups.len())
            .field("ends_well", ends_well);
        out.finish()
    }
}

impl std::fmt::Display for NoSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.shortage.kept {
            0 if self.is_mastered() => "nothing left to learn",
            0 => "nothing to train on",
            _ => "too few groups to train on",
        };
        write!(f, "{what}: {}", self.shortage)
    }
}
