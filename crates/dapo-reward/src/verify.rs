//! The verifier's front: configuration, verdicts, and [`Gold`], an answer parsed once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::algebra::Stop;
use crate::equiv::compare;
use crate::expr::Expr;
use crate::extract::{ExtractRule, Extracted, Profile, find, gold_answer, parse_prediction};
use crate::fuel::Fuel;
use crate::letters::{Letters, Small};
use crate::normalise::canonical_text;
use crate::parse::{Answer, ParseError};
use crate::rule::Rule;

/// How answers are found and compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerifyConfig {
    /// Where a completion states its answer.
    pub profile: Profile,
    /// Significant digits to which a decimal prediction must agree with a gold answer such as 2/3 or √2.
    pub precision: u32,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self { profile: Profile::auto(), precision: 6 }
    }
}

/// One of the two answers compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The reference answer.
    Gold,
    /// The answer being judged.
    Prediction,
}

/// The verifier's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The answers are equivalent.
    Correct,
    /// They are not, or nothing shows that they are.
    Incorrect,
    /// One of them cannot be read.
    Unparsable(Side),
    /// Deciding would cost more work than is allowed.
    OutOfFuel,
}

impl Verdict {
    /// `correct`, `incorrect`, `unparsable` or `out-of-fuel`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Incorrect => "incorrect",
            Self::Unparsable(_) => "unparsable",
            Self::OutOfFuel => "out-of-fuel",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A verdict with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The decision.
    pub verdict: Verdict,
    /// What was judged, and which extraction rule found it.
    pub extracted: Option<Extracted>,
    /// Which rule decided.
    pub rule: Rule,
    /// The decision in words.
    pub reason: &'static str,
}

impl Verification {
    fn new(verdict: Verdict, rule: Rule, reason: &'static str) -> Self {
        Self { verdict, extracted: None, rule, reason }
    }
}

/// A gold answer, parsed once and compared with many completions.
///
/// The gold may be bare (`\frac12`, `43.0`), in math delimiters, in a `\boxed{}`, or a whole solution that ends in a
/// box, in `#### 18` or in "the answer is 18".
///
/// # Example
/// ```
/// use dapo_reward::{Gold, Verdict, VerifyConfig};
///
/// let gold = Gold::new("16 - 3 - 4 = 9\n#### 18", &VerifyConfig::default());
/// assert_eq!(gold.text(), "18");
/// assert_eq!(gold.verify(r"She earns \boxed{18} dollars.").verdict, Verdict::Correct);
/// assert_eq!(gold.verify("The answer is 17.").verdict, Verdict::Incorrect);
/// ```
#[derive(Debug, Clone)]
pub struct Gold {
    text: String,
    answer: Result<Answer, ParseError>,
    /// The answer, where it is a plain integer.
    integer: Option<i64>,
    /// The choice letters that the answer is.
    letters: Option<Letters>,
    /// The answer's text, where it cannot be read.
    canonical: Option<String>,
    /// The sentence that the answer was told from.
    sentence: Option<String>,
    config: VerifyConfig,
}

impl Gold {
    /// Parses a gold answer.
    pub fn new(gold: &str, config: &VerifyConfig) -> Self {
        let (text, answer) = gold_answer(gold, &config.profile);
        let integer = small_integer(text);
        if integer.is_some() && text.len() == gold.len() {
            return Self {
                text: text.to_owned(),
                answer,
                integer,
                letters: None,
                canonical: None,
                sentence: None,
                config: config.clone(),
            };
        }
        let letters = Letters::of_gold(text).or_else(|| if answer.is_err() { Letters::of_label(text) } else { None });
        let canonical = if answer.is_err() { canonical_text(text) } else { None };
        let whole = gold.trim();
        let is_told = text.len() < whole.len() && whole.len() <= MAX_SENTENCE && whole.contains(' ');
        let sentence = is_told.then(|| whole.to_owned());
        Self { text: text.to_owned(), answer, integer, letters, canonical, sentence, config: config.clone() }
    }

    /// The answer itself, without what surrounded it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the answer can be read. Where not, it is met by its own text and by its own choice letter, and every
    /// other verdict is [`Verdict::Unparsable`].
    pub fn is_parsable(&self) -> bool {
        self.answer.is_ok()
    }

    /// Judges a completion.
    pub fn verify(&self, completion: &str) -> Verification {
        let Some(found) = find(completion, &self.config.profile) else {
            return match self.answer {
                Ok(_) => Verification::new(UNREAD, Rule::Extraction, "no answer was found"),
                Err(_) => Verification::new(Verdict::Unparsable(Side::Gold), Rule::Parsing, UNREADABLE_GOLD),
            };
        };
        let prediction = found.extracted.text(completion);
        let mut verification = self.judge(prediction);
        if verification.verdict != Verdict::Correct
            && let Some(sentence) = found.sentence
            && self.is_words()
        {
            // To an answer in words, all words count.
            verification = self.judge(&completion[sentence]);
        }
        // A formula that cannot be read is passed over, unless the gold is such a formula.
        if found.extracted.rule == ExtractRule::Whole
            && self.canonical.is_some()
            && self.config.profile.rules.contains(&ExtractRule::LastMath)
        {
            let profile = Profile { rules: vec![ExtractRule::LastMath], ..self.config.profile.clone() };
            if let Some(formula) = find(completion, &profile)
                && canonical_text(formula.extracted.text(completion)) == self.canonical
            {
                verification = Verification::new(Verdict::Correct, Rule::Text, "the answers are written alike");
            }
        }
        if verification.verdict != Verdict::Correct && self.sentence.as_deref() == Some(completion.trim()) {
            verification = Verification::new(Verdict::Correct, Rule::Text, "the answers are written alike");
        }
        if verification.verdict != Verdict::Unparsable(Side::Gold) {
            verification.extracted = Some(found.extracted);
        }
        verification
    }

    fn judge(&self, prediction: &str) -> Verification {
        if let (Some(gold), Some(prediction)) = (self.integer, small_integer(prediction)) {
            return if gold == prediction {
                Verification::new(Verdict::Correct, Rule::Number, "equal integers")
            } else {
                Verification::new(Verdict::Incorrect, Rule::Number, "different integers")
            };
        }
        if let Some(equal) = self.letters.and_then(|letters| letters.are_named_by(prediction, self.small_letters())) {
            return if equal {
                Verification::new(Verdict::Correct, Rule::Choice, "the same choice")
            } else {
                Verification::new(Verdict::Incorrect, Rule::Choice, "another choice")
            };
        }
        let Ok(gold) = &self.answer else {
            let alike = self.canonical.is_some() && self.canonical == canonical_text(prediction);
            return if alike {
                Verification::new(Verdict::Correct, Rule::Text, "the answers are written alike")
            } else {
                Verification::new(Verdict::Unparsable(Side::Gold), Rule::Parsing, UNREADABLE_GOLD)
            };
        };
        if prediction == self.text {
            // An answer that can be read is its own equal.
            let rule = if self.is_words() { Rule::Words } else { Rule::Identical };
            return Verification::new(Verdict::Correct, rule, "the answers are equivalent");
        }
        match parse_prediction(prediction) {
            Err(ParseError::TooLarge) => Verification::new(UNREAD, Rule::Parsing, "the answer is too long or too deep"),
            Err(ParseError::Syntax) => Verification::new(UNREAD, Rule::Parsing, "the answer cannot be read as a whole"),
            Ok(prediction) => judge(gold, &prediction, self.config.precision),
        }
    }

    fn small_letters(&self) -> Small {
        match self.config.profile.rules.as_slice() {
            [ExtractRule::Choice] => Small::Count,
            [ExtractRule::Whole] => Small::Differ,
            _ => Small::CountAlone,
        }
    }

    fn is_words(&self) -> bool {
        matches!(&self.answer, Ok(answer) if answer.readings.iter().all(|reading| matches!(reading, Expr::Text(_))))
    }
}

/// Longest sentence kept beside the answer told from it, in bytes.
const MAX_SENTENCE: usize = 400;

const UNREAD: Verdict = Verdict::Unparsable(Side::Prediction);
const UNREADABLE_GOLD: &str = "the gold answer cannot be read";

/// Whether two plain integers of at most 15 digits are equal: most answers need no more.
pub(crate) fn small_integers(gold: &str, prediction: &str) -> Option<bool> {
    Some(small_integer(gold)? == small_integer(prediction)?)
}

fn small_integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

fn judge(gold: &Answer, prediction: &Answer, precision: u32) -> Verification {
    let fuel = Fuel::new(Fuel::COMPARISON);
    match compare(gold, prediction, precision, &fuel) {
        Ok(decision) if decision.equal => {
            Verification::new(Verdict::Correct, decision.rule, "the answers are equivalent")
        }
        Ok(decision) => {
            let reason = match decision.rule {
                Rule::Undecided => "nothing shows the answers to be equivalent",
                Rule::Undefined => "a value does not exist",
                Rule::Contradiction => "an answer contradicts itself",
                Rule::Unit => "the units do not measure the same",
                Rule::Structure => "the answers differ in kind, in number or in a part",
                _ => "the answers differ",
            };
            Verification::new(Verdict::Incorrect, decision.rule, reason)
        }
        Err(Stop::OutOfFuel) => Verification::new(Verdict::OutOfFuel, Rule::Fuel, "deciding would take too much work"),
        Err(Stop::NotApplicable | Stop::Undefined) => {
            Verification::new(Verdict::Incorrect, Rule::Undecided, "nothing shows the answers to be equivalent")
        }
    }
}

/// Judges a completion against a gold answer.
///
/// A pure function: the same arguments give the same result on every machine and thread, in bounded time. Many
/// completions for one gold answer are cheaper through [`Gold`].
///
/// # Example
/// ```
/// use dapo_reward::{Rule, Side, Verdict, VerifyConfig, verify};
///
/// let judge = |gold, completion| verify(gold, completion, &VerifyConfig::default());
/// let half = judge(r"\frac{1}{2}", "We get $x = 0.5$.");
/// assert_eq!((half.verdict, half.rule), (Verdict::Correct, Rule::Number));
/// assert_eq!(half.extracted.map(|found| found.span), Some(8..15));
/// assert_eq!(judge("2^{-99}", r"\boxed{2^{-98}}").verdict, Verdict::Incorrect);
/// assert_eq!(judge("3", r"\boxed{\frac{6}{}").verdict, Verdict::Unparsable(Side::Prediction));
/// assert_eq!(judge(r"\frac{1}{", r"\boxed{1}").verdict, Verdict::Unparsable(Side::Gold));
/// ```
pub fn verify(gold: &str, completion: &str, config: &VerifyConfig) -> Verification {
    Gold::new(gold, config).verify(completion)
}

/// Whether two bare answers are mathematically equivalent.
///
/// # Example
/// ```
/// use dapo_reward::is_equivalent;
///
/// assert!(is_equivalent(r"\frac{\sqrt{3}}{3}", r"1/\sqrt3"));
/// assert!(is_equivalent("x^2 - 4", "(x-2)(x+2)"));
/// assert!(is_equivalent(r"(-\infty, 0) \cup (0, \infty)", r"x \ne 0"));
/// assert!(!is_equivalent("[1, 2]", "(1, 2)"));
/// assert!(!is_equivalent("1 - 1/e", "1 + 1/e"));
/// ```
pub fn is_equivalent(gold: &str, pred: &str) -> bool {
    let config = VerifyConfig { profile: Profile::whole(), ..VerifyConfig::default() };
    verify(gold, pred, &config).verdict == Verdict::Correct
}
