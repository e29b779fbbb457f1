//! What a reward function is and says: [`RewardFn`], [`Score`], and the sum's outcome, [`Reward`].

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::environment::Episodes;
use crate::extract::FoundAnswer;
use crate::input::RewardInput;
use crate::round::Round;

/// What one reward function says about one completion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Score {
    /// The reward before weighting; `None`: the function abstains (for example, the gold cannot be parsed).
    pub value: Option<f64>,
    /// Whether the answer is correct; `None` where the function does not judge that.
    pub correct: Option<bool>,
    /// Further numbers to log under their names. They must depend on the sample alone.
    pub log: BTreeMap<String, f64>,
}

impl Score {
    /// A value that says nothing about correctness.
    pub fn value(value: f64) -> Self {
        Self { value: Some(value), ..Self::default() }
    }

    /// No opinion at all.
    pub fn abstain() -> Self {
        Self::default()
    }

    /// Sets whether the answer is correct.
    #[must_use]
    pub fn with_correct(self, correct: bool) -> Self {
        Self { correct: Some(correct), ..self }
    }

    /// Adds a number to log.
    #[must_use]
    pub fn with_log(mut self, name: impl Into<String>, value: f64) -> Self {
        self.log.insert(name.into(), value);
        self
    }
}

/// Why a reward function could not score: any error. Text converts to it.
pub type RewardFault = Box<dyn Error + Send + Sync>;

/// A reward function, callable from any thread. Closures become one by [`SampleReward`](crate::SampleReward) and
/// [`GroupReward`](crate::GroupReward).
///
/// A run can be repeated only with functions whose scores depend on their input alone.
///
/// # Errors
/// A function that cannot score says so by an error: the step fails with
/// [`RewardError::Failed`](crate::RewardError::Failed), which names the function. Where the sample cannot be judged it
/// abstains instead.
///
/// # Example
/// ```
/// use dapo_reward::{RewardFault, RewardFn, RewardInput, Score};
///
/// /// The share of the problem's key words that the completion mentions.
/// struct KeyWords;
/// impl RewardFn for KeyWords {
///     fn name(&self) -> &str {
///         "key_words"
///     }
///     fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
///         let Some(column) = input.column("key_words") else { return Ok(Score::abstain()) };
///         let words: Vec<&str> = column.as_array().ok_or("key_words is not a list")?.iter().filter_map(|w| w.as_str()).collect();
///         let met = words.iter().filter(|word| input.completion.contains(**word)).count();
///         Ok(Score::value(met as f64 / words.len().max(1) as f64).with_log("met", met as f64))
///     }
/// }
/// # fn main() -> Result<(), RewardFault> {
/// let columns = serde_json::json!({"key_words": ["carbon", "oxygen"]});
/// let input = RewardInput::new("What is CO₂?", "carbon dioxide", "").with_columns(&columns);
/// assert_eq!(KeyWords.score(&input)?, Score::value(0.5).with_log("met", 1.0));
/// # Ok(())
/// # }
/// ```
pub trait RewardFn: Send + Sync {
    /// The component's name, as it appears in metrics.
    fn name(&self) -> &str;

    /// Whether it compares completions with a gold answer. See [`RewardSum::needs_answer`](crate::RewardSum::needs_answer)
    /// for when every problem must then have one.
    fn needs_answer(&self) -> bool {
        false
    }

    /// Whether its scores say which completions are correct.
    fn judges(&self) -> bool {
        false
    }

    /// The environment whose episodes it scores: completions then have several turns.
    fn episodes(&self) -> Option<&Episodes> {
        None
    }

    /// Whether it can judge by this gold answer; asked when data are loaded, to count the problems it cannot judge.
    fn can_read(&self, _answer: &str) -> bool {
        true
    }

    /// The answer that it takes from a completion to judge by, for logs; `None` where it finds none, or takes none.
    fn compared<'a>(&self, _input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        None
    }

    /// Whether scoring waits for somebody else, such as a process or a server. Groups are then scored by
    /// [`score_part`](Self::score_part) as soon as they are finished, from another thread, while others are still generated.
    fn waits(&self) -> bool {
        false
    }

    /// Judges one completion.
    ///
    /// # Errors
    /// When it cannot be scored.
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault>;

    /// Judges the completions of one draw that are scored together, in order.
    ///
    /// # Errors
    /// When one cannot be scored.
    fn score_group(&self, group: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        group.par_iter().map(|input| self.score(input)).collect()
    }

    /// Judges many completions, in order; those of one draw follow each other. By default all run in parallel.
    ///
    /// # Errors
    /// When one cannot be scored.
    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        let groups: Vec<_> = inputs.chunk_by(|a, b| a.draw == b.draw).collect();
        let scores = groups.par_iter().map(|group| self.score_group(group)).collect::<Result<Vec<_>, _>>()?;
        // Groups must not stand in for each other's missing scores.
        match groups.iter().zip(&scores).find(|(group, scores)| group.len() != scores.len()) {
            Some((group, scores)) => {
                Err(format!("{} results for a group of {} completions", scores.len(), group.len()).into())
            }
            None => Ok(scores.into_iter().flatten().collect()),
        }
    }

    /// Judges some whole groups of a round, in order. Which groups are a part depends on time: scores must not.
    ///
    /// # Errors
    /// When one cannot be scored.
    fn score_part(&self, part: &[RewardInput<'_>], _round: &Round) -> Result<Vec<Score>, RewardFault> {
        self.score_batch(part)
    }
}

impl<R: RewardFn + ?Sized> RewardFn for Arc<R> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn needs_answer(&self) -> bool {
        (**self).needs_answer()
    }
    fn judges(&self) -> bool {
        (**self).judges()
    }
    fn episodes(&self) -> Option<&Episodes> {
        (**self).episodes()
    }
    fn can_read(&self, answer: &str) -> bool {
        (**self).can_read(answer)
    }
    fn compared<'a>(&self, input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        (**self).compared(input)
    }
    fn waits(&self) -> bool {
        (**self).waits()
    }
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        (**self).score(input)
    }
    fn score_group(&self, group: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        (**self).score_group(group)
    }
    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        (**self).score_batch(inputs)
    }
    fn score_part(&self, part: &[RewardInput<'_>], round: &Round) -> Result<Vec<Score>, RewardFault> {
        (**self).score_part(part, round)
    }
}

/// One term of a [`Reward`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Name of the reward function.
    pub name: String,
    /// The weight in the sum.
    pub weight: f64,
    /// The value before weighting; `None`: the function abstained.
    pub value: Option<f64>,
    /// Further numbers to log.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub log: BTreeMap<String, f64>,
}

/// The weighted sum over all components for one completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// Whether the answer is correct, from the sum's judge; kept apart from the shaped reward.
    pub correct: Option<bool>,
    /// Every component, in the order of the sum's terms.
    pub components: Vec<Component>,
    /// `Σ weight · value`; `None` when no component has a value, or one abstained whose abstentions count.
    pub total: Option<f64>,
}
