//! The schema that the settings' types give, and how it is read.

use super::path::NAME;
use crate::settings::RunConfig;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema as the types give it: every section in its place, no references, one table for all shapes of a value.
pub(super) fn generated() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<RunConfig>().to_value();
    unite(&mut schema);
    schema
}

/// Makes one table of tables that differ by name; `x-of` says to which names a field belongs.
fn unite(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let has_shapes = |one: &Value| one.get("properties").is_some();
    if fields.get("oneOf").and_then(Value::as_array).is_some_and(|shapes| shapes.iter().all(has_shapes)) {
        let shapes = fields.shift_remove("oneOf").unwrap_or_default();
        let (mut names, mut united) = (Vec::new(), Map::new());
        for shape in shapes.as_array().into_iter().flatten() {
            let name = shape["properties"][NAME]["const"].clone();
            for (field, schema) in shape["properties"].as_object().into_iter().flatten().filter(|(f, _)| *f != NAME) {
                let known = united.entry(field.clone()).or_insert_with(|| schema.clone());
                let mut of = known["x-of"].as_array().cloned().unwrap_or_default();
                of.push(name.clone());
                known["x-of"] = of.into();
            }
            names.push(name);
        }
        let description = fields.get("description").cloned().unwrap_or_default();
        united.insert(NAME.into(), json!({"type": "string", "enum": names, "description": description}));
        // The name comes first.
        let name = united.shift_remove_entry(NAME);
        fields.insert("type".into(), "object".into());
        fields.insert("additionalProperties".into(), false.into());
        fields.insert("properties".into(), name.into_iter().chain(united).collect::<Map<_, _>>().into());
    }
    for child in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        unite(child.1);
    }
}

/// The first paragraph, on one line, without links.
pub(super) fn description(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    let paragraph = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut plain = String::new();
    let mut rest = paragraph.as_str();
    // `[text](target)` becomes `text`.
    while let Some((before, link)) = rest.split_once('[')
        && let Some((text, after)) = link.split_once("](")
        && let Some((_, after)) = after.split_once(')')
    {
        plain.extend([before, text]);
        rest = after;
    }
    plain + rest
}

/// Whether a schema allows values of a type.
pub(super) fn is(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(names) => names.iter().any(|n| n == name),
        one => one == name,
    }
}

pub(super) fn strings(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The strings that an `enum`, a `const` or a `oneOf` of constants allows.
pub(super) fn choices(schema: &Value) -> Option<Vec<String>> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(strings(values));
    }
    if let Some(constant) = schema.get("const") {
        return Some(strings(std::slice::from_ref(constant)));
    }
    Some(schema.get("oneOf")?.as_array()?.iter().filter_map(choices).flatten().collect())
}
