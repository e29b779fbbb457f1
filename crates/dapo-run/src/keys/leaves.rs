//! Settings as a list of keys and values.

use super::path::join;
use crate::settings::RunConfig;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// The value of every key that is set, as TOML. `target` gives the key that a value in the place of a table stands for.
pub(crate) fn leaves(
    config: &RunConfig,
    target: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, toml::ser::Error> {
    let text = toml::to_string(config)?;
    let mut leaves = BTreeMap::new();
    if let Ok(document) = DeTable::parse(&text) {
        collect("", document.get_ref(), &text, target, &mut leaves);
    }
    Ok(leaves)
}

fn collect(
    path: &str,
    table: &DeTable<'_>,
    text: &str,
    target: &dyn Fn(&str) -> Option<String>,
    leaves: &mut BTreeMap<String, String>,
) {
    for (name, value) in table {
        let path = join(path, name.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => collect(&path, table, text, target, leaves),
            DeValue::Float(number) => drop(leaves.insert(path, short(number.as_str()))),
            _ => {
                let path = target(&path).unwrap_or(path);
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
