//! Text that cannot control the terminal.
//!
//! A terminal obeys what is written to it: it renames its window, clears the screen, fills the clipboard, or changes the
//! order in which text is shown. So characters that control it are written as visible escapes.

/// Whether a terminal would obey a character instead of showing it: C0 but for the line feed and the tab, DEL, C1, and
/// what changes the direction of text.
pub(crate) fn is_control(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// A text in which characters that control terminals are visible escapes, such as `\x1b` and `\u{202e}`. Line feeds and
/// tabs stay.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if !is_control(c) => shown.push(c),
            '\r' => shown.push_str("\\r"),
            c if c < '\u{80}' => shown.extend(["\\x", &format!("{:02x}", u32::from(c))]),
            c => shown.extend(c.escape_unicode()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn makes_what_controls_a_terminal_visible() {
        for (text, shown) in [
            ("plain\ttext\nnaïve 日本 🙂 e\u{301}", "plain\ttext\nnaïve 日本 🙂 e\u{301}"),
            ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
            ("\x1b[2J\r\x08\x00\x7f", r"\x1b[2J\r\x08\x00\x7f"),
            ("\u{9b}31m\u{85}", r"\u{9b}31m\u{85}"),
            ("a\u{202e}b\u{2066}c\u{2069}\u{200f}\u{200e}", r"a\u{202e}b\u{2066}c\u{2069}\u{200f}\u{200e}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }
}
