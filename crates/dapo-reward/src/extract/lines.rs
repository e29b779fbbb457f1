//! Answers announced by marks, and where lines and sentences end.

use std::ops::Range;

use crate::trim::first_mark;

/// `str::rfind`; most texts do not hold what is looked for, and that is found out faster.
pub(super) fn rfind(text: &str, word: &str) -> Option<usize> {
    if text.contains(word) { text.rfind(word) } else { None }
}

/// The rest of the line after the last `####` that is not a heading.
pub(super) fn hash(text: &str) -> Option<Range<usize>> {
    /// Headings looked past.
    const MOST: usize = 64;
    if !text.contains("####") {
        return None;
    }
    text.rmatch_indices("####").take(MOST).find_map(|(at, mark)| {
        let line = rest_of_line(text, at + mark.len());
        (!is_heading(&text[line.clone()], &text[line.end..])).then_some(line)
    })
}

/// Whether words after `####` are the heading of what follows.
fn is_heading(line: &str, after: &str) -> bool {
    let title = line.trim_matches([' ', '#', '*', '\r', '\t', ':', '.']);
    let lower = || title.bytes().filter(u8::is_ascii_lowercase).count();
    let number = title.trim_start_matches(|c: char| c.is_ascii_digit());
    let unnumbered = if number.len() < title.len() { number.strip_prefix(". ").unwrap_or("") } else { title };
    let is_title = unnumbered.starts_with(char::is_uppercase) && lower() >= 4;
    is_title && !title.contains(['$', '\\', '=']) && !after.trim().is_empty()
}

/// The content of the last `<answer>` tag, to the end of the text where it is not closed.
pub(super) fn answer_tag(text: &str) -> Option<Range<usize>> {
    const OPEN: &str = "<answer>";
    let start = rfind(text, OPEN)? + OPEN.len();
    let end = text[start..].find("</answer>").map_or(text.len(), |end| start + end);
    Some(start..end)
}

/// What follows `word` (any case) at the beginning of `text`, when the word ends there.
pub(super) fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.get(word.len()..)?;
    let is_word = text.as_bytes()[..word.len()].eq_ignore_ascii_case(word.as_bytes());
    (is_word && !rest.starts_with(|c: char| c.is_alphanumeric())).then_some(rest)
}

/// Past white space and emphasis that ends there; emphasis that begins there stays.
pub(super) fn skip_blank(text: &str, from: usize) -> usize {
    let mut rest = &text[from..];
    loop {
        rest = rest.trim_start();
        let bare = rest.trim_start_matches(['*', '_']);
        let ends = bare.is_empty() || bare.starts_with(char::is_whitespace);
        let line = &bare[..bare.find('\n').unwrap_or(bare.len())];
        let begins = line.contains('*') || rest.starts_with('_');
        if bare.len() == rest.len() || (begins && !ends) {
            return text.len() - rest.len();
        }
        rest = bare;
    }
}

/// To the end of the line, or to the mark of a tokenizer.
pub(super) fn rest_of_line(text: &str, start: usize) -> Range<usize> {
    let end = text[start..].find('\n').map_or(text.len(), |end| start + end);
    let mark = first_mark(&text[start..end]);
    start..mark.map_or(end, |mark| start + mark)
}

/// A `\[…\]` or `$$…$$` that begins at `start`.
pub(super) fn math_block(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = &text[start..];
    [("\\[", "\\]"), ("$$", "$$")].into_iter().find_map(|(open, close)| {
        let content = rest.strip_prefix(open)?;
        Some(start..start + open.len() + content.find(close)? + close.len())
    })
}

/// Where the sentence ends: at a full stop that no digit follows, at another stop before a new sentence, or before a clause
/// that explains.
pub(super) fn sentence_end(line: &str) -> usize {
    const CLAUSES: [&str; 15] = [
        "，不是",
        "，而不是",
        " because ",
        " since ",
        ", so ",
        ", as ",
        ", which ",
        ", where ",
        ", because ",
        ", since ",
        ", obtained ",
        ", computed ",
        ", calculated ",
        ", using ",
        ", by ",
    ];
    let ends = |at: usize, c: char| {
        let after = &line[at + c.len_utf8()..];
        let before = &line[..at];
        match c {
            '.' => {
                !before.ends_with(['.', '\\'])
                    && (after.is_empty() || after.starts_with([' ', '\t', '\r', '*', '<']))
                    && !(before.ends_with("Rs") && after.trim_start().starts_with(|c: char| c.is_ascii_digit()))
            }
            '!' => after.starts_with(' ') && after.trim_start().starts_with(char::is_uppercase),
            _ => c == '。',
        }
    };
    // A stop within braces ends no sentence: `\text{A. } 12`.
    let mut depth = 0_usize;
    let stop = line.match_indices(['.', '!', '。', '{', '}']).find(|(at, mark)| match *mark {
        "{" => {
            depth += 1;
            false
        }
        "}" => {
            depth = depth.saturating_sub(1);
            false
        }
        mark => depth == 0 && mark.chars().next().is_some_and(|c| ends(*at, c)),
    });
    let end = stop.map_or(line.len(), |(at, c)| if c == "!" { at + 1 } else { at });
    CLAUSES.iter().filter_map(|clause| line[..end].find(clause)).min().unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, rule: fn(&str) -> Option<Range<usize>>) -> Option<&str> {
        rule(text).map(|span| &text[span])
    }

    #[test]
    fn tags_and_hashes() {
        assert_eq!(piece("<answer>1</answer><answer>2", answer_tag), Some("2"));
        assert_eq!(piece("<answer>1</answer>", answer_tag), Some("1"));
        assert_eq!(piece("a\n#### 1\nb\n#### 2\n", hash), Some(" 2"));
        assert_eq!(piece("#### 72<|endoftext|>", hash), Some(" 72"));
    }

    #[test]
    fn a_heading_is_no_answer() {
        assert_eq!(piece("#### 7\n#### Check\nIt is.", hash), Some(" 7"));
        assert_eq!(piece("#### Step 3: Count\n12", hash), None);
        assert_eq!(piece("#### Evelyn\n", hash), Some(" Evelyn"));
        assert_eq!(piece("#### 18\nmore", hash), Some(" 18"));
        assert_eq!(piece("#### 18 eggs\nmore", hash), Some(" 18 eggs"));
        assert_eq!(piece("#### 2. Check\nmore", hash), None);
    }

    #[test]
    fn sentences_end_at_stops_and_explanations() {
        let end = |text: &'static str| &text[..sentence_end(text)];
        assert_eq!(end("0.5. Next"), "0.5");
        assert_eq!(end("72! Thanks"), "72!");
        assert_eq!(end("5! ways"), "5! ways");
        assert_eq!(end("18。好"), "18");
        assert_eq!(end("72, which is even"), "72");
        assert_eq!(end("\\text{A. } 12. Next"), "\\text{A. } 12");
        assert_eq!(end("Rs. 45. Next"), "Rs. 45");
        assert_eq!(end("12，不是 13。"), "12");
    }
}
