//! The published normalisation, rule by rule.

use super::digits::is_digit;

const REPLACED: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

const DELETED: [&str; 40] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
];

/// The published normalisation of one answer.
///
/// # Example
/// ```
/// use dapo_reward::dapo_normalize;
///
/// assert_eq!(dapo_normalize("x = $1,234$ dollars"), "1234");
/// assert_eq!(dapo_normalize(r"\frac12"), r"\frac{1}{2}");
/// assert_eq!(dapo_normalize(r"\text{(B)}"), "(B)");
/// ```
pub fn dapo_normalize(answer: &str) -> String {
    let mut text = answer.rsplit('=').next().unwrap_or_default().to_owned();
    for (from, to) in REPLACED {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    for word in DELETED.into_iter().chain(["\\dots"]) {
        if text.contains(word) {
            text = text.replace(word, "");
        }
    }
    text = keep_first_math(&text);
    for command in ["\\text{", "\\textbf{", "\\overline{"] {
        text = unwrap(&text, command, str::find);
    }
    text = unwrap(&text, "\\boxed{", str::rfind);
    text = brace_frac(&text);
    text = brace_sqrt(&text);
    text = text.replace('$', "");
    let without_commas = text.replace(',', "");
    if !without_commas.is_empty() && without_commas.chars().all(is_digit) {
        text = without_commas;
    }
    text.trim_matches(is_space).to_owned()
}

/// White space as Python sees it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// On every line with two dollars: what stands between the first two, with its dollars.
fn keep_first_math(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let mut pieces = line.splitn(3, '$');
        match (pieces.next(), pieces.next(), pieces.next()) {
            (Some(_), Some(math), Some(_)) => format!("${math}$"),
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Replaces every `open … }` on one line by its content; `close` finds the closing brace.
fn unwrap(text: &str, open: &str, close: impl Fn(&str, char) -> Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(open) {
        let content = &rest[at + open.len()..];
        let line = &content[..content.find('\n').unwrap_or(content.len())];
        out.push_str(&rest[..at]);
        if let Some(end) = close(line, '}') {
            out.push_str(&content[..end]);
            rest = &content[end + 1..];
        } else {
            out.push_str(open);
            rest = content;
        }
    }
    out + rest
}

/// `fracab` → `frac{a}{b}`, where `a` is no brace and `b` no newline.
fn brace_frac(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("frac") {
        out.push_str(&rest[..at + 4]);
        rest = &rest[at + 4..];
        let mut chars = rest.chars();
        if let (Some(a), Some(b)) = (chars.next(), chars.next())
            && a != '{'
            && b != '\n'
        {
            out.extend(['{', a, '}', '{', b, '}']);
            rest = chars.as_str();
        }
    }
    out + rest
}

/// `sqrta` → `sqrt{a}`, where `a` is no brace.
fn brace_sqrt(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("sqrt") {
        out.push_str(&rest[..at + 4]);
        rest = &rest[at + 4..];
        let mut chars = rest.chars();
        if let Some(a) = chars.next()
            && a != '{'
        {
            out.extend(['{', a, '}']);
            rest = chars.as_str();
        }
    }
    out + rest
}
