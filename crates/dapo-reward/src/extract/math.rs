//! The last formula and the last number of a text.

use std::ops::Range;

/// The content of the last `$…$`, `$$…$$`, `\(…\)` or `\[…\]`.
pub(super) fn last_math(text: &str) -> Option<Range<usize>> {
    let dollars = last_dollars(text);
    let round = last_pair(text, "\\(", "\\)");
    let square = last_pair(text, "\\[", "\\]");
    [dollars, round, square].into_iter().flatten().max_by_key(|span| span.end)
}

fn last_pair(text: &str, open: &str, close: &str) -> Option<Range<usize>> {
    let end = text.rfind(close)?;
    let start = text[..end].rfind(open)? + open.len();
    Some(start..end)
}

fn last_dollars(text: &str) -> Option<Range<usize>> {
    let mut end = previous_dollar(text, text.len())?;
    while text[..end].ends_with('$') {
        end -= 1;
    }
    let start = previous_dollar(text, end)? + 1;
    Some(start..end)
}

/// The last `$` before `end` that no backslash escapes.
fn previous_dollar(text: &str, end: usize) -> Option<usize> {
    text[..end].rmatch_indices('$').map(|(at, _)| at).find(|&at| !text[..at].ends_with('\\'))
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
        assert_eq!(math(r"it costs \$5"), None);
        assert_eq!(math("costs $5"), None);
        assert_eq!(math("$$"), None);
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
