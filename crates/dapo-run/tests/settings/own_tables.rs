//! Keys of own rewards whose value is a table or a file: a JSON Schema.

use crate::{Files, words};
use dapo_run::{Key, Kind, Layer, OwnKind, Resolved, describe_key, own_keys, own_kinds, resolve, schema};
use serde_json::{Value, json};

fn written_schema(settings: &Resolved) -> Value {
    let json: Value = match &settings.config.rewards.own.0["shape"].kind {
        OwnKind::Rule(rule) => serde_json::to_value(rule).unwrap(),
        other => panic!("{other:?}"),
    };
    json["schema"].clone()
}

#[test]
fn a_schema_is_one_value_however_it_is_written() {
    let expected =
        json!({"type": "object", "required": ["a"], "properties": {"a": {"minimum": 0.5, "type": "number"}}});
    let files = Files::new();
    let headers = "[rewards.shape]\nkind = 'json'\n[rewards.shape.schema]\ntype = 'object'\nrequired = ['a']\n\
                   [rewards.shape.schema.properties.a]\nminimum = 0.5\ntype = 'number'\n";
    let dotted = "rewards.shape.kind = 'json'\nrewards.shape.schema.type = 'object'\nrewards.shape.schema.required = ['a']\n\
                  rewards.shape.schema.properties.a = { minimum = 0.5, type = 'number' }\n";
    let inline = "rewards.shape = { kind = 'json', schema = { type = 'object', required = ['a'], \
                  properties.a = { minimum = 0.5, type = 'number' } } }\n";
    for text in [headers, dotted, inline] {
        let settings = resolve(&[Layer::File(files.write("a.toml", text))]).unwrap();
        assert_eq!(written_schema(&settings), expected, "{text}");
        let written = settings.to_toml().unwrap();
        let again = resolve(&[Layer::File(files.write("b.toml", &written))]).unwrap();
        assert_eq!(again.config, settings.config, "{written}");
    }
    let line =
        words(&["rewards.shape.kind=json", "rewards.shape.schema={ type = 'object', required = ['a'] }"]).unwrap();
    assert_eq!(written_schema(&line), json!({"type": "object", "required": ["a"]}));
    // A later layer replaces the whole schema, and may take it out.
    let more = |word: &str| {
        let file = Layer::File(files.write("a.toml", headers));
        written_schema(&resolve(&[file, Layer::parse(word).unwrap()]).unwrap())
    };
    assert_eq!(more("rewards.shape.schema={}"), json!({}));
    assert_eq!(more("rewards.shape.schema=none"), Value::Null);
    assert_eq!(more("rewards.shape.schema="), Value::Null);
}

#[test]
fn a_schemas_file_is_that_of_its_layers_folder() {
    let files = Files::new();
    let text = "[rewards.shape]\nkind = 'json'\nschema_file = 'shapes/a.json'\n";
    let settings = resolve(&[Layer::File(files.write("a.toml", text))]).unwrap();
    let written = settings.to_toml().unwrap();
    let path = files.write("a.toml", text).with_file_name("shapes").join("a.json");
    assert!(written.contains(&format!("schema_file = \"{}\"", path.display())), "{written}");
}

#[test]
fn what_is_no_table_is_refused() {
    let error = |word: &str| words(&["rewards.shape.kind=json", word]).unwrap_err().to_string();
    assert_eq!(
        error("rewards.shape.schema=3"),
        "command line: rewards.shape.schema is 3 (an integer), expected a table"
    );
    assert!(error("rewards.shape.schema.type=object").contains("unknown key rewards.shape.schema.type"));
    let foreign = words(&["rewards.shape.kind=exact", "rewards.shape.schema={}"]).unwrap_err().to_string();
    assert!(foreign.contains("only json has it"), "{foreign}");
}

#[test]
fn the_key_is_listed_and_in_the_schema_of_settings() {
    let key = own_keys().iter().find(|key| key.path == "rewards.NAME.schema").unwrap();
    assert_eq!(key.kind, Kind::Table);
    let pointer = "/properties/rewards/additionalProperties/properties/schema/type";
    assert_eq!(schema().pointer(pointer), Some(&json!(["object", "string"])));
}

fn own_key(name: &str) -> &'static Key {
    own_keys().iter().find(|key| key.path == format!("rewards.NAME.{name}")).unwrap()
}

#[test]
fn a_key_means_for_each_kind_what_that_kind_does_with_it() {
    let timeout = own_key("timeout_s");
    let of = |kind: &str| timeout.for_kind(kind).map(|key| (key.default.unwrap(), key.description));
    let told = |default: &str, text: &str| Some((default.to_owned(), text.to_owned()));
    assert_eq!(of("command"), told("30.0", "Seconds that a request may take, the first included."));
    assert_eq!(of("judge_url"), told("60.0", "Seconds that one attempt may take."));
    assert_eq!(of("code"), told("5.0", "Wall-clock limit of one test, in seconds."));
    assert_eq!(of("regex"), None);
    // All kinds together, where one description or default has to do.
    assert_eq!(timeout.default, None);
    assert!(timeout.description.contains("url, judge_url: Seconds that one attempt may take."), "{timeout:?}");
    let pointer = "/properties/rewards/additionalProperties/properties/timeout_s";
    assert_eq!(
        schema().pointer(pointer),
        Some(&json!({"type": "number", "format": "double", "description": timeout.description}))
    );
    let shown = describe_key("rewards.mine.timeout_s").unwrap();
    assert!(shown.contains("  default      30.0 (command, url, python), 60.0 (judge_url), 5.0 (code)\n"), "{shown}");
    let code = describe_key("rewards.code.timeout_s").unwrap();
    assert!(code.contains("  default      5.0\n") && code.contains("  description  Wall-clock limit"), "{code}");
    // What selects a kind has no default there, and may have one elsewhere.
    let python = own_key("python");
    assert_eq!(python.for_kind("python").unwrap().default, None);
    assert_eq!(python.for_kind("code").unwrap().default.as_deref(), Some("\"python3\""));
    // A key that all its kinds describe alike has that description.
    assert_eq!(own_key("ignore_case").description, "Capital and small letters are alike.");
}

#[test]
fn every_key_of_one_kind_alone_belongs_to_a_kind_that_is_listed() {
    let kinds = own_kinds();
    assert_eq!((kinds.len(), kinds[0].0, kinds[11].0), (12, "command", "code"));
    assert!(kinds.iter().all(|(_, about)| !about.is_empty() && !about.contains('[')), "{kinds:?}");
    let is_listed = |key: &&Key| key.is_of_all() || kinds.iter().any(|(kind, _)| key.for_kind(kind).is_some());
    assert_eq!(own_keys().iter().filter(is_listed).count(), own_keys().len());
}

#[test]
fn a_bound_is_not_what_another_setting_forbids() {
    let bounds = |key: &str| {
        let text = describe_key(key).unwrap();
        text.lines().find_map(|line| line.strip_prefix("  bounds       ").map(str::to_owned))
    };
    assert_eq!(bounds("env.retries"), None);
    assert_eq!(bounds("dist.timeout_s").as_deref(), Some("a number from 1 to 1000000"));
    let above = "a finite number above 0: greedy completions are all the same";
    assert_eq!(bounds("rollout.temperature").as_deref(), Some(above));
}
