//! What surrounds an answer without being part of it.

use std::ops::Range;

/// Marks that a tokenizer writes, apart from `<|…|>`.
const MARKS: [&str; 6] = ["</s>", "<eos>", "<end_of_turn>", "</answer>", "<s>", "<bos>"];

/// Longest `<|…|>` taken for a mark.
const LONGEST_MARK: usize = 48;

/// Narrows a span past what surrounds an answer without being part of it.
pub(crate) fn trim(text: &str, span: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (span.start, span.end);
    loop {
        let piece = &text[start..end];
        let inner = piece.trim_matches(|c: char| c.is_whitespace() || c == '\u{200b}');
        let inner = strip_marks(inner);
        let inner = strip_pair(inner);
        let inner =
            inner.strip_suffix('.').filter(|rest| !rest.ends_with('.') && !rest.ends_with("\\right")).unwrap_or(inner);
        let inner = inner.strip_suffix('。').unwrap_or(inner);
        if inner.len() == piece.len() {
            return start..end;
        }
        start += inner.as_ptr() as usize - piece.as_ptr() as usize;
        end = start + inner.len();
    }
}

/// Takes one mark of a tokenizer off either end.
fn strip_marks(text: &str) -> &str {
    let mut inner = text;
    if inner.ends_with('>')
        && let Some(start) = mark_start(inner)
    {
        inner = &inner[..start];
    }
    if inner.starts_with('<')
        && let Some(length) = mark_length(inner)
    {
        inner = &inner[length..];
    }
    inner
}

/// Where the mark begins that `text` ends with.
fn mark_start(text: &str) -> Option<usize> {
    if let Some(mark) = MARKS.iter().find(|mark| text.ends_with(**mark)) {
        return Some(text.len() - mark.len());
    }
    let start = text.rfind('<').filter(|start| text.len() - start <= LONGEST_MARK)?;
    (mark_length(&text[start..])? == text.len() - start).then_some(start)
}

/// The length of the mark that `text` begins with: `<|im_end|>`, `</s>`.
pub(crate) fn mark_length(text: &str) -> Option<usize> {
    if let Some(mark) = MARKS.iter().find(|mark| text.starts_with(**mark)) {
        return Some(mark.len());
    }
    [("<|", "|>"), ("<｜", "｜>")].into_iter().find_map(|(open, close)| {
        let rest = text.strip_prefix(open)?;
        let mut end = rest.len().min(LONGEST_MARK);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let name = &rest[..rest[..end].find(close)?];
        let is_name = !name.is_empty() && !name.contains([' ', '<', '>', '\n']);
        is_name.then_some(open.len() + name.len() + close.len())
    })
}

/// Where the first mark begins in `text`, beyond those that it begins with.
pub(crate) fn first_mark(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let rest = &text[from..];
        let rest = &rest[rest.len() - rest.trim_start().len()..];
        match mark_length(rest) {
            Some(length) if rest.starts_with('<') => from = text.len() - rest.len() + length,
            _ => break,
        }
    }
    text[from..].match_indices('<').map(|(at, _)| from + at).find(|&at| mark_length(&text[at..]).is_some())
}

fn strip_pair(text: &str) -> &str {
    const PAIRS: [(&str, &str); 11] = [
        ("$$", "$$"),
        ("$", "$"),
        ("\\(", "\\)"),
        ("\\[", "\\]"),
        ("***", "***"),
        ("**", "**"),
        ("*", "*"),
        ("__", "__"),
        ("_", "_"),
        ("`", "`"),
        ("\"", "\""),
    ];
    // Most answers begin with a digit or a letter.
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !text.ends_with('*') {
        return text;
    }
    for (open, close) in PAIRS {
        let Some(inner) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) else {
            continue;
        };
        // The two ends must belong together: `$a$ and $b$` keeps its dollars.
        let escaped = close == "$" && inner.ends_with('\\');
        if !(escaped || inner.contains(open) || inner.contains(close)) {
            return inner;
        }
    }
    if let Some(inner) = text.strip_prefix("**").filter(|inner| !inner.contains("**")) {
        return inner;
    }
    text.strip_suffix("**").filter(|inner| !inner.contains("**")).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(text: &str) -> &str {
        &text[trim(text, 0..text.len())]
    }

    #[test]
    fn delimiters_go_but_never_across_two_formulas() {
        assert_eq!(trimmed(" $\\frac12$. "), "\\frac12");
        assert_eq!(trimmed("**$5$**"), "5");
        assert_eq!(trimmed("$1$ and $2$"), "$1$ and $2$");
        assert_eq!(trimmed("\\[ x \\]"), "x");
        assert_eq!(trimmed("0.333..."), "0.333...");
        assert_eq!(trimmed("$"), "$");
        assert_eq!(trimmed(""), "");
    }

    #[test]
    fn emphasis_of_any_strength_goes() {
        for text in ["*B*", "**B**", "***B***", "_B_", "__B__", "***B***.", "B**"] {
            assert_eq!(trimmed(text), "B", "{text}");
        }
        assert_eq!(trimmed("2*3"), "2*3");
        assert_eq!(trimmed("*a* and *b*"), "*a* and *b*");
    }

    #[test]
    fn marks_of_tokenizers_go() {
        for text in [
            "72<|im_end|>",
            "72.<|endoftext|>\n",
            "<|begin_of_box|>72<|end_of_box|>",
            "72</s>",
            "72<｜end▁of▁sentence｜>",
        ] {
            assert_eq!(trimmed(text), "72", "{text}");
        }
        assert_eq!(trimmed("x<|y|"), "x<|y|");
        assert_eq!(trimmed("|x|<5"), "|x|<5");
        assert_eq!(trimmed("1<|x|, |y|>2"), "1<|x|, |y|>2");
        assert_eq!(first_mark("<|a|>5<|b|>"), Some(6));
        assert_eq!(first_mark("é<｜b｜>"), Some(2));
        assert_eq!(first_mark("<|"), None);
    }
}
