//! The keys of reward tables whose names are the user's own.

use super::generated::strings;
use crate::settings::CODE;
use dapo_code::CodeReward;
use dapo_external::{
    ChoiceReward, CommandReward, ContainsReward, ExactReward, JsonReward, JudgeReward, LengthReward, NumberReward,
    PythonReward, RegexReward, UrlReward,
};
use dapo_reward::OnAbstain;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The table that stands for all of them.
pub(crate) const OWN: &str = "rewards.NAME";

const RULES: [&str; 7] = ["exact", "regex", "json", "choice", "number", "contains", "length"];

/// One table for all kinds; `x-of` says to which kinds a key belongs.
pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut generator = settings.into_generator();
    let mut on_abstain = of::<OnAbstain>(&mut generator);
    on_abstain["description"] = "What an abstention does, as in `rewards.accuracy`.".into();
    on_abstain["default"] = json!(OnAbstain::default());
    let kind = "A rule that needs no code. A table named as a built-in reward is that one; any other has one of `kind`, \
                `command`, `url`, `python` and `judge_url`.";
    let dir = "Where the command or Python runs, and relative paths begin: by default the settings file's folder, or the \
               working directory of a command line.";
    let mut keys = Map::from_iter([
        ("weight".to_owned(), json!({"type": "number", "default": 1.0, "description": "Weight in the sum."})),
        ("on_abstain".to_owned(), on_abstain),
        ("kind".to_owned(), json!({"type": "string", "enum": RULES, "x-of": RULES, "description": kind})),
        ("dir".to_owned(), json!({"type": ["string", "null"], "x-of": ["command", "python"], "description": dir})),
    ]);
    let shapes = [
        ("command", of::<CommandReward>(&mut generator)),
        ("url", of::<UrlReward>(&mut generator)),
        ("python", of::<PythonReward>(&mut generator)),
        ("judge_url", of::<JudgeReward>(&mut generator)),
        ("exact", of::<ExactReward>(&mut generator)),
        ("regex", of::<RegexReward>(&mut generator)),
        ("json", of::<JsonReward>(&mut generator)),
        ("choice", of::<ChoiceReward>(&mut generator)),
        ("number", of::<NumberReward>(&mut generator)),
        ("contains", of::<ContainsReward>(&mut generator)),
        ("length", of::<LengthReward>(&mut generator)),
        (CODE, of::<CodeReward>(&mut generator)),
    ];
    for (kind, shape) in shapes {
        for (key, schema) in shape["properties"].as_object().into_iter().flatten() {
            let known = keys.entry(key.clone()).or_insert_with(|| schema.clone());
            let mut kinds = known["x-of"].as_array().map(|kinds| strings(kinds)).unwrap_or_default();
            kinds.push(kind.to_owned());
            known["x-of"] = kinds.into();
        }
    }
    for selector in ["command", "url", "python", "judge_url"] {
        keys[selector]["default"] = Value::Null;
    }
    json!({
        "type": ["object", "null"],
        "description": "A reward under a name of your own: a command, a server, a Python function, a judge or a rule; docs/rewards.md.",
        "properties": keys,
        "additionalProperties": false,
    })
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    T::json_schema(generator).to_value()
}
