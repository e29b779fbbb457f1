//! Settings as a list of keys and values.

use super::inline::inline;
use super::path::join;
use crate::settings::RunConfig;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// What is known of keys.
pub(super) trait Keys {
    /// The path of the key that a value at a path sets.
    fn target_path(&self, path: &str) -> Option<String>;

    /// Whether a table at a path is the value of a key.
    fn is_value(&self, path: &str) -> bool;
}

/// The value of every key that is set, as TOML.
pub(super) fn leaves(config: &RunConfig, keys: &dyn Keys) -> Result<BTreeMap<String, String>, toml::ser::Error> {
    let text = toml::to_string(config)?;
    let mut leaves = BTreeMap::new();
    if let Ok(document) = DeTable::parse(&text) {
        collect("", document.get_ref(), &text, keys, &mut leaves);
    }
    Ok(leaves)
}

fn collect(path: &str, table: &DeTable<'_>, text: &str, keys: &dyn Keys, leaves: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let path = join(path, name.get_ref());
        match value.get_ref() {
            DeValue::Table(_) if keys.is_value(&path) => {
                // What was written a moment ago can be read.
                leaves.extend(inline(value).map(|value| (path, value)));
            }
            DeValue::Table(table) => collect(&path, table, text, keys, leaves),
            DeValue::Float(number) => drop(leaves.insert(path, short(number.as_str()))),
            _ => {
                let path = keys.target_path(&path).unwrap_or(path);
                leaves.insert(path, text[value.span()].to_owned());
            }
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
