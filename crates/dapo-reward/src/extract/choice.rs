//! Choice letters: A to J, standing alone.

use std::ops::Range;

use super::lines::rfind_ignore_case;

pub(super) fn letter(text: &str) -> Option<Range<usize>> {
    announced(text).or_else(|| leading(text)).or_else(|| letters(text, 0).last()).map(|at| at..at + 1)
}

/// The first letter after the last "answer is" or "answer:".
fn announced(text: &str) -> Option<usize> {
    let after = rfind_ignore_case(text, "answer", |after| {
        let rest = after.trim_start_matches(['*', '_', ' ']);
        let announces = rest.starts_with(':') || rest.get(..2).is_some_and(|word| word.eq_ignore_ascii_case("is"));
        announces.then_some(after.len() - rest.len())
    })?;
    letters(text, after).next()
}

/// A letter that opens the text or a line: `D. …`, `(D) …`, `D`.
fn leading(text: &str) -> Option<usize> {
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let lead = line.len() - line.trim_start_matches([' ', '(', '*', '$', '\t']).len();
        let at = line_start + lead;
        if is_alone(text, at) {
            return Some(at);
        }
        line_start += line.len();
    }
    None
}

fn letters(text: &str, from: usize) -> impl Iterator<Item = usize> {
    (from..text.len()).filter(move |&at| is_alone(text, at))
}

fn is_alone(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    if !matches!(bytes.get(at), Some(b'A'..=b'J')) {
        return false;
    }
    let before = text[..at].chars().next_back();
    let after = text[at + 1..].chars().next();
    let part_of_word = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '_' | '\\');
    !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_letters_come_first_then_leading_ones_then_the_last() {
        let found = |text: &'static str| letter(text).map(|span| &text[span]);
        assert_eq!(found("I am sure the answer is D, not A or B"), Some("D"));
        assert_eq!(found("The answer: D, it is neither A nor B"), Some("D"));
        assert_eq!(found("D. It cannot be A"), Some("D"));
        assert_eq!(found("It is not A, so it has to be B"), Some("B"));
        assert_eq!(found("(D) Ann"), Some("D"));
        assert_eq!(found("Because of C\n(B) it is"), Some("B"));
        assert_eq!(found("nothing here"), None);
        assert_eq!(found("Élan É"), None);
    }
}
