//! Finding the answer in a completion.

pub(crate) use choice::letter as choice_letter;
pub(crate) use find::{find, parse_prediction};
pub(crate) use gold::gold_answer;
pub(crate) use prose::is_hedged;
pub(crate) use wording::{choice_or_wording, label_wording, wording};

mod announce;
mod boxed;
mod choice;
mod doubt;
mod find;
mod formula;
mod gold;
mod joined;
mod lines;
mod math;
mod money;
mod nested;
mod prose;
mod wording;

use std::ops::Range;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// One way to find the answer in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ExtractRule {
    /// The last `\boxed{…}` (or `\fbox{…}`) whose braces balance; several joined by nothing but separators are one list.
    Boxed,
    /// What follows the last `Answer:` on its line, or on the next one that is not empty; also what follows a heading such as
    /// `## Answer`.
    AnswerLine,
    /// What follows the last `####` on its line.
    Hash,
    /// The content of the last `<answer>` tag.
    AnswerTag,
    /// The rest of the sentence after the last "answer is".
    AnswerIs,
    /// The last `$…$`, `$$…$$`, `\(…\)` or `\[…\]`; several joined by nothing but separators are one list. Where dollars
    /// are money, the amount that ends the text.
    LastMath,
    /// A choice letter, A to J: in what is announced, else at the start of a line, else the last one standing alone; never
    /// one that is denied. Letters joined by "and", "or" and commas stay together.
    Choice,
    /// The last number. Judges a fragment of whatever was said, so it is never tried unless asked for.
    LastNumber,
    /// The whole text.
    Whole,
}

/// Which rules to try, in which order, on which part of the text. In files `rules` may name `auto`, the default rules.
///
/// # Example
/// ```
/// use dapo_reward::{ExtractRule, Profile, extract_answer};
///
/// let text = "<think>so \\boxed{1}</think> It is $2$";
/// let found = extract_answer(text, &Profile::auto()).map(|found| found.text(text));
/// assert_eq!(found, Some("2"), "what follows the thought decides");
/// let after = Profile { after_think: true, ..Profile::auto() };
/// assert_eq!(extract_answer("It is $2$", &after), None, "there is no thought");
/// let numbers: Profile = "last-number".parse().unwrap();
/// assert_eq!(numbers.rules, [ExtractRule::LastNumber]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("x-name" = "rules")))]
pub struct Profile {
    /// Rules by priority: the first that finds something decides. Among neighbours that look for explicit announcements
    /// (box, `Answer:` line, `####`, tag) the last announcement in the text decides.
    #[serde(deserialize_with = "rules_or_auto")]
    #[cfg_attr(feature = "schema", schemars(extend("items" = {"type": "string", "enum": ["auto", "boxed", "answer-line", "hash",
        "answer-tag", "answer-is", "last-math", "choice", "last-number", "whole"]})))]
    pub rules: Vec<ExtractRule>,
    /// Look only at this many last characters.
    pub window: Option<usize>,
    /// Whether `</think>` is required: if true, a text without it, or with nothing after the last one, has no answer. If
    /// false, what follows the last `</think>` decides where there is one and something follows it.
    pub after_think: bool,
}

/// Rules by name; `auto` stands for those of [`Profile::auto`].
fn rules_or_auto<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ExtractRule>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let profiles = names.iter().map(|name| name.parse::<Profile>().map_err(D::Error::custom));
    let rules = profiles.map(|profile| Ok(profile?.rules));
    Ok(rules.collect::<Result<Vec<_>, _>>()?.concat())
}

impl Default for Profile {
    fn default() -> Self {
        Self::auto()
    }
}

impl Profile {
    /// The default: last box, `Answer:` line, `####`, `<answer>`, "the answer is", last `$…$`, else the whole text.
    pub fn auto() -> Self {
        use ExtractRule::{AnswerIs, AnswerLine, AnswerTag, Boxed, Hash, LastMath, Whole};
        Self {
            rules: vec![Boxed, AnswerLine, Hash, AnswerTag, AnswerIs, LastMath, Whole],
            window: None,
            after_think: false,
        }
    }

    /// The text is the answer.
    pub fn whole() -> Self {
        Self::only(ExtractRule::Whole)
    }

    /// A choice letter.
    pub fn choice() -> Self {
        Self::only(ExtractRule::Choice)
    }

    /// One rule and nothing else.
    pub fn only(rule: ExtractRule) -> Self {
        Self { rules: vec![rule], window: None, after_think: false }
    }
}

/// A profile name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown profile {0:?}, expected one of: auto, boxed, answer-line, hash, answer-tag, answer-is, last-math, choice, last-number, whole"
)]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "auto" => Self::auto(),
            "boxed" => Self::only(ExtractRule::Boxed),
            "answer-line" => Self::only(ExtractRule::AnswerLine),
            "hash" => Self::only(ExtractRule::Hash),
            "answer-tag" => Self::only(ExtractRule::AnswerTag),
            "answer-is" => Self::only(ExtractRule::AnswerIs),
            "last-math" => Self::only(ExtractRule::LastMath),
            "choice" => Self::choice(),
            "last-number" => Self::only(ExtractRule::LastNumber),
            "whole" => Self::whole(),
            _ => return Err(UnknownProfile(name.to_owned())),
        })
    }
}

/// Where an answer was found, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// Byte range of the answer in the text it was looked for in.
    pub span: Range<usize>,
    /// The rule that found it.
    pub rule: ExtractRule,
}

impl Extracted {
    /// The answer itself, given the text that was searched.
    pub fn text<'a>(&self, source: &'a str) -> &'a str {
        &source[self.span.clone()]
    }
}

/// How a grader found an answer: by a rule of a [`Profile`], or as the graders of texts and choices do beyond these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerRule {
    /// What follows the last "the category is", `Label:` and the like.
    Label,
    /// The last line that is not empty.
    LastLine,
    /// The last fenced block that is JSON, else the last JSON in the text.
    Json,
    /// A rule of a profile.
    #[serde(untagged)]
    Extract(ExtractRule),
}

/// The answer that a grader takes from a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundAnswer<'a> {
    /// The answer, as it stands in the completion.
    pub text: &'a str,
    /// How it was found.
    pub rule: AnswerRule,
}

/// Finds the answer in a text; time is linear in its length.
///
/// The span leaves out surrounding space, math delimiters, Markdown emphasis and a final full stop.
///
/// # Example
/// ```
/// use dapo_reward::{ExtractRule, Profile, extract_answer};
///
/// let auto = Profile::auto();
/// let text = |source: &'static str| extract_answer(source, &auto).map(|found| found.text(source));
/// assert_eq!(text(r"first \boxed{1}, then \boxed{\frac{1}{2}}."), Some(r"\frac{1}{2}"));
/// assert_eq!(text("**Answer:** 42"), Some("42"));
/// assert_eq!(text("16 - 3 = 13\n#### 13"), Some("13"));
/// assert_eq!(text("The answer is $0.5$. Done."), Some("0.5"));
/// assert_eq!(text(r"so $a = 1$, hence $b = 2$ follows"), Some("b = 2"));
/// assert_eq!(text(r"the roots are $1$ and $2$"), Some("$1$ and $2$"));
/// assert_eq!(text("The answer is 72, in total."), Some("72"));
/// assert_eq!(text("x + 1"), Some("x + 1"));
/// assert_eq!(text("  "), None);
/// ```
pub fn extract_answer(text: &str, profile: &Profile) -> Option<Extracted> {
    find(text, profile).map(|found| found.extracted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(text: &str) -> Option<&str> {
        extract_answer(text, &Profile::auto()).map(|found| found.text(text))
    }

    #[test]
    fn rules_are_tried_by_priority() {
        assert_eq!(auto("Answer: 3\nso \\boxed{4}"), Some("4"));
        assert_eq!(auto("so \\boxed{4}\n**Answer: D**"), Some("D"), "the last explicit announcement");
        assert_eq!(auto("#### 5\nAnswer: 3"), Some("3"));
        assert_eq!(auto("<answer> 7 </answer> the answer is 8."), Some("7"));
        assert_eq!(auto("just 42"), Some("just 42"));
    }

    #[test]
    fn the_window_hides_what_lies_before_it() {
        let profile = Profile { window: Some(6), rules: vec![ExtractRule::Boxed], after_think: false };
        assert_eq!(extract_answer("\\boxed{1}", &profile), None);
        let profile = Profile { window: Some(9), ..profile };
        assert!(extract_answer("é\\boxed{1}", &profile).is_some());
    }

    #[test]
    fn nothing_is_found_before_an_unfinished_thought_ends() {
        let profile = Profile { after_think: true, ..Profile::auto() };
        assert_eq!(extract_answer("\\boxed{1}", &profile), None);
        assert_eq!(extract_answer("\\boxed{1}</think>", &profile), None);
    }

    #[test]
    fn profile_names_are_listed_when_unknown() {
        assert!("whole".parse::<Profile>().is_ok());
        assert!("nope".parse::<Profile>().unwrap_err().to_string().contains("last-number"));
    }
}
