//! The keys of reward tables whose names are the user's own.

use super::generated::description;
use super::variants::{self, Variant};
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
use std::collections::BTreeMap;

/// The table that stands for all of them.
pub(crate) const OWN: &str = "rewards.NAME";

const RULES: [&str; 7] = ["exact", "regex", "json", "choice", "number", "contains", "length"];

/// The kinds of reward tables of one's own, in the order in which their keys are listed, and what each is about.
pub fn own_kinds() -> Vec<(&'static str, String)> {
    shapes(&mut generator()).map(|(kind, shape)| (kind, description(&shape))).to_vec()
}

/// One table for all kinds; `x-of` says to which kinds a key belongs, and `x-variants` how they differ in it.
pub(super) fn schema() -> Value {
    let mut generator = generator();
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
    let mut all: BTreeMap<String, Vec<Variant>> = BTreeMap::new();
    for (kind, shape) in shapes(&mut generator) {
        for (key, schema) in shape["properties"].as_object().into_iter().flatten() {
            keys.entry(key.clone()).or_insert_with(|| schema.clone());
            // What selects a kind has no default.
            let default = schema.get("default").filter(|value| !value.is_null() && key != kind);
            let default = default.map(ToString::to_string);
            variants::add(all.entry(key.clone()).or_default(), kind, default, description(schema));
        }
    }
    for (key, variants) in all {
        let kinds: Vec<&String> = variants.iter().flat_map(|variant| &variant.of).collect();
        keys[&key]["x-of"] = json!(kinds);
        match variants.as_slice() {
            [one] if one.default.is_none() => keys[&key]["default"] = Value::Null,
            [_] => {}
            several => {
                keys[&key]["description"] = variants::description(several).into();
                keys[&key]["x-variants"] = json!(several);
            }
        }
    }
    json!({
        "type": ["object", "null"],
        "description": "A reward under a name of your own: a command, a server, a Python function, a judge or a rule; docs/rewards.md.",
        "properties": keys,
        "additionalProperties": false,
    })
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator()
}

fn shapes(generator: &mut SchemaGenerator) -> [(&'static str, Value); 12] {
    [
        ("command", of::<CommandReward>(generator)),
        ("url", of::<UrlReward>(generator)),
        ("python", of::<PythonReward>(generator)),
        ("judge_url", of::<JudgeReward>(generator)),
        ("exact", of::<ExactReward>(generator)),
        ("regex", of::<RegexReward>(generator)),
        ("json", of::<JsonReward>(generator)),
        ("choice", of::<ChoiceReward>(generator)),
        ("number", of::<NumberReward>(generator)),
        ("contains", of::<ContainsReward>(generator)),
        ("length", of::<LengthReward>(generator)),
        (CODE, of::<CodeReward>(generator)),
    ]
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    T::json_schema(generator).to_value()
}
