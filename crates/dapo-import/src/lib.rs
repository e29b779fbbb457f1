//! Other trainers' settings, turned into ours.
//!
//! [`import`] reads what starts a DAPO, GRPO or PPO run elsewhere (verl's YAML, overrides and scripts, TRL's and open-r1's
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
mod parts;
mod python;
mod report;
mod shell;
mod swift;
mod text;
mod trl;
mod verl;
mod yaml;

pub use error::ImportError;
pub use format::ConfigFormat;
pub use report::{Assumed, Carried, Note, Skipped};

use command::Invocation;
use dapo_run::{KeyFault, RunConfig, RunError, SettingsError, resolve_text};
use draft::Draft;
use std::path::Path;

/// What a file became.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The settings file; comments say where each value came from and what was left out. It is valid: what it cannot say is
    /// a line to be filled in.
    pub toml: String,
    /// The same, read back.
    pub config: RunConfig,
    /// Whose settings the file held.
    pub source: ConfigFormat,
    /// Keys that decided a setting.
    pub carried: Vec<Carried>,
    /// Settings that are the source's defaults.
    pub assumed: Vec<Assumed>,
    /// Settings to be filled in, and differences worth knowing.
    pub notes: Vec<Note>,
    /// Keys that decided nothing; those without which training differs come first.
    pub skipped: Vec<Skipped>,
    /// Keys whose value cannot be carried over, such as a loss that is not offered here: each is an
    /// [`ImportError::Value`]. The settings are written without them, and are not what the source asks for.
    pub refused: Vec<ImportError>,
}

/// Largest file that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Turns another trainer's settings into ours; without a format, the content tells.
///
/// ```
/// use std::path::Path;
/// use dapo_import::import;
///
/// let text = "model_name_or_path: Qwen/Qwen3-0.6B\nepsilon: 0.2\nepsilon_high: 0.28\nbeta: 0.0\n";
/// let imported = import(text, Path::new("config.yaml"), None)?;
/// assert!(imported.toml.contains("[loss.policy_loss.clip]\nlow = 0.2"));
/// assert_eq!(imported.carried[0].source_key, "model_name_or_path");
/// # Ok::<(), dapo_import::ImportError>(())
/// ```
///
/// # Errors
/// [`ImportError`] with file, line, key, what was found and what was expected: where the file cannot be read, is larger
/// than 1 MiB, or holds no settings of a known trainer. A single value that cannot be carried over is none:
/// [`Imported::refused`] has it.
pub fn import(text: &str, file_name: &Path, format: Option<ConfigFormat>) -> Result<Imported, ImportError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        let found = format!("{} bytes", text.len());
        let expected = format!("at most {MAX_BYTES} bytes of settings");
        return Err(ImportError::Syntax { file: file_name.to_owned(), line: 1, found, expected });
    }
    let (source, Invocation { entries, doubts, skipped, .. }) = detect::read(text, file_name, format)?;
    let entries = match source {
        ConfigFormat::Verl => verl::resolve(entries),
        ConfigFormat::Trl => entries,
        ConfigFormat::Swift => swift::ungrouped(entries),
    };
    let mut draft = Draft::new(file_name, source, entries, doubts, skipped);
    match source {
        ConfigFormat::Verl => verl::translate(&mut draft),
        ConfigFormat::Trl => trl::translate(&mut draft),
        ConfigFormat::Swift => swift::translate(&mut draft)?,
    }
    let (toml, config) = settings(&mut draft, file_name, source)?;
    let (notes, skipped) = (draft.all_notes(), draft.all_skipped());
    let Draft { carried, assumed, refused, .. } = draft;
    Ok(Imported { toml, config, source, carried, assumed, notes, skipped, refused })
}

/// The settings file and what it says. Values that settings cannot have are taken back until it is valid.
fn settings(draft: &mut Draft<'_>, file: &Path, source: ConfigFormat) -> Result<(String, RunConfig), ImportError> {
    loop {
        let toml = emit::toml(file, source, &draft.lines, &draft.all_notes(), &draft.all_skipped());
        let wrong: Vec<(String, String)> = match resolve_text(&toml, file).map(|resolved| resolved.config) {
            Ok(config) => match config.validate() {
                Ok(()) => return Ok((toml, config)),
                Err(RunError::Setting { key, expected, .. }) => vec![(key, expected)],
                Err(error) => return Err(invalid(file, &error)),
            },
            Err(SettingsError::Keys(errors)) => {
                errors.into_iter().map(|error| (error.key, expected(error.fault))).collect()
            }
            Err(error) => return Err(invalid(file, &error)),
        };
        let mut is_changed = false;
        for (key, expected) in &wrong {
            // Where the key has no line, what is wrong is the default that comes with its table.
            let table = key.rsplit_once('.').map_or("", |(table, _)| table);
            is_changed |= draft.take_back(key, expected) || (table.contains('.') && draft.take_back(table, expected));
        }
        if !is_changed {
            let (key, expected) = &wrong[0];
            return Err(invalid(file, &format!("{key}, expected {expected}")));
        }
    }
}

fn expected(fault: KeyFault) -> String {
    match fault {
        KeyFault::Value { expected, .. } => expected,
        KeyFault::Unknown { .. } => "a key that exists".into(),
        KeyFault::Twice => "one value".into(),
    }
}

fn invalid(file: &Path, error: &impl ToString) -> ImportError {
    ImportError::Settings { file: file.to_owned(), message: error.to_string() }
}
