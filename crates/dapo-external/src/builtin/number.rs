//! Numbers within a tolerance.

use dapo_reward::{
    AnswerRule, ExtractRule, FoundAnswer, Profile, RewardError, RewardFault, RewardInput, Score, extract_answer,
};
use serde::{Deserialize, Serialize};

use super::{Judge, check_values, gold, judged};

/// `value` where the completion's last number is the gold answer within a tolerance, else `mismatch`:
/// `|x − gold| ≤ max(absolute, relative · |gold|)`. Abstains where the gold answer is no number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NumberReward {
    /// Largest distance.
    pub absolute: f64,
    /// Largest distance as a share of the gold answer.
    pub relative: f64,
    /// Reward of a number within the tolerance.
    pub value: f64,
    /// Reward of any other completion.
    pub mismatch: f64,
}

impl Default for NumberReward {
    fn default() -> Self {
        Self { absolute: 0.0, relative: 1e-6, value: 1.0, mismatch: 0.0 }
    }
}

impl NumberReward {
    pub(super) fn checked(self) -> Result<Self, RewardError> {
        const OWNER: &str = "NumberReward";
        check_values(OWNER, self.value, self.mismatch)?;
        for (field, value) in [("absolute", self.absolute), ("relative", self.relative)] {
            if !(0.0..f64::INFINITY).contains(&value) {
                let (value, allowed) = (value.to_string(), "a finite number of at least 0");
                return Err(RewardError::Config { owner: OWNER, field, value, allowed });
            }
        }
        Ok(self)
    }
}

impl Judge for NumberReward {
    fn judge(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let Some(gold) = gold(input).and_then(number) else { return Ok(Score::abstain()) };
        let found = self.compared(input).and_then(|found| number(found.text));
        let is_close = |x: f64| (x - gold).abs() <= self.absolute.max(self.relative * gold.abs());
        Ok(judged(found.is_some_and(is_close), self.value, self.mismatch))
    }

    fn compared<'a>(&self, input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        let found = extract_answer(input.completion, &Profile::only(ExtractRule::LastNumber))?;
        Some(FoundAnswer { text: found.text(input.completion), rule: AnswerRule::Extract(found.rule) })
    }
}

/// A finite number, with or without commas between thousands.
fn number(text: &str) -> Option<f64> {
    let text: String = text.trim().chars().filter(|c| *c != ',').map(|c| if c == '−' { '-' } else { c }).collect();
    text.parse().ok().filter(|number: &f64| number.is_finite())
}
