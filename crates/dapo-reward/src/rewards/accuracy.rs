//! Whether the answer is correct.

use std::collections::HashMap;
use std::fmt;

use rayon::prelude::*;
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dapo::{DapoGrade, DapoRule, dapo_grade};
use crate::error::RewardError;
use crate::extract::FoundAnswer;
use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};
use crate::verify::{Gold, Side, Verdict, VerifyConfig};
use crate::wording::{ChoiceGold, TextGold, TextOptions};

/// How an answer is judged.
///
/// In files it is a name, `"math"`, or a table of its `name` and the fields of its options, `{ name = "math", precision
/// = 4 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "name", rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("x-name" = "name")))]
pub enum Grader {
    /// Mathematical equivalence, see [`verify`](crate::verify()).
    Math(VerifyConfig),
    /// The published string rule, on the last `Answer:` line; see [`dapo_grade`].
    Dapo,
    /// The published string rule, on the last `\boxed{}` within the last 100 characters, compared raw.
    StrictBox,
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

impl Serialize for Grader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Grader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrTable)
    }
}

/// Reads a grader's name alone, or a table.
struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = Grader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a grader, or a table of its options")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Grader, E> {
        Grader::deserialize(MapDeserializer::new([("name", name)].into_iter()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Grader, A::Error> {
        Grader::deserialize(MapAccessDeserializer::new(map))
    }
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
            Self::StrictBox => Method::Dapo(DapoRule::StrictBox),
            Self::Dapo => Method::Dapo(DapoRule::AnswerLine),
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
/// the gold answer itself cannot be read, or the problem has none; a completion that cannot be read is incorrect.
///
/// Where several gold answers are accepted, each is compared by itself, and any of them is enough. It abstains when none
/// of them can be read.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Accuracy {
    /// Reward of a correct answer.
    #[serde(alias = "right")]
    pub correct: f64,
    /// Reward of any other answer.
    #[serde(alias = "wrong")]
    pub incorrect: f64,
    /// How answers are judged: `math`, `text`, `choice`, or DAPO's published string rules `dapo`, `strict-box`,
    /// `dapo-or-box`; or a table with the options of `math` and `text`.
    pub grader: Grader,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { correct: 1.0, incorrect: -1.0, grader: Grader::default() }
    }
}

impl Accuracy {
    /// Checks the fields.
    ///
    /// # Errors
    /// When a value is not finite, or the grader `math` has no rule or no digit to go by.
    pub fn validate(&self) -> Result<(), RewardError> {
        for (field, value) in [("correct", self.correct), ("incorrect", self.incorrect)] {
            if !value.is_finite() {
                return Err(RewardError::config("Accuracy", field, value, "a finite number"));
            }
        }
        if let Grader::Math(config) = &self.grader {
            if config.profile.rules.is_empty() {
                return Err(RewardError::config("Accuracy", "grader.profile.rules", "empty", "at least one rule"));
            }
            if config.precision == 0 {
                return Err(RewardError::config("Accuracy", "grader.precision", 0, "at least 1"));
            }
        }
        Ok(())
    }

    /// Whether a completion gives one of the gold answers; `None` where none of them can be read.
    fn is_correct(judgements: impl Iterator<Item = Option<bool>>) -> Option<bool> {
        judgements.flatten().fold(None, |any, correct| Some(any.unwrap_or(false) || correct))
    }

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

    fn needs_answer(&self) -> bool {
        true
    }

    fn judges(&self) -> bool {
        true
    }

    fn can_read(&self, answer: &str) -> bool {
        self.grader.can_read(answer)
    }

    fn compared<'a>(&self, input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        // Of several gold answers the one that is met says most.
        let is_met = |gold: &&str| self.grader.prepare(gold).judge(input.completion) == Some(true);
        let several = input.answers().nth(1).is_some();
        let met = if several { input.answers().find(is_met) } else { None };
        self.grader.compared(input.completion, met.unwrap_or(input.answer))
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let judgements = input.answers().map(|gold| self.grader.prepare(gold).judge(input.completion));
        Ok(self.outcome(Self::is_correct(judgements)))
    }

    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        let mut golds: HashMap<&str, Prepared<'_>> = HashMap::new();
        for input in inputs {
            for gold in input.answers() {
                golds.entry(gold).or_insert_with(|| self.grader.prepare(gold));
            }
        }
        let is_correct =
            |input: &RewardInput<'_>| Self::is_correct(input.answers().map(|gold| golds[gold].judge(input.completion)));
        Ok(inputs.par_iter().map(|input| self.outcome(is_correct(input))).collect())
    }
}
