//! Values in an entry of a data file.

use crate::exact::Exact;
use serde_json::Value;
use std::borrow::Cow;

/// A field of an entry, null included. Objects on the way may be given as JSON text, as they are where tables are
/// flattened.
pub(super) fn lookup<'a>(value: &'a Value, field: &str) -> Option<Cow<'a, Value>> {
    let mut found = Cow::Borrowed(value);
    for name in field.split('.') {
        found = match found {
            Cow::Borrowed(Value::String(text)) => Cow::Owned(object(text)?.get(name)?.clone()),
            Cow::Borrowed(value) => Cow::Borrowed(value.get(name)?),
            Cow::Owned(Value::String(text)) => Cow::Owned(object(&text)?.get(name)?.clone()),
            Cow::Owned(value) => Cow::Owned(value.get(name)?.clone()),
        };
    }
    Some(found)
}

/// A field of an entry that is not null.
pub(super) fn get<'a>(value: &'a Value, field: &str) -> Option<Cow<'a, Value>> {
    lookup(value, field).filter(|found| !found.is_null())
}

/// The column that a path leads into.
pub(super) fn column(field: &str) -> &str {
    field.split('.').next().unwrap_or(field)
}

/// The object that a text is the JSON of.
fn object(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    parsed(text).filter(Value::is_object)
}

/// What a text is the JSON of.
pub(super) fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().map(|Exact(value)| value)
}

/// A text or a number as text; 43.0 in a file is the integer 43.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(match number.as_f64() {
            Some(x) if x.fract() == 0.0 && x.abs() < 1e15 => format!("{x:.0}"),
            _ => number.to_string(),
        }),
        _ => None,
    }
}

/// A value for an error message, cut where it is long.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
