//! The pieces of a sentence: values, words, marks.

use super::vocabulary::holds;
use crate::extract::formula::Formula;
use crate::parse::words;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A formula in delimiters, or something in bold.
    Set,
    /// Digits, letters of formulas, commands, operators.
    Plain,
    /// A word of prose.
    Word,
    And,
    Comma,
    /// A semicolon, a colon, a dash between spaces.
    Break,
    /// An opening bracket before a word.
    Aside,
    /// Marks that say nothing: `!`, ✓, 😀.
    Mark,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether the token is a word of a list.
    pub(super) fn is_in(&self, list: &str) -> bool {
        holds(list, self.text)
    }

    pub(super) fn is_value(&self) -> bool {
        matches!(self.kind, Kind::Set | Kind::Plain)
    }
}

/// The tokens of a piece.
pub(super) fn tokens(piece: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut at = 0;
    while let Some(c) = piece[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (kind, length) = token(piece, at, c);
        let length = length.max(c.len_utf8());
        tokens.push(Token { kind, text: &piece[at..at + length], start: at });
        at += length;
    }
    tokens
}

fn token(piece: &str, at: usize, c: char) -> (Kind, usize) {
    let rest = &piece[at..];
    if let Some(length) = set_length(rest) {
        return (Kind::Set, length);
    }
    let spaced = piece[..at].ends_with(' ');
    let space_follows = || rest[c.len_utf8()..].starts_with(' ');
    match c {
        'i' | 'e' if rest.starts_with("i.e.") || rest.starts_with("e.g.") => (Kind::Word, 4),
        '\\' => (Kind::Plain, command_length(rest)),
        ',' | '，' | '、' if !rest[c.len_utf8()..].starts_with(|c: char| c.is_ascii_digit()) => {
            (Kind::Comma, c.len_utf8())
        }
        ';' | '；' => (Kind::Break, 1),
        ':' | '.' if space_follows() || rest.len() == 1 => (Kind::Break, 1),
        '—' | '–' if !rest[c.len_utf8()..].trim_start().starts_with(|c: char| c.is_ascii_digit()) => {
            (Kind::Break, c.len_utf8())
        }
        '-' if spaced && space_follows() && word_length(rest[1..].trim_start()) > 0 => (Kind::Break, 1),
        '(' if word_length(&rest[1..]) > 0 => (Kind::Aside, 1),
        // A factorial, unless the sentence ends there.
        '!' if piece[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '}'))
            && !rest.trim_matches(['!', ' ']).is_empty() =>
        {
            (Kind::Plain, 1)
        }
        '!' => (Kind::Mark, 1),
        '\'' | '"' if piece[..at].ends_with(char::is_alphabetic) && (space_follows() || rest.len() == 1) => {
            (Kind::Mark, 1)
        }
        _ if c.is_alphabetic() => {
            let length = word_length(rest);
            if length == 0 {
                return (Kind::Plain, letters_length(rest));
            }
            let word = &rest[..length];
            (if word.eq_ignore_ascii_case("and") { Kind::And } else { Kind::Word }, length)
        }
        _ if c.is_ascii() || c.is_numeric() || is_sign(c) => (Kind::Plain, plain_length(rest)),
        _ => (Kind::Mark, c.len_utf8()),
    }
}

/// Characters outside ASCII that belong to formulas and amounts.
fn is_sign(c: char) -> bool {
    matches!(
        c,
        '−' | '×'
            | '÷'
            | '·'
            | '±'
            | '√'
            | '∞'
            | '°'
            | '€'
            | '£'
            | '¥'
            | '₹'
            | '≤'
            | '≥'
            | '≠'
            | '≈'
            | '∪'
            | '∩'
            | '∈'
            | '（'
            | '）'
            | '％'
            | '′'
            | '″'
    )
}

/// The length of a formula in delimiters or of bold text.
fn set_length(rest: &str) -> Option<usize> {
    if let Some(inner) = rest.strip_prefix("**") {
        return Some(inner.find("**")? + 4).filter(|length| *length > 4);
    }
    let formula = Formula::at(rest)?;
    Some(formula.whole.end)
}

fn letters_length(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len())
}

/// The length of the word of prose that `rest` begins with; 0 where letters are mathematics.
fn word_length(rest: &str) -> usize {
    let length = rest.find(|c: char| !(c.is_alphabetic() || matches!(c, '\'' | '’' | '-'))).unwrap_or(rest.len());
    let word = rest[..length].trim_end_matches(['-', '\'', '’']);
    if word.eq_ignore_ascii_case("a") && rest[word.len()..].starts_with(' ') && word == "a" {
        return word.len();
    }
    let next = || rest[word.len()..].trim_start_matches(' ');
    if word == "I" && next().len() + word.len() < rest.len() && next().starts_with(|c: char| c.is_ascii_lowercase()) {
        return word.len();
    }
    if word.chars().count() < 2 || !word.is_ascii() {
        return 0;
    }
    if word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or") {
        return word.len();
    }
    let lower = word.to_ascii_lowercase();
    let is_letters = words::is_letters(word) && !words::is_short_word(&lower) && !is_common(&lower);
    if is_letters || (words::known(word).is_some() && !matches!(word, "times" | "degree")) { 0 } else { word.len() }
}

/// Short words that [`words::is_letters`] takes for letters.
fn is_common(word: &str) -> bool {
    matches!(
        word,
        "day"
            | "days"
            | "man"
            | "bay"
            | "may"
            | "by"
            | "my"
            | "why"
            | "try"
            | "cm"
            | "km"
            | "mm"
            | "kg"
            | "ft"
            | "mph"
            | "hrs"
            | "lbs"
            | "sq"
            | "vs"
            | "or"
            | "am"
            | "pm"
            | "do"
            | "be"
            | "ml"
            | "yd"
            | "yds"
            | "ms"
            | "can"
            | "has"
            | "was"
            | "and"
            | "all"
            | "any"
    )
}

/// A command with its groups.
fn command_length(rest: &str) -> usize {
    let name = rest[1..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |end| end + 1);
    let mut end = name.max(2).min(rest.len());
    while !rest.is_char_boundary(end) {
        end += 1;
    }
    while rest[end..].starts_with('{') {
        let Some(close) = crate::braces::matching_brace(rest, end + 1) else { break };
        end = close + 1;
    }
    end
}

/// Digits, signs and what stands between them without space.
fn plain_length(rest: &str) -> usize {
    let mut end = 0;
    for (at, c) in rest.char_indices() {
        let after = &rest[at + c.len_utf8()..];
        let inner = match c {
            ',' | '.' => after.starts_with(|c: char| c.is_ascii_digit()),
            ':' => !(after.is_empty() || after.starts_with(' ')),
            ';' | '!' | '\\' => false,
            _ => !c.is_whitespace() && !c.is_alphabetic() && (c.is_ascii() || c.is_numeric() || is_sign(c)),
        };
        if !inner || (at > 0 && (rest[at..].starts_with("**") || c == '$')) {
            break;
        }
        end = at + c.len_utf8();
    }
    end
}
