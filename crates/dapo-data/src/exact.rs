//! JSON whose numbers keep their digits.

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::fmt;

/// Deepest nesting that is read.
const DEEPEST: usize = 100;

/// Digits that every f64 keeps.
const DIGITS: usize = 15;

/// An entry of a data file. A number that f64 and the 64-bit integers cannot hold is the text of its digits.
pub(super) struct Exact(pub(super) Value);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        value(&raw, 0).map(Self).map_err(serde::de::Error::custom)
    }
}

fn value(raw: &RawValue, depth: usize) -> Result<Value, String> {
    if depth > DEEPEST {
        return Err(format!("nested deeper than {DEEPEST} levels"));
    }
    let text = raw.get();
    let inner = |raw: &RawValue| value(raw, depth + 1);
    let invalid = |error: serde_json::Error| error.to_string();
    match text.as_bytes().first() {
        Some(b'{') => {
            let entries: Entries<'_> = serde_json::from_str(text).map_err(invalid)?;
            entries
                .0
                .into_iter()
                .map(|(name, raw)| Ok((name, inner(raw)?)))
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object)
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(invalid)?;
            elements.into_iter().map(inner).collect::<Result<_, _>>().map(Value::Array)
        }
        Some(b'-' | b'0'..=b'9') => number(text).map_err(invalid),
        _ => serde_json::from_str(text).map_err(invalid),
    }
}

fn number(text: &str) -> Result<Value, serde_json::Error> {
    let number: Number = serde_json::from_str(text)?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_start_matches('0').len();
    let is_kept = number.is_u64() || number.is_i64() || significant <= DIGITS;
    Ok(if is_kept { Value::Number(number) } else { Value::String(text.to_owned()) })
}

/// An object's entries in their order.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
