//! Keys of own rewards whose value is a table or a file: a JSON Schema.

use crate::{Files, words};
use dapo_run::{Kind, Layer, OwnKind, Resolved, own_keys, resolve, schema};
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
