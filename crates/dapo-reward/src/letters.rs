//! Choice letters as answers: one of A to J, or several.

use crate::extract::is_hedged;
use crate::parse::unwrap;

/// The letters an answer names, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Letters(u16);

/// Which small letters stand for choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Small {
    /// None: `a` is a variable.
    Differ,
    /// One that stands alone.
    CountAlone,
    /// Each of several, too.
    Count,
}

/// How many letters are looked at; there are ten.
const MOST: usize = 10;

impl Letters {
    /// The letters of a gold answer: `C`, `(C)`, `C.`, `ABD`, `A, B, D`, `A and C`.
    pub(crate) fn of_gold(gold: &str) -> Option<Self> {
        match named(unwrap(gold), false) {
            Some(Named::All(letters)) => Some(letters),
            _ => None,
        }
    }

    /// The letter that a gold answer begins with: `C. …`, `(C) …`.
    pub(crate) fn of_label(gold: &str) -> Option<Self> {
        label(unwrap(gold)).filter(u8::is_ascii_uppercase).map(Self::one)
    }

    /// The letter of either case that an answer begins with.
    pub(crate) fn of_any_label(answer: &str) -> Option<Self> {
        label(unwrap(answer)).map(Self::one)
    }

    /// Whether a prediction names these letters; `None` where it names none.
    pub(crate) fn are_named_by(self, prediction: &str, small: Small) -> Option<bool> {
        let bare = unwrap(prediction);
        let any_case = small == Small::Count || (small == Small::CountAlone && self.count() == 1);
        let bare = stated(bare).unwrap_or(bare);
        // `\{A, C\}` is the set of the letters.
        let set = bare.strip_prefix("\\{").and_then(|rest| rest.strip_suffix("\\}")).filter(|_| self.count() > 1);
        match named(set.unwrap_or(bare), any_case) {
            Some(Named::All(letters)) => Some(letters == self),
            Some(Named::Either) => Some(false),
            None if self.count() == 1 => {
                let byte = label(bare).filter(|byte| byte.is_ascii_uppercase() || any_case)?;
                Some(Self::one(byte) == self)
            }
            None => None,
        }
    }

    /// The letters of what a choice was found to be.
    pub(crate) fn of_choice(found: &str) -> Option<Self> {
        match named(unwrap(found), true) {
            Some(Named::All(letters)) => Some(letters),
            _ => None,
        }
    }

    fn one(byte: u8) -> Self {
        Self(1 << (byte.to_ascii_uppercase() - b'A'))
    }

    fn count(self) -> u32 {
        self.0.count_ones()
    }
}

/// What follows "the correct option is" in the last sentence of a text, when that is all the sentence says.
fn stated(text: &str) -> Option<&str> {
    /// No such sentence is longer, in bytes.
    const LONGEST: usize = 64;
    const WORDS: [&str; 13] = [
        "so",
        "thus",
        "hence",
        "therefore",
        "the",
        "correct",
        "right",
        "best",
        "option",
        "choice",
        "letter",
        "answer",
        "is",
    ];
    let mut from = text.len().saturating_sub(LONGEST);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let line = &text[from..];
    let line = line.rsplit('\n').next().unwrap_or(line);
    let at = [" is ", " is: "].iter().filter_map(|verb| Some(line.rfind(verb)? + verb.len())).max()?;
    let (before, letter) = line.split_at(at);
    let sentence = before.rsplit(". ").next().unwrap_or(before);
    let words = || sentence.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    let is_plain = words().all(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
        && words().any(|word| matches!(word, "option" | "choice" | "letter" | "Option" | "Choice" | "Letter"));
    is_plain.then(|| letter.trim())
}

enum Named {
    All(Letters),
    /// "A or B".
    Either,
}

/// The letters that a text names and nothing else.
fn named(text: &str, any_case: bool) -> Option<Named> {
    if text.len() > 80 {
        return None;
    }
    let text = text.replace("\\text", " ").replace("\\quad", " ").replace("\\,", " ").replace(". ", " ");
    let text = text.trim_end_matches('.');
    let mut letters = Letters(0);
    let mut either = false;
    let mut separated = true;
    for word in text.split(|c: char| {
        matches!(c, ' ' | ',' | ';' | '/' | '&' | '(' | ')' | '{' | '}' | ':' | '$' | '*' | '、' | '，' | '[' | ']')
    }) {
        if word.is_empty() {
            continue;
        }
        if ["option", "choice", "letter", "answer"].iter().any(|noun| word.eq_ignore_ascii_case(noun)) {
            continue;
        }
        if word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or") {
            either |= word.eq_ignore_ascii_case("or");
            continue;
        }
        let small = any_case && word.len() == 1;
        for byte in word.bytes() {
            let is_letter = matches!(byte, b'A'..=b'J') || (small && matches!(byte, b'a'..=b'j'));
            if !is_letter || letters.0 & Letters::one(byte).0 != 0 {
                return None;
            }
            letters.0 |= Letters::one(byte).0;
        }
        separated &= word.len() == 1;
    }
    let count = letters.count() as usize;
    // `(A)(B)` is a product, `[A, B]` and `(A, B)` are no letters of choice.
    let is_structure = count > 1 && (text.contains(")(") || text.starts_with('[') || is_tuple(text));
    if count == 0 || count > MOST || is_structure {
        return None;
    }
    Some(if either && separated { Named::Either } else { Named::All(letters) })
}

/// Whether one pair of brackets holds all letters.
fn is_tuple(text: &str) -> bool {
    text.starts_with('(') && text.find(')') == Some(text.len() - 1)
}

/// The letter that labels an answer: `x. 4`, `x) 4`, `(x) 4`, `x: 4`, and `X - 4`.
fn label(text: &str) -> Option<u8> {
    let text = text.trim_start_matches("\\text").trim_start_matches("bf").trim_start_matches(['{', ' ']);
    let text = ["Option ", "option ", "Choice ", "choice ", "letter ", "Letter "]
        .iter()
        .find_map(|noun| text.strip_prefix(noun))
        .unwrap_or(text);
    let (bracketed, rest) = match text.strip_prefix('(') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let byte = *rest.as_bytes().first()?;
    if !matches!(byte.to_ascii_uppercase(), b'A'..=b'J') {
        return None;
    }
    let rest = &rest[1..];
    if !bracketed
        && byte.is_ascii_uppercase()
        && let Some(text) = [" (", " - ", " – ", " — "].iter().find_map(|mark| rest.strip_prefix(mark))
    {
        return labels(text).then_some(byte);
    }
    let rest = if bracketed { rest.strip_prefix(')')? } else { rest.strip_prefix(['.', ')', ':'])? };
    let stands_for = rest.trim_start_matches(['}', ':']).strip_prefix(' ')?.trim_start_matches(['}', ' ']);
    stands_for.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '$' | '\\' | '{' | '"')).then_some(byte)
}

/// Whether a letter before a dash or bracket labels what follows: `C - D` is a difference, `C (or D)` leaves it open.
fn labels(text: &str) -> bool {
    let word = text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
    let is_variable = word == text.chars().next().map_or(0, char::len_utf8) && word > 0;
    !is_variable && !is_hedged(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(gold: &str, prediction: &str) -> Option<bool> {
        Letters::of_gold(gold)?.are_named_by(prediction, Small::CountAlone)
    }

    #[test]
    fn one_letter_is_named_in_many_ways() {
        for prediction in [
            "C",
            "c",
            "(c)",
            "C.",
            "C)",
            "C - 12",
            "c. 12",
            "(C) 12",
            "\\text{C}",
            "\\textbf{(C)}",
            "**C**",
            "c) twelve",
            "The correct option is c.",
            "It is odd. So the correct choice is (C).",
        ] {
            assert_eq!(names("C", prediction), Some(true), "{prediction}");
        }
        for prediction in ["D", "d", "(d)", "D - 12", "d. 12", "C or D", "C, D", "CD"] {
            assert_eq!(names("C", prediction), Some(false), "{prediction}");
        }
        for prediction in [
            "",
            "12",
            "car",
            "I doubt that the correct option is c",
            "The option is not c",
            "c - 12",
            "C + 1",
            "cd",
            "Cat",
            "c.d",
            "(a)(b)",
            "e.g. it",
        ] {
            assert_eq!(names("C", prediction), None, "{prediction}");
        }
    }

    #[test]
    fn several_letters_are_a_set() {
        for prediction in ["ABD", "A, B, D", "A, B and D", "BDA", "A,B,D", "\\text{A, B, D}", "(A), (B), (D)"] {
            assert_eq!(names("ABD", prediction), Some(true), "{prediction}");
        }
        for prediction in ["ABC", "A, B", "A, B, C, D", "A", "A, B or D"] {
            assert_eq!(names("ABD", prediction), Some(false), "{prediction}");
        }
        assert_eq!(names("ABD", "a, b, d"), None);
        assert_eq!(names("A and C", "AC"), Some(true));
        assert_eq!(Letters::of_gold("ABD").and_then(|gold| gold.are_named_by("a, b, d", Small::Count)), Some(true));
        for gold in ["AA", "K", "x", "12", "A or B", "(A)(B)", "bad", ""] {
            assert_eq!(Letters::of_gold(gold), None, "{gold}");
        }
    }

    #[test]
    fn labels_of_gold_answers_are_capitals() {
        assert!(Letters::of_label("C. {x \\mid-3<x<4}").is_some());
        assert!(Letters::of_label("(D) 12").is_some());
        assert!(Letters::of_label("e. g").is_none());
    }
}
