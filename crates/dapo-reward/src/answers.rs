//! Which completions give the same answer.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::dapo::{DapoAnswer, dapo_answer, dapo_normalize};
use crate::equiv::compare;
use crate::extract::{AnswerRule, ExtractRule, FoundAnswer, extract_answer, parse_prediction};
use crate::fuel::Fuel;
use crate::normalise::canonical_text;
use crate::parse::Answer;
use crate::rewards::{Grader, Method};
use crate::verify::small_integers;
use crate::wording;

impl Grader {
    /// The answer that a completion is judged by, as it stands there; `None` where it gives no answer.
    ///
    /// # Example
    /// ```
    /// use dapo_reward::Grader;
    ///
    /// assert_eq!(Grader::default().answer(r"so \boxed{\frac12}"), Some(r"\frac12"));
    /// let published = Grader::Dapo;
    /// assert_eq!(published.answer("Answer: $\\frac12$"), Some("$\\frac12$"));
    /// assert_eq!(published.answer(r"so \boxed{\frac12}"), None);
    /// ```
    pub fn answer<'a>(&self, completion: &'a str) -> Option<&'a str> {
        match self.method() {
            Method::Math(config) => extract_answer(completion, &config.profile).map(|found| found.text(completion)),
            Method::Dapo(rule) => match dapo_answer(completion, rule)? {
                DapoAnswer::Line(answer) | DapoAnswer::Boxed(answer) => Some(answer),
            },
            Method::Text(_) => wording::text_answer(completion),
            Method::Choice => wording::choice_answer(completion),
        }
    }

    /// What of a completion is compared with a gold answer, and how it is found; `None` where nothing is found. It is
    /// [`answer`](Self::answer), but for [`Grader::Text`], which compares JSON with JSON and words with words.
    ///
    /// # Example
    /// ```
    /// use dapo_reward::{AnswerRule, ExtractRule, Grader};
    ///
    /// let found = Grader::default().compared(r"so \boxed{\frac12}", "0.5").unwrap();
    /// assert_eq!((found.text, found.rule), (r"\frac12", AnswerRule::Extract(ExtractRule::Boxed)));
    /// ```
    pub fn compared<'a>(&self, completion: &'a str, gold: &str) -> Option<FoundAnswer<'a>> {
        let by = |rule| move |text| FoundAnswer { text, rule: AnswerRule::Extract(rule) };
        match self.method() {
            Method::Math(config) => {
                extract_answer(completion, &config.profile).map(|found| by(found.rule)(found.text(completion)))
            }
            Method::Dapo(rule) => dapo_answer(completion, rule).map(|answer| match answer {
                DapoAnswer::Line(answer) => by(ExtractRule::AnswerLine)(answer),
                DapoAnswer::Boxed(answer) => by(ExtractRule::Boxed)(answer),
            }),
            Method::Text(_) => wording::text_compared(completion, gold),
            Method::Choice => wording::choice_found(completion),
        }
    }
}

/// Numbers the different answers among the completions of one prompt: completions with the same number give the same
/// answer. `None`: there is no answer in that completion.
///
/// The same means, for [`Grader::Math`], that each would be correct if the other were the gold answer; answers that
/// cannot be read are the same where they are written alike. For the other graders it means equal strings after
/// normalisation.
///
/// Equivalence to a precision is not transitive, so the first completion of a class stands for it: an answer joins the
/// first class whose first member equals it. Numbers count up from 0 by first appearance.
///
/// # Cost
/// An answer that is written as one before needs no comparison; n different ones need at most n²/2. All comparisons
/// together share one budget of work; when it is used up, what is not written alike counts as different.
///
/// # Example
/// ```
/// use dapo_reward::{Grader, group_answers};
///
/// let completions = [r"\boxed{\frac12}", "The answer is 0.5.", r"\boxed{2}", "", "Answer: 1/2"];
/// let classes = group_answers(&completions, &Grader::default());
/// assert_eq!(classes, [Some(0), Some(0), Some(1), None, Some(0)]);
/// ```
pub fn group_answers(completions: &[&str], grader: &Grader) -> Vec<Option<usize>> {
    match grader.method() {
        Method::Math(config) => {
            let mut classes = Classes::new(config.precision);
            let mut class = |text: &str| {
                let found = extract_answer(text, &config.profile)?;
                Some(classes.find_or_add(found.text(text)))
            };
            completions.iter().map(|text| class(text)).collect()
        }
        Method::Dapo(rule) => by_key(completions, |text| {
            Some(match dapo_answer(text, rule)? {
                DapoAnswer::Line(answer) => Cow::Owned(dapo_normalize(answer)),
                DapoAnswer::Boxed(answer) => Cow::Borrowed(answer),
            })
        }),
        Method::Text(options) => by_key(completions, |text| wording::text_key(text, options).map(Cow::Owned)),
        Method::Choice => by_key(completions, |text| wording::choice_key(text).map(Cow::Owned)),
    }
}

/// Numbers the different keys.
fn by_key<'a>(completions: &[&'a str], key: impl Fn(&'a str) -> Option<Cow<'a, str>>) -> Vec<Option<usize>> {
    let mut classes: HashMap<Cow<'_, str>, usize> = HashMap::new();
    let mut class = |text| {
        let key = key(text)?;
        let next = classes.len();
        Some(*classes.entry(key).or_insert(next))
    };
    completions.iter().map(|text| class(*text)).collect()
}

/// The first member of a class.
struct Representative {
    text: String,
    /// `None` where it cannot be read.
    answer: Option<Answer>,
}

/// Classes of mathematically equivalent answers.
struct Classes {
    precision: u32,
    /// Work left for comparisons.
    budget: u64,
    /// The class of every text met so far.
    seen: HashMap<String, usize>,
    representatives: Vec<Representative>,
}

impl Classes {
    fn new(precision: u32) -> Self {
        Self { precision, budget: Fuel::GROUP, seen: HashMap::new(), representatives: Vec::new() }
    }

    fn find_or_add(&mut self, text: &str) -> usize {
        if let Some(class) = self.seen.get(text) {
            return *class;
        }
        let new = Representative { text: text.to_owned(), answer: parse_prediction(text).ok() };
        let found = (0..self.representatives.len()).find(|class| self.is_same(*class, &new));
        let class = found.unwrap_or(self.representatives.len());
        if found.is_none() {
            self.representatives.push(new);
        }
        self.seen.insert(text.to_owned(), class);
        class
    }

    fn is_same(&mut self, class: usize, new: &Representative) -> bool {
        let first = &self.representatives[class];
        if let Some(equal) = small_integers(&first.text, &new.text) {
            return equal;
        }
        let (Some(first), Some(new)) = (&first.answer, &new.answer) else {
            return first.answer.is_none()
                && new.answer.is_none()
                && canonical_text(&first.text).is_some_and(|first| canonical_text(&new.text) == Some(first));
        };
        let (precision, budget) = (self.precision, &mut self.budget);
        let mut is_correct = |gold, prediction| {
            /// Spent even where nothing is to be computed.
            const LEAST: u64 = 1_000;
            let allowed = Fuel::COMPARISON.min(*budget);
            if allowed < LEAST {
                return false;
            }
            let fuel = Fuel::new(allowed);
            let equal = compare(gold, prediction, precision, &fuel).is_ok_and(|decision| decision.equal);
            *budget -= (allowed - fuel.left()).max(LEAST);
            equal
        };
        is_correct(first, new) && is_correct(new, first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, VerifyConfig};

    fn math(profile: &str) -> Grader {
        let profile: Profile = profile.parse().unwrap();
        Grader::Math(VerifyConfig { profile, ..VerifyConfig::default() })
    }

    fn classes(answers: &[&str]) -> Vec<usize> {
        group_answers(answers, &math("whole")).into_iter().map(|class| class.unwrap_or(usize::MAX)).collect()
    }

    #[test]
    fn spellings_of_one_value_are_one_answer() {
        assert_eq!(classes(&["1/2", "0.5", r"\frac12", r"\frac{1}{2}", "$.5$", "50\\%", r"\frac{2}{4}"]), [0; 7]);
        assert_eq!(classes(&["7", "7.0", "8", "$7$", "x = 8", "-7", "07"]), [0, 0, 1, 0, 1, 2, 0]);
        assert_eq!(classes(&["(x-1)(x+1)", "x^2 - 1", "x^2+1", r"1-\sqrt2,1+\sqrt2", r"1\pm\sqrt2"]), [0, 0, 1, 2, 2]);
        assert_eq!(classes(&["(1, 2)", "[1, 2]", r"\left(1,2\right)"]), [0, 1, 0]);
    }

    #[test]
    fn a_completion_without_an_answer_has_no_class() {
        let completions = [r"\boxed{3}", "3", "", r"\boxed{", r"\boxed{4}"];
        assert_eq!(group_answers(&completions, &math("boxed")), [Some(0), None, None, None, Some(1)]);
        assert_eq!(group_answers(&["", " "], &Grader::default()), [None, None]);
        assert_eq!(group_answers(&[], &Grader::default()), []);
    }

    #[test]
    fn what_cannot_be_read_is_the_same_only_where_it_is_written_alike() {
        let long = "9+".repeat(4_000);
        assert_eq!(classes(&[r"\frac{1}{", "1", r"\frac{1}{", r"\frac{1}", &long, &long]), [0, 1, 0, 2, 3, 3]);
    }

    #[test]
    fn without_work_left_only_what_is_written_alike_is_the_same() {
        let mut classes = Classes { budget: 0, ..Classes::new(6) };
        let found = ["1/2", "0.5", "1/2", "7", "07"].map(|text| classes.find_or_add(text));
        assert_eq!(found, [0, 1, 0, 2, 2], "small integers need no work");
    }

    #[test]
    fn a_rounded_value_joins_the_exact_one_only_at_the_precision() {
        // To six digits 0.333333 is a third; 0.333 is not, although a third is 0.333 to three.
        assert_eq!(classes(&["1/3", "0.333333", "0.333"]), [0, 0, 1]);
        assert_eq!(classes(&["0.333", "1/3", "0.333333"]), [0, 1, 1]);
    }

    #[test]
    fn what_is_compared_is_told_with_its_rule() {
        let told = |grader: Grader, completion: &str, gold: &str| {
            grader.compared(completion, gold).map(|found| {
                let rule = serde_json::to_value(found.rule).unwrap().as_str().unwrap().to_owned();
                (found.text.to_owned(), rule)
            })
        };
        let some = |text: &str, rule: &str| Some((text.to_owned(), rule.to_owned()));
        let text = || Grader::Text(crate::wording::TextOptions::default());
        assert_eq!(told(math("auto"), r"\boxed{1} and #### 2", "2"), some("2", "hash"));
        assert_eq!(told(math("auto"), "  ", "2"), None);
        assert_eq!(told(Grader::Dapo, "Answer: 21", "21"), some("21", "answer-line"));
        assert_eq!(told(Grader::DapoOrBox, r"\boxed{ 21}", "21"), some(" 21", "boxed"));
        assert_eq!(told(Grader::Dapo, r"\boxed{21}", "21"), None);
        assert_eq!(told(text(), "Well.\nParis", "Paris"), some("Paris", "last-line"));
        assert_eq!(told(text(), "The category is billing.", "billing"), some("billing", "label"));
        // The kind of the gold answer decides.
        let both = "{\"a\": 1}\nThe answer is Paris.";
        assert_eq!(told(text(), both, r#"{"a": 1}"#), some("{\"a\": 1}", "json"));
        assert_eq!(told(text(), both, "Paris"), some("Paris", "answer-is"));
        assert_eq!(told(Grader::Choice, "The answer is (B).", "B"), some("B", "answer-is"));
        assert_eq!(told(Grader::Choice, "I would say that it is B of them", "B"), some("B", "choice"));
        let rules = [AnswerRule::Json, AnswerRule::LastLine, AnswerRule::Extract(ExtractRule::LastMath)];
        let text = serde_json::to_string(&rules).unwrap();
        assert_eq!(text, r#"["json","last-line","last-math"]"#);
        assert_eq!(serde_json::from_str::<[AnswerRule; 3]>(&text).unwrap(), rules);
    }

    #[test]
    fn the_published_rules_compare_strings() {
        let published = Grader::Dapo;
        let completions = ["Answer: 21", "ANSWER : $21$.", "Answer: 21.0", r"\boxed{21}", "Answer: $x = 21$"];
        assert_eq!(group_answers(&completions, &published), [Some(0), Some(0), Some(1), None, Some(0)]);
        let boxes = [r"\boxed{21}", "Answer: 21", r"\boxed{ 21}", r"\boxed{21}"];
        assert_eq!(group_answers(&boxes, &Grader::StrictBox), [Some(0), None, Some(1), Some(0)]);
        assert_eq!(group_answers(&boxes, &Grader::DapoOrBox), [Some(0), Some(0), Some(1), Some(0)]);
    }
}
