//! JSON Schemas, in builds that have them.

use std::fs;
use std::path::Path;

use dapo_reward::RewardError;
use serde_json::Value;

/// What is wrong with a setting, and what would have been accepted.
type Refusal = (String, &'static str);

/// A schema that is ready to be checked.
#[cfg(feature = "json-schema")]
pub(super) struct Schema(jsonschema::Validator);

#[cfg(feature = "json-schema")]
impl Schema {
    fn new(schema: &Value) -> Result<Self, Refusal> {
        // Patterns that take time linear in the text.
        let options = jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex());
        options.build(schema).map(Self).map_err(|error| (error.to_string(), "a JSON Schema"))
    }

    pub(super) fn is_met_by(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }
}

#[cfg(not(feature = "json-schema"))]
pub(super) enum Schema {}

#[cfg(not(feature = "json-schema"))]
impl Schema {
    fn new(_: &Value) -> Result<Self, Refusal> {
        Err(("set".to_owned(), "unset, or a build with --features json-schema"))
    }

    pub(super) fn is_met_by(&self, _: &Value) -> bool {
        match *self {}
    }
}

impl Schema {
    /// The schema of the settings `schema` and `schema_file`, of which one may be set.
    ///
    /// # Errors
    /// [`RewardError::Config`] for both at once, a file that cannot be read, what is no schema, and for any in a build
    /// without the feature `json-schema`.
    pub(super) fn of(schema: Option<&Value>, file: Option<&Path>) -> Result<Option<Self>, RewardError> {
        let (field, found) = match (schema, file) {
            (None, None) => return Ok(None),
            (Some(schema), None) => ("schema", Self::new(schema)),
            (None, Some(file)) => {
                let named = |(found, allowed)| (format!("{:?} ({found})", file.display().to_string()), allowed);
                ("schema_file", read(file).and_then(|schema| Self::new(&schema)).map_err(named))
            }
            (Some(_), Some(file)) => {
                ("schema_file", Err((format!("{:?}", file.display().to_string()), "unset beside schema")))
            }
        };
        let error = |(value, allowed)| RewardError::Config { owner: "JsonReward", field, value, allowed };
        found.map(Some).map_err(error)
    }
}

fn read(file: &Path) -> Result<Value, Refusal> {
    let text = fs::read_to_string(file).map_err(|error| (error.to_string(), "a file with a JSON Schema"))?;
    serde_json::from_str(&text).map_err(|error| (error.to_string(), "a file with a JSON Schema"))
}
