//! Halves of the day in words: `a.m.`, `p.m.`, "in the evening".

use crate::expr::Half;

/// The length of `a.m.`, `p.m.`, `AM` and their kin at the start of a text.
pub(super) fn half_of_day(text: &str) -> Option<(Half, usize)> {
    let bytes = text.as_bytes();
    let half = match bytes.first()? {
        b'a' | b'A' => Half::Morning,
        b'p' | b'P' => Half::Afternoon,
        _ => return None,
    };
    let mut at = 1;
    let dotted = bytes.get(at) == Some(&b'.');
    at += usize::from(dotted);
    at += usize::from(dotted && bytes.get(at) == Some(&b' '));
    if !matches!(bytes.get(at), Some(b'm' | b'M')) {
        return None;
    }
    at += 1;
    at += usize::from(dotted && bytes.get(at) == Some(&b'.'));
    let runs_on = text[at..].starts_with(|c: char| c.is_alphanumeric() || matches!(c, '^' | '_'));
    (!runs_on).then_some((half, at))
}

/// Words for a part of the day at the start of a text, with their length.
const PARTS: [&str; 10] = [
    "in the morning",
    "in the afternoon",
    "in the evening",
    "in the night",
    "at night",
    "at noon",
    "at midnight",
    "tonight",
    "noon",
    "midnight",
];

/// The length of the words for a part of the day that a text begins with.
pub(super) fn part_of_day(text: &str) -> Option<usize> {
    if !text.starts_with(['i', 'a', 't', 'n', 'm']) {
        return None;
    }
    let length = PARTS.iter().find(|part| text.starts_with(**part))?.len();
    (!text[length..].starts_with(char::is_alphanumeric)).then_some(length)
}
