//! Problems that occur more than once.

use super::files::visit;
use super::problem::Problem;
use super::split::prompt_hash;
use crate::error::TrainerError;
use std::collections::HashMap;
use std::path::Path;

/// How many problems were dropped because an earlier one has the same prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// All that were dropped.
    pub dropped: usize,
    /// Those among them whose answer differs from that of the problem that was kept.
    pub conflicting: usize,
}

/// Reads problems as [`read_problems`](super::read_problems) does and keeps the first of those with the same messages.
///
/// Memory holds the distinct problems only: DAPO-Math-17k has 1.79 million rows, of which one in a hundred is distinct.
///
/// # Errors
/// As [`read_problems`](super::read_problems).
pub fn read_distinct(path: &Path) -> Result<(Vec<Problem>, Duplicates), TrainerError> {
    let mut distinct = Distinct::default();
    visit(path, &mut |problem| distinct.add(problem))?;
    Ok((distinct.problems, distinct.duplicates))
}

/// Keeps the first of the problems with the same messages, in their order, and counts the others.
///
/// ```
/// use dapo_policy::Message;
/// use dapo_trainer::data::{Duplicates, Problem, deduplicate};
///
/// let problem = |question: &str, answer: &str| Problem {
///     id: String::new(),
///     messages: vec![Message::user(question)],
///     answer: answer.into(),
/// };
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

#[derive(Default)]
struct Distinct {
    problems: Vec<Problem>,
    /// The places of the problems whose prompts have this hash.
    places: HashMap<u64, Vec<usize>>,
    duplicates: Duplicates,
}

impl Distinct {
    fn add(&mut self, problem: Problem) {
        let places = self.places.entry(prompt_hash(&problem, 0)).or_default();
        let mut same = places.iter().map(|place| &self.problems[*place]);
        if let Some(kept) = same.find(|kept| kept.messages == problem.messages) {
            self.duplicates.dropped += 1;
            self.duplicates.conflicting += usize::from(kept.answer != problem.answer);
        } else {
            places.push(self.problems.len());
            self.problems.push(problem);
        }
    }
}
