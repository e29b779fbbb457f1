//! The last `\boxed{…}` whose braces balance.

use std::borrow::Cow;
use std::ops::Range;

use super::announce::announces_no_more;
use super::doubt::{self, Afterthought};
use super::joined;
use super::lines::rfind;
use crate::braces::matching_brace;

/// In a shorter text, asking whether it holds a word costs as much as looking for it.
const SHORT: usize = 128;

const NAMES: [&str; 2] = ["boxed{", "fbox{"];

/// A box: what it holds, and all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) content: Range<usize>,
    pub(super) whole: Range<usize>,
}

/// Longest text after a box that is looked through for signs of another announcement, in bytes.
pub(super) const LONGEST_END: usize = 256;

/// The integer in a box outside a list, where nothing after it can announce another answer. What is found is what
/// all rules together find, sooner.
pub(super) fn only_number(text: &str) -> Option<Range<usize>> {
    const OPEN: &[u8] = b"\\boxed{";
    const MOST_DIGITS: usize = 18;
    let bytes = text.as_bytes();
    let mut end = bytes.len();
    loop {
        end = end.checked_sub(1)?;
        let byte = bytes[end];
        if byte == b'}' {
            break;
        }
        if !announces_no_more(byte) || byte == b'\\' || bytes.len() - end > LONGEST_END {
            return None;
        }
    }
    let before = &bytes[..end];
    let digits = before.iter().rev().take(MOST_DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    let start = end - digits;
    let before = before[..start].strip_suffix(OPEN)?;
    let gap = &before[before.len().saturating_sub(joined::LONGEST_GAP)..];
    // A brace may close another box of a list; an angle bracket may open a mark or a thought.
    let is_plain = digits > 0 && !gap.contains(&b'}') && !text.contains('<');
    (is_plain && doubt::afterthought(text, end + 1) == Afterthought::None).then_some(start..end)
}

/// The last box; boxes joined by nothing but separators are one list.
pub(super) fn last(text: &str) -> Option<Found> {
    if text.len() > SHORT && !text.contains("box") {
        return None;
    }
    let command = last_command(text);
    // Only a pair behind the box comes after it.
    let from = command.as_ref().map_or(0, |command| command.whole.start);
    last_pair(text, from).or_else(|| command.map(|command| list(text, command)))
}

fn last_command(text: &str) -> Option<Found> {
    let start = NAMES.iter().fold(None, |last, name| {
        let from = last.unwrap_or(0);
        last_open(&text[from..], name).map(|at| from + at).or(last)
    });
    let bare = last_bare(text, start.unwrap_or(0));
    if bare.is_some() {
        return bare;
    }
    let start = start?;
    let content = match matching_brace(text, start) {
        Some(end) => start..end,
        None => last_balanced(text)?,
    };
    Some(braced(text, content))
}

fn braced(text: &str, content: Range<usize>) -> Found {
    let start = text[..content.start].rfind('\\').unwrap_or(content.start);
    Found { whole: start..content.end + 1, content }
}

/// `\boxed 5`: what follows up to the end of the formula, else the next word.
fn last_bare(text: &str, from: usize) -> Option<Found> {
    const NAME: &str = "\\boxed ";
    let start = from + rfind(&text[from..], NAME)?;
    let content = start + NAME.len();
    let rest = &text[content..];
    let blank = rest.len() - rest.trim_start_matches(' ').len();
    if rest[blank..].starts_with('{') {
        let open = content + blank + 1;
        return matching_brace(text, open).map(|end| Found { content: open..end, whole: start..end + 1 });
    }
    let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
    let formula = ["$", "\\)", "\\]"].iter().filter_map(|close| line.find(close)).min();
    let word = || line[blank..].find(char::is_whitespace).map_or(line.len(), |end| blank + end);
    let end = content + formula.unwrap_or_else(word);
    Some(Found { content: content..end, whole: start..end })
}

/// `<|begin_of_box|>…<|end_of_box|>`.
fn last_pair(text: &str, from: usize) -> Option<Found> {
    const OPEN: &str = "<|begin_of_box|>";
    const CLOSE: &str = "<|end_of_box|>";
    let start = from + rfind(&text[from..], OPEN)?;
    let content = start + OPEN.len();
    let end = text[content..].find(CLOSE).map_or(text.len(), |end| content + end);
    Some(Found { content: content..end, whole: start..(end + CLOSE.len()).min(text.len()) })
}

/// The list that ends with a box.
fn list(text: &str, last: Found) -> Found {
    /// More boxes than this are no list that anyone writes.
    const MOST: usize = 32;
    let mut first = last.whole.start;
    let mut all_alike = true;
    for _ in 0..MOST {
        let Some(end) = joined_before(text, first) else { break };
        let open = NAMES.iter().filter_map(|name| last_open(&text[..end], name)).max();
        let Some(content) = open.filter(|open| matching_brace(&text[..=end], *open) == Some(end)) else { break };
        all_alike &= text[content..end] == text[last.content.clone()];
        first = braced(text, content..end).whole.start;
    }
    if first == last.whole.start || all_alike {
        return last;
    }
    let start = first - joined::label_before(&text[floor(text, first)..first]);
    Found { content: start..last.whole.end, whole: start..last.whole.end }
}

/// The closing brace that nothing but separators part from `start`.
fn joined_before(text: &str, start: usize) -> Option<usize> {
    let from = floor(text, start);
    let end = from + text[from..start].rfind('}')?;
    let end = match text[from..=end].rfind("\\text{") {
        Some(open) if matches!(text[from + open + 6..end].trim(), "and" | "or" | ", and" | ", or") => {
            from + text[from..from + open].rfind('}')?
        }
        _ => end,
    };
    let label_brace = text[end + 1..start].trim_start().starts_with('=');
    let end = if label_brace { from + text[from..end].rfind('}')? } else { end };
    joined::joint(&text[end + 1..start])?;
    Some(end)
}

/// A character boundary at most a gap before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut from = at.saturating_sub(joined::LONGEST_GAP);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    from
}

/// Where the content of the last `\name{` begins.
fn last_open(text: &str, name: &str) -> Option<usize> {
    if text.len() > SHORT && !text.contains(name) {
        return None;
    }
    text.rmatch_indices(name).find(|&(at, _)| text[..at].ends_with('\\')).map(|(at, _)| at + name.len())
}

/// A list of boxes without the boxes: `\\boxed{x = 1}, \\boxed{x = 2}` is `x = 1, x = 2`.
pub(super) fn unboxed(text: &str) -> Cow<'_, str> {
    /// More boxes than this are left alone.
    const MOST: usize = 40;
    if !text.contains("\\boxed{") || text.len() > 4_096 {
        return Cow::Borrowed(text);
    }
    let mut out = text.to_owned();
    for _ in 0..MOST {
        let Some(start) = out.find("\\boxed{") else { break };
        let Some(end) = matching_brace(&out, start + "\\boxed{".len()) else { break };
        out.remove(end);
        out.replace_range(start..start + "\\boxed{".len(), "");
    }
    Cow::Owned(out)
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
        last(text).map(|found| &text[found.content])
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
    fn boxes_joined_by_separators_are_one_list() {
        assert_eq!(content(r"\boxed{3}, \boxed{5}, \boxed{7}."), Some(r"\boxed{3}, \boxed{5}, \boxed{7}"));
        assert_eq!(content(r"so $\boxed{1331}$ and $\boxed{1728}$"), Some(r"\boxed{1331}$ and $\boxed{1728}"));
        assert_eq!(content(r"$x = \boxed{3}$, $y=\boxed{5}$"), Some(r"x = \boxed{3}$, $y=\boxed{5}"));
        assert_eq!(content(r"\boxed{3} or \boxed{4}"), Some(r"\boxed{3} or \boxed{4}"));
        assert_eq!(content(r"\boxed{1} so \boxed{2} and \boxed{3}"), Some(r"\boxed{2} and \boxed{3}"));
        assert_eq!(content(r"\boxed{3}\n\boxed{5}"), Some("5"), "each on its own line is no list");
        assert_eq!(content(r"\boxed{5}, \boxed{5}"), Some("5"), "said twice");
        assert_eq!(content(r"\boxed{1}, so \boxed{2}"), Some("2"));
    }

    #[test]
    fn boxes_without_braces_and_boxes_of_tokens() {
        assert_eq!(content(r"the value is $\boxed 5$."), Some("5"));
        assert_eq!(content(r"\boxed 5 is it"), Some("5"));
        assert_eq!(content(r"$\boxed -12 $"), Some("-12 "));
        assert_eq!(content(r"\boxed {5}"), Some("5"));
        assert_eq!(content(r"\boxed {5"), None);
        assert_eq!(content("x <|begin_of_box|>24<|end_of_box|>"), Some("24"));
        assert_eq!(content("<|begin_of_box|>24"), Some("24"));
    }

    #[test]
    fn many_open_boxes_take_linear_time() {
        assert_eq!(content(&"\\boxed{".repeat(200_000)), None);
    }
}
