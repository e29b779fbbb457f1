//! Problems that occur more than once.

use crate::problem::Problem;
use crate::split::prompt_hash;
use std::collections::HashMap;

/// How many problems were dropped because an earlier one has the same prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// All that were dropped.
    pub dropped: usize,
    /// Those among them whose answer differs from that of the problem that was kept.
    pub conflicting: usize,
}

/// Keeps the first of the problems with the same messages, in their order, and counts the others.
///
/// ```
/// use dapo_policy::Message;
/// use dapo_data::{Duplicates, Problem, deduplicate};
///
/// let problem = |question: &str, answer: &str| Problem::new("", vec![Message::user(question)], answer);
/// let (kept, duplicates) = deduplicate(vec![problem("1+1", "2"), problem("2+2", "4"), problem("1+1", "3")]);
/// assert_eq!(kept, [problem("1+1", "2"), problem("2+2", "4")]);
/// assert_eq!(duplicates, Duplicates { dropped: 1, conflicting: 1 });
/// ```
pub fn deduplicate(problems: Vec<Problem>) -> (Vec<Problem>, Duplicates) {
    let mut distinct = Distinct::default();
    for problem in problems {
        distinct.add(problem);
    }
    (distinct.problems, distinct.duplicates)
}

/// How many of the problems to validate on have the messages of one to train on.
///
/// ```
/// use dapo_policy::Message;
/// use dapo_data::{Problem, overlap};
///
/// let problem = |question: &str| Problem::new("", vec![Message::user(question)], "");
/// assert_eq!(overlap(&[problem("1+1"), problem("2+2")], &[problem("2+2"), problem("3+3"), problem("2+2")]), 2);
/// ```
pub fn overlap(train: &[Problem], validation: &[Problem]) -> usize {
    if validation.is_empty() {
        return 0;
    }
    let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, problem) in train.iter().enumerate() {
        places.entry(prompt_hash(problem, 0)).or_default().push(place);
    }
    let is_known = |problem: &&Problem| {
        let mut same = places.get(&prompt_hash(problem, 0)).into_iter().flatten().map(|place| &train[*place]);
        same.any(|known| known.messages == problem.messages)
    };
    validation.iter().filter(is_known).count()
}

/// Problems with different messages.
#[derive(Default)]
pub(super) struct Distinct {
    pub(super) problems: Vec<Problem>,
    /// The places of the problems whose prompts have this hash.
    places: HashMap<u64, Vec<usize>>,
    pub(super) duplicates: Duplicates,
}

impl Distinct {
    pub(super) fn add(&mut self, problem: Problem) {
        let places = self.places.entry(prompt_hash(&problem, 0)).or_default();
        let mut same = places.iter().map(|place| &self.problems[*place]);
        if let Some(kept) = same.find(|kept| kept.messages == problem.messages) {
            let same_answers = kept.answer == problem.answer && kept.alternatives == problem.alternatives;
            self.duplicates.dropped += 1;
            self.duplicates.conflicting += usize::from(!same_answers);
        } else {
            places.push(self.problems.len());
            self.problems.push(problem);
        }
    }
}
