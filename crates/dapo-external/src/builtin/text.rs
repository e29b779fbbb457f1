//! Texts that a completion is or contains.

use dapo_reward::{RewardError, RewardFault, RewardInput, Score};
use serde::{Deserialize, Serialize};

use super::{Judge, check_values, gold, judged, shaped};

/// `value` where the completion is the gold answer, else `mismatch`. White space at the ends never counts. Abstains
/// where the problem has no answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExactReward {
    /// Capital and small letters are alike.
    pub ignore_case: bool,
    /// Runs of white space are one space.
    pub ignore_whitespace: bool,
    /// Full stops, commas, colons, semicolons, exclamation and question marks and quotes do not count.
    pub ignore_punctuation: bool,
    /// Reward of the gold answer.
    pub value: f64,
    /// Reward of any other completion.
    pub mismatch: f64,
}

impl Default for ExactReward {
    fn default() -> Self {
        Self { ignore_case: false, ignore_whitespace: false, ignore_punctuation: false, value: 1.0, mismatch: 0.0 }
    }
}

impl ExactReward {
    pub(super) fn checked(self) -> Result<Self, RewardError> {
        check_values("ExactReward", self.value, self.mismatch)?;
        Ok(self)
    }

    fn normal(&self, text: &str) -> String {
        let mut text = text.trim().to_owned();
        if self.ignore_punctuation {
            text.retain(|c| !is_punctuation(c));
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_whitespace {
            text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        text.trim().to_owned()
    }
}

fn is_punctuation(c: char) -> bool {
    matches!(c, '.' | ',' | ':' | ';' | '!' | '?' | '"' | '\'' | '`' | '“' | '”' | '‘' | '’')
}

impl Judge for ExactReward {
    fn judge(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let is_same = |gold| self.normal(input.completion) == self.normal(gold);
        Ok(gold(input).map_or_else(Score::abstain, |gold| judged(is_same(gold), self.value, self.mismatch)))
    }
}

/// How many of several texts are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Need {
    /// Every one.
    #[default]
    All,
    /// At least one.
    Any,
}

/// `value` where the completion contains texts, else `mismatch`. Without texts the gold answer is looked for; where the
/// problem has no answer either, the reward abstains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContainsReward {
    /// What is looked for; empty: the gold answer.
    pub texts: Vec<String>,
    /// How many of them are needed: `all` or `any`.
    pub need: Need,
    /// Capital and small letters are alike.
    pub ignore_case: bool,
    /// Reward of a completion that contains them.
    pub value: f64,
    /// Reward of any other completion.
    pub mismatch: f64,
}

impl Default for ContainsReward {
    fn default() -> Self {
        Self { texts: Vec::new(), need: Need::All, ignore_case: false, value: 1.0, mismatch: 0.0 }
    }
}

impl ContainsReward {
    pub(super) fn checked(self) -> Result<Self, RewardError> {
        check_values("ContainsReward", self.value, self.mismatch)?;
        if self.texts.iter().any(String::is_empty) {
            let value = format!("{:?}", self.texts);
            let allowed = "texts that are not empty";
            return Err(RewardError::Config { owner: "ContainsReward", field: "texts", value, allowed });
        }
        Ok(self)
    }
}

impl Judge for ContainsReward {
    fn judge(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let lowered = self.ignore_case.then(|| input.completion.to_lowercase());
        let has = |text: &str| match &lowered {
            Some(completion) => completion.contains(&text.to_lowercase()),
            None => input.completion.contains(text),
        };
        if self.texts.is_empty() {
            let score = |gold| judged(has(gold), self.value, self.mismatch);
            return Ok(gold(input).map_or_else(Score::abstain, score));
        }
        let mut texts = self.texts.iter();
        let matches = match self.need {
            Need::All => texts.all(|text| has(text)),
            Need::Any => texts.any(|text| has(text)),
        };
        Ok(shaped(matches, self.value, self.mismatch))
    }
}
