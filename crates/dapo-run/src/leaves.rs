//! The keys that settings have set, with their values.

use crate::error::SettingsError;
use crate::settings::RunConfig;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// The path of a key in a table.
pub(crate) fn join(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
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
