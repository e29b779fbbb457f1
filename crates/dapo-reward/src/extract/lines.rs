//! Answers announced by words or marks.

use std::ops::Range;

/// The rest of the line after the last `Answer:`; when that is empty, the next line that is not.
pub(super) fn answer_line(text: &str) -> Option<Range<usize>> {
    let colon = rfind_ignore_case(text, "answer", |after| {
        let rest = after.trim_start_matches(['*', '_', ' ', '\t']);
        rest.starts_with(':').then(|| after.len() - rest.len() + 1)
    })?;
    let start = skip_blank(text, colon);
    let line = rest_of_line(text, start);
    // A formula set on its own lines belongs together.
    math_block(text, start).or(Some(line))
}

/// The rest of the line after the last `####`.
pub(super) fn hash(text: &str) -> Option<Range<usize>> {
    let start = text.rfind("####")? + 4;
    Some(rest_of_line(text, start))
}

/// The content of the last `<answer>` tag, to the end of the text where it is not closed.
pub(super) fn answer_tag(text: &str) -> Option<Range<usize>> {
    const OPEN: &str = "<answer>";
    let start = text.rfind(OPEN)? + OPEN.len();
    let end = text[start..].find("</answer>").map_or(text.len(), |end| start + end);
    Some(start..end)
}

/// The rest of the sentence after the last "answer is".
pub(super) fn answer_is(text: &str) -> Option<Range<usize>> {
    let after = rfind_ignore_case(text, "answer", |after| {
        let rest = after.trim_start();
        let rest = strip_word(rest, "is").or_else(|| strip_word(rest, "equals"))?;
        Some(after.len() - rest.trim_start_matches([':', '*', ' ']).len())
    })?;
    let start = skip_blank(text, after);
    if let Some(block) = math_block(text, start) {
        return Some(block);
    }
    let line = rest_of_line(text, start);
    let end = start + sentence_end(&text[line.clone()]);
    Some(start..end)
}

/// The end of the last `word` (any case) that `accept`s what follows it, plus what `accept` says to skip.
pub(super) fn rfind_ignore_case(text: &str, word: &str, accept: impl Fn(&str) -> Option<usize>) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut end = bytes.len();
    while end >= word.len() {
        let start = end - word.len();
        if bytes[start..end].eq_ignore_ascii_case(word.as_bytes())
            && let Some(skip) = accept(&text[end..])
        {
            return Some(end + skip);
        }
        end -= 1;
    }
    None
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.get(word.len()..)?;
    let is_word = text.as_bytes()[..word.len()].eq_ignore_ascii_case(word.as_bytes());
    (is_word && !rest.starts_with(|c: char| c.is_alphanumeric())).then_some(rest)
}

fn skip_blank(text: &str, from: usize) -> usize {
    let rest = text[from..].trim_start_matches(|c: char| c.is_whitespace() || c == '*');
    text.len() - rest.len()
}

fn rest_of_line(text: &str, start: usize) -> Range<usize> {
    start..text[start..].find('\n').map_or(text.len(), |end| start + end)
}

/// A `\[…\]` or `$$…$$` that begins at `start`.
fn math_block(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = &text[start..];
    [("\\[", "\\]"), ("$$", "$$")].into_iter().find_map(|(open, close)| {
        let content = rest.strip_prefix(open)?;
        Some(start..start + open.len() + content.find(close)? + close.len())
    })
}

/// Where the sentence ends: at a full stop that no digit follows, or before a clause that explains.
fn sentence_end(line: &str) -> usize {
    const CLAUSES: [&str; 8] =
        [" because ", " since ", ", so ", ", as ", ", which ", ", where ", ", because ", ", since "];
    let stop = line.match_indices('.').map(|(at, _)| at).find(|&at| {
        let after = &line[at + 1..];
        !line[..at].ends_with(['.', '\\']) && (after.is_empty() || after.starts_with([' ', '\t', '\r', '*', '<']))
    });
    let end = stop.unwrap_or(line.len());
    CLAUSES.iter().filter_map(|clause| line[..end].find(clause)).min().unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, rule: fn(&str) -> Option<Range<usize>>) -> Option<&str> {
        rule(text).map(|span| &text[span])
    }

    #[test]
    fn answer_lines_survive_markdown_and_line_breaks() {
        assert_eq!(piece("**Answer:** 42\nx", answer_line), Some("42"));
        assert_eq!(piece("**Final Answer**: 42", answer_line), Some("42"));
        assert_eq!(piece("ANSWER :\n\n42", answer_line), Some("42"));
        assert_eq!(piece("Answer: 1\nAnswer: 2\n", answer_line), Some("2"));
        assert_eq!(piece("Answer:\n\\[\nx\n\\]\n", answer_line), Some("\\[\nx\n\\]"));
        assert_eq!(piece("no such line", answer_line), None);
    }

    #[test]
    fn the_sentence_is_kept_whole() {
        assert_eq!(piece("The answer is 0.5. Next", answer_is), Some("0.5"));
        assert_eq!(piece("the final answer is: $3$ or $4$.", answer_is), Some("$3$ or $4$"));
        assert_eq!(piece("The answer is 42 because it is.", answer_is), Some("42"));
        assert_eq!(piece("The answer isn't 4", answer_is), None);
        assert_eq!(piece("The Answer Is\n$$x$$\nok", answer_is), Some("$$x$$"));
    }

    #[test]
    fn tags_and_hashes() {
        assert_eq!(piece("<answer>1</answer><answer>2", answer_tag), Some("2"));
        assert_eq!(piece("<answer>1</answer>", answer_tag), Some("1"));
        assert_eq!(piece("a\n#### 1\nb\n#### 2\n", hash), Some(" 2"));
    }
}
