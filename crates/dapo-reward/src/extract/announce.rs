//! Answers announced by the word "answer", in a line, a heading or a sentence.

use std::ops::Range;

use super::doubt;
use super::lines::{math_block, rest_of_line, rfind, sentence_end, skip_blank, strip_word};

/// How an answer is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// `Answer: …`, or a heading with the word.
    Line,
    /// "The answer is …".
    Sentence,
}

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) manner: Manner,
    /// Where the announcing word begins.
    pub(super) start: usize,
    pub(super) content: Range<usize>,
}

/// Words for an answer in scripts without capitals.
const OTHER_WORDS: [&str; 4] = ["答案", "答え", "答", "답"];

/// The last announcement of one manner that begins at or after `from` and has something in it.
pub(super) fn last(text: &str, from: usize, manner: Manner) -> Option<Announcement> {
    let latin = last_latin(text, from, manner);
    if text.is_ascii() {
        return latin;
    }
    let floor = latin.as_ref().map_or(from, |latin| latin.start);
    let other = last_other(text, floor, manner);
    other.or(latin)
}

fn last_latin(text: &str, from: usize, manner: Manner) -> Option<Announcement> {
    const WORD: &[u8] = b"answer";
    // "Answer" and "answer" end alike; capitals matter only behind the last of these.
    let mut lower = rfind(&text[from..], "nswer").map(|at| from + at);
    let floor = lower.unwrap_or(from);
    let mut upper = rfind(&text[floor..], "NSWER").map(|at| floor + at);
    loop {
        let at = upper.or(lower)?;
        let start = at.checked_sub(1).filter(|start| *start >= from);
        if let Some(start) = start
            && text.as_bytes()[start..start + WORD.len()].eq_ignore_ascii_case(WORD)
            && let Some(content) = content(text, start, start + WORD.len(), manner)
            && !doubt::is_denied(text, start)
        {
            return Some(Announcement { manner, start, content });
        }
        if upper.is_none() {
            lower = text[from..at].rfind("nswer").map(|at| from + at);
        }
        let floor = lower.unwrap_or(from);
        upper = text[floor..at].rfind("NSWER").map(|at| floor + at);
    }
}

fn last_other(text: &str, from: usize, manner: Manner) -> Option<Announcement> {
    let found = |word: &&str| {
        text[from..].rmatch_indices(*word).take(64).find_map(|(at, _)| {
            let start = from + at;
            let content = other_content(text, start + word.len(), manner)?;
            (!doubt::is_denied(text, start)).then_some((start, content))
        })
    };
    let (start, content) = OTHER_WORDS.iter().filter_map(found).max_by_key(|(start, _)| *start)?;
    Some(Announcement { manner, start, content })
}

/// `答案：18`, `答案是 18。`, `【答案】18`.
fn other_content(text: &str, end: usize, manner: Manner) -> Option<Range<usize>> {
    let rest = text[end..].trim_start_matches(['*', ' ', '应', '该', '就']);
    let after = |rest: &str| text.len() - rest.len();
    match manner {
        Manner::Line => {
            let colon = rest.trim_start_matches(['】', '*', ' ']).strip_prefix([':', '：']);
            let content = colon.or_else(|| rest.strip_prefix('】'))?;
            line_content(text, after(content))
        }
        Manner::Sentence => {
            let content = ["是", "为", "等于", "は", "은", "는"].iter().find_map(|verb| rest.strip_prefix(verb))?;
            let content = content.trim_start_matches([':', '：', '*', ' ']);
            sentence_content(text, after(content))
        }
    }
}

fn content(text: &str, start: usize, end: usize, manner: Manner) -> Option<Range<usize>> {
    match manner {
        Manner::Line => {
            let colon = after_colon(text, end).or_else(|| heading(text, start, end))?;
            line_content(text, colon)
        }
        Manner::Sentence => sentence_content(text, after_verb(text, end)?),
    }
}

/// Past the colon of `Answer:`, `**Answer**:`, `Answer (in cm):`, `Answer choice:`.
fn after_colon(text: &str, end: usize) -> Option<usize> {
    const QUALIFIERS: [&str; 4] = ["choice", "option", "letter", "value"];
    let markup = |text: &str| -> usize { text.len() - text.trim_start_matches(['*', '_', ' ', '\t', '】']).len() };
    let mut rest = &text[end..];
    rest = rest.strip_prefix(['s', 'S']).unwrap_or(rest);
    rest = &rest[markup(rest)..];
    if let Some(inner) = rest.strip_prefix('(') {
        let close = inner.bytes().take(40).position(|byte| matches!(byte, b')' | b'\n'))?;
        rest = inner[close..].strip_prefix(')')?;
    } else if let Some(after) = QUALIFIERS.iter().find_map(|word| strip_word(rest, word)) {
        rest = after;
    }
    let rest = rest[markup(rest)..].strip_prefix([':', '：'])?;
    Some(text.len() - rest.len())
}

/// Past a line that is a heading: `### Final Answer`, `**Answer**`, or the bare words.
fn heading(text: &str, start: usize, end: usize) -> Option<usize> {
    const MARKUP: [char; 9] = ['#', '*', '_', ' ', '\t', '【', '】', '✅', '-'];
    let after = text[end..].trim_start_matches([' ', '\t', '*', '_', '#', '\r', '】', '}']);
    if !(after.starts_with('\n') && text[end..].len() - after.len() < 16) {
        return None;
    }
    // Looking further back than a heading is long would make many of them slow.
    let mut from = start.saturating_sub(48);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let before = &text[from..start];
    let line = match before.rfind('\n') {
        Some(at) => &before[at + 1..],
        None if from == 0 => before,
        None => return None,
    };
    let words = line.trim_start_matches(MARKUP).trim_start_matches(|c: char| c.is_ascii_digit());
    let words = words.strip_prefix("\\section").unwrap_or(words).trim_start_matches(['.', '*', '{', ' ']);
    let is_known = |word: &str| {
        ["final", "the", "correct", "my", "so", "our"].iter().any(|known| word.eq_ignore_ascii_case(known))
    };
    words.split([' ', '*', '_']).filter(|word| !word.is_empty()).all(is_known).then_some(text.len() - after.len())
}

/// Past the verb of "answer is", "answers are", "answer to the problem is", "answer must be", `answer =`.
fn after_verb(text: &str, end: usize) -> Option<usize> {
    /// Words that may stand between.
    const BETWEEN: [&str; 50] = [
        "to",
        "the",
        "this",
        "that",
        "your",
        "my",
        "our",
        "original",
        "given",
        "problem",
        "question",
        "exercise",
        "puzzle",
        "task",
        "choice",
        "option",
        "letter",
        "here",
        "therefore",
        "thus",
        "then",
        "hence",
        "so",
        "in",
        "for",
        "part",
        "of",
        "would",
        "must",
        "should",
        "will",
        "has",
        "have",
        "seems",
        "appears",
        "turns",
        "comes",
        "out",
        "both",
        "simplest",
        "form",
        "we",
        "seek",
        "want",
        "get",
        "i",
        "obtain",
        "finally",
        "final",
        "correct",
    ];
    let mut rest = &text[end..];
    rest = rest.strip_prefix(['s', 'S']).unwrap_or(rest);
    if rest.starts_with(|c: char| c.is_alphanumeric()) {
        return None;
    }
    for _ in 0..10 {
        rest = rest.trim_start().trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('=').filter(|after| !after.starts_with('=')) {
            return Some(text.len() - after.len());
        }
        if rest.starts_with('(') {
            let close = rest.bytes().take(40).position(|byte| matches!(byte, b')' | b'\n'))?;
            rest = rest[close..].strip_prefix(')')?;
            continue;
        }
        let verb = ["is", "are", "equals", "be"].iter().find_map(|verb| strip_word(rest, verb));
        if let Some(after) = verb.filter(|after| !after.starts_with(['\'', '’'])) {
            let after = after.trim_start_matches([':', '：', ' ', '＝']);
            let after = after.strip_prefix('=').filter(|after| !after.starts_with('=')).unwrap_or(after);
            return Some(text.len() - after.len());
        }
        rest = BETWEEN.iter().find_map(|word| strip_word(rest, word))?;
    }
    None
}

fn line_content(text: &str, from: usize) -> Option<Range<usize>> {
    let start = skip_blank(text, from);
    // A formula set on its own lines belongs together.
    let content = math_block(text, start).unwrap_or_else(|| rest_of_line(text, start));
    (!content.is_empty()).then_some(content)
}

fn sentence_content(text: &str, from: usize) -> Option<Range<usize>> {
    let mut start = skip_blank(text, from);
    if let Some(colon) = pointer(&text[start..]) {
        start = skip_blank(text, start + colon);
    }
    if let Some(block) = math_block(text, start) {
        return Some(block);
    }
    let line = rest_of_line(text, start);
    let end = start + sentence_end(&text[line]);
    (start < end).then_some(start..end)
}

/// The length of "as follows:" and the like.
fn pointer(text: &str) -> Option<usize> {
    ["as follows", "the following", "given below", "shown below", "below"].iter().find_map(|words| {
        let head = text.get(..words.len())?;
        let rest = text[words.len()..].trim_start_matches(['*', ' ']);
        let points = head.eq_ignore_ascii_case(words) && rest.starts_with([':', '\n', '.']);
        points.then(|| text.len() - rest.len() + 1)
    })
}

/// Whether a byte is in no announcement.
pub(super) fn announces_no_more(byte: u8) -> bool {
    byte.is_ascii() && !matches!(byte, b'#' | b'<' | b'w' | b'W')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<&str> {
        last(text, 0, Manner::Line).map(|found| &text[found.content])
    }

    fn sentence(text: &str) -> Option<&str> {
        last(text, 0, Manner::Sentence).map(|found| &text[found.content])
    }

    #[test]
    fn answer_lines_survive_markdown_and_line_breaks() {
        assert_eq!(line("**Answer:** 42\nx"), Some("42"));
        assert_eq!(line("**Final Answer**: 42"), Some("42"));
        assert_eq!(line("ANSWER :\n\n42"), Some("42"));
        assert_eq!(line("Answer: 1\nAnswer: 2\n"), Some("2"));
        assert_eq!(line("Answer:\n\\[\nx\n\\]\n"), Some("\\[\nx\n\\]"));
        assert_eq!(line("***ANSWER***: ***C***"), Some("***C***"));
        assert_eq!(line("Answer (in cm): 5"), Some("5"));
        assert_eq!(line("Answer choice: C"), Some("C"));
        assert_eq!(line("no such line"), None);
        assert_eq!(line("Answer: 5\n**Answer:**"), Some("5"), "an empty line announces nothing");
    }

    #[test]
    fn headings_announce_the_next_line() {
        for text in [
            "### Final Answer\n\n**73**",
            "## Answer\n73",
            "**Final Answer**\n\n73",
            "Final Answer\n73",
            "#### 4. Answer\n73",
            "### ✅ Final Answer\n73",
            "\\section*{Answer}\n73",
        ] {
            assert_eq!(line(text).map(|found| found.trim_matches('*')), Some("73"), "{text}");
        }
        assert_eq!(line("I will now give an answer\n73"), None);
        assert_eq!(line("There is no answer\n73"), None);
        assert_eq!(line("### Answer"), None);
    }

    #[test]
    fn the_sentence_is_kept_whole() {
        assert_eq!(sentence("The answer is 0.5. Next"), Some("0.5"));
        assert_eq!(sentence("the final answer is: $3$ or $4$."), Some("$3$ or $4$"));
        assert_eq!(sentence("The answer is 42 because it is."), Some("42"));
        assert_eq!(sentence("The answer isn't 4"), None);
        assert_eq!(sentence("The answer is not 4"), Some("not 4"));
        assert_eq!(sentence("The Answer Is\n$$x$$\nok"), Some("$$x$$"));
        assert_eq!(sentence("The answer to this problem is 5."), Some("5"));
        assert_eq!(sentence("The answer (in cm) must be 5."), Some("5"));
        assert_eq!(sentence("The answers are 3 and 5."), Some("3 and 5"));
        assert_eq!(sentence("answer = 7"), Some("7"));
        assert_eq!(sentence("The answer is as follows:\n7"), Some("7"));
        assert_eq!(sentence("I answered this"), None);
        assert_eq!(sentence("the answer that it is"), None);
    }

    #[test]
    fn other_scripts_announce_alike() {
        assert_eq!(sentence("所以答案是 18。"), Some("18"));
        assert_eq!(sentence("最终答案为18。"), Some("18"));
        assert_eq!(line("答案：18"), Some("18"));
        assert_eq!(line("【答案】18"), Some("18"));
        assert_eq!(line("最终答案: 18\n完"), Some("18"));
        assert_eq!(line("Answer：18"), Some("18"));
        assert_eq!(line("答：18。"), Some("18。"));
        assert_eq!(sentence("答案就是18。"), Some("18"));
        assert_eq!(sentence("The answer, then, is = 18."), Some("18"));
        assert_eq!(line("没有答案"), None);
    }
}
