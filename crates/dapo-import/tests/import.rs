//! Other trainers' settings become ours: every knob on its key, every key accounted for, every error with its line.
#![allow(clippy::unwrap_used)]

#[path = "import/accounting.rs"]
mod accounting;
#[path = "import/correction.rs"]
mod correction;
#[path = "import/detection.rs"]
mod detection;
#[path = "import/errors.rs"]
mod errors;
#[path = "import/ppo.rs"]
mod ppo;
#[path = "import/shell.rs"]
mod shell;
#[path = "import/swift.rs"]
mod swift;
#[path = "import/trl.rs"]
mod trl;
#[path = "import/unknown.rs"]
mod unknown;
#[path = "import/verl.rs"]
mod verl;

use std::{collections::BTreeMap, path::Path};

use dapo_import::{ConfigFormat, Imported, import};
use dapo_run::RunConfig;

/// A file of `testdata/imports`.
fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/imports").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn imported(text: &str, name: &str) -> Imported {
    import(text, Path::new(name), None).unwrap()
}

fn imported_file(name: &str) -> Imported {
    imported(&file(name), name)
}

/// The settings by dotted key.
fn flat(config: &RunConfig) -> BTreeMap<String, toml::Value> {
    fn walk(prefix: &str, table: &toml::Table, out: &mut BTreeMap<String, toml::Value>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(table) => walk(&key, table, out),
                value => drop(out.insert(key, value.clone())),
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", &toml::Table::try_from(config).unwrap(), &mut out);
    out
}

/// The value of one setting; f32 settings are compared as f32.
#[track_caller]
fn expect(config: &RunConfig, key: &str, expected: impl Into<toml::Value>) {
    let flat = flat(config);
    let (found, expected) = (flat.get(key), expected.into());
    let same = match (found, &expected) {
        (Some(toml::Value::Float(a)), toml::Value::Float(b)) => *a as f32 == *b as f32,
        (found, expected) => found == Some(expected),
    };
    assert!(same, "{key} is {found:?}, expected {expected:?}");
}

#[track_caller]
fn unset(config: &RunConfig, key: &str) {
    let flat = flat(config);
    let below = format!("{key}.");
    assert!(flat.keys().all(|found| found != key && !found.starts_with(&below)), "{key} is {:?}", flat.get(key));
}

/// A change of the source, and the settings that change with it, and no others.
struct Knob {
    from: &'static str,
    to: &'static str,
    ours: &'static [(&'static str, &'static str)],
}

fn knob(from: &'static str, to: &'static str, ours: &'static [(&'static str, &'static str)]) -> Knob {
    Knob { from, to, ours }
}

/// Each knob changes its settings to these values, written as TOML, and nothing else.
fn check_knobs(name: &str, knobs: &[Knob]) {
    let text = file(name);
    let before = flat(&imported(&text, name).config);
    for Knob { from, to, ours } in knobs {
        assert_eq!(text.matches(from).count(), 1, "`{from}` in {name}");
        let after = flat(&imported(&text.replace(from, to), name).config);
        let changed: BTreeMap<&String, Option<&toml::Value>> = before
            .keys()
            .chain(after.keys())
            .filter(|key| before.get(*key) != after.get(*key))
            .map(|key| (key, after.get(key)))
            .collect();
        let expected: BTreeMap<String, Option<toml::Value>> = ours
            .iter()
            .map(|&(key, value)| {
                let value =
                    (value != "none").then(|| format!("x = {value}").parse::<toml::Table>().unwrap()["x"].clone());
                (key.to_owned(), value)
            })
            .collect();
        let changed_keys: Vec<_> = changed.keys().map(|key| key.as_str()).collect();
        let expected_keys: Vec<_> = expected.keys().map(String::as_str).collect();
        assert_eq!(changed_keys, expected_keys, "{from} -> {to}");
        for (key, value) in expected {
            let same = match (changed[&key], &value) {
                (Some(toml::Value::Float(a)), Some(toml::Value::Float(b))) => *a as f32 == *b as f32,
                (found, expected) => found == expected.as_ref(),
            };
            assert!(same, "{from} -> {to}: {key} is {:?}, expected {value:?}", changed[&key]);
        }
    }
}

fn reason<'a>(imported: &'a Imported, key: &str) -> &'a str {
    let found: Vec<_> = imported.skipped.iter().filter(|skipped| skipped.key == key).collect();
    assert_eq!(found.len(), 1, "{key} in {:?}", imported.skipped);
    &found[0].reason
}

fn has_note(imported: &Imported, key: &str, part: &str) -> bool {
    imported.notes.iter().any(|note| note.key == key && note.text.contains(part))
}

#[test]
fn formats_are_named_as_their_makers_name_them() {
    for (name, format) in [("verl", ConfigFormat::Verl), ("trl", ConfigFormat::Trl), ("ms-swift", ConfigFormat::Swift)]
    {
        assert_eq!(name.parse::<ConfigFormat>().unwrap(), format);
        assert_eq!(format.to_string().to_lowercase(), name);
    }
    let error = "openrlhf".parse::<ConfigFormat>().unwrap_err();
    assert_eq!(error.to_string(), "format is `openrlhf`, expected one of verl, trl, ms-swift");
}
