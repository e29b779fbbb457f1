//! Tables on one line.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// A table as an inline table, however it is written.
pub(crate) fn inline(table: &Spanned<DeValue<'_>>) -> Result<String, toml::de::Error> {
    let value = toml::Value::deserialize(ValueDeserializer::from(table.clone()))?;
    Ok(value.to_string())
}
