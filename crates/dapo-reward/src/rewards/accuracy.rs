//! Whether the answer is correct.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dapo::{DapoGrade, DapoRule, dapo_grade};
use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};
use crate::verify::{Gold, Side, Verdict, VerifyConfig};
use crate::wording::{ChoiceGold, TextGold, TextOptions};

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
    /// Texts, equal up to what the options leave out; a gold answer that is a JSON object or array is compared as JSON, up to
    /// the order of keys. What is announced is judged (a box, `Answer:`, `####`, a tag, "the answer is", "the category is"),
    /// else the last line; of JSON, the last fenced block or object.
    Text(TextOptions),
    /// A choice among labels: letters A to J, or words such as `billing`. What is announced is judged, else a lone letter or
    /// the last line.
    Choice,
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
    Text(TextOptions),
    Choice,
}

/// A gold answer, prepared once for many completions.
enum Prepared<'a> {
    Math(Box<Gold>),
    Dapo(&'a str, DapoRule),
    Text(TextGold),
    Choice(ChoiceGold),
}

impl Prepared<'_> {
    fn is_readable(&self) -> bool {
        match self {
            Self::Math(gold) => gold.is_parsable(),
            Self::Dapo(gold, _) => !gold.trim().is_empty(),
            Self::Text(gold) => gold.is_readable(),
            Self::Choice(gold) => gold.is_readable(),
        }
    }

    /// Whether a completion is correct; `None` where the gold answer cannot be read.
    fn judge(&self, completion: &str) -> Option<bool> {
        match self {
            Self::Math(gold) => match gold.verify(completion).verdict {
                Verdict::Correct => Some(true),
                Verdict::Unparsable(Side::Gold) => None,
                Verdict::Incorrect | Verdict::OutOfFuel | Verdict::Unparsable(Side::Prediction) => Some(false),
            },
            Self::Dapo(gold, rule) => Some(dapo_grade(completion, gold, *rule) == DapoGrade::Correct),
            Self::Text(gold) => gold.is_readable().then(|| gold.is_met_by(completion)),
            Self::Choice(gold) => gold.is_readable().then(|| gold.is_met_by(completion)),
        }
    }
}

impl Grader {
    pub(crate) fn method(&self) -> Method<'_> {
        match self {
            Self::Math(config) => Method::Math(config),
            Self::Dapo { strict_box: true } => Method::Dapo(DapoRule::StrictBox),
            Self::Dapo { strict_box: false } => Method::Dapo(DapoRule::AnswerLine),
            Self::DapoOrBox => Method::Dapo(DapoRule::AnswerLineOrBox),
            Self::Text(options) => Method::Text(*options),
            Self::Choice => Method::Choice,
        }
    }

    fn prepare<'a>(&self, gold: &'a str) -> Prepared<'a> {
        match self.method() {
            Method::Math(config) => Prepared::Math(Box::new(Gold::new(gold, config))),
            Method::Dapo(rule) => Prepared::Dapo(gold, rule),
            Method::Text(options) => Prepared::Text(TextGold::new(gold, options)),
            Method::Choice => Prepared::Choice(ChoiceGold::new(gold)),
        }
    }

    /// Whether this grader can read a gold answer; where not, completions are hardly ever judged correct, and
    /// [`Accuracy`] abstains from most. Cheap: for counting such golds when data are loaded.
    ///
    /// # Example
    /// ```
    /// use dapo_reward::{Grader, TextOptions};
    ///
    /// assert!(Grader::default().can_read(r"\frac12"));
    /// assert!(!Grader::default().can_read(r"\int_0^1 f(x) dx"));
    /// assert!(Grader::Text(TextOptions::default()).can_read(r"\int_0^1 f(x) dx"));
    /// assert!(!Grader::Choice.can_read(" "));
    /// ```
    pub fn can_read(&self, gold: &str) -> bool {
        self.prepare(gold).is_readable()
    }
}

/// The accuracy reward: `correct` for a correct answer, `incorrect` otherwise.
///
/// Defaults to DAPO's +1/−1; open-r1's is `Accuracy { incorrect: 0.0, ..Accuracy::default() }`. It abstains when
/// the gold answer itself cannot be read; a completion that cannot be read is incorrect.
///
/// # Example
/// ```
/// use dapo_reward::{Accuracy, RewardFn, RewardInput};
///
/// let input = |completion, answer| RewardInput::new("", completion, answer).with_num_tokens(9);
/// let accuracy = Accuracy::default();
/// assert_eq!(accuracy.score(&input(r"so \boxed{\frac12}", "0.5"))?.value, Some(1.0));
/// assert_eq!(accuracy.score(&input(r"so \boxed{\frac13}", "0.5"))?.value, Some(-1.0));
/// assert_eq!(accuracy.score(&input(r"so \boxed{2}", r"\frac{1}{"))?.value, None);
/// # Ok::<(), dapo_reward::RewardFault>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accuracy {
    /// Reward of a correct answer.
    #[serde(alias = "right")]
    pub correct: f64,
    /// Reward of any other answer.
    #[serde(alias = "wrong")]
    pub incorrect: f64,
    /// How answers are judged.
    pub grader: Grader,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { correct: 1.0, incorrect: -1.0, grader: Grader::default() }
    }
}

impl Accuracy {
    fn outcome(&self, correct: Option<bool>) -> Score {
        Score {
            value: correct.map(|correct| if correct { self.correct } else { self.incorrect }),
            correct,
            ..Score::default()
        }
    }
}

impl RewardFn for Accuracy {
    fn name(&self) -> &'static str {
        "accuracy"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        Ok(self.outcome(self.grader.prepare(input.answer).judge(input.completion)))
    }

    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        let mut golds: HashMap<&str, Prepared<'_>> = HashMap::new();
        for input in inputs {
            golds.entry(input.answer).or_insert_with(|| self.grader.prepare(input.answer));
        }
        Ok(inputs.par_iter().map(|input| self.outcome(golds[input.answer].judge(input.completion))).collect())
    }
}
