//! What completions are rewarded for.

use dapo_reward::{FormatPattern, LengthUnit, TextOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The reward's components, each a table of its own. A component of weight 0 is
/// measured and reported, and counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardsSection {
    /// Whether the answer is right.
    pub accuracy: AccuracyReward,
    /// Whether the completion has the shape that was asked for.
    pub format: Option<FormatReward>,
    /// A quarter for each of four tags that occurs exactly once.
    pub tag_count: Option<TagCountReward>,
    /// Soft overlong punishment (paper, Eq. 13); also known as `soft_overlong_punishment`.
    pub soft_overlong: Option<SoftOverlongReward>,
    /// Punishment in proportion to the tokens beyond a threshold.
    pub proportional_overlong: Option<ProportionalOverlongReward>,
    /// Punishment of repeated n-grams.
    pub repetition: Option<RepetitionReward>,
    /// open-r1's cosine-scaled length reward.
    pub length: Option<LengthReward>,
}

/// How answers are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GraderName {
    /// Mathematical equivalence.
    Math,
    /// DAPO's published rule: the last `Answer:` line.
    Dapo,
    /// The last `\boxed{}` within the last 100 characters, compared raw.
    StrictBox,
    /// The `Answer:` line, and the strict box where there is none.
    DapoOrBox,
    /// The same text; JSON objects and arrays up to the order of their keys.
    Text,
    /// The same choice: a letter A to J, or a label such as `billing`.
    Choice,
}

/// Whether the answer is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each a key of its own")]
pub struct AccuracyReward {
    /// Weight in the sum.
    pub weight: f64,
    /// Value of a right answer.
    pub right: f64,
    /// Value of any other answer.
    pub wrong: f64,
    /// How answers are judged: `math`, `text`, `choice`, or DAPO's published string rules `dapo`, `strict-box`, `dapo-or-box`.
    pub grader: GraderName,
    /// For the `math` grader: where the answer stands (`auto`, `boxed`, `answer-line`, `hash`, `answer-tag`, `answer-is`,
    /// `last-math`, `choice`, `last-number`, `whole`).
    pub extract: String,
    /// For the `text` grader: upper and lower case are the same.
    pub ignore_case: bool,
    /// For the `text` grader: any run of white space is one space.
    pub ignore_whitespace: bool,
    /// For the `text` grader: punctuation outside numbers does not count.
    pub ignore_punctuation: bool,
    /// For the `text` grader: the words "a", "an" and "the" do not count.
    pub ignore_articles: bool,
}

impl Default for AccuracyReward {
    fn default() -> Self {
        let TextOptions { ignore_case, ignore_whitespace, ignore_punctuation, ignore_articles } =
            TextOptions::default();
        Self {
            weight: 1.0,
            right: 1.0,
            wrong: -1.0,
            grader: GraderName::Math,
            extract: "auto".into(),
            ignore_case,
            ignore_whitespace,
            ignore_punctuation,
            ignore_articles,
        }
    }
}

/// Whether the completion has the shape that was asked for: 1 or 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FormatReward {
    /// Weight in the sum.
    pub weight: f64,
    /// The shape: `think-answer` (open-r1) or `think` (TRL).
    #[schemars(with = "String", extend("enum" = ["think-answer", "think"]))]
    pub pattern: FormatPattern,
}

impl Default for FormatReward {
    fn default() -> Self {
        Self { weight: 1.0, pattern: FormatPattern::ThinkAnswer }
    }
}

/// A quarter for each of `<think>`, `</think>`, `<answer>`, `</answer>` that occurs exactly once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TagCountReward {
    /// Weight in the sum.
    pub weight: f64,
}

impl Default for TagCountReward {
    fn default() -> Self {
        Self { weight: 1.0 }
    }
}

/// Soft overlong punishment (paper, Eq. 13): 0 up to `max_len − cache_len` tokens, then down to −1 at `max_len`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SoftOverlongReward {
    /// Weight in the sum.
    pub weight: f64,
    /// L_max in tokens; 0: `rollout.max_new_tokens`.
    pub max_len: usize,
    /// L_cache in tokens; 0: a fifth of L_max, the paper's share.
    pub cache_len: usize,
    /// Multiplies the punishment.
    pub penalty_factor: f64,
    /// Whether it stops at −`penalty_factor`; verl's goes on.
    pub floor: bool,
}

impl Default for SoftOverlongReward {
    fn default() -> Self {
        Self { weight: 1.0, max_len: 0, cache_len: 0, penalty_factor: 1.0, floor: true }
    }
}

/// `−factor · (L − threshold) / threshold` beyond the threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProportionalOverlongReward {
    /// Weight in the sum.
    pub weight: f64,
    /// Tokens up to which nothing is punished; 0: four fifths of `rollout.max_new_tokens`.
    pub threshold: usize,
    /// Punishment at twice the threshold.
    pub factor: f64,
}

impl Default for ProportionalOverlongReward {
    fn default() -> Self {
        Self { weight: 1.0, threshold: 0, factor: 0.5 }
    }
}

/// Punishment of repeated n-grams (open-r1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RepetitionReward {
    /// Weight in the sum.
    pub weight: f64,
    /// n, in words.
    pub ngram_size: usize,
    /// Value when everything is repetition; at most 0.
    pub max_penalty: f64,
}

impl Default for RepetitionReward {
    fn default() -> Self {
        Self { weight: 1.0, ngram_size: 3, max_penalty: -1.0 }
    }
}

/// open-r1's cosine-scaled length reward: short right answers earn most, long wrong ones lose least.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LengthReward {
    /// Weight in the sum.
    pub weight: f64,
    /// Value of a wrong answer of length 0.
    pub min_wrong: f64,
    /// Value of a wrong answer of full length.
    pub max_wrong: f64,
    /// Value of a right answer of full length.
    pub min_correct: f64,
    /// Value of a right answer of length 0.
    pub max_correct: f64,
    /// Full length.
    pub max_len: usize,
    /// What lengths are counted in: `characters` or `tokens`.
    #[schemars(with = "String", extend("enum" = ["characters", "tokens"]))]
    pub unit: LengthUnit,
}

impl Default for LengthReward {
    fn default() -> Self {
        Self {
            weight: 1.0,
            min_wrong: -1.0,
            max_wrong: -0.5,
            min_correct: 0.5,
            max_correct: 1.0,
            max_len: 1000,
            unit: LengthUnit::Characters,
        }
    }
}
