//! What is the answer in a gold text.

use super::find::find;
use super::math::last_math;
use super::prose::{self, Reading};
use super::{ExtractRule, Profile, extract_answer};
use crate::expr::Expr;
use crate::parse::{Answer, Parse, parse_answer};
use crate::trim::trim;

/// The answer in a gold text, and how it reads: a boxed or `####` answer where there is such, else what an announcement
/// gives, else everything; in a sentence that is no answer as a whole, the value that it gives.
pub(crate) fn gold_answer<'a>(gold: &'a str, profile: &Profile) -> (&'a str, Parse<Answer>) {
    if let Some(text) = announced(gold, profile) {
        return (text, parse_answer(text));
    }
    let whole = &gold[trim(gold, 0..gold.len())];
    let answer = parse_answer(whole);
    if is_plain_value(whole) || is_value(&answer, whole) {
        return (whole, answer);
    }
    match stated(whole).filter(|value| reads_as_value(value)) {
        Some(value) => (value, parse_answer(value)),
        None => (whole, answer),
    }
}

/// What a gold text marks or announces as the answer.
fn announced<'a>(gold: &'a str, profile: &Profile) -> Option<&'a str> {
    use ExtractRule::{AnswerIs, AnswerLine, Boxed, Choice, Hash, Whole};
    let apply = |rules: &[ExtractRule]| {
        let profile = Profile { rules: rules.to_vec(), window: None, after_think: false };
        extract_answer(gold, &profile).map(|found| found.text(gold))
    };
    if profile.rules.as_slice() == [Choice] {
        return Some(apply(&[Choice, Whole]).unwrap_or(""));
    }
    // Letters of "box" and "answer" that are rare elsewhere; most golds are short and have none.
    let may_announce = |byte: u8| matches!(byte, b'#' | b'b' | b'w' | b'W') || !byte.is_ascii();
    if gold.len() < SHORT && !gold.bytes().any(may_announce) {
        return None;
    }
    if let Some(marked) = apply(&[Boxed, Hash]) {
        return Some(marked);
    }
    if is_plain_value(&gold[trim(gold, 0..gold.len())]) {
        return None;
    }
    let announced = Profile { rules: vec![AnswerLine, AnswerIs], window: None, after_think: false };
    let found = find(gold, &announced)?.extracted.text(gold);
    reads_as_value(found).then_some(found)
}

/// Length below which a gold is looked through byte by byte.
const SHORT: usize = 200;

/// Most golds are a number or a formula without words.
fn is_plain_value(gold: &str) -> bool {
    gold.len() < SHORT && !gold.bytes().any(|byte| matches!(byte, b' ' | b'\n')) && gold.is_ascii()
}

/// Whether a text can be read as something other than a sentence.
fn reads_as_value(text: &str) -> bool {
    is_value(&parse_answer(text), text)
}

fn is_value(answer: &Parse<Answer>, text: &str) -> bool {
    let Ok(answer) = answer else { return false };
    !answer.readings.iter().any(|reading| matches!(reading, Expr::Text(_))) || text.split_whitespace().count() <= 3
}

/// The value that a sentence states: the one it begins with, or the formula after its verb.
fn stated(sentence: &str) -> Option<&str> {
    if let Reading::Value(value) = prose::read(sentence, true) {
        return Some(&sentence[trim(sentence, value)]);
    }
    let formula = last_math(sentence)?;
    let before = sentence[..formula.start].trim_end_matches(['$', '\\', '(', '[', ' ', '\n', '*']);
    let after = sentence[formula.end..].trim_start_matches(['$', '\\', ')', ']', ' ', '\n', '*', '.']);
    let last_word = before.rsplit(|c: char| !c.is_alphabetic()).next()?;
    let states = ["is", "are", "equals", "length", "area", "volume", "value", "be", "was"];
    let is_stated = after.is_empty() && states.contains(&last_word) && !prose::is_hedged(before);
    is_stated.then_some(&sentence[formula])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(gold: &str) -> &str {
        gold_answer(gold, &Profile::auto()).0
    }

    #[test]
    fn sentences_give_the_value_they_state() {
        assert_eq!(text("Answer: it would take long.\nTherefore, the answer is: 180."), "180");
        assert_eq!(text("the solution to the problem is $m \\in [2, 3)$"), "m \\in [2, 3)");
        assert_eq!(
            text("The side next to $\\theta$ has length $10 \\cos 5 \\approx 9.962$."),
            "10 \\cos 5 \\approx 9.962"
        );
        assert_eq!(text("So the answer is $\\boxed 5$."), "5");
        assert_eq!(text("Answer: C"), "C");
    }

    #[test]
    fn other_golds_stay_whole() {
        for gold in [
            "5",
            "No solution",
            "The sequence is convergent",
            "all even $n$",
            "$x$ is odd if $n$",
            "3, 4 and 5",
            "3:30 p.m.",
            "\\frac{1}{2} or 3",
            "x = 5",
            "not $5$",
            "The answer",
            "$5$ is less than $6$",
        ] {
            let trimmed = &gold[trim(gold, 0..gold.len())];
            assert_eq!(text(gold), trimmed);
        }
    }
}
