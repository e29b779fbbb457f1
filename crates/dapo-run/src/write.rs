//! Settings as TOML text, complete and in the order of their declaration.

use crate::keys::{LAYOUT, join, split};
use crate::{RunConfig, SettingsError, Source};
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::de::{DeTable, DeValue};

/// Column where comments start, if the line is short enough.
const COMMENT_COLUMN: usize = 36;

impl RunConfig {
    /// The settings as a file that reads back as exactly these: every key with its value, section by section. What is
    /// not set is named in a comment.
    ///
    /// # Errors
    /// When TOML has no form for a value.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        write(self, None)
    }
}

/// The file; with `sources`, each value's origin in a comment.
pub(crate) fn write(config: &RunConfig, sources: Option<&BTreeMap<String, Source>>) -> Result<String, SettingsError> {
    let leaves = leaves(config)?;
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
            let line = match leaves.get(&key.path) {
                Some(value) => format!("{name} = {value}"),
                None => format!("# {name} is not set"),
            };
            let source = sources.map(|sources| sources.get(&key.path).unwrap_or(&Source::Default));
            let _ = match source.filter(|_| leaves.contains_key(&key.path)) {
                Some(Source::Default) => writeln!(text, "{line:COMMENT_COLUMN$}  # default"),
                Some(source) => writeln!(text, "{line:COMMENT_COLUMN$}  # from {source}"),
                None => writeln!(text, "{line}"),
            };
        }
    }
    Ok(text)
}

/// The value of every key that is set, as TOML.
pub(crate) fn leaves(config: &RunConfig) -> Result<BTreeMap<String, String>, SettingsError> {
    let text = toml::to_string(config)?;
    let mut leaves = BTreeMap::new();
    if let Ok(document) = DeTable::parse(&text) {
        collect("", document.get_ref(), &text, &mut leaves);
    }
    Ok(leaves)
}

fn collect(path: &str, table: &DeTable<'_>, text: &str, leaves: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let path = join(path, name.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => collect(&path, table, text, leaves),
            DeValue::Float(number) => drop(leaves.insert(path, short(number.as_str()))),
            _ => drop(leaves.insert(path, text[value.span()].to_owned())),
        }
    }
}

/// 0.000001 as 1e-6: the same number to the last digit.
fn short(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => format!("{number:?}"),
        _ => text.to_owned(),
    }
}
