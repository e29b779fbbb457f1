//! A formula in delimiters, told from what stands between two amounts of money.

use std::ops::Range;

/// A formula with its delimiters, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Formula {
    pub(super) whole: Range<usize>,
    pub(super) content: Range<usize>,
    /// Whether a dollar sign of money stands behind it.
    pub(super) after_money: bool,
}

impl Formula {
    /// The formula that `text` begins with.
    pub(super) fn at(text: &str) -> Option<Self> {
        const PAIRS: [(&str, &str); 4] = [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")];
        let (open, close) = PAIRS.into_iter().find(|(open, _)| text.starts_with(open))?;
        let end = open.len() + text[open.len()..].find(close)?;
        let content = open.len()..end;
        let whole = 0..end + close.len();
        let digit_follows = text[whole.end..].starts_with(|c: char| c.is_ascii_digit());
        let is_money = close == "$" && is_between_amounts(&text[content.clone()], digit_follows);
        (!is_money && !content.is_empty()).then_some(Self { whole, content, after_money: false })
    }
}

/// Whether what stands between two dollar signs is what stands between two amounts: `200,000 - `, `5 each and pays `.
///
/// `digit_follows`: whether a digit follows the second sign.
pub(super) fn is_between_amounts(content: &str, digit_follows: bool) -> bool {
    let begins_with_amount = content.starts_with(|c: char| c.is_ascii_digit());
    let follows_amount = digit_follows && content.starts_with([' ', '.', ',']);
    if !(begins_with_amount || follows_amount) {
        return false;
    }
    let bare = content.trim_end_matches(['*', ' ', '\n']);
    // `$2 hours$`: between two amounts, the words run up to the second sign with a space.
    let is_closed = bare.len() == content.len() && !digit_follows && bare.ends_with(|c: char| c.is_alphanumeric());
    let ends_open = bare.ends_with(['=', '+', '-', '−', '×', '÷', '/', '(', ':'])
        || (content.len() > bare.len() && content[bare.len()..].starts_with('*'))
        || (digit_follows && bare.ends_with([',', ';']));
    ends_open || (!is_closed && has_prose(content))
}

/// Whether words stand in a text that are not within a command's group.
fn has_prose(content: &str) -> bool {
    if content.contains("\\text") || content.contains("\\mathrm") {
        return false;
    }
    let mut spaced_words = content.split(|c: char| c.is_whitespace() || matches!(c, '.' | ',' | ';' | '(' | ')' | '*'));
    spaced_words.any(|word| {
        word.len() >= 2
            && word.bytes().all(|byte| byte.is_ascii_alphabetic())
            && word.bytes().any(|byte| b"aeiouy".contains(&byte))
            && !matches!(word, "pi" | "sin" | "cos" | "tan" | "mod" | "min" | "max" | "gcd" | "lcm" | "ln" | "log")
    })
}
