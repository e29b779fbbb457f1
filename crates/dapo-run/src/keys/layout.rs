//! The list of all settings, as the schema has them.

use super::generated::{choices, description, generated, is, strings};
use super::leaves::{Keys, leaves};
use super::own::{OWN, schema};
use super::path::{NAME, join, split};
use super::variants::{self, Variant};
use crate::settings::RunConfig;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name with its tables, such as `optimizer.lr`.
    pub path: String,
    /// What values it takes.
    pub kind: Kind,
    /// Its default, as TOML; `None`: not set.
    pub default: Option<String>,
    /// What it means.
    pub description: String,
    /// Where kinds of tables differ in it, what it means for each; [`for_kind`](Self::for_kind) selects one.
    pub variants: Vec<Variant>,
    /// Whether it may be unset.
    pub(crate) optional: bool,
    /// The names, of the table around it, that have it; empty: all.
    pub(crate) of: Vec<String>,
}

impl Key {
    /// The setting as it is in a table of a kind; `None` where such a table does not have it.
    #[must_use]
    pub fn for_kind(&self, kind: &str) -> Option<Self> {
        let is_of = |of: &[String]| of.iter().any(|of| of == kind);
        if !self.of.is_empty() && !is_of(&self.of) {
            return None;
        }
        let mut key = self.clone();
        let variants = std::mem::take(&mut key.variants);
        if let Some(variant) = variants.into_iter().find(|variant| is_of(&variant.of)) {
            (key.default, key.description) = (variant.default, variant.description);
        }
        Some(key)
    }

    /// Whether tables of all kinds have it.
    pub fn is_of_all(&self) -> bool {
        self.of.is_empty()
    }

    /// The default for people: of each kind, where kinds differ.
    pub(crate) fn shown_default(&self) -> String {
        variants::shown_default(&self.variants, self.default.as_deref())
    }
}

/// What values a setting takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Flag,
    /// An integer of at least 0.
    Integer,
    /// Any number.
    Number,
    /// A string.
    Text,
    /// A list of strings; one string stands for a list of one.
    Texts,
    /// A list of these strings; one string stands for a list of one.
    Choices(Vec<String>),
    /// One of these strings.
    Choice(Vec<String>),
    /// An integer of at least 0, or one of these strings.
    IntegerOr(Vec<String>),
    /// A table of any content, which is one value.
    Table,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("true or false"),
            Self::Integer => f.write_str("an integer of at least 0"),
            Self::Number => f.write_str("a number"),
            Self::Text => f.write_str("a string"),
            Self::Texts => f.write_str("a list of strings"),
            Self::Choices(names) => write!(f, "a list of {}", names.join(", ")),
            Self::Choice(names) => write!(f, "one of {}", names.join(", ")),
            Self::IntegerOr(names) => write!(f, "an integer of at least 0 or {}", names.join(", ")),
            Self::Table => f.write_str("a table"),
        }
    }
}

/// A table of settings.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name; empty for the top level.
    pub(crate) path: String,
    pub(crate) optional: bool,
    pub(crate) description: String,
    /// The key in it that anything but a table in its place stands for: for most, `name`.
    pub(crate) shorthand: Option<String>,
    /// The names, of the table around it, that have it; empty: all.
    pub(crate) of: Vec<String>,
}

/// Tables and keys in the order of their declaration.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) tables: Vec<Table>,
    pub(crate) keys: Vec<Key>,
}

impl Layout {
    pub(crate) fn key(&self, path: &str) -> Option<&Key> {
        let own = || OWN_LAYOUT.keys.iter().find(|key| Some(&key.path) == self.own(path).as_ref());
        self.keys.iter().find(|key| key.path == path).or_else(own)
    }

    pub(crate) fn table(&self, path: &str) -> Option<&Table> {
        let own = || OWN_LAYOUT.tables.iter().find(|table| Some(&table.path) == self.own(path).as_ref());
        self.tables.iter().find(|table| table.path == path).or_else(own)
    }

    /// For a reward table under a name of the user's own, or a key in it: the path with the name that stands for all.
    pub(crate) fn own(&self, path: &str) -> Option<String> {
        let (name, key) = path.strip_prefix("rewards.").map(|rest| rest.split_once('.').unwrap_or((rest, "")))?;
        let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let taken = join("rewards", name);
        let is_free = self.tables.iter().map(|table| &table.path).chain(self.keys.iter().map(|key| &key.path));
        let is_own = is_plain && !is_free.into_iter().any(|path| *path == taken);
        is_own.then(|| if key.is_empty() { OWN.to_owned() } else { join(OWN, key) })
    }

    /// The keys that stand in a table itself.
    pub(crate) fn keys_of(&self, table: &str) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| split(&key.path).0 == table)
    }

    /// The key that a value at a path sets: one of the path, or the one that a value in a table's place stands for.
    pub(crate) fn target(&self, path: &str) -> Option<&Key> {
        let shorthand = self.table(path).and_then(|table| table.shorthand.as_ref());
        shorthand.map_or_else(|| self.key(path), |field| self.key(&join(path, field)))
    }

    /// The path of the key that a value at a path sets.
    pub(crate) fn target_path(&self, path: &str) -> Option<String> {
        let key = self.target(path)?;
        Some(if self.own(path).is_some() { path.to_owned() } else { key.path.clone() })
    }

    /// The value of every key that is set, as TOML.
    ///
    /// # Errors
    /// When TOML has no form for a value.
    pub(crate) fn leaves(&self, config: &RunConfig) -> Result<BTreeMap<String, String>, toml::ser::Error> {
        leaves(config, self)
    }

    /// For what only some names of a table have: the key of that name, and the names.
    pub(crate) fn condition(&self, path: &str) -> Option<(String, &[String])> {
        let of = self.key(path).map(|key| &key.of).or_else(|| self.table(path).map(|table| &table.of))?;
        let mut table = split(path).0;
        while !of.is_empty() && !table.is_empty() {
            if self.table(table).is_some_and(|table| table.shorthand.as_deref() == Some(NAME)) {
                return Some((join(table, NAME), of));
            }
            table = split(table).0;
        }
        None
    }

    fn add_table(&mut self, path: &str, schema: &Value, of: &[String]) {
        self.tables.push(Table {
            path: path.into(),
            optional: is(schema, "null"),
            description: description(schema),
            shorthand: schema["x-name"].as_str().map(str::to_owned),
            of: of.to_vec(),
        });
        let own = |schema: &Value| schema.get("x-of").and_then(Value::as_array).map(|names| strings(names));
        let fields = schema["properties"].as_object().into_iter().flatten();
        // A file has a table's keys before the tables in it.
        let (tables, keys): (Vec<_>, Vec<_>) = fields.partition(|(_, schema)| schema.get("properties").is_some());
        for (name, schema) in keys {
            let Some(kind) = kind(schema) else { continue };
            let variants: Vec<Variant> =
                schema.get("x-variants").and_then(|all| Vec::deserialize(all).ok()).unwrap_or_default();
            let default = || schema.get("default").filter(|value| !value.is_null()).map(ToString::to_string);
            self.keys.push(Key {
                path: join(path, name),
                kind,
                default: if variants.is_empty() { default() } else { variants::default(&variants) },
                description: description(schema),
                variants,
                optional: is(schema, "null"),
                of: own(schema).unwrap_or_else(|| of.to_vec()),
            });
        }
        for (name, schema) in tables {
            self.add_table(&join(path, name), schema, &own(schema).unwrap_or_else(|| of.to_vec()));
        }
    }
}

impl Keys for Layout {
    fn target_path(&self, path: &str) -> Option<String> {
        Self::target_path(self, path)
    }

    fn is_value(&self, path: &str) -> bool {
        self.key(path).is_some_and(|key| key.kind == Kind::Table)
    }
}

/// Table and keys of rewards of one's own, under the name that stands for theirs.
pub(crate) static OWN_LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let mut layout = Layout::default();
    layout.add_table(OWN, &schema(), &[]);
    layout
});

pub(crate) static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let mut layout = Layout::default();
    layout.add_table("", &generated(), &[]);
    let defaults = layout.leaves(&with_every_table(&layout)).unwrap_or_default();
    for key in &mut layout.keys {
        let of_variant = key.default.take().filter(|_| !key.of.is_empty());
        key.default = defaults.get(&key.path).cloned().or(of_variant);
    }
    layout
});

/// The default settings with the optional tables present, so that the defaults of their keys show.
fn with_every_table(layout: &Layout) -> RunConfig {
    let set = layout.leaves(&RunConfig::default()).unwrap_or_default();
    let is_set = |path: &str| set.range(format!("{path}.")..format!("{path}/")).next().is_some();
    let missing = layout.tables.iter().filter(|table| table.optional && !is_set(&table.path));
    let headers: Vec<String> = missing.map(|table| format!("[{}]", table.path)).collect();
    toml::from_str(&headers.join("\n")).unwrap_or_default()
}

fn kind(schema: &Value) -> Option<Kind> {
    let branches = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(word)?.as_array());
    if branches.is_some_and(|any| any.iter().any(|one| is(one, "integer"))) {
        return Some(Kind::IntegerOr(branches.into_iter().flatten().filter_map(choices).flatten().collect()));
    }
    if let Some(names) = choices(schema) {
        return Some(Kind::Choice(names));
    }
    if let Some(names) = schema.get("items").and_then(choices) {
        return Some(Kind::Choices(names));
    }
    let kinds = [
        ("boolean", Kind::Flag),
        ("integer", Kind::Integer),
        ("number", Kind::Number),
        ("string", Kind::Text),
        ("array", Kind::Texts),
        ("object", Kind::Table),
    ];
    kinds.into_iter().find(|(name, _)| is(schema, name)).map(|(_, kind)| kind)
}
