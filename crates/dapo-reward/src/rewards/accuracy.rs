//! Is the answer right?

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dapo::{DapoGrade, DapoRule, dapo_grade};
use crate::reward::{RewardFn, RewardInput, Score};
use crate::verify::{Gold, Verdict, VerifyConfig};

/// How an answer is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grader {
    /// Mathematical equivalence, see [`verify`](crate::verify()).
    Math(VerifyConfig),
    /// The published string rule, see [`dapo_grade`].
    Dapo {
        /// Judge only the last `\boxed{}` within the last 100 characters, compared raw.
        strict_box: bool,
    },
    /// The published string rule; where there is no `Answer:` line, the strict box.
    DapoOrBox,
}

impl Default for Grader {
    fn default() -> Self {
        Self::Math(VerifyConfig::default())
    }
}

/// A grader's method, with what it needs.
pub(crate) enum Method<'a> {
    Math(&'a VerifyConfig),
    Dapo(DapoRule),
}

impl Grader {
    pub(crate) fn method(&self) -> Method<'_> {
        match self {
            Self::Math(config) => Method::Math(config),
            Self::Dapo { strict_box: true } => Method::Dapo(DapoRule::StrictBox),
            Self::Dapo { strict_box: false } => Method::Dapo(DapoRule::AnswerLine),
            Self::DapoOrBox => Method::Dapo(DapoRule::AnswerLineOrBox),
        }
    }
}

/// The accuracy reward: `right` for a right answer, `wrong` otherwise.
///
/// Defaults to DAPO's +1/−1; open-r1's is `Accuracy { right: 1.0, wrong: 0.0, ..Accuracy::default() }`. It abstains when
/// the gold answer itself cannot be read; a completion that cannot be read is wrong.
///
/// # Example
/// ```
/// use dapo_reward::{Accuracy, RewardFn, RewardInput};
///
/// let input = |completion, answer| RewardInput { prompt: "", completion, answer, num_tokens: 9, truncated: false };
/// let accuracy = Accuracy::default();
/// assert_eq!(accuracy.score(&input(r"so \boxed{\frac12}", "0.5")).value, Some(1.0));
/// assert_eq!(accuracy.score(&input(r"so \boxed{\frac13}", "0.5")).value, Some(-1.0));
/// assert_eq!(accuracy.score(&input(r"so \boxed{2}", r"\frac{1}{")).value, None);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accuracy {
    /// Reward of a right answer.
    pub right: f64,
    /// Reward of any other answer.
    pub wrong: f64,
    /// How answers are judged.
    pub grader: Grader,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { right: 1.0, wrong: -1.0, grader: Grader::default() }
    }
}

impl Accuracy {
    fn outcome(&self, correct: Option<bool>) -> Score {
        Score { value: correct.map(|correct| if correct { self.right } else { self.wrong }), correct }
    }

    fn judge_dapo(&self, input: &RewardInput<'_>, rule: DapoRule) -> Score {
        let grade = dapo_grade(input.completion, input.answer, rule);
        self.outcome(Some(grade == DapoGrade::Right))
    }

    fn judge_math(&self, gold: &Gold, completion: &str) -> Score {
        self.outcome(match gold.verify(completion).verdict {
            Verdict::Correct => Some(true),
            Verdict::Unparsable(crate::verify::Side::Gold) => None,
            Verdict::Wrong | Verdict::OutOfFuel | Verdict::Unparsable(crate::verify::Side::Prediction) => Some(false),
        })
    }
}

impl RewardFn for Accuracy {
    fn name(&self) -> &'static str {
        "accuracy"
    }

    fn score(&self, input: &RewardInput<'_>) -> Score {
        match self.grader.method() {
            Method::Math(config) => self.judge_math(&Gold::new(input.answer, config), input.completion),
            Method::Dapo(rule) => self.judge_dapo(input, rule),
        }
    }

    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Vec<Score> {
        let Grader::Math(config) = &self.grader else {
            return inputs.par_iter().map(|input| self.score(input)).collect();
        };
        let mut golds: HashMap<&str, Gold> = HashMap::new();
        for input in inputs {
            golds.entry(input.answer).or_insert_with(|| Gold::new(input.answer, config));
        }
        inputs.par_iter().map(|input| self.judge_math(&golds[input.answer], input.completion)).collect()
    }
}
