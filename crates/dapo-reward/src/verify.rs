//! The verifier's front: configuration, verdicts, and [`Gold`], an answer parsed once.

use serde::{Deserialize, Serialize};

use crate::extract::{Extracted, Profile, extract_answer};

/// How answers are found and compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyConfig {
    /// Where a completion's answer stands.
    pub profile: Profile,
    /// Significant digits to which a decimal prediction must agree with an exact gold answer.
    pub precision: u32,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self { profile: Profile::auto(), precision: 6 }
    }
}

/// One of the two answers compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// They are not.
    Wrong,
    /// One of them cannot be read.
    Unparsable(Side),
    /// Deciding would cost more work than is allowed.
    OutOfFuel,
}

/// A verdict with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The decision.
    pub verdict: Verdict,
    /// What was judged.
    pub extracted: Option<Extracted>,
    /// Which rule decided.
    pub rule: &'static str,
}

/// A gold answer, parsed once and compared with many completions.
#[derive(Debug, Clone)]
pub struct Gold {
    text: String,
    config: VerifyConfig,
}

impl Gold {
    /// Parses a gold answer.
    pub fn new(gold: &str, config: &VerifyConfig) -> Self {
        let profile = Profile::auto();
        let text = if gold.contains("\\boxed") || gold.contains("####") { extract_answer(gold, &profile).map_or(gold, |x| x.text(gold)) } else { gold };
        Self { text: text.trim().to_owned(), config: config.clone() }
    }

    /// Judges a completion.
    pub fn verify(&self, completion: &str) -> Verification {
        let Some(extracted) = extract_answer(completion, &self.config.profile) else {
            return Verification { verdict: Verdict::Unparsable(Side::Prediction), extracted: None, rule: "extraction" };
        };
        let verdict = quick(&self.text, extracted.text(completion));
        Verification { verdict, extracted: Some(extracted), rule: "number" }
    }
}

fn quick(gold: &str, pred: &str) -> Verdict {
    let Some((a, b)) = quick_number(gold) else { return Verdict::Unparsable(Side::Gold) };
    let Some((c, d)) = quick_number(pred) else { return Verdict::Unparsable(Side::Prediction) };
    if a.checked_mul(d).is_some_and(|left| Some(left) == c.checked_mul(b)) { Verdict::Correct } else { Verdict::Wrong }
}

fn quick_number(text: &str) -> Option<(i128, i128)> {
    let text = text.replace([' ', ','], "").replace("\\dfrac", "\\frac");
    let (sign, text) = text.strip_prefix('-').map_or((1, text.as_str()), |rest| (-1, rest));
    if let Some((a, b)) = text.split_once('/') {
        return Some((sign * a.parse::<i64>().ok()? as i128, b.parse::<i64>().ok()? as i128)).filter(|x| x.1 != 0);
    }
    if let Some(rest) = text.strip_prefix("\\frac") {
        let (a, b) = if rest.starts_with('{') { rest.trim_matches(['{', '}']).split_once("}{")? } else { rest.split_at_checked(1)? };
        return Some((sign * a.parse::<i64>().ok()? as i128, b.parse::<i64>().ok()? as i128)).filter(|x| x.1 != 0);
    }
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 12 { return None; }
    let digits: i64 = format!("{whole}{decimals}").parse().ok()?;
    Some((sign * i128::from(digits), 10_i128.pow(decimals.len() as u32)))
}

/// Judges a completion against a gold answer.
pub fn verify(gold: &str, completion: &str, config: &VerifyConfig) -> Verification {
    Gold::new(gold, config).verify(completion)
}

/// Whether two answers are mathematically equivalent.
pub fn is_equivalent(gold: &str, pred: &str) -> bool {
    let config = VerifyConfig { profile: Profile::whole(), ..VerifyConfig::default() };
    verify(gold, pred, &config).verdict == Verdict::Correct
}
