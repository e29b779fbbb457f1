//! The list of keys and the JSON Schema.

use crate::words;
use dapo_run::{Kind, RunConfig, key_table, keys, own_keys, recipes, schema};
use serde_json::Value;

/// What a schema says against a value: a validator of the few words that the schema uses.
fn faults(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let fields = schema.as_object().unwrap();
    for word in fields.keys() {
        let known = [
            "$schema",
            "title",
            "description",
            "default",
            "type",
            "format",
            "minimum",
            "properties",
            "items",
            "enum",
            "additionalProperties",
            "anyOf",
            "oneOf",
            "const",
            "pattern",
        ];
        assert!(known.contains(&word.as_str()), "{path}: {word}");
    }
    let mut fault = |wrong: bool, what: &str| {
        if wrong {
            found.push(format!("{path}: {value} {what}"));
        }
    };
    if let Some(types) = fields.get("type") {
        let fits = |name: &Value| match name.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            other => panic!("{other}"),
        };
        fault(!types.as_array().unwrap_or(&vec![types.clone()]).iter().any(fits), "has another type");
    }
    if let Some(least) = fields.get("minimum") {
        fault(value.as_f64().is_some_and(|value| value < least.as_f64().unwrap()), "is too small");
    }
    if let Some(values) = fields.get("enum") {
        fault(!values.as_array().unwrap().contains(value), "is not listed");
    }
    if let (Some(pattern), Some(text)) = (fields.get("pattern"), value.as_str()) {
        let words = pattern.as_str().unwrap().strip_prefix("^(").unwrap().strip_suffix(")$").unwrap();
        fault(!words.split('|').any(|word| word == text), "is none of the words");
    }
    if let Some(constant) = fields.get("const") {
        fault(constant != value, "is another constant");
    }
    for (word, most) in [("anyOf", usize::MAX), ("oneOf", 1)] {
        if let Some(any) = fields.get(word) {
            let fitting = any.as_array().unwrap().iter().filter(|schema| {
                let mut inner = Vec::new();
                faults(schema, value, path, &mut inner);
                inner.is_empty()
            });
            fault(!(1..=most).contains(&fitting.count()), "fits none");
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        faults(&fields["items"], item, &format!("{path}[{i}]"), found);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        match fields["properties"].get(name) {
            Some(schema) => faults(schema, value, &path, found),
            None if fields["additionalProperties"] == false => found.push(format!("{path}: unknown")),
            None => {}
        }
    }
}

fn check(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    faults(&schema(), &toml::from_str(text).unwrap(), "", &mut found);
    found
}

#[test]
fn the_schema_accepts_every_recipe_and_every_written_file() {
    for recipe in recipes() {
        assert_eq!(check(recipe.text), Vec::<String>::new(), "{}", recipe.name);
        let written = words(&[recipe.name]).unwrap().to_toml().unwrap();
        assert_eq!(check(&written), Vec::<String>::new(), "{}", recipe.name);
    }
    let others = "data.train = 'a.jsonl'\n[rewards.soft_overlong_punishment]\ncache_len = 8\n";
    assert_eq!(check(others), Vec::<String>::new());
}

#[test]
fn the_schema_refuses_what_resolving_refuses() {
    for (text, fault) in [
        ("sead = 1", "/sead: unknown"),
        ("seed = -1", "/seed: -1 is too small"),
        ("seed = 1.5", "/seed: 1.5 has another type"),
        ("optimizer.lr = 'x'", "/optimizer/lr: \"x\" has another type"),
        ("sampler.surplus = 'x'", "/sampler/surplus: \"x\" fits none"),
        ("sampler.gen_batch = 'x'", "/sampler/gen_batch: \"x\" fits none"),
        ("overlong.filter = 'x'", "/overlong/filter: \"x\" fits none"),
        ("loss.policy_loss.name = 'x'", "/loss/policy_loss/name: \"x\" is not listed"),
        ("loss.policy_loss = 'x'", "/loss/policy_loss: \"x\" is none of the words"),
        ("rollout.top_k = 'x'", "/rollout/top_k: \"x\" is none of the words"),
        ("data.train = [1]", "/data/train[0]: 1 has another type"),
    ] {
        assert_eq!(check(text), [fault], "{text}");
        assert!(toml::from_str::<RunConfig>(text).is_err(), "{text}");
    }
}

#[test]
fn the_schema_has_descriptions_everywhere_and_null_nowhere() {
    fn walk(schema: &Value, path: &str) {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}/{name}");
            let description = schema["description"].as_str().unwrap_or_else(|| panic!("{path}"));
            assert!(description.len() > 5 && !description.contains('\n'), "{path}");
            walk(schema, &path);
        }
    }
    let schema = schema();
    walk(&schema, "");
    assert!(!schema.to_string().contains("null"));
    let default = |pointer: &str| schema.pointer(pointer).unwrap()["default"].to_string();
    assert_eq!(default("/properties/eval/properties/top_p"), "0.7");
    assert_eq!(default("/properties/optimizer/properties/eps"), "1e-8");
    assert_eq!(default("/properties/rewards/properties/format/properties/pattern"), "\"think-answer\"");
}

fn count(value: &Value) -> usize {
    value.as_object().map_or(1, |fields| fields.values().map(count).sum())
}

#[test]
fn keys_have_kinds_defaults_and_descriptions() {
    let key = |path: &str| keys().iter().find(|key| key.path == path).unwrap();
    assert_eq!(key("seed").kind, Kind::Integer);
    assert_eq!((&key("optimizer.lr").kind, key("optimizer.lr").default.as_deref()), (&Kind::Number, Some("1e-6")));
    assert_eq!(
        (&key("loss.policy_loss.dual_clip").kind, &key("loss.policy_loss.dual_clip").default),
        (&Kind::Number, &None)
    );
    assert_eq!(key("loss.policy_loss.clip.high").default.as_deref(), Some("0.28"));
    assert_eq!(key("rewards.accuracy.grader.ignore_case").default.as_deref(), Some("true"));
    assert_eq!(key("data.train").kind, Kind::Texts);
    assert_eq!(key("data.enable_thinking").kind, Kind::Flag);
    assert_eq!(key("sampler.gen_batch").kind, Kind::IntegerOr(vec!["adaptive".into()]));
    assert_eq!(key("sampler.surplus").kind, Kind::Choice(vec!["carry".into(), "discard".into()]));
    assert_eq!(key("loss.aggregation.name").kind.to_string().matches(',').count(), 4);
    assert_eq!(key("rewards.soft_overlong.penalty_factor").default.as_deref(), Some("1.0"));
    assert_eq!(key("train.steps").description, "Rollout steps.");
    assert!(keys().iter().all(|key| !key.description.is_empty()));
    // Every value that is written is a key's: with each table present, only what has no default is missing.
    let tables = "[lora]\n[sampler.per_prompt]\n[loss.rollout_correction]\n[loss.rollout_correction.reject]\n[rewards.format]\n[rewards.tag_count]\n\
        [rewards.soft_overlong]\n[rewards.proportional_overlong]\n[rewards.repetition]\n[rewards.length]\n[env]\n[critic]\n";
    let config: RunConfig = toml::from_str(tables).unwrap();
    let written: Value = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    let without_default = keys().iter().filter(|key| key.default.is_none()).count();
    let of_other_graders = keys().iter().filter(|key| key.path.contains("grader.ignore_")).count();
    assert_eq!(keys().len(), count(&written) + without_default + of_other_graders);
}

#[test]
fn the_table_for_people_shows_every_key() {
    let table = key_table();
    for line in [
        "  seed = 0  (an integer of at least 0)\n      Seed of data order, splits, rollouts and adapters.\n",
        "\n[optimizer]  AdamW and the learning rate.\n  lr = 1e-6  (a number)\n      Learning rate after the warm-up.\n",
        "  dual_clip = not set  (a number)\n",
        "\n[rewards.tag_count]  ",
        "  surplus = \"carry\"  (one of carry, discard)\n",
    ] {
        assert!(table.contains(line), "{line}\n{table}");
    }
    assert_eq!(
        table.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")).count(),
        keys().len() + own_keys().len()
    );
}
