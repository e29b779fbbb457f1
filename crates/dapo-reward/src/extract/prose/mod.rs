//! The value in a sentence that says more than the value.

mod chinese;
mod tokens;
mod vocabulary;

use std::ops::Range;

use tokens::{Kind, Token, tokens};
use vocabulary::{CHANGES, FILLERS, HEDGES, NUMBERS, OPERATIONS, PREPOSITIONS, holds};

use crate::parse::units::is_measure;

/// What a piece of text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// To be read as it stands.
    Whole,
    /// A sentence around one value, which stands here.
    Value(Range<usize>),
    /// Words with no value that could be told from them.
    Prose,
}

/// Longest sentence looked into, in bytes.
const LONGEST: usize = 600;

/// Whether a sentence leaves open, denies or changes what it says.
pub(crate) fn is_hedged(sentence: &str) -> bool {
    sentence.split(|c: char| !(c.is_alphabetic() || matches!(c, '\'' | '’'))).any(is_hedge)
}

/// Whether the word that a text behind a value begins with makes another value of it.
pub(super) fn changes(text: &str) -> bool {
    holds(CHANGES, text.split(|c: char| !c.is_alphabetic()).next().unwrap_or(""))
}

fn is_hedge(word: &str) -> bool {
    if word.len() < 2 {
        return false;
    }
    holds(HEDGES, word) || ["n't", "n’t"].iter().any(|ending| word.ends_with(ending))
}

/// Reads a piece. `sentence`: it comes from running text, where a final `!` is no factorial.
pub(super) fn read(piece: &str, sentence: bool) -> Reading {
    if piece.len() > LONGEST {
        return Reading::Prose;
    }
    if let Some(value) = chinese::only_value(piece) {
        return Reading::Value(value);
    }
    let mut tokens = tokens(piece);
    while let Some(last) = tokens.last() {
        let spaced = piece[..last.start].ends_with(' ');
        let is_mark = match last.kind {
            Kind::Mark => {
                last.text != "!" || sentence || spaced || tokens.len() < 2 || tokens[tokens.len() - 2].kind == Kind::Set
            }
            _ => false,
        };
        if !is_mark {
            break;
        }
        tokens.pop();
    }
    let end = tokens.last().map_or(0, Token::end);
    let words = tokens.iter().filter(|token| token.kind == Kind::Word).count();
    if words == 0 {
        let has_mark = end < piece.trim_end().len() && end > 0 && !tokens.iter().any(|token| token.kind == Kind::Mark);
        return if has_mark { Reading::Value(0..end) } else { Reading::Whole };
    }
    let hedges = |token: &Token<'_>| is_hedge(token.text) || (token.text.starts_with("**") && is_hedged(token.text));
    if tokens.iter().any(hedges) {
        return Reading::Whole;
    }
    let found = leading(&tokens).or_else(|| only_set(&tokens));
    match found {
        Some(span) if span == (0..end) => Reading::Whole,
        Some(span) => Reading::Value(span),
        None if words >= 4 => Reading::Prose,
        None => Reading::Whole,
    }
}

/// The value that a sentence begins with.
fn leading(tokens: &[Token<'_>]) -> Option<Range<usize>> {
    let mut first = 0;
    while let Some(token) = tokens.get(first) {
        let is_filler = token.kind == Kind::Word && token.is_in(FILLERS) && is_well_placed(tokens, first);
        let is_pause = (first > 0 && token.text == ":") || token.kind == Kind::Comma;
        if !(is_filler || is_pause) {
            break;
        }
        first += 1;
    }
    let mut end = first;
    while let Some(token) = tokens.get(end) {
        let next = tokens.get(end + 1);
        let continues = match token.kind {
            Kind::Set | Kind::Plain => true,
            Kind::Comma | Kind::And => next.is_some_and(|next| next.is_value() || next.kind == Kind::And),
            _ => false,
        };
        if !continues {
            break;
        }
        end += 1;
    }
    let value = tokens.get(first..end).filter(|value| !value.is_empty())?;
    let tail = tokens.get(end..).unwrap_or_default();
    let (from, to) = (value.first()?, value.last()?);
    if !is_complete(value) {
        return None;
    }
    let Some(next) = tail.first() else { return Some(from.start..to.end()) };
    // "A" and "I" before a word are words.
    let is_word = value.len() == 1 && matches!(to.text, "A" | "I" | "a" | "i");
    if is_word && next.kind == Kind::Word {
        return None;
    }
    if next.kind == Kind::Word {
        if next.is_in(CHANGES) {
            return None;
        }
        let units = tail.iter().take_while(|token| token.kind == Kind::Word && is_unit(token.text)).count();
        let rest = &tail[units..];
        if units > 0 {
            let unit = &tail[units - 1];
            return says_no_more(rest).then_some(from.start..unit.end());
        }
    }
    says_no_more(tail).then_some(from.start..to.end())
}

/// Whether a filler stands where it says nothing: `of` only after an amount, `to` after "equal", `by` after "given".
fn is_well_placed(tokens: &[Token<'_>], at: usize) -> bool {
    let token = &tokens[at];
    let after = |words: &str| at > 0 && tokens[at - 1].is_in(words);
    match token.text {
        "of" if tokens.get(at + 1).is_some_and(|next| next.text == "course") => true,
        "of" => after("total value number amount result answer"),
        "to" => after("equal equals found"),
        "by" => after("given"),
        // "only 48", not "only 48 is left out".
        "only" => tokens[at + 1..].iter().all(|token| token.is_value() || token.kind == Kind::Mark),
        "be" => after("to found"),
        _ => true,
    }
}

fn is_unit(word: &str) -> bool {
    is_measure(word) || matches!(word, "per" | "squared" | "cubed")
}

/// Whether the rest of a sentence holds no other value.
fn says_no_more(tail: &[Token<'_>]) -> bool {
    let mut clause = false;
    tail.iter().enumerate().all(|(at, token)| {
        let next_is_value = tail.get(at + 1).is_some_and(Token::is_value);
        match token.kind {
            Kind::Comma | Kind::And => {
                clause |= token.kind == Kind::Comma;
                !next_is_value
            }
            Kind::Break | Kind::Aside => {
                clause = true;
                true
            }
            Kind::Set | Kind::Plain => clause,
            Kind::Word => clause || !token.is_in(NUMBERS),
            Kind::Mark => true,
        }
    })
}

/// Whether a value ends where values end.
fn is_complete(value: &[Token<'_>]) -> bool {
    let (Some(first), Some(last)) = (value.first(), value.last()) else { return false };
    let open = |c: char| matches!(c, '=' | '+' | '-' | '*' | '/' | '^' | '_' | '(' | '[' | '<' | '>' | '\\');
    let plain = value.iter().filter(|token| token.kind == Kind::Plain);
    let depth = plain.flat_map(|token| token.text.bytes()).try_fold(0_i32, |depth, byte| match byte {
        b'(' | b'[' | b'{' => Some(depth + 1),
        b')' | b']' | b'}' => (depth > 0).then(|| depth - 1),
        _ => Some(depth),
    });
    last.is_value()
        && !(last.kind == Kind::Plain && last.text.ends_with(open))
        && !(first.kind == Kind::Plain && first.text.starts_with(['=', '*', '/', '^', '<', '>', ')', ']']))
        && value.iter().any(|token| token.text.contains(|c: char| c.is_alphanumeric()))
        && depth.is_some_and(|depth| depth == 0 || value.iter().any(|token| token.text.contains(['[', ']'])))
}

/// The one formula, or the one thing in bold, of a sentence that holds no other value.
fn only_set(tokens: &[Token<'_>]) -> Option<Range<usize>> {
    let is_amount = |token: &Token<'_>| {
        let digits = token.text.strip_prefix("$").unwrap_or("");
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.'))
    };
    let is_set = |token: &Token<'_>| token.kind == Kind::Set || is_amount(token);
    let mut set = tokens.iter().enumerate().filter(|(_, token)| is_set(token));
    let (at, found) = set.next()?;
    // A letter before it is a name: "the value of x is $5$".
    let is_name = |place: usize, token: &Token<'_>| {
        place < at && token.text.len() == 1 && token.text.starts_with(char::is_alphabetic)
    };
    let plain = tokens
        .iter()
        .enumerate()
        .any(|(place, token)| token.kind == Kind::Plain && !is_set(token) && !is_name(place, token));
    let alone = set.next().is_none() && !plain;
    let before = at.checked_sub(1).map(|before| &tokens[before]);
    let of = before.is_some_and(|before| {
        let is_safe = before.is_in("of to by") && is_well_placed(tokens, at - 1);
        before.text.ends_with("ing") || (before.is_in(PREPOSITIONS) && !is_safe && !before.is_in("about"))
    });
    let changed = tokens[..at].iter().any(|token| token.is_in(OPERATIONS))
        || tokens.get(at + 1).is_some_and(|next| next.is_in(CHANGES));
    (alone && !of && !changed).then(|| found.start..found.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(piece: &str) -> &str {
        match read(piece, true) {
            Reading::Value(span) => &piece[span],
            Reading::Whole => "whole",
            Reading::Prose => "prose",
        }
    }

    #[test]
    fn the_value_is_told_from_the_sentence_around_it() {
        for sentence in [
            "72 in total",
            "72, in total",
            "72 in all",
            "72 if all are counted",
            "about 72",
            "approximately 72",
            "exactly 72",
            "therefore 72",
            "given by 72",
            "72 and we are done",
            "72 — done",
            "72 - done",
            "72 😀",
            "72!",
            "a total of 72",
            "72 eggs per day",
            "72 (eggs)",
            "72, in total, and so on",
            "equal to 72",
            "72 as required",
            "72 ✅",
        ] {
            assert_eq!(value(sentence), "72", "{sentence}");
        }
        assert_eq!(value("$72$!"), "$72$");
        assert_eq!(value("the interval $[2,5)$"), "$[2,5)$");
        assert_eq!(value("**72** in total"), "**72**");
        assert_eq!(value("$x = 5$ as required"), "$x = 5$");
        assert_eq!(value("x = 5 as required"), "x = 5");
        assert_eq!(value("$3$ and $4$, respectively"), "$3$ and $4$");
        assert_eq!(value("72 square feet in total"), "72 square feet");
        assert_eq!(value("-1,234.5 in total"), "-1,234.5");
        assert_eq!(value("$5 in total"), "$5");
    }

    #[test]
    fn a_sentence_that_hedges_denies_or_changes_keeps_all_its_words() {
        for sentence in [
            "72 or 73",
            "not 72",
            "between 71 and 72",
            "less than 72",
            "at least 72",
            "72 million",
            "72 hundred",
            "72 or more",
            "72 is wrong",
            "5 to 6 hours",
            "72 dollars and 50 cents",
            "72 eggs, 73 birds",
            "72 squared meters maybe",
            "twice $36$",
            "the square root of $16$",
            "one more than $5$",
            "72% of 50",
            "I don't know",
            "A car moves",
            "5 times as many",
        ] {
            assert!(!matches!(read(sentence, true), Reading::Value(_)), "{sentence}: {}", value(sentence));
        }
    }

    #[test]
    fn values_alone_are_left_alone() {
        for piece in [
            "72",
            "x = 5",
            "\\frac{1}{2}",
            "3, 4 and 5",
            "x^2 + 1",
            "(1, 2)",
            "12 choose 3",
            "East",
            "no solution",
            "5 cm",
            "sin x",
            "",
            "72 dollars",
        ] {
            assert_eq!(value(piece), "whole", "{piece}");
        }
        assert_eq!(read("5!", false), Reading::Whole);
        assert_eq!(value("nothing can be said about it here"), "whole");
        assert_eq!(value("clear to all who read it"), "prose");
    }
}
