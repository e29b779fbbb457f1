//! Completions that are JSON.

use std::path::PathBuf;

use dapo_reward::{RewardError, RewardFault, RewardInput, Score};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::Schema;
use super::{Judge, check_values, gold, judged, shaped};

/// `value` where the completion is JSON that meets the schema and whose `fields` are those of the gold answer, else
/// `mismatch`. With fields the reward abstains where the gold answer is no JSON.
///
/// The whole completion is read, else its last fenced block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JsonReward {
    /// A JSON Schema that must be met; unset: none. References outside the schema are refused. Needs the feature
    /// `json-schema`.
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, Value>>"))]
    pub schema: Option<Value>,
    /// A file with such a JSON Schema.
    pub schema_file: Option<PathBuf>,
    /// Fields that must equal those of the gold answer: names, or JSON pointers such as `/items/0/name`. Empty: any JSON
    /// will do.
    pub fields: Vec<String>,
    /// Reward of JSON that meets the schema and has the gold answer's `fields`.
    pub value: f64,
    /// Reward of any other completion.
    pub mismatch: f64,
}

impl Default for JsonReward {
    fn default() -> Self {
        Self { schema: None, schema_file: None, fields: Vec::new(), value: 1.0, mismatch: 0.0 }
    }
}

impl JsonReward {
    pub(super) fn compiled(self) -> Result<Compiled, RewardError> {
        check_values("JsonReward", self.value, self.mismatch)?;
        let schema = Schema::of(self.schema.as_ref(), self.schema_file.as_deref())?;
        Ok(Compiled { config: self, schema })
    }
}

/// The reward with its schema, ready to be checked.
pub(super) struct Compiled {
    config: JsonReward,
    schema: Option<Schema>,
}

impl Judge for Compiled {
    fn judge(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let JsonReward { fields, value, mismatch, .. } = &self.config;
        let meets_schema = |found: &Value| self.schema.as_ref().is_none_or(|schema| schema.is_met_by(found));
        let found = parsed(input.completion).filter(meets_schema);
        if fields.is_empty() {
            return Ok(shaped(found.is_some(), *value, *mismatch));
        }
        let Some(gold) = gold(input).and_then(|gold| serde_json::from_str::<Value>(gold).ok()) else {
            return Ok(Score::abstain());
        };
        let is_met = |name: &String, found: &Value| match (field(&gold, name), field(found, name)) {
            (Some(gold), Some(found)) => is_same(gold, found),
            (None, None) => true,
            _ => false,
        };
        let is_correct = found.is_some_and(|found| fields.iter().all(|name| is_met(name, &found)));
        Ok(judged(is_correct, *value, *mismatch))
    }
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { value.pointer(name) } else { value.get(name) }
}

/// Whether two values are equal; numbers are, however they are written.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        _ => a == b,
    }
}

/// The JSON that a completion is, or that its last fenced block holds.
fn parsed(completion: &str) -> Option<Value> {
    serde_json::from_str(completion).ok().or_else(|| {
        let (before, _) = completion.rsplit_once("```")?;
        let (_, block) = before.rsplit_once("```")?;
        // The first line names the language.
        serde_json::from_str(block.split_once('\n')?.1).ok()
    })
}
