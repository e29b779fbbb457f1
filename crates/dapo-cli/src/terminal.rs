//! What is shown on a terminal: text of models, data, files and servers must not control it.
//!
//! A terminal obeys what is written to it: it renames its window, clears the screen, fills the clipboard, or changes the
//! order in which text is shown. So characters that control it are written as visible escapes, on stderr always, and on
//! stdout where that is a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal, StdoutLock, Write};

/// Whether a terminal would obey a character instead of showing it: C0 but for the line feed and the tab, DEL, C1, and
/// what changes the direction of text.
fn is_control(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// A text in which characters that control terminals are visible escapes, such as `\x1b` and `\u{202e}`.
pub(crate) fn visible(text: &str) -> String {
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

/// Writes to stderr, always with visible escapes. A closed stderr is no reason to fail.
pub(crate) fn to_stderr(text: impl Display) {
    let _ = io::stderr().lock().write_all(visible(&text.to_string()).as_bytes());
}

/// Whether stdout gets text as it is.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct RawArgs {
    /// Print control characters as they are, even on a terminal, which may obey them.
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Stdout: as it is into files and pipes, with visible escapes on a terminal.
pub(crate) struct Stdout<W = StdoutLock<'static>> {
    out: W,
    escapes: bool,
    /// The start of a character whose other bytes are still to come.
    rest: Vec<u8>,
}

impl Stdout {
    pub(crate) fn new() -> Self {
        Self::with(RawArgs { raw: false })
    }

    pub(crate) fn with(raw: RawArgs) -> Self {
        let out = io::stdout();
        let escapes = !raw.raw && out.is_terminal();
        Self { out: out.lock(), escapes, rest: Vec::new() }
    }
}

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.escapes {
            return self.out.write(bytes);
        }
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.rest.len(),
        };
        let rest = self.rest.split_off(whole);
        let shown = visible(&String::from_utf8_lossy(&self.rest));
        self.rest = rest;
        self.out.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Stdout, visible};
    use std::io::Write;

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

    #[test]
    fn escapes_only_where_it_is_to() {
        let written = |escapes: bool| {
            let mut out = Stdout { out: Vec::new(), escapes, rest: Vec::new() };
            // One byte at a time, so that characters come in parts.
            "é\x1b[2J\u{9b}\u{202e}日\n".bytes().for_each(|byte| out.write_all(&[byte]).unwrap());
            String::from_utf8(out.out).unwrap()
        };
        assert_eq!(written(false), "é\x1b[2J\u{9b}\u{202e}日\n");
        assert_eq!(written(true), "é\\x1b[2J\\u{9b}\\u{202e}日\n");
    }
}
