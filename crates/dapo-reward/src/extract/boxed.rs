//! The last `\boxed{…}` whose braces balance.

use std::ops::Range;

const NAMES: [&str; 2] = ["boxed{", "fbox{"];

pub(super) fn last(text: &str) -> Option<Range<usize>> {
    let start = NAMES.iter().filter_map(|name| last_open(text, name)).max()?;
    let end = matching_brace(text, start);
    match end {
        Some(end) => Some(start..end),
        None => last_balanced(text),
    }
}

/// Where the content of the last `\name{` begins.
fn last_open(text: &str, name: &str) -> Option<usize> {
    text.rmatch_indices(name).find(|&(at, _)| text[..at].ends_with('\\')).map(|(at, _)| at + name.len())
}

/// The brace that closes content beginning at `start`; escaped braces do not count.
pub(crate) fn matching_brace(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// One pass with a stack of open braces, for texts whose last box is cut off.
fn last_balanced(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut last: Option<Range<usize>> = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => {
                let name = NAMES.iter().find(|name| bytes[at + 1..].starts_with(name.as_bytes()));
                if let Some(name) = name {
                    at += name.len();
                    open.push((at + 1, true));
                } else {
                    at += 1;
                }
            }
            b'{' => open.push((at + 1, false)),
            b'}' => {
                if let Some((start, true)) = open.pop()
                    && last.as_ref().is_none_or(|last| last.start < start)
                {
                    last = Some(start..at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Option<&str> {
        last(text).map(|span| &text[span])
    }

    #[test]
    fn braces_inside_the_box_balance() {
        assert_eq!(content(r"\boxed{\frac{1}{2}}"), Some(r"\frac{1}{2}"));
        assert_eq!(content(r"\boxed{\{1, 2\}} done"), Some(r"\{1, 2\}"));
        assert_eq!(content(r"\boxed{\left\{ 1 \right.} x}"), Some(r"\left\{ 1 \right."));
        assert_eq!(content(r"\fbox{3}"), Some("3"));
        assert_eq!(content(r"\\boxed{3}"), Some("3"));
        assert_eq!(content("boxed{3}"), None);
    }

    #[test]
    fn a_box_cut_off_falls_back_to_the_last_whole_one() {
        assert_eq!(content(r"\boxed{1} then \boxed{2 and"), Some("1"));
        assert_eq!(content(r"\boxed{1 \boxed{2} and"), Some("2"));
        assert_eq!(content(r"\boxed{"), None);
    }

    #[test]
    fn many_open_boxes_take_linear_time() {
        assert_eq!(content(&"\\boxed{".repeat(200_000)), None);
    }
}
