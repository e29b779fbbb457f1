//! The last formula and the last number of a text.

use std::ops::Range;

use super::formula::{Formula, is_between_amounts};
use super::{joined, money};

/// The last formula; formulas joined by nothing but separators are one list. Where dollars are money, the amount that ends
/// the text.
pub(super) fn last_math(text: &str) -> Option<Range<usize>> {
    let Some(last) = last_formula(text) else { return money::last(text) };
    if last.after_money
        && let Some(amount) = money::last(text)
    {
        return Some(amount);
    }
    if is_denied(text, &last.whole) {
        return None;
    }
    Some(list(text, &last))
}

/// Whether the words right before or after a formula say that it is not the answer: `not $5$`, `$5$ is excluded`.
fn is_denied(text: &str, formula: &Range<usize>) -> bool {
    /// Longest stretch of words looked at, in bytes.
    const NEAR: usize = 32;
    const DENIALS: [&str; 13] = [
        "not",
        "cannot",
        "never",
        "nor",
        "neither",
        "except",
        "exclude",
        "excluding",
        "excludes",
        "reject",
        "rejecting",
        "discard",
        "discarding",
    ];
    const LINKS: [&str; 5] = ["be", "equal", "to", "the", "by"];
    const VERBS: [&str; 6] = ["is", "are", "was", "were", "must", "be"];
    const VERDICTS: [&str; 14] = [
        "not",
        "excluded",
        "wrong",
        "incorrect",
        "impossible",
        "extraneous",
        "invalid",
        "rejected",
        "eliminated",
        "discarded",
        "omitted",
        "removed",
        "false",
        "ruled",
    ];
    let mut from = formula.start.saturating_sub(NEAR);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let mut to = (formula.end + NEAR).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    let is_apart = |c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’' | '.' | '$' | ';' | ':'));
    let is_one_of = |words: &[&str], word: &str| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    let is_denial = |word: &str| is_one_of(&DENIALS, word) || word.ends_with("n't") || word.ends_with("n’t");
    let mut before = text[from..formula.start].rsplit(is_apart).filter(|word| !word.is_empty());
    if before.by_ref().find(|word| !is_one_of(&LINKS, word)).is_some_and(is_denial) {
        return true;
    }
    let mut after = text[formula.end..to].split(is_apart).filter(|word| !word.is_empty());
    let mut linked = false;
    let verdict = after.find(|word| {
        let is_verb = is_one_of(&VERBS, word);
        linked |= is_verb;
        !is_verb
    });
    verdict.is_some_and(|word| {
        let word = word.trim_end_matches(['.', ';', ':']);
        (linked && is_one_of(&VERDICTS, word)) || (!linked && (word == "cannot" || word.ends_with("n't")))
    })
}

/// The last `$…$`, `$$…$$`, `\(…\)` or `\[…\]`.
fn last_formula(text: &str) -> Option<Formula> {
    let dollars = last_dollars(text);
    let round = last_pair(text, "\\(", "\\)");
    let square = last_pair(text, "\\[", "\\]");
    [dollars, round, square].into_iter().flatten().max_by_key(|formula| formula.content.end)
}

fn last_pair(text: &str, open: &str, close: &str) -> Option<Formula> {
    let end = text.rfind(close)?;
    let start = text[..end].rfind(open)?;
    Some(Formula { whole: start..end + close.len(), content: start + open.len()..end, after_money: false })
}

fn last_dollars(text: &str) -> Option<Formula> {
    /// Signs of money looked past.
    const MOST: usize = 64;
    let mut from = text.len();
    for looked_past in 0..MOST {
        let last = previous_dollar(text, from)?;
        let mut end = last;
        while text[..end].ends_with('$') {
            end -= 1;
        }
        let open = previous_dollar(text, end)?;
        let content = open + 1..end;
        if is_between_amounts(&text[content.clone()], text[last + 1..].starts_with(|c: char| c.is_ascii_digit())) {
            from = last;
            continue;
        }
        let mut start = open;
        while text[..start].ends_with('$') {
            start -= 1;
        }
        return Some(Formula { whole: start..last + 1, content, after_money: looked_past > 0 });
    }
    None
}

/// The last `$` before `end` that no backslash escapes.
fn previous_dollar(text: &str, end: usize) -> Option<usize> {
    text[..end].rmatch_indices('$').map(|(at, _)| at).find(|&at| !text[..at].ends_with('\\'))
}

/// The list of formulas that ends with `last`.
fn list(text: &str, last: &Formula) -> Range<usize> {
    /// More formulas than this are no list that anyone writes.
    const MOST: usize = 32;
    let has_relation = |content: &Range<usize>| {
        let content = &text[content.clone()];
        content.contains(['=', '<', '>']) || content.contains("\\le") || content.contains("\\ge")
    };
    let mut first = last.whole.start;
    let mut relations = has_relation(&last.content);
    let (mut joints, mut words) = (0, 0);
    let mut alike = true;
    for _ in 0..MOST {
        let mut from = first.saturating_sub(joined::LONGEST_GAP);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let Some(end) = text[from..first].rfind(['$', ')', ']']).map(|at| from + at + 1) else { break };
        let Some(joint) = joined::joint(&text[end..first]) else { break };
        let before = &text[..end];
        let formula = match before.as_bytes()[end - 1] {
            b'$' => last_dollars(before),
            b')' => last_pair(before, "\\(", "\\)"),
            _ => last_pair(before, "\\[", "\\]"),
        };
        let Some(formula) = formula.filter(|formula| formula.whole.end == end) else { break };
        // In "since $a = 1$ and $b = 2$, $c = 3$" the comma ends the clause.
        if joint == joined::Joint::Word && joints > 0 && words == 0 {
            break;
        }
        joints += 1;
        words += usize::from(joint == joined::Joint::Word);
        relations |= has_relation(&formula.content);
        alike &= text[formula.content.clone()] == text[last.content.clone()];
        first = formula.whole.start;
    }
    // Conditions before a comma are no list: "if $n = 2$, $m = 4$".
    if joints == 0 || alike || (words == 0 && relations) {
        return last.content.clone();
    }
    first..last.whole.end
}

/// The last number, with its sign, thousands separators, decimals, fraction and percent sign.
pub(super) fn last_number(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let mut start = end;
    while start > 0 && is_number_part(bytes, start - 1) {
        start -= 1;
    }
    if start > 0 && bytes[start - 1] == b'.' {
        start -= 1;
    }
    if start > 0 && bytes[start - 1] == b'-' {
        start -= 1;
    }
    if bytes.get(end) == Some(&b'%') {
        end += 1;
    }
    Some(start..end)
}

fn is_number_part(bytes: &[u8], at: usize) -> bool {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    digit(at) || (matches!(bytes[at], b'.' | b',' | b'/') && at > 0 && digit(at - 1) && digit(at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_formula_wins_whatever_its_delimiters() {
        let math = |text: &'static str| last_math(text).map(|span| &text[span]);
        assert_eq!(math("$a$ then $$b$$."), Some("b"));
        assert_eq!(math(r"$a$ then \(b\)"), Some("b"));
        assert_eq!(math(r"\[a\] then $b$"), Some("b"));
        assert_eq!(math(r"it costs \$5"), Some("$5"));
        assert_eq!(math("costs $5"), Some("$5"));
        assert_eq!(math("$$"), None);
    }

    #[test]
    fn formulas_that_are_denied_are_no_answer() {
        for text in [
            "It is not $5$.",
            "So it cannot be $5$.",
            "It isn't \\(5\\).",
            "All values except $5$",
            "Only $5$ is excluded.",
            "Thus $x = 5$ is extraneous.",
            "The value $5$ cannot occur.",
        ] {
            assert_eq!(last_math(text), None, "{text}");
        }
        for text in ["It is not hard: $5$", "This is wrong. It is $5$", "We need not go on, as $5$ is the answer."] {
            assert_eq!(last_math(text).map(|span| &text[span]), Some("5"), "{text}");
        }
    }

    #[test]
    fn formulas_joined_by_separators_are_one_list() {
        let math = |text: &'static str| last_math(text).map(|span| &text[span]);
        assert_eq!(math("The solutions are $1$ and $2$."), Some("$1$ and $2$"));
        assert_eq!(math("Either $3$, $4$ or $5$."), Some("$3$, $4$ or $5$"));
        assert_eq!(math(r"\(1\), \(2\), and \(3\)"), Some(r"\(1\), \(2\), and \(3\)"));
        assert_eq!(math("So $1$, $2$, $3$"), Some("$1$, $2$, $3$"));
        assert_eq!(math("it is $5$, $5$"), Some("5"));
        assert_eq!(math("since $x > 0$, $x = 5$"), Some("x = 5"));
        assert_eq!(math("since $a = 1$ and $b = 2$, $c = 3$"), Some("c = 3"));
        assert_eq!(math("since $a = 1$ and $b = 2$, we get $c = 3$"), Some("c = 3"));
    }

    #[test]
    fn the_last_number_keeps_its_parts() {
        let number = |text: &'static str| last_number(text).map(|span| &text[span]);
        assert_eq!(number("from 3 to -1,234.5%."), Some("-1,234.5%"));
        assert_eq!(number("it is 3/4, yes"), Some("3/4"));
        assert_eq!(number("it is .5"), Some(".5"));
        assert_eq!(number("none"), None);
    }
}
