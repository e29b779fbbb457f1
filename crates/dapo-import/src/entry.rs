//! A file's settings as a flat list: dotted key, value, line.

use super::shell::Expanded;

/// One setting of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The dotted key, without `+`, `++` or `--` before it.
    pub(super) key: String,
    /// The value found.
    pub(super) value: Value,
    /// The line it stands on, from 1.
    pub(super) line: usize,
    /// Parts of the value that nothing in the file explains, such as `$HOME`.
    pub(super) missing: Vec<String>,
    /// Variables in the value that a block sets as well: indices of the script's doubts.
    pub(super) doubts: Vec<usize>,
    /// Why it is not what the trainer gets, where the file merely has it: in a block, or in an array that is not used.
    pub(super) aside: Option<String>,
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
        Self { key: key.into(), value, line, missing: Vec::new(), doubts: Vec::new(), aside: None }
    }

    /// The same with what a word of its value leaves unexplained or in doubt.
    pub(super) fn with(mut self, word: &Expanded) -> Self {
        for name in &word.missing {
            if !self.missing.contains(name) {
                self.missing.push(name.clone());
            }
        }
        self.doubts.extend_from_slice(&word.doubts);
        self
    }

    /// The same as what the file has, but the trainer does not get, and why.
    pub(super) fn aside(mut self, why: &str, doubt: Option<usize>) -> Self {
        self.aside = Some(why.to_owned());
        self.doubts.extend(doubt);
        self
    }

    /// Whether the value says that nothing is asked for.
    pub(super) fn is_off(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Text(text) => {
                matches!(text.to_ascii_lowercase().as_str(), "" | "false" | "off" | "no" | "{}" | "[]")
            }
            Value::List(items) => items.is_empty(),
            Value::Reference(_) => false,
        }
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
