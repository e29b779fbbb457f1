//! Other trainers' settings, turned into ours.
//!
//! [`import`] reads what starts a DAPO or GRPO run elsewhere (verl's YAML, overrides and scripts, TRL's and open-r1's
//! recipes, ms-swift's arguments) and writes the settings file that comes closest. Every key of the source ends up
//! either in [`Imported::carried`] or in [`Imported::skipped`], with the reason; where a translation differs in meaning,
//! [`Imported::notes`] says how; and where the source leaves something to its own defaults that ours do not share,
//! [`Imported::assumed`] lists them. Nothing of the source is run, and neither the environment nor other files are read.

mod command;
mod detect;
mod draft;
mod emit;
mod entry;
mod error;
mod hf;
mod shell;
mod swift;
mod trl;
mod verl;
mod yaml;

use std::{fmt, path::Path, str::FromStr};

pub use error::ImportError;

use crate::RunConfig;
use crate::layers::resolve_text;
use draft::Draft;

/// Whose settings a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// verl: YAML, a list of dotted overrides, or a script that starts `main_ppo` or `main_dapo`.
    Verl,
    /// TRL's GRPO trainer, with open-r1's additions: YAML or arguments.
    Trl,
    /// ms-swift's `swift rlhf --rlhf_type grpo`: YAML, JSON or arguments.
    Swift,
}

impl Format {
    /// The name as its makers write it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Verl => "verl",
            Self::Trl => "TRL",
            Self::Swift => "ms-swift",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl FromStr for Format {
    type Err = ImportError;

    fn from_str(name: &str) -> Result<Self, ImportError> {
        match name.to_ascii_lowercase().as_str() {
            "verl" => Ok(Self::Verl),
            "trl" | "open-r1" => Ok(Self::Trl),
            "ms-swift" | "swift" => Ok(Self::Swift),
            _ => Err(ImportError::FormatName { found: name.into() }),
        }
    }
}

/// A key of the source that decided a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The key in the source.
    pub source_key: String,
    /// Ours.
    pub key: String,
    /// The value it got, as TOML.
    pub value: String,
    /// The source's line, from 1.
    pub line: usize,
}

/// A setting that the source leaves to its own default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// Our key.
    pub key: String,
    /// The value it got, as TOML.
    pub value: String,
    /// Whose default it is.
    pub reason: String,
}

/// A translation with a difference worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The key in the source; empty if it is about a key that is missing there.
    pub key: String,
    /// The source's line, from 1.
    pub line: Option<usize>,
    /// The difference.
    pub text: String,
}

/// A key of the source that decided nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The key in the source; `key[1]` for an item of a list; a word of the shell for what is no key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The source's line, from 1.
    pub line: usize,
    /// Why it was left out.
    pub reason: String,
}

/// What a file became.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The settings file; comments say where each value came from and what was left out.
    pub toml: String,
    /// The same, read back.
    pub config: RunConfig,
    /// Whose settings the file held.
    pub source: Format,
    /// Keys that decided a setting.
    pub carried: Vec<Carried>,
    /// Settings that are the source's defaults.
    pub assumed: Vec<Assumed>,
    /// Differences worth knowing.
    pub notes: Vec<Note>,
    /// Keys that decided nothing.
    pub skipped: Vec<Skipped>,
}

/// Turns another trainer's settings into ours; without a format, the content tells.
///
/// ```
/// use std::path::Path;
/// use dapo_run::import;
///
/// let text = "model_name_or_path: Qwen/Qwen3-0.6B\nepsilon: 0.2\nepsilon_high: 0.28\nbeta: 0.0\n";
/// let imported = import(text, Path::new("config.yaml"), None)?;
/// assert!(imported.toml.contains("[loss.policy_loss.clip]\nlow = 0.2"));
/// assert_eq!(imported.carried[0].source_key, "model_name_or_path");
/// # Ok::<(), dapo_run::ImportError>(())
/// ```
///
/// # Errors
/// [`ImportError`] with file, line, key, what was found and what was expected.
pub fn import(text: &str, file_name: &Path, format: Option<Format>) -> Result<Imported, ImportError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (source, invocation) = detect::read(text, file_name, format)?;
    let entries = match source {
        Format::Verl => verl::resolve(invocation.entries),
        Format::Trl => invocation.entries,
        Format::Swift => swift::ungrouped(invocation.entries),
    };
    let mut draft = Draft::new(file_name, source, entries, invocation.skipped);
    match source {
        Format::Verl => verl::translate(&mut draft)?,
        Format::Trl => trl::translate(&mut draft)?,
        Format::Swift => swift::translate(&mut draft)?,
    }
    let skipped = draft.all_skipped();
    let toml = emit::toml(file_name, source, &draft.lines, &draft.notes, &skipped);
    let config = resolve_text(&toml, file_name)
        .map_err(|error| ImportError::Settings { file: file_name.to_owned(), message: error.to_string() })?
        .config;
    let Draft { carried, assumed, notes, .. } = draft;
    Ok(Imported { toml, config, source, carried, assumed, notes, skipped })
}

/// A value that may be shown, unless its name says that it is nobody's business.
fn public(key: &str, value: String) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let is_variable = !name.contains(|c: char| c.is_ascii_lowercase());
    let is_secret = if is_variable {
        ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|word| name.contains(word))
    } else {
        ["api_key", "token", "secret", "password"].iter().any(|word| name.ends_with(word))
    };
    if is_secret { "…".into() } else { value }
}

/// A value cut to a length that fits a line, on one line.
fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    let line: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(LONGEST).is_some() { format!("{line}…") } else { line }
}
