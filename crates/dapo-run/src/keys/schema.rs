//! The settings file's JSON Schema.

use super::generated::{choices, description, generated, is};
use super::layout::LAYOUT;
use super::moved::ALIASES;
use super::own;
use super::path::{join, split};
use serde_json::Value;

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
    let mut own = own::schema();
    tidy(&mut own, own::OWN);
    schema["properties"]["rewards"]["additionalProperties"] = own;
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

/// Takes out what TOML does not have (null). Lets one string stand for a list of one, a name for its table, and `none` for
/// what may be unset. Joins the lines of descriptions, and gives defaults where keys stand, as a settings file spells them.
fn tidy(schema: &mut Value, path: &str) {
    let (optional, text) = (is(schema, "null"), description(schema));
    let mut words = if optional && !is(schema, "string") { vec!["none".to_owned()] } else { Vec::new() };
    let shorthand = schema["x-name"].as_str().map(|field| &schema["properties"][field]);
    words.extend(shorthand.and_then(|field| choices(field).or_else(|| choices(&field["items"]))).unwrap_or_default());
    let Some(fields) = schema.as_object_mut() else { return };
    for word in ["default", "required", "x-name", "x-of", "x-variants"] {
        fields.shift_remove(word);
    }
    if fields.contains_key("description") {
        fields.insert("description".into(), text.into());
    }
    if let Some(types) = fields.get_mut("type")
        && let Some([one, _]) = types.as_array().map(Vec::as_slice)
    {
        *types = one.clone();
    }
    if fields.get("type").is_some_and(|name| name == "array") {
        fields.insert("type".into(), vec!["array", "string"].into());
    }
    if !words.is_empty() {
        fields.insert("type".into(), vec![fields["type"].clone(), "string".into()].into());
        fields.insert("pattern".into(), format!("^({})$", words.join("|")).into());
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
