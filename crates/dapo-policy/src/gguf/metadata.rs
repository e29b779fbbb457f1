//! Typed access to the metadata of a GGUF file.

use crate::error::PolicyError;
use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;
use std::path::Path;

/// The metadata, with the file that errors name.
pub(super) struct Metadata<'a> {
    pub(super) file: &'a Path,
    pub(super) entries: &'a HashMap<String, Value>,
}

impl<'a> Metadata<'a> {
    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, PolicyError> {
        let wrong = |found: &Value| {
            let found = match found {
                Value::Array(list) => format!("an array of {}", list.len()),
                other => format!("{other:?}"),
            };
            PolicyError::field(self.file, key, found, expected)
        };
        self.entries.get(key).map(|value| read(value).ok_or_else(|| wrong(value))).transpose()
    }

    fn required<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T, PolicyError> {
        value.ok_or_else(|| PolicyError::field(self.file, key, "missing", expected))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, PolicyError> {
        self.get(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn required_text(&self, key: &str) -> Result<&'a str, PolicyError> {
        self.required(key, "a text", self.text(key)?)
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, PolicyError> {
        self.get(key, "a whole number", |value| integer(value).and_then(|n| usize::try_from(n).ok()))
    }

    pub(super) fn required_size(&self, key: &str) -> Result<usize, PolicyError> {
        match self.size(key)? {
            Some(size) if size > 0 => Ok(size),
            found => {
                let found = found.map_or("missing".into(), |found| found.to_string());
                Err(PolicyError::field(self.file, key, found, "a whole number above 0"))
            }
        }
    }

    pub(super) fn token_id(&self, key: &str) -> Result<Option<u32>, PolicyError> {
        self.get(key, "a token id", |value| integer(value).and_then(|n| u32::try_from(n).ok()))
    }

    pub(super) fn switch(&self, key: &str) -> Result<Option<bool>, PolicyError> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(switch) => Some(*switch),
            _ => None,
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, PolicyError> {
        self.get(key, "a number", |value| match value {
            // The shortest decimal of an f32 is the number that was meant: 1e-5, not 9.999999747378752e-6.
            Value::F32(x) => x.to_string().parse().ok(),
            Value::F64(x) => Some(*x),
            other => integer(other).map(|n| n as f64),
        })
    }

    pub(super) fn required_number(&self, key: &str) -> Result<f64, PolicyError> {
        self.required(key, "a number", self.number(key)?)
    }

    pub(super) fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, PolicyError> {
        self.get(key, "an array of whole numbers", |value| match value {
            Value::Array(list) => list.iter().map(integer).collect(),
            _ => None,
        })
    }

    pub(super) fn required_texts(&self, key: &str) -> Result<Vec<&'a str>, PolicyError> {
        let expected = "an array of texts";
        let texts = self.get(key, expected, |value| match value {
            Value::Array(list) => list
                .iter()
                .map(|entry| match entry {
                    Value::String(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })?;
        self.required(key, expected, texts)
    }
}

/// An integer of any width.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::U8(n) => Some((*n).into()),
        Value::I8(n) => Some((*n).into()),
        Value::U16(n) => Some((*n).into()),
        Value::I16(n) => Some((*n).into()),
        Value::U32(n) => Some((*n).into()),
        Value::I32(n) => Some((*n).into()),
        Value::U64(n) => i64::try_from(*n).ok(),
        Value::I64(n) => Some(*n),
        _ => None,
    }
}
