//! What the files of a run folder say, as far as they can be read.

use crate::folder::RunFolder;
use crate::identity::check_seal;
use crate::trust::Trust;
use dapo_files::{read_file, read_text};
use dapo_trainer::Manifest;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// A line of a log.
pub(super) type Line = Map<String, Value>;

/// The files of a run.
#[derive(Debug, Default)]
pub(super) struct RunFiles {
    /// Settings by their keys, as TOML writes the values.
    pub(super) settings: BTreeMap<String, String>,
    pub(super) metrics: Vec<Line>,
    pub(super) evaluations: Vec<Line>,
    /// What is damaged, in words.
    pub(super) damage: Vec<String>,
}

impl RunFiles {
    /// Reads what there is. A torn last line of a log is no damage: a run that is resumed removes it.
    pub(super) fn read(folder: &RunFolder) -> Self {
        let mut files = Self::default();
        match read_text(&folder.config_file()) {
            Ok(text) => match text.parse() {
                Ok(table) => flatten("", table, &mut files.settings),
                Err(error) => {
                    let error: toml::de::Error = error;
                    files.damage.push(format!("{}: {}", RunFolder::CONFIG, error.message().replace('\n', " ")));
                }
            },
            Err(error) => files.damage.push(format!("{}: {error}", RunFolder::CONFIG)),
        }
        if files.damage.is_empty()
            && let Err(error) = check_seal(&folder.config_file(), Trust::Unverified)
        {
            files.damage.push(without(folder, &error.to_string()));
        }
        files.metrics = files.lines(folder, RunFolder::METRICS);
        files.evaluations = files.lines(folder, RunFolder::EVALUATIONS);
        files
    }

    fn lines(&mut self, folder: &RunFolder, name: &str) -> Vec<Line> {
        let text = match read_file(&folder.path().join(name)) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.damage.push(format!("{name}: {error}"));
                }
                return Vec::new();
            }
        };
        let mut lines = Vec::new();
        for (number, line) in
            (1..).zip(text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")))
        {
            match serde_json::from_slice::<Line>(line).ok().filter(|line| step(line).is_some()) {
                Some(line) => lines.push(line),
                None => self.damage.push(format!("{name}: line {number} is not one of a run")),
            }
        }
        lines
    }

    /// A setting's value, without the quotes of a string.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(|value| value.trim_matches('"'))
    }

    /// Steps made.
    pub(super) fn steps(&self) -> u64 {
        self.metrics.last().and_then(step).unwrap_or(0)
    }
}

/// The step of a log's line.
pub(super) fn step(line: &Line) -> Option<u64> {
    line.get("step")?.as_u64()
}

/// Checks that a checkpoint's files are there, with the sizes that its manifest says; their hashes are not computed.
/// Gives the manifest, where it has one.
///
/// # Errors
/// What is damaged, in words.
pub(super) fn check_sizes(folder: &RunFolder, checkpoint: &Path) -> Result<Option<Manifest>, String> {
    let manifest = Manifest::read(checkpoint).map_err(|error| without(folder, &error.to_string()))?;
    for (name, digest) in manifest.iter().flat_map(|manifest| &manifest.files) {
        let file = checkpoint.join(name);
        let found = fs::metadata(&file).map(|metadata| metadata.len());
        if !matches!(found, Ok(bytes) if bytes == digest.bytes) {
            let found = found.map_or_else(|error| error.to_string(), |bytes| format!("{bytes} bytes long"));
            let file = file.display().to_string();
            return Err(format!("{}: {found}, expected {} bytes", without(folder, &file), digest.bytes));
        }
    }
    Ok(manifest)
}

/// A message about files of the folder, with their paths in it.
fn without(folder: &RunFolder, message: &str) -> String {
    message.replace(&format!("{}{}", folder.path().display(), std::path::MAIN_SEPARATOR), "")
}

fn flatten(prefix: &str, table: toml::Table, settings: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(table) => flatten(&key, table, settings),
            value => drop(settings.insert(key, value.to_string())),
        }
    }
}
