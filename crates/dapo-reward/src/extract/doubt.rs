//! Words around an announcement that take it back: denials before it, corrections behind it.

use std::ops::Range;

use super::lines::sentence_end;

/// Words between a denial and the announcing word.
const BETWEEN: [&str; 20] = [
    "the", "a", "an", "my", "our", "your", "this", "that", "final", "correct", "true", "case", "be", "think",
    "believe", "say", "says", "claim", "would", "could",
];

/// Words that deny an announcement, or make it a supposition or a question.
const DENIALS: [&str; 19] = [
    "not",
    "wrong",
    "incorrect",
    "false",
    "mistaken",
    "previous",
    "earlier",
    "old",
    "doubt",
    "nobody",
    "never",
    "whether",
    "if",
    "suppose",
    "supposing",
    "assume",
    "assuming",
    "imagine",
    "unless",
];

/// What opens a correction.
const OPENINGS: [&str; 11] =
    ["wait", "oops", "sorry", "correction", "actually", "however", "no,", "no wait", "hmm", "but ", "on reflection"];

/// What stands right before the corrected value.
const CORRECTIONS: [&str; 13] = [
    "should be ",
    "must be ",
    "i mean ",
    "i meant ",
    "correction: ",
    "correct answer is ",
    "correct value is ",
    "right answer is ",
    "right value is ",
    "correct one is ",
    "it's ",
    "it’s ",
    "it is ",
];

/// What says that an answer does not stand.
const REJECTIONS: [&str; 7] = [
    "that is wrong",
    "that's wrong",
    "this is wrong",
    "this is incorrect",
    "that is incorrect",
    "is not right",
    "that's not right",
];

/// Longest text behind an answer that is looked into, in bytes.
const LONGEST: usize = 600;

fn holds(list: &[&str], word: &str) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Whether the words before the announcing word, which begins at `at`, deny it or only suppose it: `wrong answer: 6`,
/// `I doubt that the answer is 6`, `suppose the answer is 6`.
pub(super) fn is_denied(text: &str, at: usize) -> bool {
    /// Words looked at.
    const WORDS: usize = 6;
    let first = at.saturating_sub(96);
    let ends = |byte: &u8| matches!(byte, b'.' | b'!' | b'?' | b';' | b'\n');
    let mut from = text.as_bytes()[first..at].iter().rposition(ends).map_or(first, |end| first + end + 1);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let sentence = text[from..at].trim_end();
    if !sentence.is_ascii() && ["错误", "不是", "错的"].iter().any(|denial| sentence.ends_with(denial)) {
        return true;
    }
    for word in sentence.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’'))).take(2 * WORDS) {
        if word.is_empty() || holds(&BETWEEN, word) {
            continue;
        }
        let negated = ["n't", "n’t"].iter().any(|ending| word.ends_with(ending));
        return negated || holds(&DENIALS, word);
    }
    false
}

/// What the text behind an answer makes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Afterthought {
    /// The answer stands.
    None,
    /// Another value takes its place, in this part of the text.
    Corrected(Range<usize>),
    /// The answer does not stand, and nothing takes its place.
    Rejected,
}

/// Reads what follows an answer that ends at `end`: `Wait, that is wrong. It should be 7.`
pub(super) fn afterthought(text: &str, end: usize) -> Afterthought {
    let tail = &text[end..];
    if tail.len() > LONGEST {
        return Afterthought::None;
    }
    if !tail.is_ascii()
        && let Some(at) = ["不对", "错了", "更正"].iter().filter_map(|mark| tail.find(mark)).min()
    {
        let after = |mark: &&str| Some(at + tail[at..].find(*mark)? + mark.len());
        let value = ["应该是", "应为", "正确答案是"].iter().filter_map(after).max();
        return value.map_or(Afterthought::Rejected, |value| corrected(text, end + value));
    }
    if !opens_a_correction(tail) {
        return Afterthought::None;
    }
    let lower = tail.to_ascii_lowercase();
    let value = CORRECTIONS.iter().filter_map(|mark| Some(lower.rfind(mark)? + mark.len())).max();
    // "It should be noted that" gives no value.
    if let Some(value) = value.filter(|value| begins_with_value(&tail[*value..])) {
        return corrected(text, end + value);
    }
    if REJECTIONS.iter().any(|words| lower.contains(words)) { Afterthought::Rejected } else { Afterthought::None }
}

/// Whether a sentence begins as a correction does.
fn opens_a_correction(tail: &str) -> bool {
    let bytes = tail.as_bytes();
    let mut begins = true;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(byte, b'.' | b'!' | b'?' | b'\n' | b'}' | b'$') {
            begins = true;
        } else if begins && byte.is_ascii_alphabetic() {
            begins = false;
            let opens = |opening: &&str| {
                bytes[at..].get(..opening.len()).is_some_and(|head| head.eq_ignore_ascii_case(opening.as_bytes()))
            };
            if OPENINGS.iter().any(opens) {
                return true;
            }
        }
    }
    false
}

fn corrected(text: &str, from: usize) -> Afterthought {
    let line_end = text[from..].find('\n').map_or(text.len(), |length| from + length);
    Afterthought::Corrected(from..from + sentence_end(&text[from..line_end]))
}

fn begins_with_value(text: &str) -> bool {
    let text = text.trim_start_matches(['*', '$', '(', ' ', '-']);
    let mut chars = text.chars();
    match chars.next() {
        Some(c) if c.is_ascii_digit() || c == '\\' => true,
        Some('A'..='J') => !chars.next().is_some_and(char::is_alphanumeric),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_and_supposed_announcements_are_told_from_plain_ones() {
        let denied = |text: &str| is_denied(text, text.to_lowercase().rfind("answer").unwrap_or(0));
        for text in [
            "Wrong answer",
            "An incorrect answer",
            "Not the answer",
            "My previous answer",
            "It is not true that the answer",
            "I doubt that the answer",
            "I don't think the answer",
            "Nobody would say the answer",
            "We want to check if the answer",
            "Suppose the answer",
            "Assume that the final answer",
        ] {
            assert!(denied(text), "{text}");
        }
        for text in [
            "The answer",
            "So the final answer",
            "I would say the answer",
            "If we add them, we see that the answer",
            "That was not easy. The answer",
            "This is wrong. The answer",
            "I think the correct answer",
        ] {
            assert!(!denied(text), "{text}");
        }
        assert!(is_denied("错误答案：36", "错误".len()) && !is_denied("所以答案：36", "所以".len()));
    }

    #[test]
    fn corrections_take_the_place_of_what_they_correct() {
        let value = |text: &'static str| match afterthought(text, 0) {
            Afterthought::Corrected(span) => text[span].trim(),
            Afterthought::Rejected => "rejected",
            Afterthought::None => "stands",
        };
        assert_eq!(value(". Wait, that is wrong. It should be 7."), "7");
        assert_eq!(value(". Actually, no. It's 7."), "7");
        assert_eq!(value("\n\nHowever, this is incorrect. The correct answer should be 7."), "7");
        assert_eq!(value(". Oops, I mean 7."), "7");
        assert_eq!(value(". Wait, C is wrong. The answer should be D."), "D");
        assert_eq!(value("\n\n不对，应该是37。"), "37");
        assert_eq!(value(". Wait, that is wrong."), "rejected");
        for text in [
            ". I hope it is correct.",
            ". Options A and B are incorrect.",
            ". Actually, this follows at once.",
            ". Wait, let me check: 2 + 4 = 6.",
            ". However, it should be noted that units matter.",
            " dollars in total.",
            "",
        ] {
            assert_eq!(value(text), "stands", "{text}");
        }
    }
}
