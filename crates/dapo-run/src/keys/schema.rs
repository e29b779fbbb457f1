//! The settings file's JSON Schema.

use super::{ALIASES, LAYOUT, join, split};
use crate::RunConfig;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema as the types give it: every section in its place, no references.
pub(super) fn generated() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<RunConfig>().to_value()
}

/// The JSON Schema (draft 7) of a settings file, with descriptions and defaults, for editors that complete and check
/// TOML.
///
/// ```
/// let schema = dapo_run::schema();
/// assert_eq!(schema.pointer("/properties/optimizer/properties/lr/default"), Some(&1e-6.into()));
/// ```
pub fn schema() -> Value {
    let mut schema = generated();
    tidy(&mut schema, "");
    for (alias, name) in ALIASES {
        let (table, last) = split(name);
        let pointer = format!("/properties/{}/properties", table.replace('.', "/properties/"));
        if let Some(properties) = schema.pointer_mut(&pointer).and_then(Value::as_object_mut)
            && let Some(mut copy) = properties.get(last).cloned()
        {
            copy["description"] = format!("The same as `{name}`.").into();
            properties.insert(split(alias).1.to_owned(), copy);
        }
    }
    schema
}

/// Takes out what TOML does not have (null), lets one string stand for a list of one, joins the lines of descriptions,
/// and gives defaults where keys stand, as a settings file spells them.
fn tidy(schema: &mut Value, path: &str) {
    let Some(fields) = schema.as_object_mut() else { return };
    fields.shift_remove("default");
    if let Some(description) = fields.get_mut("description") {
        *description = description.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ").into();
    }
    if let Some(types) = fields.get_mut("type")
        && let Some([one, _]) = types.as_array().map(Vec::as_slice)
    {
        *types = one.clone();
    }
    if fields.get("type").is_some_and(|name| name == "array") {
        fields.insert("type".into(), vec!["array", "string"].into());
    }
    if let Some(values) = fields.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
    if let Some(default) = LAYOUT.key(path).and_then(|key| key.default.as_deref()) {
        let parsed = toml::from_str::<Value>(&format!("value = {default}")).map(|mut table| table["value"].take());
        fields.insert("default".into(), parsed.unwrap_or(Value::Null));
    }
    for (name, child) in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        tidy(child, &join(path, name));
    }
}
