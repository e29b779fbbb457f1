//! What is said on stderr, how much of it, and in which form.

use crate::event;
use crate::screen::{print, size};
use crate::style::{BAD, NOTABLE, Paint};
use crate::visible::visible;
use crate::wrap::wrap;
use anstream::{AutoStream, ColorChoice};
use anstyle::Style;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{self, IsTerminal};

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What is wrong.
    Quiet,
    /// What happens, too.
    #[default]
    Normal,
    /// Details, too.
    Verbose,
}

/// The form in which events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: lines, and on a terminal a table and a transient area.
    #[default]
    Text,
    /// A JSON object on a line for each event.
    Json,
}

/// Says on stderr what happens. Text is shown with visible escapes, and on a terminal in lines that end between words.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    level: Level,
    format: LogFormat,
    paint: Paint,
    colors_stdout: bool,
    is_terminal: bool,
    is_live: bool,
}

impl Voice {
    /// A voice at a level and in a form. Colours that are chosen automatically are there on terminals that have them, unless
    /// `NO_COLOR` is set or `CLICOLOR` is 0; `CLICOLOR_FORCE` has them anywhere.
    pub fn new(level: Level, format: LogFormat, color: ColorChoice) -> Self {
        let chosen = |automatic: ColorChoice| if color == ColorChoice::Auto { automatic } else { color };
        let choice = chosen(AutoStream::choice(&io::stderr()));
        let is_text = format == LogFormat::Text;
        let is_terminal = is_text && io::stderr().is_terminal();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Self {
            level,
            format,
            paint: Paint(is_text && choice != ColorChoice::Never),
            colors_stdout: chosen(AutoStream::choice(&io::stdout())) != ColorChoice::Never,
            is_terminal,
            is_live: is_terminal && !is_dumb && level > Level::Quiet,
        }
    }

    /// What happens.
    pub fn note(self, text: impl Display) {
        if self.level >= Level::Normal {
            self.say("note", None, text);
        }
    }

    /// What only the curious want to know.
    pub fn detail(self, text: impl Display) {
        if self.level >= Level::Verbose {
            self.say("detail", None, text);
        }
    }

    /// What may not be as meant.
    pub fn warning(self, text: impl Display) {
        self.say("warning", Some(NOTABLE.bold()), text);
    }

    /// What went wrong.
    pub fn error(self, text: impl Display) {
        self.say("error", Some(BAD.bold()), text);
    }

    /// Whether text on stdout is coloured.
    pub fn colors_stdout(self) -> bool {
        self.colors_stdout
    }

    /// Whether a transient area is shown.
    pub fn is_live(self) -> bool {
        self.is_live
    }

    pub(crate) fn paint(self) -> Paint {
        self.paint
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == LogFormat::Json
    }

    /// Lines that have their width and styles already.
    pub(crate) fn lines(self, lines: &[String]) {
        if self.level >= Level::Normal {
            print(&lines.iter().flat_map(|line| [line, "\n"]).collect::<String>());
        }
    }

    /// An event, where events are JSON lines.
    pub(crate) fn event(self, name: &str, fields: Value) {
        if self.is_json() && self.level >= Level::Normal {
            event::write(name, fields);
        }
    }

    fn say(self, kind: &str, label: Option<Style>, text: impl Display) {
        let text = text.to_string();
        if self.is_json() {
            return event::write(kind, json!({ "message": text.trim() }));
        }
        let prefix = if label.is_some() { format!("{kind}: ") } else { String::new() };
        let text = prefix.clone() + &visible(&text);
        let text = if self.is_terminal { wrapped(&text, size().columns) } else { text };
        // The colours are ours; the text may be anyone's.
        let text = match (label, text.strip_prefix(&prefix)) {
            (Some(style), Some(rest)) => format!("{} {rest}", self.paint.with(style, prefix.trim_end())),
            _ => text,
        };
        print(&(text + "\n"));
    }
}

/// A text in lines of a width, each continued with its own indentation and two more.
fn wrapped(text: &str, width: usize) -> String {
    let line = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        wrap(line.trim_start(), width, indent, &format!("{indent}  "), false).join("\n")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn long_lines_continue_with_their_indentation() {
        let text = "warning: a b c d e f\n    indented one two three\n\nend";
        let lines = "warning: a b\n  c d e f\n    indented\n      one two\n      three\n\nend";
        assert_eq!(wrapped(text, 13), lines);
    }
}
