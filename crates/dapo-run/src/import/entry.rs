//! A file's settings as a flat list: dotted key, value, line.

/// One setting of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The dotted key, without `+`, `++` or `--` before it.
    pub(super) key: String,
    /// Its value.
    pub(super) value: Value,
    /// The line it stands on, from 1.
    pub(super) line: usize,
    /// Parts of the value that nothing in the file explains, such as `$HOME`.
    pub(super) missing: Vec<String>,
}

/// A value before anybody asked for its type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// No value.
    Null,
    /// A number, a switch or a text.
    Text(String),
    /// A list of them.
    List(Vec<String>),
    /// A reference to a key that the file does not set.
    Reference(String),
}

impl Entry {
    /// A setting whose value is given as bare text: `null` and `~` are no value.
    pub(super) fn plain(key: impl Into<String>, text: &str, line: usize) -> Self {
        let value = if matches!(text, "" | "~" | "null" | "Null" | "NULL" | "None") {
            Value::Null
        } else {
            Value::Text(text.to_owned())
        };
        Self::new(key, value, line)
    }

    /// A setting with a value of its own kind.
    pub(super) fn new(key: impl Into<String>, value: Value, line: usize) -> Self {
        Self { key: key.into(), value, line, missing: Vec::new() }
    }

    /// The same with what its value leaves unexplained.
    pub(super) fn missing(mut self, names: &[String]) -> Self {
        self.missing.extend_from_slice(names);
        self
    }

    /// The value as it is shown to a reader.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Null => "null".into(),
            Value::Text(text) | Value::Reference(text) => text.clone(),
            Value::List(items) => format!("[{}]", items.join(", ")),
        }
    }
}
