//! What is said on stderr, how much of it, and in which form.

use clap::ColorChoice;
use dapo_console::{Level, LogFormat, Voice};
use std::ffi::OsString;
use std::fmt::Display;

/// The arguments that all subcommands share.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct TalkArgs {
    /// When to use colours.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    /// On stderr, print only warnings and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Also print details.
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Format of messages on stderr: text, or json for one JSON object per line, each with `time` and `event`.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    log_format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The voice of a command.
#[derive(Clone, Copy)]
pub(crate) struct Talk {
    voice: Voice,
    /// A rank that is not the first; it says only what went wrong.
    rank: Option<usize>,
}

impl Talk {
    pub(crate) fn new(args: TalkArgs) -> Self {
        let level = match args {
            TalkArgs { quiet: true, .. } => Level::Quiet,
            TalkArgs { verbose: true, .. } => Level::Verbose,
            _ => Level::Normal,
        };
        let format = match args.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        let color = match args.color {
            ColorChoice::Always => dapo_console::ColorChoice::Always,
            ColorChoice::Never => dapo_console::ColorChoice::Never,
            ColorChoice::Auto => dapo_console::ColorChoice::Auto,
        };
        Self { voice: Voice::new(level, format, color), rank: None }
    }

    /// The voice of a rank other than 0: it prints errors alone, with the number of the rank.
    pub(crate) fn of_rank(self, rank: usize) -> Self {
        Self { rank: Some(rank), ..self }
    }

    /// The voice itself, for monitors and meters.
    pub(crate) fn voice(self) -> Voice {
        self.voice
    }

    /// Whether stdout gets colours.
    pub(crate) fn colors_stdout(self) -> bool {
        self.voice.colors_stdout()
    }

    /// What happens.
    pub(crate) fn note(self, text: impl Display) {
        if self.rank.is_none() {
            self.voice.note(text);
        }
    }

    /// What only the curious want to know.
    pub(crate) fn detail(self, text: impl Display) {
        if self.rank.is_none() {
            self.voice.detail(text);
        }
    }

    /// What may not be as meant.
    pub(crate) fn warning(self, text: impl Display) {
        if self.rank.is_none() {
            self.voice.warning(text);
        }
    }

    /// What went wrong.
    pub(crate) fn error(self, text: impl Display) {
        match self.rank {
            None => self.voice.error(text),
            Some(rank) => self.voice.error(format_args!("rank {rank}: {text}")),
        }
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
