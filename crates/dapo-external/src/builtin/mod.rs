//! Rewards that settings alone describe: [`BuiltinReward`].

mod json;
mod length;
mod number;
mod pattern;
mod schema;
mod text;

use dapo_reward::{Accuracy, FoundAnswer, Grader, RewardError, RewardFault, RewardFn, RewardInput, Score};
use serde::{Deserialize, Serialize};

pub use json::JsonReward;
pub use length::LengthReward;
pub use number::NumberReward;
pub use pattern::{Compare, RegexReward};
pub use text::{ContainsReward, ExactReward, Need};

/// The settings of a reward that needs no code, chosen by `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BuiltinConfig {
    /// Whether the completion is the gold answer.
    Exact(ExactReward),
    /// Whether a pattern matches.
    Regex(RegexReward),
    /// Whether the completion is JSON with certain fields.
    Json(JsonReward),
    /// Whether the completion chooses the gold letter or label.
    Choice(ChoiceReward),
    /// Whether the last number is the gold answer.
    Number(NumberReward),
    /// Whether the completion contains texts.
    Contains(ContainsReward),
    /// Whether the completion is within limits of length.
    Length(LengthReward),
}

/// `value` where the completion chooses the gold letter or label, else `mismatch`. Abstains where the gold answer cannot
/// be read.
///
/// See [`Grader::Choice`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChoiceReward {
    /// Reward of the gold choice.
    pub value: f64,
    /// Reward of any other completion.
    pub mismatch: f64,
}

impl Default for ChoiceReward {
    fn default() -> Self {
        Self { value: 1.0, mismatch: 0.0 }
    }
}

/// Judges one completion.
pub(crate) trait Judge: Send + Sync {
    fn judge(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault>;

    /// The answer that is taken from a completion; see [`RewardFn::compared`].
    fn compared<'a>(&self, _input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        None
    }
}

impl Judge for Accuracy {
    fn judge(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        self.score(input)
    }
    fn compared<'a>(&self, input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        RewardFn::compared(self, input)
    }
}

/// A reward that settings alone describe, under a name of the settings.
///
/// # Example
/// ```
/// use dapo_external::{BuiltinReward, RegexReward};
/// use dapo_reward::{RewardFn, RewardInput};
///
/// let year = RegexReward { pattern: r"\b(\d{4})\b".into(), ..RegexReward::default() };
/// let year = BuiltinReward::new("year", &dapo_external::BuiltinConfig::Regex(year))?;
/// assert_eq!(year.score(&RewardInput::new("When?", "In 1969.", "1969"))?.value, Some(1.0));
/// assert_eq!(year.score(&RewardInput::new("When?", "Long ago.", "1969"))?.value, Some(0.0));
/// # Ok::<(), dapo_reward::RewardFault>(())
/// ```
pub struct BuiltinReward {
    name: String,
    judge: Box<dyn Judge>,
}

impl std::fmt::Debug for BuiltinReward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltinReward").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BuiltinReward {
    /// The reward of this name.
    ///
    /// # Errors
    /// [`RewardError::Config`] for settings outside what is allowed.
    pub fn new(name: &str, config: &BuiltinConfig) -> Result<Self, RewardError> {
        let judge: Box<dyn Judge> = match config.clone() {
            BuiltinConfig::Exact(config) => Box::new(config.checked()?),
            BuiltinConfig::Regex(config) => Box::new(config.compiled()?),
            BuiltinConfig::Json(config) => Box::new(config.compiled()?),
            BuiltinConfig::Choice(ChoiceReward { value, mismatch }) => {
                check_values("ChoiceReward", value, mismatch)?;
                Box::new(Accuracy { correct: value, incorrect: mismatch, grader: Grader::Choice })
            }
            BuiltinConfig::Number(config) => Box::new(config.checked()?),
            BuiltinConfig::Contains(config) => Box::new(config.checked()?),
            BuiltinConfig::Length(config) => Box::new(config.checked()?),
        };
        Ok(Self { name: name.to_owned(), judge })
    }
}

impl RewardFn for BuiltinReward {
    fn name(&self) -> &str {
        &self.name
    }
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        self.judge.judge(input)
    }
    fn compared<'a>(&self, input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        self.judge.compared(input)
    }
}

/// # Errors
/// [`RewardError::Config`] for a reward that is not finite.
fn check_values(owner: &'static str, value: f64, mismatch: f64) -> Result<(), RewardError> {
    for (field, value) in [("value", value), ("mismatch", mismatch)] {
        if !value.is_finite() {
            let allowed = "a finite number";
            return Err(RewardError::Config { owner, field, value: value.to_string(), allowed });
        }
    }
    Ok(())
}

/// The gold answer, if there is one.
fn gold<'a>(input: &RewardInput<'a>) -> Option<&'a str> {
    Some(input.answer.trim()).filter(|answer| !answer.is_empty())
}

/// The score of a completion that is judged against the gold answer.
fn judged(is_correct: bool, value: f64, mismatch: f64) -> Score {
    Score::value(if is_correct { value } else { mismatch }).with_correct(is_correct)
}

/// The score of a completion of which the gold answer says nothing.
fn shaped(matches: bool, value: f64, mismatch: f64) -> Score {
    Score::value(if matches { value } else { mismatch })
}
