//! What makes a run the same run: the settings it cannot change, and a settings file that is as it was written.

use crate::folder::RunFolder;
use crate::keys::{Key, keys};
use crate::model::TINY;
use crate::problems::is_builtin;
use crate::run_error::RunError;
use crate::settings::RunConfig;
use crate::trust::Trust;
use dapo_files::read_text;
use dapo_trainer::Digest;
use serde_json::Value;
use std::path::{Path, absolute};

/// Whether a run keeps a key for good. Where model and data are may change: their fingerprints decide.
fn is_fixed(key: &str) -> bool {
    let free = ["model.path", "model.revision", "model.device", "data.train", "data.validation"];
    let fixed = ["seed", "algorithm", "critic.layers"].contains(&key)
        || ["model.", "lora.", "data."].iter().any(|table| key.starts_with(table));
    fixed && !free.contains(&key)
}

/// The value that settings have for a key; `None` where it is unset.
fn value<'a>(settings: &'a Value, key: &str) -> Option<&'a Value> {
    settings.pointer(&format!("/{}", key.replace('.', "/"))).filter(|value| !value.is_null())
}

/// The first key that a run cannot change and that differs, with both values.
pub(crate) fn changed_for_good(before: &RunConfig, after: &RunConfig) -> Option<(String, String, String)> {
    let (before, after) = (serde_json::to_value(before).ok()?, serde_json::to_value(after).ok()?);
    keys().iter().filter(|key| is_fixed(&key.path)).find_map(|key| {
        let text = |settings| value(settings, &key.path).map_or_else(|| "unset".into(), Value::to_string);
        let (was, is) = (text(&before), text(&after));
        (was != is).then(|| (key.path.clone(), was, is))
    })
}

/// Hash of the settings that a run cannot change and that are not the defaults.
///
/// # Errors
/// When a value has no form in JSON.
pub(crate) fn settings_hash(config: &RunConfig) -> Result<String, RunError> {
    let json = |config: &RunConfig| serde_json::to_value(config).map_err(std::io::Error::from);
    let io = RunError::io(Path::new(RunFolder::CONFIG));
    let (own, defaults) = json(config).and_then(|own| Ok((own, json(&RunConfig::default())?))).map_err(io)?;
    let line = |key: &Key| {
        let found = value(&own, &key.path);
        let text = || found.map_or_else(|| "unset".into(), Value::to_string);
        (found != value(&defaults, &key.path)).then(|| format!("{} = {}\n", key.path, text()))
    };
    let text: String = keys().iter().filter(|key| is_fixed(&key.path)).filter_map(line).collect();
    Ok(Digest::of(text.as_bytes()).blake3)
}

/// The settings with absolute paths, so that the run can be resumed from anywhere.
pub(crate) fn with_absolute_paths(config: &RunConfig) -> RunConfig {
    let resolve = |path: &mut String| {
        // A path that is not text stays as it was written.
        if let Some(whole) = absolute(&*path).ok().and_then(|whole| whole.to_str().map(str::to_owned)) {
            *path = whole;
        }
    };
    let mut config = config.clone();
    // What exists is a path before it is a model's id on the hub.
    if config.model.path != TINY && Path::new(&config.model.path).exists() {
        resolve(&mut config.model.path);
    }
    for name in config.data.train.iter_mut().chain(&mut config.data.validation) {
        if !is_builtin(name) && !name.starts_with("hf://") {
            resolve(name);
        }
    }
    config
}

/// Stands before the hash in the last line of a settings file.
const SEAL: &str = "# BLAKE3 of the lines above: ";

/// The settings file's text: the settings, and their hash in the last line.
///
/// # Errors
/// When TOML has no form for a value.
pub(crate) fn sealed(config: &RunConfig) -> Result<String, RunError> {
    let text = config.to_toml()? + "\n";
    let hash = Digest::of(text.as_bytes()).blake3;
    Ok(format!("{text}{SEAL}{hash}\n"))
}

/// Checks that a settings file is as it was written; says whether it has its hash.
///
/// # Errors
/// When it is another, or has none and must have one.
pub(crate) fn check_seal(file: &Path, trust: Trust) -> Result<bool, RunError> {
    let text = read_text(file).map_err(RunError::io(file))?;
    let advice = "change settings with KEY=VALUE on the command line";
    let Some((above, hash)) = text.rsplit_once(SEAL) else {
        if trust == Trust::Unverified {
            return Ok(false);
        }
        let expected = format!(
            "the hash of the settings in its last line: {advice}; --trust-unverified accepts the file of an older version"
        );
        return Err(RunError::folder(file, "without its hash", expected));
    };
    if format!("{}\n", Digest::of(above.as_bytes()).blake3) != hash {
        let expected = format!("the settings as they were written: {advice}; to keep an edit, remove its last line");
        return Err(RunError::folder(file, "changed: its hash is another", expected + " and add --trust-unverified"));
    }
    Ok(true)
}
