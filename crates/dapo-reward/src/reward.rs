//! What a reward function sees and says: [`RewardInput`], [`Score`], [`RewardFn`], and the sum's outcome, [`Reward`].

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
    /// Every component, in the order of the sum's terms.
    pub components: Vec<Component>,
    /// `Σ weight · value`; `None` when no component has a value, or one abstained whose abstentions count.
    pub total: Option<f64>,
}
