//! Pieces of LaTeX source: braces, names, and words laid bare.

/// The content of a braced group and where the group ends.
pub(crate) struct Braced<'a> {
    pub(crate) text: &'a str,
    pub(crate) end: usize,
}

/// The group that `source` begins with, after optional space.
pub(crate) fn braced(source: &str) -> Option<Braced<'_>> {
    let space = source.len() - source.trim_start().len();
    source[space..].strip_prefix('{')?;
    let start = space + 1;
    let end = crate::braces::matching_brace(source, start)?;
    Some(Braced { text: &source[start..end], end: end + 1 })
}

/// The letters that `source` begins with.
pub(crate) fn command_name(source: &str) -> &str {
    &source[..source.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(source.len())]
}

/// How many primes `\prime`, `{\prime\prime}` stands for at the start of `source`, and its length.
pub(crate) fn primes(source: &str) -> Option<(usize, usize)> {
    let is_braced = source.starts_with('{');
    let mut rest = &source[usize::from(is_braced)..];
    let mut marks = 0;
    while let Some(after) = rest.trim_start().strip_prefix("\\prime") {
        marks += 1;
        rest = after;
    }
    if is_braced {
        rest = rest.trim_start().strip_prefix('}')?;
    }
    (marks > 0).then_some((marks, source.len() - rest.len()))
}

/// The words of an answer for comparison as words: LaTeX wrappers, case, punctuation at the ends and runs of space do not
/// count. `None` where the source holds mathematics that words cannot express.
pub(crate) fn plain_words(source: &str) -> Option<String> {
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        match c {
            '\\' => {
                let name = command_name(&rest[1..]);
                if name.is_empty() {
                    let escaped = rest[1..].chars().next();
                    at += 1 + escaped.map_or(0, char::len_utf8);
                    match escaped {
                        Some(c @ ('%' | '$' | '&' | '#' | '_')) => out.push(c),
                        _ => out.push(' '),
                    }
                } else if super::words::is_text_command(name)
                    || super::words::is_font(name)
                    || super::words::is_spacing(name)
                {
                    at += 1 + name.len();
                    if super::words::is_spacing(name) {
                        out.push(' ');
                    }
                } else if matches!(name, "left" | "right") {
                    at += 1 + name.len();
                } else {
                    return None;
                }
            }
            '{' | '}' | '$' => at += 1,
            '^' | '=' | '<' | '>' => return None,
            _ if c.is_control() && !c.is_whitespace() => return None,
            _ => {
                if c.is_whitespace() || c == '~' {
                    out.push(' ');
                } else {
                    out.extend(c.to_lowercase());
                }
                at += c.len_utf8();
            }
        }
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    let joined = words.join(" ");
    let trimmed = joined
        .trim_matches(|c: char| matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '"' | '\'' | '`' | '“' | '”' | ' '));
    let trimmed = strip_parentheses(trimmed);
    trimmed.chars().any(char::is_alphanumeric).then(|| trimmed.to_owned())
}

fn strip_parentheses(text: &str) -> &str {
    text.strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .filter(|inner| !inner.contains(['(', ')']))
        .map_or(text, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_and_case_do_not_count() {
        let words = |source| plain_words(source).unwrap_or_default();
        assert_eq!(words(r"\text{Evelyn}"), "evelyn");
        assert_eq!(words(r"\textbf{(B)} "), "b");
        assert_eq!(words(r"No \text{ solution}."), "no solution");
        assert_eq!(words(r"\mathrm{East}"), "east");
        assert_eq!(plain_words(r"\frac{1}{2}"), None);
        assert_eq!(plain_words("..."), None);
    }

    #[test]
    fn groups_close_at_their_own_brace() {
        let group = braced(" {a{b}c} d").unwrap();
        assert_eq!((group.text, group.end), ("a{b}c", 8));
        assert!(braced("{a").is_none());
    }
}
