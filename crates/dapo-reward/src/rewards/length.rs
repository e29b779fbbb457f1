//! A reward that prefers short correct answers and long incorrect ones.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::extract::FoundAnswer;
use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};
use crate::rewards::Accuracy;

/// What a completion's length is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LengthUnit {
    /// Characters of the text, as in open-r1.
    #[default]
    Characters,
    /// Tokens.
    Tokens,
}

/// open-r1's cosine-scaled length reward.
///
/// A correct answer earns `max_correct` at length 0 and falls along half a cosine to `min_correct` at `max_len`; an
/// incorrect one climbs from `min_incorrect` to `max_incorrect`, so that a longer attempt is punished less. Beyond
/// `max_len` the value at `max_len` stays. Abstains when the gold cannot be parsed.
///
/// # Example
/// ```
/// use dapo_reward::{CosineLength, RewardFn, RewardInput};
///
/// let reward = CosineLength { max_len: 100, ..CosineLength::default() };
/// let completion = format!("{:>50}", r"\boxed{7}");
/// let input = RewardInput::new("", &completion, "7").with_num_tokens(9);
/// assert_eq!(reward.score(&input)?.value, Some(0.75)); // half-way between 1.0 and 0.5
/// # Ok::<(), dapo_reward::RewardFault>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CosineLength {
    /// Reward of an incorrect answer at length 0.
    #[serde(alias = "min_wrong")]
    pub min_incorrect: f64,
    /// Reward of an incorrect answer at `max_len`.
    #[serde(alias = "max_wrong")]
    pub max_incorrect: f64,
    /// Reward of a correct answer at `max_len`.
    pub min_correct: f64,
    /// Reward of a correct answer at length 0.
    pub max_correct: f64,
    /// The length at which the cosine ends.
    pub max_len: usize,
    /// What lengths are counted in: `characters` or `tokens`.
    pub unit: LengthUnit,
    /// Decides what is correct; its two values are not used. No part of files: one judge serves a whole reward.
    #[serde(skip)]
    pub accuracy: Accuracy,
}

impl Default for CosineLength {
    fn default() -> Self {
        Self {
            min_incorrect: -1.0,
            max_incorrect: -0.5,
            min_correct: 0.5,
            max_correct: 1.0,
            max_len: 1000,
            unit: LengthUnit::Characters,
            accuracy: Accuracy::default(),
        }
    }
}

impl CosineLength {
    /// Checks the fields.
    ///
    /// # Errors
    /// When `max_len` is 0 or a value is not finite.
    pub fn validate(&self) -> Result<(), RewardError> {
        if self.max_len == 0 {
            return Err(RewardError::config("CosineLength", "max_len", 0, "at least 1"));
        }
        let values = [self.min_incorrect, self.max_incorrect, self.min_correct, self.max_correct];
        for (field, value) in ["min_incorrect", "max_incorrect", "min_correct", "max_correct"].into_iter().zip(values) {
            if !value.is_finite() {
                return Err(RewardError::config("CosineLength", field, value, "a finite number"));
            }
        }
        Ok(())
    }

    fn shape(&self, input: &RewardInput<'_>, judged: &Score) -> Score {
        let Some(correct) = judged.correct else {
            return Score::abstain();
        };
        let length = match self.unit {
            LengthUnit::Characters => input.completion.chars().count(),
            LengthUnit::Tokens => input.num_tokens,
        };
        let progress = (length as f64 / self.max_len.max(1) as f64).min(1.0);
        let (end, start) =
            if correct { (self.min_correct, self.max_correct) } else { (self.max_incorrect, self.min_incorrect) };
        let value = end + 0.5 * (start - end) * (1.0 + (progress * PI).cos());
        Score::value(value).with_correct(correct)
    }
}

impl RewardFn for CosineLength {
    fn name(&self) -> &'static str {
        "length"
    }

    fn needs_answer(&self) -> bool {
        true
    }

    fn judges(&self) -> bool {
        true
    }

    fn can_read(&self, answer: &str) -> bool {
        self.accuracy.can_read(answer)
    }

    fn compared<'a>(&self, input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        self.accuracy.compared(input)
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        Ok(self.shape(input, &self.accuracy.score(input)?))
    }

    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        let judged = self.accuracy.score_batch(inputs)?;
        Ok(inputs.iter().zip(&judged).map(|(input, judged)| self.shape(input, judged)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(answer: &str, length: usize) -> f64 {
        let reward = CosineLength { max_len: 100, ..CosineLength::default() };
        let completion = format!("{}{}", r"\boxed{\frac{63}{400}}", " ".repeat(length - 22));
        reward.score(&RewardInput::new("", &completion, answer)).unwrap().value.unwrap()
    }

    #[test]
    fn correct_answers_earn_less_and_incorrect_ones_lose_less_with_length() {
        // 0.5 + 0.25 (1 + cos(0.3 π)) and so on, by hand.
        for (answer, length, expected) in [
            (r"\frac{63}{400}", 30, 0.896_946),
            (r"\frac{63}{400}", 80, 0.547_746),
            (r"\frac{64}{400}", 30, -0.896_946),
            (r"\frac{64}{400}", 80, -0.547_746),
            (r"\frac{63}{400}", 100, 0.5),
            (r"\frac{63}{400}", 200, 0.5),
        ] {
            assert!((value(answer, length) - expected).abs() < 1e-6, "{answer} at {length}: {}", value(answer, length));
        }
    }
}
