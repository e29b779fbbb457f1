//! Regular expressions.

use dapo_reward::{RewardError, RewardFault, RewardInput, Score};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{Judge, check_values, gold, judged, shaped};

/// What a match is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Compare {
    /// Nothing: that the pattern matches is enough.
    #[default]
    None,
    /// The gold answer: it must equal the group of the last match, up to white space at the ends.
    Answer,
}

/// `value` where a pattern matches, else `mismatch`. With `compare = "answer"` the match must also be the gold answer;
/// where the problem has none, the reward abstains.
///
/// Patterns are those of the crate `regex`: without look-around and back-references, in time linear in the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegexReward {
    /// The pattern. It may match anywhere; `^` and `$` tie it to the ends.
    pub pattern: String,
    /// The group that is compared; 0: the whole match.
    pub group: usize,
    /// Reward of a match.
    pub value: f64,
    /// Reward of any other completion.
    pub mismatch: f64,
    /// What the match is compared with: `none` or `answer`.
    pub compare: Compare,
}

impl Default for RegexReward {
    fn default() -> Self {
        Self { pattern: String::new(), group: 1, value: 1.0, mismatch: 0.0, compare: Compare::None }
    }
}

/// A pattern that is ready to be matched.
pub(super) struct Compiled {
    config: RegexReward,
    regex: Regex,
}

impl RegexReward {
    pub(super) fn compiled(self) -> Result<Compiled, RewardError> {
        const OWNER: &str = "RegexReward";
        check_values(OWNER, self.value, self.mismatch)?;
        let fails = |field, value, allowed| RewardError::Config { owner: OWNER, field, value, allowed };
        let allowed = "a regular expression";
        if self.pattern.is_empty() {
            return Err(fails("pattern", "empty".to_owned(), allowed));
        }
        let regex = Regex::new(&self.pattern)
            .map_err(|error| fails("pattern", format!("{:?} ({error})", self.pattern), allowed))?;
        if self.compare == Compare::Answer && self.group >= regex.captures_len() {
            let value = format!("{} of {:?}", self.group, self.pattern);
            return Err(fails("group", value, "one of the pattern's groups, or 0 for the whole match"));
        }
        Ok(Compiled { config: self, regex })
    }
}

impl Judge for Compiled {
    fn judge(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let RegexReward { group, value, mismatch, compare, .. } = self.config;
        if compare == Compare::None {
            return Ok(shaped(self.regex.is_match(input.completion), value, mismatch));
        }
        let Some(gold) = gold(input) else { return Ok(Score::abstain()) };
        let last = self.regex.captures_iter(input.completion).last();
        let found = last.and_then(|captures| captures.get(group)).map(|group| group.as_str().trim());
        Ok(judged(found == Some(gold), value, mismatch))
    }
}
