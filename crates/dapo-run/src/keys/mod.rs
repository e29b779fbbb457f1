//! The list of all settings: their names, what values they take, their defaults and what they mean.

mod nearest;
mod schema;

pub(crate) use nearest::{nearest_key, nearest_of};
pub use schema::schema;

pub(crate) use crate::leaves::join;
use crate::leaves::leaves;
use serde_json::Value;
use std::fmt::{self, Write};
use std::sync::LazyLock;

/// Tables that go by a second name.
pub(crate) const ALIASES: [(&str, &str); 1] = [("rewards.soft_overlong_punishment", "rewards.soft_overlong")];

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
    /// One of these strings.
    Choice(Vec<String>),
    /// An integer of at least 0, or one of these strings.
    IntegerOr(Vec<String>),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("true or false"),
            Self::Integer => f.write_str("an integer of at least 0"),
            Self::Number => f.write_str("a number"),
            Self::Text => f.write_str("a string"),
            Self::Texts => f.write_str("a list of strings"),
            Self::Choice(names) => write!(f, "one of {}", names.join(", ")),
            Self::IntegerOr(names) => write!(f, "an integer of at least 0 or {}", names.join(", ")),
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
}

/// Tables and keys in the order of their declaration.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) tables: Vec<Table>,
    pub(crate) keys: Vec<Key>,
}

impl Layout {
    pub(crate) fn key(&self, path: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.path == path)
    }

    pub(crate) fn table(&self, path: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.path == path)
    }

    /// The keys that stand in a table itself.
    pub(crate) fn keys_of(&self, table: &str) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| split(&key.path).0 == table)
    }

    fn add_table(&mut self, path: &str, schema: &Value, optional: bool) {
        self.tables.push(Table { path: path.into(), optional, description: description(schema) });
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let child = join(path, name);
            if schema.get("properties").is_some() {
                self.add_table(&child, schema, is(schema, "null"));
            } else if let Some(kind) = kind(schema) {
                self.keys.push(Key { path: child, kind, default: None, description: description(schema) });
            }
        }
    }
}

pub(crate) static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let mut layout = Layout::default();
    layout.add_table("", &schema::generated(), false);
    let defaults = leaves(&with_every_table(&layout)).unwrap_or_default();
    for key in &mut layout.keys {
        key.default = defaults.get(&key.path).cloned();
    }
    layout
});

/// The default settings with the optional tables present, so that the defaults of their keys show.
fn with_every_table(layout: &Layout) -> crate::RunConfig {
    let optional = layout.tables.iter().filter(|table| table.optional);
    let headers: Vec<String> = optional.map(|table| format!("[{}]", table.path)).collect();
    toml::from_str(&headers.join("\n")).unwrap_or_default()
}

/// All settings, in the order of their declaration.
pub fn keys() -> &'static [Key] {
    &LAYOUT.keys
}

/// All settings as a table for people: a line for each, under its table.
pub fn key_table() -> String {
    let mut text = String::new();
    for table in &LAYOUT.tables {
        let keys: Vec<&Key> = LAYOUT.keys_of(&table.path).collect();
        if keys.is_empty() {
            continue;
        }
        if !table.path.is_empty() {
            let optional = if table.optional { " Not set by default." } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n[{}]  {}{optional}", table.path, table.description);
        }
        for key in keys {
            let default = key.default.as_deref().unwrap_or("not set");
            let _ = writeln!(text, "  {} = {default}  ({})", split(&key.path).1, key.kind);
            let _ = writeln!(text, "      {}", key.description);
        }
    }
    text
}

/// A path's table and its last name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The path with second names replaced.
pub(crate) fn canonical(path: &str) -> String {
    for (alias, name) in ALIASES {
        if let Some(rest) = path.strip_prefix(alias)
            && (rest.is_empty() || rest.starts_with('.'))
        {
            return format!("{name}{rest}");
        }
    }
    path.to_owned()
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn kind(schema: &Value) -> Option<Kind> {
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        return Some(Kind::IntegerOr(any.iter().filter_map(choices).flatten().collect()));
    }
    if let Some(names) = choices(schema) {
        return Some(Kind::Choice(names));
    }
    let kinds = [
        ("boolean", Kind::Flag),
        ("integer", Kind::Integer),
        ("number", Kind::Number),
        ("string", Kind::Text),
        ("array", Kind::Texts),
    ];
    kinds.into_iter().find(|(name, _)| is(schema, name)).map(|(_, kind)| kind)
}

/// Whether a schema allows values of a type.
fn is(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(names) => names.iter().any(|n| n == name),
        one => one == name,
    }
}

/// The strings that an `enum`, a `const` or a `oneOf` of constants allows.
fn choices(schema: &Value) -> Option<Vec<String>> {
    let strings = |values: &[Value]| values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(strings(values));
    }
    let constants: Vec<Value> =
        schema.get("oneOf")?.as_array()?.iter().filter_map(|one| one.get("const")).cloned().collect();
    Some(strings(&constants))
}
