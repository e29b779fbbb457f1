//! Answers as text: for those that cannot be read.

use std::borrow::Cow;

use crate::parse::words;

/// Longest answer that is compared as text, in bytes.
const MAX_BYTES: usize = 4_096;

/// An answer's text without what only sets it: wrappers, spacing, sizes of brackets and fractions, braces around one sign,
/// case of words. `None` where nothing is left, or the text is too long.
pub(crate) fn canonical_text(source: &str) -> Option<String> {
    if source.len() > MAX_BYTES {
        return None;
    }
    let source = crate::parse::unwrap(source);
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        at += match c {
            '\\' => command(rest, &mut out),
            _ if c.is_whitespace() || matches!(c, '~' | '$' | '\u{200b}' | '\u{feff}') => c.len_utf8(),
            '{' => {
                let sign = one_sign(rest);
                out.push(sign.unwrap_or('{'));
                sign.map_or(1, |sign| 2 + sign.len_utf8())
            }
            _ if c.is_ascii_alphabetic() => word(rest, &mut out),
            _ => {
                out.push_str(&plain(c));
                c.len_utf8()
            }
        };
    }
    while out.ends_with(['.', ',', ';', '。']) {
        out.pop();
    }
    (!out.is_empty()).then_some(out)
}

/// Writes the command that `rest` begins with; returns its length.
fn command(rest: &str, out: &mut String) -> usize {
    let name = &rest[1..];
    let name = &name[..name.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(name.len())];
    if name.is_empty() {
        let Some(sign) = rest[1..].chars().next() else { return 1 };
        if !matches!(sign, '!' | ',' | ';' | ':' | ' ') {
            out.push('\\');
            out.push(sign);
        }
        return 1 + sign.len_utf8();
    }
    let length = 1 + name.len();
    if matches!(name, "left" | "right") || words::is_spacing(name) {
        return length;
    }
    if words::is_text_command(name) || words::is_font(name) {
        // The group's words stay, its braces go.
        if let Some(group) = rest[length..].strip_prefix('{')
            && let Some(end) = crate::braces::matching_brace(group, 0)
        {
            let mut at = 0;
            while let Some(c) = group[at..end].chars().next() {
                at += match c {
                    '\\' => command(&group[at..end], out),
                    _ if c.is_whitespace() || c == '~' => c.len_utf8(),
                    _ if c.is_ascii_alphabetic() => word(&group[at..end], out),
                    _ => {
                        out.push_str(&plain(c));
                        c.len_utf8()
                    }
                };
            }
            return length + end + 2;
        }
        return length;
    }
    out.push('\\');
    out.push_str(words::canonical_command(name));
    // A letter after a command must stay apart from it.
    if rest[length..].starts_with(' ') && rest[length..].trim_start().starts_with(|c: char| c.is_ascii_alphabetic()) {
        out.push(' ');
    }
    length
}

/// Writes the letters that `rest` begins with; words lose their case.
fn word(rest: &str, out: &mut String) -> usize {
    let word = &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())];
    let lower = word.to_ascii_lowercase();
    let is_word = (word.len() >= 3 && !words::is_letters(word)) || word.len() >= 4 || words::is_short_word(&lower);
    out.push_str(if is_word { &lower } else { word });
    word.len()
}

fn one_sign(rest: &str) -> Option<char> {
    let mut chars = rest[1..].chars();
    let sign = chars.next().filter(|c| c.is_alphanumeric())?;
    (chars.next() == Some('}')).then_some(sign)
}

/// One way to write signs that mean the same.
fn plain(c: char) -> Cow<'static, str> {
    const CIRCLED: &str = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳";
    if let Some(number) = CIRCLED.chars().position(|circled| circled == c) {
        let number = (number + 1).to_string();
        return Cow::Owned(if number.len() == 1 {
            format!("\\textcircled{number}")
        } else {
            format!("\\textcircled{{{number}}}")
        });
    }
    Cow::Borrowed(match c {
        '−' | '－' => "-",
        '，' => ",",
        '；' => ";",
        '：' => ":",
        '（' => "(",
        '）' => ")",
        '∣' | '｜' => "|",
        '≤' => "\\le",
        '≥' => "\\ge",
        '≠' => "\\ne",
        '∈' => "\\in",
        '’' => "'",
        _ => return Cow::Owned(c.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> bool {
        canonical_text(one) == canonical_text(other)
    }

    #[test]
    fn typesetting_does_not_count() {
        for (one, other) in [
            (r"\sum_{k=1}^{30}2^{k-1}", r"$\sum_{k=1}^{30} 2^{k - 1}$"),
            (r"\left\{x|x=3k,\,k\in \mathbb{Z}\right\}", r"\{x|x=3k, k\in\mathbb{Z}\}"),
            (r"\dfrac{\mathrm{gb}}{f}", r"\frac{gb}{f}"),
            ("①③④", r"\textcircled{1}\textcircled{3}\textcircled{4}"),
            (r"\boxed{a_{1}}", "a_1"),
            ("No Solution", r"\text{no solution}."),
            (r"k\leqslant 5 \Rightarrow", r"k \le 5\Rightarrow"),
        ] {
            assert!(alike(one, other), "{one} {other}: {:?} {:?}", canonical_text(one), canonical_text(other));
        }
    }

    #[test]
    fn every_sign_and_letter_counts() {
        for (one, other) in [
            (r"\sum_{k=1}^{30}2^{k-1}", r"\sum_{k=1}^{30}2^{k+1}"),
            (r"\sum_{k=1}^{30}2^{k-1}", r"\sum_{k=1}^{31}2^{k-1}"),
            ("①③④", "①③"),
            ("①", "②"),
            ("aB", "Ab"),
            (r"\{x|x=3k\}", r"\{x|x=3n\}"),
            ("x^{12}", "x^12"),
            (r"\in x", r"\inx"),
        ] {
            assert!(!alike(one, other), "{one} {other}");
        }
        assert_eq!(canonical_text(" $$ "), None);
        assert_eq!(canonical_text("\\"), None);
    }
}
