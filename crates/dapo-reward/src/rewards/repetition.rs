//! A penalty for repeated n-grams.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};

/// open-r1's n-gram repetition penalty: `(1 − distinct / all) · max_penalty` over the lower-cased, white-space separated
/// words' n-grams; 0 when there are fewer words than `ngram_size`.
///
/// # Example
/// ```
/// use dapo_reward::{Repetition, RewardFn, RewardInput};
///
/// # fn main() -> Result<(), dapo_reward::RewardFault> {
/// let repetition = Repetition::new(2, -1.0)?;
/// let input = |completion| RewardInput::new("", completion, "").with_num_tokens(9);
/// assert_eq!(repetition.score(&input("the cat sat"))?.value, Some(0.0));
/// assert_eq!(repetition.score(&input("a b a b a"))?.value, Some(-0.5)); // ab ba ab ba
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Repetition {
    /// Words in an n-gram.
    pub ngram_size: usize,
    /// The penalty when every n-gram is the same.
    ///
    /// At most 0.
    pub max_penalty: f64,
}

impl Default for Repetition {
    fn default() -> Self {
        Self { ngram_size: 3, max_penalty: -1.0 }
    }
}

impl Repetition {
    /// A repetition penalty.
    ///
    /// # Errors
    /// When `ngram_size` is 0 or `max_penalty` is positive or not finite.
    pub fn new(ngram_size: usize, max_penalty: f64) -> Result<Self, RewardError> {
        let config = Self { ngram_size, max_penalty };
        config.validate()?;
        Ok(config)
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// When `ngram_size` is 0 or `max_penalty` is positive or not finite.
    pub fn validate(&self) -> Result<(), RewardError> {
        if self.ngram_size == 0 {
            return Err(RewardError::config("Repetition", "ngram_size", 0, "at least 1"));
        }
        if !(self.max_penalty.is_finite() && self.max_penalty <= 0.0) {
            return Err(RewardError::config("Repetition", "max_penalty", self.max_penalty, "finite and at most 0"));
        }
        Ok(())
    }
}

impl RewardFn for Repetition {
    fn name(&self) -> &'static str {
        "repetition"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let text = input.completion.to_lowercase();
        let words: Vec<&str> = text.split_whitespace().collect();
        let size = self.ngram_size.max(1);
        if words.len() < size {
            return Ok(Score::value(0.0));
        }
        let all = words.len() + 1 - size;
        let distinct: HashSet<&[&str]> = words.windows(size).collect();
        let repeated = 1.0 - distinct.len() as f64 / all as f64;
        // `+ 0.0` turns the −0 of an unrepetitive text into 0.
        Ok(Score::value(repeated * self.max_penalty + 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(text: &str) -> f64 {
        let input = RewardInput::new("", text, "");
        Repetition { ngram_size: 2, max_penalty: -1.0 }.score(&input).unwrap().value.unwrap()
    }

    #[test]
    fn only_repeated_ngrams_are_punished() {
        assert_eq!(score(""), 0.0);
        assert_eq!(score("one"), 0.0);
        assert_eq!(score("This is a test without repetition"), 0.0);
        assert!((score("this IS a this is") + 0.25).abs() < 1e-12);
        assert!(score("").is_sign_positive());
    }

    #[test]
    fn a_positive_penalty_is_refused() {
        assert!(Repetition::new(3, 0.1).is_err());
        assert!(Repetition::new(0, -1.0).is_err());
    }
}
