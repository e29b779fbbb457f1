//! Settings: layers, errors, recipes, schema, writing and estimates.
#![allow(clippy::unwrap_used)]

mod algorithm;
mod errors;
mod estimates;
mod layering;
mod old_keys;
mod own_tables;
mod presets;
mod round_trip;
mod schema;
mod values;

use dapo_run::{Layer, Resolved, SettingsError, resolve};
use std::path::PathBuf;

/// Settings files in a folder of their own.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The message of the error that a file with this text gives, with the folder taken off its path.
    fn error(&self, text: &str) -> String {
        let path = self.write("my.toml", text);
        let error = resolve(&[Layer::File(path)]).unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn words(words: &[&str]) -> Result<Resolved, SettingsError> {
    resolve(&words.iter().map(|word| Layer::parse(word)).collect::<Result<Vec<_>, _>>()?)
}
