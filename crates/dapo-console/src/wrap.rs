//! Text in lines of a width.

use textwrap::{Options, WordSeparator, WordSplitter};

/// A text in lines of at most `width` columns, the first behind `first`, the others behind `next`. Words that are longer
/// than a line are broken where `breaks` says so, else they stand on a line of their own.
pub(crate) fn wrap(text: &str, width: usize, first: &str, next: &str, breaks: bool) -> Vec<String> {
    let options = Options::new(width.max(8))
        .initial_indent(first)
        .subsequent_indent(next)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(breaks);
    let mut lines = Vec::new();
    for (number, line) in text.split('\n').enumerate() {
        let first = if number == 0 { first } else { next };
        let line = line.replace('\t', "    ");
        if line.trim().is_empty() {
            lines.push(first.trim_end().to_owned());
        } else {
            lines.extend(textwrap::wrap(&line, options.clone().initial_indent(first)).into_iter().map(String::from));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn breaks_between_words_and_long_words_only_where_asked() {
        let text = "one two three\nfour a/long/path/without/an/end";
        assert_eq!(wrap(text, 10, "", "  ", false), ["one two", "  three", "  four", "  a/long/path/without/an/end"]);
        let broken = wrap(text, 10, "> ", "  ", true);
        assert!(broken.iter().all(|line| line.len() <= 10), "{broken:?}");
        assert_eq!(broken[..3], ["> one two", "  three", "  four"].map(String::from)[..3]);
        assert_eq!(wrap("日本語の文章", 8, "", "", true), ["日本語の", "文章"]);
        assert_eq!(wrap("a\n\nb", 10, "", "", true), ["a", "", "b"]);
    }
}
