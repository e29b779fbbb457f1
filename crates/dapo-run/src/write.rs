//! Settings as TOML text, complete and in the order of their declaration.

use crate::error::SettingsError;
use crate::keys::{EITHER, LAYOUT, OWN_LAYOUT, join, split};
use crate::settings::RunConfig;
use std::fmt::Write;

/// Column where comments start, if the line is short enough.
const COMMENT_COLUMN: usize = 36;

const ACCURACY: &str = "rewards.accuracy";

impl RunConfig {
    /// The settings as a file that reads back as exactly these: every key with its value, section by section. What is
    /// not set, or has no effect beside another key, is named in a comment.
    ///
    /// # Errors
    /// When TOML has no form for a value.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        write(self, |_| None)
    }
}

/// The file, with the comment that `comment` has on a key that is set.
pub(crate) fn write(config: &RunConfig, comment: impl Fn(&str) -> Option<String>) -> Result<String, SettingsError> {
    let leaves = LAYOUT.leaves(config)?;
    let mut text = String::new();
    for table in &LAYOUT.tables {
        let path = &table.path;
        let set = || leaves.range(format!("{path}.")..format!("{path}/")).next().is_some();
        // The one table that is off without being optional.
        let is_off = config.rewards.accuracy.is_none() && path.starts_with(ACCURACY);
        if (table.optional || is_off) && !set() {
            if table.optional || path == ACCURACY {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "\n# [{path}] is not set");
            }
            continue;
        }
        let keys: Vec<_> = LAYOUT.keys_of(path).collect();
        if !path.is_empty() && !keys.is_empty() {
            let _ = writeln!(text, "\n[{path}]");
        }
        for key in keys {
            let is_replaced = EITHER.iter().any(|(count, share)| *count == key.path && leaves.contains_key(*share));
            let value = leaves.get(&key.path).filter(|_| !is_replaced);
            write_key(&mut text, &key.path, value, comment(&key.path));
        }
    }
    for name in config.rewards.own.0.keys() {
        let table = join("rewards", name);
        let _ = writeln!(text, "\n[{table}]");
        let paths = OWN_LAYOUT.keys.iter().map(|key| join(&table, split(&key.path).1));
        for path in paths.filter(|path| leaves.contains_key(path)) {
            write_key(&mut text, &path, leaves.get(&path), comment(&path));
        }
    }
    Ok(text)
}

fn write_key(text: &mut String, path: &str, value: Option<&String>, comment: Option<String>) {
    let name = split(path).1;
    let line = value.map(|value| format!("{name} = {value}"));
    // Writing to a string cannot fail.
    let _ = match (line, comment) {
        (None, _) => writeln!(text, "# {name} is not set"),
        (Some(line), Some(comment)) => writeln!(text, "{line:COMMENT_COLUMN$}  # {comment}"),
        (Some(line), None) => writeln!(text, "{line}"),
    };
}
