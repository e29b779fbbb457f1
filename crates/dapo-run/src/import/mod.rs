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
mod format;
mod hf;
mod report;
mod shell;
mod swift;
mod text;
mod trl;
mod verl;
mod yaml;

use std::path::Path;

pub use error::ImportError;
pub use format::ConfigFormat;
pub use report::{Assumed, Carried, Note, Skipped};

use crate::layers::resolve_text;
use crate::settings::RunConfig;
use draft::Draft;

/// What a file became.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The settings file; comments say where each value came from and what was left out.
    pub toml: String,
    /// The same, read back.
    pub config: RunConfig,
    /// Whose settings the file held.
    pub source: ConfigFormat,
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
pub fn import(text: &str, file_name: &Path, format: Option<ConfigFormat>) -> Result<Imported, ImportError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (source, invocation) = detect::read(text, file_name, format)?;
    let entries = match source {
        ConfigFormat::Verl => verl::resolve(invocation.entries),
        ConfigFormat::Trl => invocation.entries,
        ConfigFormat::Swift => swift::ungrouped(invocation.entries),
    };
    let mut draft = Draft::new(file_name, source, entries, invocation.skipped);
    match source {
        ConfigFormat::Verl => verl::translate(&mut draft)?,
        ConfigFormat::Trl => trl::translate(&mut draft)?,
        ConfigFormat::Swift => swift::translate(&mut draft)?,
    }
    let skipped = draft.all_skipped();
    let toml = emit::toml(file_name, source, &draft.lines, &draft.notes, &skipped);
    let config = resolve_text(&toml, file_name)
        .map_err(|error| ImportError::Settings { file: file_name.to_owned(), message: error.to_string() })?
        .config;
    let Draft { carried, assumed, notes, .. } = draft;
    Ok(Imported { toml, config, source, carried, assumed, notes, skipped })
}
