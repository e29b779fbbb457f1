//! The value in a sentence that says more than the value.

use std::ops::Range;

use super::math::Formula;
use crate::parse::units::is_measure;
use crate::parse::words;

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

/// Words that leave open, deny or change what is said.
const HEDGES: &[&str] = &[
    "or",
    "not",
    "nor",
    "neither",
    "either",
    "between",
    "least",
    "most",
    "less",
    "more",
    "greater",
    "fewer",
    "lower",
    "higher",
    "larger",
    "smaller",
    "above",
    "below",
    "under",
    "over",
    "than",
    "except",
    "plus",
    "minus",
    "unless",
    "without",
    "cannot",
    "never",
    "maybe",
    "perhaps",
    "possibly",
    "probably",
    "might",
    "may",
    "could",
    "but",
    "however",
    "wait",
    "wrong",
    "incorrect",
    "instead",
    "rather",
    "unknown",
    "unsure",
    "undefined",
    "impossible",
    "undetermined",
    "indeterminate",
    "twice",
    "double",
    "triple",
    "multiplied",
    "divided",
    "times",
    "until",
    "vs",
    "versus",
    "excluding",
    "nothing",
    "exceeds",
    "exceed",
    "almost",
    "nearly",
    "false",
    "mod",
    "modulo",
    "off",
    "short",
    "no",
    "from",
    "through",
    "up",
    "down",
    "guess",
    "guessed",
    "initially",
    "originally",
    "previously",
    "half",
    "third",
    "quarter",
];

/// Words right after a value that make another value of it.
const CHANGES: &[&str] = &[
    "hundred",
    "hundreds",
    "thousand",
    "thousands",
    "million",
    "millions",
    "billion",
    "billions",
    "trillion",
    "dozen",
    "dozens",
    "squared",
    "cubed",
    "factorial",
    "halves",
    "thirds",
    "quarters",
    "fourths",
    "fifths",
    "sixths",
    "eighths",
    "tenths",
    "hundredths",
    "thousandths",
    "percent",
    "choose",
    "to",
    "k",
    "bn",
    "is",
    "was",
    "are",
    "were",
    "would",
    "will",
    "can",
    "should",
    "has",
    "had",
    "does",
    "did",
    "seems",
    "looks",
    "degrees",
    "degree",
    "pm",
    "am",
    "out",
];

/// Words anywhere behind a value that add to it.
const NUMBERS: &[&str] = &[
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "half", "halves", "third", "thirds",
    "quarter", "quarters", "fourths", "fifths", "sixths", "eighths", "tenths", "hundred", "thousand", "million",
    "billion", "point",
];

/// Words right before a formula that say that it is not the value.
const PREPOSITIONS: &[&str] = &[
    "after", "before", "by", "to", "for", "within", "at", "from", "with", "on", "against", "toward", "towards",
    "beyond", "past", "into", "onto", "via", "as", "near", "of", "than", "until", "per", "through", "in", "outside",
    "inside", "like", "about",
];

/// Words before a value that make another value of it.
const OPERATIONS: &[&str] = &[
    "root",
    "roots",
    "square",
    "cube",
    "negative",
    "opposite",
    "reciprocal",
    "inverse",
    "sum",
    "difference",
    "product",
    "quotient",
    "power",
    "derivative",
    "integral",
    "logarithm",
    "log",
    "complement",
    "conjugate",
    "multiple",
    "multiples",
    "all",
    "any",
    "every",
    "no",
    "none",
    "ratio",
    "percent",
    "factorial",
    "hundred",
    "thousand",
    "million",
    "billion",
    "dozen",
    "if",
    "when",
    "undefined",
    "average",
    "mean",
    "odd",
    "loses",
    "lost",
    "loss",
    "owes",
    "even",
    "where",
    "minus",
    "only",
];

/// Words before a value that say nothing about it.
const FILLERS: &[&str] = &[
    "about",
    "approximately",
    "approx",
    "roughly",
    "around",
    "exactly",
    "precisely",
    "simply",
    "just",
    "therefore",
    "thus",
    "hence",
    "indeed",
    "clearly",
    "then",
    "now",
    "also",
    "equal",
    "equals",
    "to",
    "given",
    "by",
    "found",
    "be",
    "a",
    "an",
    "the",
    "total",
    "value",
    "number",
    "amount",
    "result",
    "of",
    "final",
    "correct",
    "is",
    "are",
    "obviously",
    "really",
    "it",
    "so",
    "we",
    "get",
    "there",
    "course",
    "point",
    "ordered",
    "pair",
    "interval",
    "coordinates",
    "vector",
    "polynomial",
    "integer",
    "set",
    "function",
    "equation",
    "fraction",
    "definitely",
    "again",
    "simplified",
    "expression",
    "answer",
    "actually",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }

    fn is_one_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.text.eq_ignore_ascii_case(word))
    }

    fn is_value(&self) -> bool {
        matches!(self.kind, Kind::Set | Kind::Plain)
    }
}

/// Whether a sentence leaves open, denies or changes what it says.
pub(super) fn is_hedged(sentence: &str) -> bool {
    sentence.split(|c: char| !(c.is_alphabetic() || matches!(c, '\'' | '’'))).any(is_hedge)
}

fn is_hedge(word: &str) -> bool {
    HEDGES.iter().any(|hedge| word.eq_ignore_ascii_case(hedge))
        || ["n't", "n’t"].iter().any(|ending| word.ends_with(ending))
}

/// Reads a piece. `sentence`: it comes from running text, where a final `!` is no factorial.
pub(super) fn read(piece: &str, sentence: bool) -> Reading {
    if piece.len() > LONGEST {
        return Reading::Prose;
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
        let is_filler = token.kind == Kind::Word && token.is_one_of(FILLERS) && is_well_placed(tokens, first);
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
        if next.is_one_of(CHANGES) {
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
    let after = |words: &[&str]| at > 0 && tokens[at - 1].is_one_of(words);
    match token.text {
        "of" if tokens.get(at + 1).is_some_and(|next| next.text == "course") => true,
        "of" => after(&["total", "value", "number", "amount", "result", "answer"]),
        "to" => after(&["equal", "equals", "found"]),
        "by" => after(&["given"]),
        "be" => after(&["to", "found"]),
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
            Kind::Word => clause || !token.is_one_of(NUMBERS),
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
        let is_safe = before.is_one_of(&["of", "to", "by"]) && is_well_placed(tokens, at - 1);
        before.text.ends_with("ing") || (before.is_one_of(PREPOSITIONS) && !is_safe && !before.is_one_of(&["about"]))
    });
    let changed = tokens[..at].iter().any(|token| token.is_one_of(OPERATIONS))
        || tokens.get(at + 1).is_some_and(|next| next.is_one_of(CHANGES));
    (alone && !of && !changed).then(|| found.start..found.end())
}

fn tokens(piece: &str) -> Vec<Token<'_>> {
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
        let Some(close) = super::matching_brace(rest, end + 1) else { break };
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
