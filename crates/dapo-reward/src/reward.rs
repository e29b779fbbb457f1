//! What a reward function sees and says: [`RewardInput`], [`Score`], [`RewardFn`], and the weighted [`RewardSum`].

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// One completion to be judged, with what is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewardInput<'a> {
    /// The prompt's text.
    pub prompt: &'a str,
    /// The completion's text.
    pub completion: &'a str,
    /// The gold answer.
    pub answer: &'a str,
    /// Completion length in tokens, end token included.
    pub num_tokens: usize,
    /// Whether the token budget ran out before a stop token came.
    pub truncated: bool,
}

/// What one reward function says about one completion.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// The reward before weighting; `None`: the function abstains (for example, the gold cannot be parsed).
    pub value: Option<f64>,
    /// Whether the answer is correct; `None` where the function does not judge that.
    pub correct: Option<bool>,
}

impl Score {
    /// A value that says nothing about correctness.
    pub fn value(value: f64) -> Self {
        Self { value: Some(value), correct: None }
    }

    /// No opinion at all.
    pub fn abstain() -> Self {
        Self::default()
    }
}

/// A reward function: pure, deterministic, callable from any thread.
///
/// # Example
/// ```
/// use dapo_reward::{RewardFn, RewardInput, Score};
///
/// struct Polite;
/// impl RewardFn for Polite {
///     fn name(&self) -> &str {
///         "polite"
///     }
///     fn score(&self, input: &RewardInput<'_>) -> Score {
///         Score::value(if input.completion.contains("please") { 1.0 } else { 0.0 })
///     }
/// }
/// let input = RewardInput { prompt: "", completion: "please", answer: "", num_tokens: 1, truncated: false };
/// assert_eq!(Polite.score(&input).value, Some(1.0));
/// ```
pub trait RewardFn: Send + Sync {
    /// The component's name, as it appears in metrics.
    fn name(&self) -> &str;

    /// Judges one completion.
    fn score(&self, input: &RewardInput<'_>) -> Score;

    /// Judges many completions; results are in order and equal to [`score`](Self::score) on each.
    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Vec<Score> {
        inputs.par_iter().map(|input| self.score(input)).collect()
    }
}

/// One term of a [`Reward`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Name of the reward function.
    pub name: String,
    /// Its weight in the sum.
    pub weight: f64,
    /// Its value before weighting; `None`: it abstained.
    pub value: Option<f64>,
}

/// The weighted sum over all components for one completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// Whether the answer is correct, from the first component that judges it; kept apart from the shaped reward.
    pub correct: Option<bool>,
    /// Every component, in the order given to [`RewardSum::new`].
    pub components: Vec<Component>,
    /// `Σ weight · value`; `None` when any component abstained.
    pub total: Option<f64>,
}

/// A weighted sum of reward functions: `R = Σ weight · value`.
///
/// When one component abstains the total is `None`: an abstention is not a zero, and the completion has no place in its
/// group's baseline.
///
/// # Example
/// ```
/// use dapo_reward::{Accuracy, RewardInput, RewardSum, SoftOverlong};
///
/// # fn main() -> Result<(), dapo_reward::RewardError> {
/// let overlong = SoftOverlong::new(100, 20)?;
/// let sum = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(overlong))]);
/// let input = RewardInput { prompt: "1+1?", completion: r"\boxed{2}", answer: "2", num_tokens: 90, truncated: false };
/// let reward = sum.score(&input);
/// assert_eq!(reward.correct, Some(true));
/// assert_eq!(reward.total, Some(0.5)); // +1 for the answer, (100 - 20 - 90) / 20 for the length
/// # Ok(())
/// # }
/// ```
pub struct RewardSum {
    terms: Vec<(f64, Box<dyn RewardFn>)>,
}

impl std::fmt::Debug for RewardSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.terms.iter().map(|(weight, term)| (weight, term.name()))).finish()
    }
}

impl RewardSum {
    /// A sum of `(weight, function)` terms.
    pub fn new(terms: Vec<(f64, Box<dyn RewardFn>)>) -> Self {
        Self { terms }
    }

    /// The components' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|(_, term)| term.name())
    }

    /// Scores one completion.
    pub fn score(&self, input: &RewardInput<'_>) -> Reward {
        let scores: Vec<Score> = self.terms.iter().map(|(_, term)| term.score(input)).collect();
        self.combine(&scores)
    }

    /// Scores many completions over rayon, in order; a gold answer that occurs many times is parsed once.
    pub fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Vec<Reward> {
        let columns: Vec<Vec<Score>> = self.terms.iter().map(|(_, term)| term.score_batch(inputs)).collect();
        (0..inputs.len())
            .map(|row| {
                let scores: Vec<Score> = columns.iter().map(|column| column[row]).collect();
                self.combine(&scores)
            })
            .collect()
    }

    fn combine(&self, scores: &[Score]) -> Reward {
        let components = self.terms.iter().zip(scores).map(|((weight, term), score)| Component {
            name: term.name().to_owned(),
            weight: *weight,
            value: score.value,
        });
        let total =
            self.terms.iter().zip(scores).try_fold(0.0, |sum, ((weight, _), score)| Some(sum + weight * score.value?));
        Reward { correct: scores.iter().find_map(|score| score.correct), components: components.collect(), total }
    }
}
