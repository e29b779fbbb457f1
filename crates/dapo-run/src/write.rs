//! Settings as TOML text, complete and in the order of their declaration.

use crate::error::SettingsError;
use crate::keys::{EITHER, LAYOUT, OWN_LAYOUT, join, split};
use crate::recipes::text_of;
use crate::settings::{Algorithm, RunConfig};
use std::collections::BTreeSet;
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
    let beneath = config.algorithm.map(set_by).unwrap_or_default();
    let is_set = |path: &str| leaves.range(format!("{path}.")..format!("{path}/")).next().is_some();
    // A table in one that is not there is not there either.
    let is_inner = |path: &str| {
        let mut outer = LAYOUT.tables.iter().filter(|outer| outer.optional && !is_set(&outer.path));
        outer.any(|outer| path.strip_prefix(&outer.path).is_some_and(|rest| rest.starts_with('.')))
    };
    // What the algorithm sets and these settings do not.
    let none = "\"none\"".to_owned();
    let mut text = String::new();
    for table in &LAYOUT.tables {
        let path = &table.path;
        let set = || is_set(path);
        // The one table that is off without being optional.
        let is_off = config.rewards.accuracy.is_none() && path.starts_with(ACCURACY);
        if (table.optional || is_off || is_inner(path)) && !set() {
            if (table.optional || path == ACCURACY) && !(table.optional && beneath.contains(path)) {
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
            let is_unset = value.is_none() && key.optional && beneath.contains(&key.path);
            write_key(&mut text, &key.path, value.or(is_unset.then_some(&none)), comment(&key.path));
        }
        let tables = LAYOUT.tables.iter().filter(|child| child.optional && beneath.contains(&child.path));
        for child in tables.filter(|child| split(&child.path).0 == path && !is_set(&child.path)) {
            write_key(&mut text, &child.path, Some(&none), None);
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

/// The keys and tables that an algorithm sets.
fn set_by(algorithm: Algorithm) -> BTreeSet<String> {
    fn collect(path: &str, table: &toml::Table, set: &mut BTreeSet<String>) {
        for (name, value) in table.iter().filter(|(_, value)| value.as_str() != Some("none")) {
            let path = join(path, name);
            if let Some(table) = value.as_table() {
                collect(&path, table, set);
            }
            set.insert(path);
        }
    }
    let mut set = BTreeSet::new();
    collect("", &text_of(algorithm).parse().unwrap_or_default(), &mut set);
    set
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
