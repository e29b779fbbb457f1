//! Text for the lines of a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The lines of a text, none wider than `width` columns: broken at spaces, and inside a word only where the word is wider
/// than a line. Spaces at a break are left out; tabs become four spaces. Without a width only line feeds break.
pub(crate) fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let text = text.replace('\t', "    ");
    let Some(width) = width.map(|width| width.max(2)) else { return text.split('\n').map(str::to_owned).collect() };
    text.split('\n').flat_map(|line| wrap_line(line, width)).collect()
}

fn wrap_line(line: &str, width: usize) -> Vec<String> {
    let (mut lines, mut current) = (Vec::new(), String::new());
    for word in line.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ');
        if current.width() + bare.width() > width {
            let full = std::mem::take(&mut current);
            if !full.trim().is_empty() {
                lines.push(full.trim_end().to_owned());
            }
        }
        if bare.width() <= width {
            current.push_str(word);
        } else {
            current = broken(word, width, &mut lines);
        }
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// Breaks a word that is wider than a line; gives what remains of it. Marks without a width stay with their letter.
fn broken(word: &str, width: usize, lines: &mut Vec<String>) -> String {
    let (mut piece, mut columns) = (String::new(), 0);
    for character in word.chars() {
        let wide = character.width().unwrap_or(0);
        if columns + wide > width {
            lines.push(std::mem::take(&mut piece));
            columns = 0;
        }
        piece.push(character);
        columns += wide;
    }
    piece
}

/// A long text without its middle, with a line in its place that says how much is left out. At most `head` characters of
/// the start and `tail` of the end stay, cut at a space where one is near.
pub(crate) fn shorten(text: &str, head: usize, tail: usize) -> String {
    let total = text.chars().count();
    if total <= head + tail + 40 {
        return text.to_owned();
    }
    let at = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    let (mut end, mut start) = (at(head), at(total - tail));
    let near = 24;
    if let Some(space) = text[at(head.saturating_sub(near))..end].rfind([' ', '\n']) {
        end = at(head.saturating_sub(near)) + space;
    }
    if let Some(space) = text[start..at(total - tail.saturating_sub(near))].find([' ', '\n']) {
        start += space + 1;
    }
    let left_out = text[end..start].chars().count();
    format!("{}\n… {left_out} characters left out, --full shows them …\n{}", &text[..end], &text[start..])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{shorten, wrap};
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two  three\n\nfour", Some(9)), ["one two", "three", "", "four"]);
        assert_eq!(wrap("  indented text", Some(10)), ["  indented", "text"]);
        assert_eq!(wrap("fits just", Some(9)), ["fits just"]);
        assert_eq!(wrap("a\tb", Some(9)), ["a    b"]);
        assert_eq!(wrap("one two three", None), ["one two three"]);
    }

    #[test]
    fn only_a_word_wider_than_a_line_is_broken() {
        assert_eq!(wrap("see abcdefghijk now", Some(5)), ["see", "abcde", "fghij", "k now"]);
        // Two columns a character; a mark stays with its letter.
        assert_eq!(wrap("日本語文", Some(5)), ["日本", "語文"]);
        assert_eq!(wrap("e\u{301}e\u{301}e\u{301}", Some(2)), ["e\u{301}e\u{301}", "e\u{301}"]);
        let lines = wrap(&"x".repeat(100_000), Some(80));
        assert_eq!((lines.len(), lines.iter().map(|line| line.width()).max().unwrap()), (1250, 80));
    }

    #[test]
    fn the_middle_of_a_long_text_is_left_out() {
        let text = format!("start {} é the end", "word ".repeat(100));
        let short = shorten(&text, 20, 20);
        assert_eq!(short.lines().collect::<Vec<_>>()[..1], ["start word word"]);
        assert!(
            short.ends_with("word  é the end") && short.contains(" characters left out, --full shows them …\n"),
            "{short}"
        );
        let left_out: usize = short.split("… ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let kept: usize =
            short.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| line.chars().count()).sum();
        assert_eq!(kept + left_out, text.chars().count());
        assert_eq!(shorten("short", 2, 2), "short");
    }
}
