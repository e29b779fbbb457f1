//! Lines that a user types: with an editor and a history on a terminal, as they come elsewhere.

use crate::terminal::to_stderr;
use anyhow::Result;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor};
use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

const PROMPT: &str = "> ";
/// Lines that the history keeps.
const LINES: usize = 1000;

/// Where lines come from.
pub(crate) enum LineInput {
    /// A terminal.
    Editor { editor: Box<Editor<(), DefaultHistory>>, history: Option<PathBuf> },
    /// Something else, or a terminal whose output goes elsewhere, which gets a prompt.
    Plain { prompt: bool },
}

/// What was typed.
pub(crate) enum Typed {
    Line(String),
    /// Ctrl-C: the line is given up.
    Nothing,
    End,
}

impl LineInput {
    /// Stdin. On a terminal lines are edited, and with `history` kept for the next time.
    pub(crate) fn of_stdin(history: bool) -> Self {
        let is_terminal = io::stdin().is_terminal();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if !is_terminal || !io::stdout().is_terminal() || is_dumb {
            return Self::Plain { prompt: is_terminal };
        }
        let config = Config::builder().build();
        let Ok(mut editor) = Editor::<(), DefaultHistory>::with_config(config) else {
            return Self::Plain { prompt: true };
        };
        let _ = editor.set_max_history_size(LINES);
        let history = if history { history_file() } else { None };
        if let Some(file) = &history {
            // The first time there is none.
            let _ = editor.load_history(file);
        }
        Self::Editor { editor: Box::new(editor), history }
    }

    /// Whether somebody types.
    pub(crate) fn is_terminal(&self) -> bool {
        !matches!(self, Self::Plain { prompt: false })
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// When stdin cannot be read.
    pub(crate) fn next(&mut self) -> Result<Typed> {
        match self {
            Self::Editor { editor, history } => match editor.readline(PROMPT) {
                Ok(line) => {
                    if editor.add_history_entry(line.as_str()).is_ok_and(|is_new| is_new)
                        && let Some(file) = history
                    {
                        // A history that cannot be kept is no reason to stop talking.
                        let _ = save(editor, file);
                    }
                    Ok(Typed::Line(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Typed::Nothing),
                Err(ReadlineError::Eof) => Ok(Typed::End),
                Err(error) => Err(error.into()),
            },
            Self::Plain { prompt } => {
                if *prompt {
                    to_stderr(PROMPT);
                }
                let mut line = String::new();
                Ok(if io::stdin().lock().read_line(&mut line)? == 0 { Typed::End } else { Typed::Line(line) })
            }
        }
    }
}

fn save(editor: &mut Editor<(), DefaultHistory>, file: &Path) -> rustyline::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    editor.append_history(file)
}

/// `dapo/chat-history` in the folder for such files: `$XDG_STATE_HOME`, else `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("dapo/chat-history"))
}
