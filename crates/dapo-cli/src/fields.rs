//! Which columns of a data file make a problem: those of flags, and of the settings that an evaluation goes with.

use crate::talk::Talk;
use anyhow::{Error, Result, anyhow, ensure};
use dapo_data::{DataError, Fields, ReadOptions, Reading, read};
use dapo_run::{RunFolder, settings_of};
use std::path::Path;

/// Columns with names of the user's own.
#[derive(clap::Args)]
pub(crate) struct FieldArgs {
    /// Column for a field of the problem (prompt, answer, system or choices), as in prompt=question; may be given several
    /// times [default: data.fields of --rewards, or of the run that the model is from, if the file has these columns]
    #[arg(long = "field", value_name = "KEY=COLUMN", value_parser = field)]
    named: Vec<Named>,
}

/// A key of `data.fields` and its value.
#[derive(Clone)]
struct Named {
    key: Key,
    column: Option<String>,
}

#[derive(Clone, Copy)]
enum Key {
    Prompt,
    Answer,
    System,
    Choices,
}

fn field(text: &str) -> Result<Named> {
    let expected = || anyhow!("expected prompt, answer, system or choices, then = and a column");
    let (key, column) = text.split_once('=').ok_or_else(expected)?;
    let key = match key.strip_prefix("data.fields.").unwrap_or(key) {
        "prompt" => Key::Prompt,
        "answer" => Key::Answer,
        "system" => Key::System,
        "choices" => Key::Choices,
        _ => return Err(expected()),
    };
    Ok(Named { key, column: Some(column.to_owned()).filter(|column| !column.is_empty()) })
}

impl FieldArgs {
    /// Fields with those of the flags in their place.
    fn over(&self, mut fields: Fields) -> Fields {
        for Named { key, column } in &self.named {
            let field = match key {
                Key::Prompt => &mut fields.prompt,
                Key::Answer => &mut fields.answer,
                Key::System => &mut fields.system,
                Key::Choices => &mut fields.choices,
            };
            field.clone_from(column);
        }
        fields
    }

    /// Reads a file by the flags' columns and, where it has them, those of settings.
    pub(crate) fn read(
        &self,
        data: &Path,
        settings: Fields,
        has_system: bool,
        options: &ReadOptions,
        talk: Talk,
    ) -> Result<Reading> {
        let with = |fields: &Fields| read(data, &ReadOptions { fields: fields.clone(), ..options.clone() });
        let named = self.over(Fields::default());
        ensure!(named.system.is_none() || !has_system, "--field system is set, expected unset beside --system");
        // Of settings, the column gives way.
        let system = settings.system.clone().filter(|_| !has_system);
        let both = self.over(Fields { system, ..settings });
        if both == named {
            return with(&named).map_err(with_remedy);
        }
        match with(&both) {
            // A file of another layout than that of the run's own data.
            Err(DataError::Entry { line, found, expected, path }) => {
                let Ok(reading) = with(&named) else {
                    return Err(with_remedy(DataError::Entry { line, found, expected, path }));
                };
                talk.note(format_args!("{}: data.fields of the settings do not apply: it has {found}", data.display()));
                Ok(reading)
            }
            other => Ok(other?),
        }
    }
}

/// An error that says how the columns are named.
fn with_remedy(error: DataError) -> Error {
    let error = Error::from(error);
    if error.to_string().contains("data.fields.") {
        return anyhow!("{error}; --field KEY=COLUMN names the columns");
    }
    error
}

/// `data.fields` of the run that a model is from: a run folder, a checkpoint of one, or a checkpoint's part.
pub(crate) fn fields_of_run(model: &str) -> Option<Fields> {
    let is_run = |folder: &&Path| !folder.as_os_str().is_empty() && RunFolder::at(folder).config_file().is_file();
    let run = Path::new(model).ancestors().take(4).find(is_run)?;
    Some(settings_of(run, &[]).ok()?.config.data.fields)
}
