//! What is shown on a terminal: text of models, data, files and servers must not control it.
//!
//! A terminal obeys what is written to it: it renames its window, clears the screen, fills the clipboard, or changes the
//! order in which text is shown. So characters that control it are written as visible escapes ([`visible`]), on stderr
//! always, and on stdout where that is a terminal.

use dapo_console::visible;
use std::fmt::Display;
use std::io::{self, IsTerminal, StdoutLock, Write};

/// Columns of a terminal that does not say.
const COLUMNS: usize = 80;

/// Columns of the terminal that stdout is; `None` where it is none.
pub(crate) fn columns() -> Option<usize> {
    let columns = terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| usize::from(width.0));
    io::stdout().is_terminal().then_some(columns)
}

/// Writes to stderr, always with visible escapes. A closed stderr is no reason to fail.
pub(crate) fn to_stderr(text: impl Display) {
    let _ = io::stderr().lock().write_all(visible(&text.to_string()).as_bytes());
}

/// The end of a text, on one line, without control characters.
pub(crate) fn excerpt(text: &str, chars: usize) -> String {
    let text = text.trim();
    let start = text.char_indices().nth_back(chars.saturating_sub(1)).map_or(0, |(start, _)| start);
    let cut = if start > 0 { "… " } else { "" };
    let escape = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    cut.chars().map(String::from).chain(text[start..].chars().map(escape)).collect()
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
    use super::Stdout;
    use std::io::Write;

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
