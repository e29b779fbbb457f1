//! What is said on stderr, how much of it, and in which colours.

use crate::terminal::{to_stderr, visible};
use clap::ColorChoice;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// The arguments that all subcommands share.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct TalkArgs {
    /// When to use colours.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    /// Say only what is wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more.
    #[arg(short, long, global = true)]
    verbose: bool,
}

/// The voice of a command.
#[derive(Clone, Copy)]
pub(crate) struct Talk {
    level: Level,
    color: bool,
    colors_stdout: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Quiet,
    Normal,
    Verbose,
}

const BOLD_RED: &str = "\x1b[1;31m";
const BOLD_YELLOW: &str = "\x1b[1;33m";
const RESET: &str = "\x1b[0m";

impl Talk {
    pub(crate) fn new(args: TalkArgs) -> Self {
        let level = match args {
            TalkArgs { quiet: true, .. } => Level::Quiet,
            TalkArgs { verbose: true, .. } => Level::Verbose,
            _ => Level::Normal,
        };
        let colors = |is_terminal: bool| match args.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                is_terminal && !is_set("NO_COLOR") && !is_dumb
            }
        };
        let (color, colors_stdout) = (colors(io::stderr().is_terminal()), colors(io::stdout().is_terminal()));
        Self { level, color, colors_stdout }
    }

    /// Whether stdout gets colours.
    pub(crate) fn colors_stdout(self) -> bool {
        self.colors_stdout
    }

    /// What happens.
    pub(crate) fn note(self, text: impl Display) {
        if self.level >= Level::Normal {
            say(text);
        }
    }

    /// What only the curious want to know.
    pub(crate) fn detail(self, text: impl Display) {
        if self.level >= Level::Verbose {
            say(text);
        }
    }

    /// What may not be as meant.
    pub(crate) fn warning(self, text: impl Display) {
        self.labelled("warning", BOLD_YELLOW, text);
    }

    /// What went wrong.
    pub(crate) fn error(self, text: impl Display) {
        self.labelled("error", BOLD_RED, text);
    }

    /// What went wrong, with its causes; a cause that is part of what was said before is not repeated.
    pub(crate) fn failure(self, error: &anyhow::Error) {
        let mut text = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !text.contains(&cause) {
                text = text + "\n  caused by: " + &cause;
            }
        }
        self.error(text);
    }

    fn labelled(self, label: &str, style: &str, text: impl Display) {
        if self.color {
            // The colours are ours; the text may be anyone's. A closed stderr is no reason to fail.
            let _ = writeln!(io::stderr().lock(), "{style}{label}:{RESET} {}", visible(&text.to_string()));
        } else {
            say(format_args!("{label}: {text}"));
        }
    }
}

fn say(text: impl Display) {
    to_stderr(format_args!("{text}\n"));
}

/// The `--color` among unparsed arguments: help and usage errors are coloured too, and come before parsing ends.
pub(crate) fn color_choice(args: impl IntoIterator<Item = OsString>) -> ColorChoice {
    let mut args = args.into_iter().take_while(|arg| arg != "--").map(|arg| arg.to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        let value = match arg.strip_prefix("--color") {
            Some("") => args.next(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        if let Some(choice) = value.and_then(|value| value.parse().ok()) {
            return choice;
        }
    }
    ColorChoice::Auto
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_colour_choice_before_parsing() {
        let choice = |line: &str| color_choice(line.split_whitespace().map(OsString::from));
        assert_eq!(choice("dapo eval --color never --nonsense"), ColorChoice::Never);
        assert_eq!(choice("dapo --color=always"), ColorChoice::Always);
        assert_eq!(choice("dapo --color"), ColorChoice::Auto);
        assert_eq!(choice("dapo --colored never"), ColorChoice::Auto);
        assert_eq!(choice("dapo generate -- --color=always"), ColorChoice::Auto);
    }
}
