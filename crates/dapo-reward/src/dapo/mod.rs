//! The string rule that DAPO's published results were graded with, character for character.

mod digits;
mod normalize;

pub use normalize::dapo_normalize;
use normalize::is_space;

/// Which part of the published grader to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DapoRule {
    /// The last `Answer: …` line of the last 300 characters, normalised.
    #[default]
    AnswerLine,
    /// The same; where there is no such line, as [`StrictBox`](Self::StrictBox).
    AnswerLineOrBox,
    /// The last `\boxed{}` of the last 100 characters, compared raw.
    StrictBox,
}

/// The published grader's opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DapoGrade {
    /// The two strings are equal after normalisation.
    Correct,
    /// They differ.
    Incorrect,
    /// No answer was found; graded as incorrect.
    Invalid,
}

/// Grades a completion by the published rule, which compares strings and knows no mathematics.
///
/// # Example
/// ```
/// use dapo_reward::{DapoGrade, DapoRule, dapo_grade};
///
/// let grade = |completion| dapo_grade(completion, "21", DapoRule::AnswerLine);
/// assert_eq!(grade("Answer: 20\nAnswer: 21"), DapoGrade::Correct);
/// assert_eq!(grade("The final answer: $21$."), DapoGrade::Correct);
/// assert_eq!(grade("Answer: 21.0"), DapoGrade::Incorrect);
/// assert_eq!(grade("The total is 21."), DapoGrade::Invalid);
/// assert_eq!(dapo_grade(r"so \boxed{21}", "21", DapoRule::StrictBox), DapoGrade::Correct);
/// ```
pub fn dapo_grade(completion: &str, gold: &str, rule: DapoRule) -> DapoGrade {
    let judge = |equal| if equal { DapoGrade::Correct } else { DapoGrade::Incorrect };
    match dapo_answer(completion, rule) {
        Some(DapoAnswer::Line(answer)) => judge(dapo_normalize(answer) == dapo_normalize(gold)),
        Some(DapoAnswer::Boxed(answer)) => judge(answer == gold),
        None => DapoGrade::Invalid,
    }
}

/// What the published grader judges, as it stands in the completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DapoAnswer<'a> {
    /// From an `Answer: …` line; compared after normalisation.
    Line(&'a str),
    /// From a box; compared raw.
    Boxed(&'a str),
}

pub(crate) fn dapo_answer(completion: &str, rule: DapoRule) -> Option<DapoAnswer<'_>> {
    let text = last_chars(completion, 300);
    let line = if rule == DapoRule::StrictBox { None } else { last_answer_line(text).map(DapoAnswer::Line) };
    if line.is_some() || rule == DapoRule::AnswerLine {
        return line;
    }
    last_box(last_chars(text, 100)).map(DapoAnswer::Boxed)
}

/// The last `count` characters.
fn last_chars(text: &str, count: usize) -> &str {
    let start = text.char_indices().rev().take(count).last().map_or(text.len(), |(at, _)| at);
    &text[start..]
}

/// The last match's group of `(?i)Answer\s*:\s*([^\n]+)`, found left to right without overlaps.
fn last_answer_line(text: &str) -> Option<&str> {
    let mut last = None;
    let mut at = 0;
    while at < text.len() {
        if let Some((start, end)) = match_answer(text, at) {
            last = Some(&text[start..end]);
            at = end;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    last
}

fn match_answer(text: &str, at: usize) -> Option<(usize, usize)> {
    let mut rest = text[at..].chars();
    // Case folding over all of Unicode lets the long s stand for an s.
    let is_word = "answer"
        .chars()
        .all(|want| rest.next().is_some_and(|c| c.to_ascii_lowercase() == want || (want == 's' && c == '\u{17f}')));
    if !is_word {
        return None;
    }
    let rest = rest.as_str().trim_start_matches(is_space).strip_prefix(':')?;
    let after_colon = text.len() - rest.len();
    let after_space = text.len() - rest.trim_start_matches(is_space).len();
    let start = if after_space < text.len() {
        after_space
    } else {
        // Nothing but space follows: the group takes the last piece of it that is not a newline.
        after_colon + rest.char_indices().rev().find(|&(_, c)| c != '\n')?.0
    };
    Some((start, text[start..].find('\n').map_or(text.len(), |newline| start + newline)))
}

/// The content of the last `\boxed{}` with balanced braces.
fn last_box(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed{";
    let start = text.rfind(OPEN)? + OPEN.len();
    let mut depth = 1;
    for (at, byte) in text[start..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + at]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_correct(completion: &str, gold: &str) -> bool {
        dapo_grade(completion, gold, DapoRule::AnswerLine) == DapoGrade::Correct
    }

    #[test]
    fn grades_the_published_examples() {
        assert!(is_correct("Answer: 20\nAnswer: 21", "21"));
        assert!(is_correct("ANSWER :   21", "21"));
        assert!(is_correct("The final answer: $21$.", "21"));
        assert!(is_correct("Answer: $n = 21$", "21"));
        assert!(is_correct("Answer: 21 degrees", "21"));
        assert!(!is_correct("Answer: 21.", "21"));
        assert!(!is_correct("Answer: **21**", "21"));
        assert!(!is_correct("Answer: 21.0", "21"));
        assert!(!is_correct("The total is 21.", "21"));
        assert!(!is_correct(&format!("Answer: 21{}", "x".repeat(400)), "21"));
        assert!(!is_correct(&format!("Answer: 21\n{}", "x".repeat(400)), "21"));
    }

    #[test]
    fn the_window_is_counted_in_characters() {
        assert!(is_correct(&format!("Answer: 21\n{}", "é".repeat(289)), "21"));
        assert!(!is_correct(&format!("Answer: 21\n{}", "é".repeat(290)), "21"));
    }

    #[test]
    fn a_second_answer_on_the_same_line_belongs_to_the_first() {
        assert_eq!(last_answer_line("Answer: Answer: 21"), Some("Answer: 21"));
        assert_eq!(last_answer_line("Answer:\n\n 21 \nx"), Some("21 "));
        assert_eq!(last_answer_line("Answer:  \n"), Some(" "));
        assert_eq!(last_answer_line("Answer:\n"), None);
        assert_eq!(last_answer_line("An\u{17f}wer: 3"), Some("3"));
        assert_eq!(last_answer_line("Answer 3"), None);
    }

    #[test]
    fn normalisation_follows_the_order_of_its_rules() {
        assert_eq!(dapo_normalize("an apple"), "apple");
        assert_eq!(dapo_normalize("a square has 4 edges"), "has4");
        assert_eq!(dapo_normalize("\\$32,\\!348"), "32348");
        assert_eq!(dapo_normalize("$x$ and $y$"), "x");
        assert_eq!(dapo_normalize("\\text{10}\\text{ cm}"), "10");
        assert_eq!(dapo_normalize("\\boxed{\\frac{1}{2}}"), "\\frac{1}{2}");
        assert_eq!(dapo_normalize("\\sqrt3+\\frac1{72}"), "\\sqrt{3}+\\frac{1}{{}72}");
        assert_eq!(dapo_normalize("1,234,567"), "1234567");
        assert_eq!(dapo_normalize("(1,2)"), "(1,2)");
        assert_eq!(dapo_normalize("45^{\\circ}"), "45");
        assert_eq!(dapo_normalize(""), "");
        assert_eq!(dapo_normalize("frac"), "frac");
        assert_eq!(dapo_normalize("\\text{open"), "\\text{open");
        assert_eq!(dapo_normalize("５,０"), "５０");
    }

    #[test]
    fn strict_box_compares_raw_within_a_hundred_characters() {
        let grade = |text: &str| dapo_grade(text, "21", DapoRule::StrictBox);
        assert_eq!(grade("Answer: 21"), DapoGrade::Invalid);
        assert_eq!(grade("\\boxed{20} \\boxed{21}"), DapoGrade::Correct);
        assert_eq!(grade("\\boxed{ 21}"), DapoGrade::Incorrect);
        assert_eq!(grade("\\boxed{21"), DapoGrade::Invalid);
        assert_eq!(grade(&format!("\\boxed{{21}}{}", "x".repeat(90))), DapoGrade::Correct);
        assert_eq!(grade(&format!("\\boxed{{21}}{}", "x".repeat(91))), DapoGrade::Invalid);
        assert_eq!(dapo_grade("\\boxed{21}", "21", DapoRule::AnswerLineOrBox), DapoGrade::Correct);
        assert_eq!(dapo_grade("Answer: 4 \\boxed{21}", "21", DapoRule::AnswerLineOrBox), DapoGrade::Incorrect);
        assert_eq!(dapo_grade("\\boxed{21}", "21", DapoRule::AnswerLine), DapoGrade::Invalid);
    }
}
