//! Settings as TOML text, complete and in the order of their declaration.

use crate::error::SettingsError;
use crate::keys::{EITHER, LAYOUT, leaves, split};
use crate::settings::RunConfig;
use std::fmt::Write;

/// Column where comments start, if the line is short enough.
const COMMENT_COLUMN: usize = 36;

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
    let leaves = leaves(config, &|path| Some(LAYOUT.target(path)?.path.clone()))?;
    let mut text = String::new();
    for table in &LAYOUT.tables {
        let path = &table.path;
        let set = || leaves.range(format!("{path}.")..format!("{path}/")).next().is_some();
        if table.optional && !set() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n# [{path}] is not set");
            continue;
        }
        let keys: Vec<_> = LAYOUT.keys_of(path).collect();
        if !path.is_empty() && !keys.is_empty() {
            let _ = writeln!(text, "\n[{path}]");
        }
        for key in keys {
            let name = split(&key.path).1;
            let is_replaced = EITHER.iter().any(|(count, share)| *count == key.path && leaves.contains_key(*share));
            let Some(value) = leaves.get(&key.path).filter(|_| !is_replaced) else {
                let _ = writeln!(text, "# {name} is not set");
                continue;
            };
            let line = format!("{name} = {value}");
            let _ = match comment(&key.path) {
                Some(comment) => writeln!(text, "{line:COMMENT_COLUMN$}  # {comment}"),
                None => writeln!(text, "{line}"),
            };
        }
    }
    Ok(text)
}
