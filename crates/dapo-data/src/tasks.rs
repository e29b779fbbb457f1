//! A small task with exact answers: chains of additions, worked step by step.
//!
//! A problem is a chain of two to six additions, `17+4+25=`. There are three ways to answer it, of very different lengths:
//!
//! - directly: `####46`, quick and mostly a guess;
//! - worked: `17+4=21,21+25=46####46`;
//! - worked and checked: `17+4=21(4+17=21),21+25=46(25+21=46)####46`, right but twice as long, and cut off for long chains.
//!
//! A model that has seen mostly direct answers must discover that working pays, and checking does not.

use crate::problem::Problem;
use dapo_policy::Message;
use dapo_sampler::SplitMix;
use std::fmt::Write;

/// Which problems a set may contain; the three are disjoint, by a hash of the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For supervised warm-up.
    WarmUp,
    /// For reinforcement learning.
    Train,
    /// For evaluation.
    HeldOut,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The result alone.
    Direct,
    /// Every partial sum.
    Worked,
    /// Every partial sum, each computed twice.
    Checked,
}

/// Numbers to be added from left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdditionChain {
    operands: Vec<u32>,
}

/// Largest operand.
const MAX_OPERAND: u64 = 30;

impl AdditionChain {
    fn random(rng: &mut SplitMix) -> Self {
        let additions = 2 + rng.below(5);
        Self { operands: (0..=additions).map(|_| 1 + rng.below(MAX_OPERAND) as u32).collect() }
    }

    fn split(&self) -> Split {
        let hash = self.operands.iter().fold(17, |hash, x| SplitMix::new(hash ^ u64::from(*x)).bits());
        match hash % 10 {
            0..5 => Split::WarmUp,
            5..9 => Split::Train,
            _ => Split::HeldOut,
        }
    }

    /// The question, `17+4+25=`.
    pub fn question(&self) -> String {
        let operands: Vec<String> = self.operands.iter().map(u32::to_string).collect();
        operands.join("+") + "="
    }

    /// The sum.
    pub fn answer(&self) -> u32 {
        self.operands.iter().sum()
    }

    /// An answer in a style.
    pub fn solution(&self, style: Style) -> String {
        let mut text = String::new();
        let mut sum = self.operands[0];
        for operand in &self.operands[1..] {
            let next = sum + operand;
            let separator = if text.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = match style {
                Style::Direct => Ok(()),
                Style::Worked => write!(text, "{separator}{sum}+{operand}={next}"),
                Style::Checked => write!(text, "{separator}{sum}+{operand}={next}({operand}+{sum}={next})"),
            };
            sum = next;
        }
        text + "####" + &sum.to_string()
    }
}

/// `count` different chains of a split, a function of the seed.
pub fn addition_chains(split: Split, count: usize, seed: u64) -> Vec<AdditionChain> {
    let mut rng = SplitMix::new(seed);
    let mut seen = std::collections::HashSet::new();
    let chains = std::iter::repeat_with(|| AdditionChain::random(&mut rng));
    chains.filter(|chain| chain.split() == split && seen.insert(chain.operands.clone())).take(count).collect()
}

/// The chains as problems.
pub fn addition_problems(split: Split, count: usize, seed: u64) -> Vec<Problem> {
    let problem = |chain: AdditionChain| {
        Problem::new(chain.question(), vec![Message::user(chain.question())], chain.answer().to_string())
    };
    addition_chains(split, count, seed).into_iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_have_three_lengths_and_one_answer() {
        let chain = AdditionChain { operands: vec![17, 4, 25] };
        assert_eq!(chain.question(), "17+4+25=");
        assert_eq!(chain.solution(Style::Direct), "####46");
        assert_eq!(chain.solution(Style::Worked), "17+4=21,21+25=46####46");
        assert_eq!(chain.solution(Style::Checked), "17+4=21(4+17=21),21+25=46(25+21=46)####46");
    }

    #[test]
    fn splits_are_disjoint_and_sets_repeat_nothing() {
        let held_out = addition_chains(Split::HeldOut, 600, 1);
        let train = addition_chains(Split::Train, 3000, 1);
        assert!(held_out.iter().all(|chain| !train.contains(chain)));
        let questions: std::collections::HashSet<_> = held_out.iter().map(AdditionChain::question).collect();
        assert_eq!(questions.len(), 600);
        assert_eq!(addition_chains(Split::Train, 5, 7), addition_chains(Split::Train, 5, 7));
        assert_ne!(addition_chains(Split::Train, 5, 7), addition_chains(Split::Train, 5, 8));
    }
}
