//! Every setting: type, default, bounds, meaning.

use crate::cell;
use dapo_run::{describe_key, keys, own_keys, tables};
use std::collections::BTreeMap;
use std::fmt::Write;

const INTRODUCTION: &str = "\
# Settings

<!-- Generated from the program by scripts/book-reference. -->

Settings are given in TOML files or as `key.path=value`, in [layers](../docs/runs.md#settings). `dapo config schema`
prints this list, and `dapo config schema KEY` describes one setting with an example.

";

/// The table that a key is in, and the key's name in it.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// A default as code; long lists break at commas.
fn default(value: &str) -> String {
    match value {
        "not set" => "not set".to_owned(),
        _ => format!("`{value}`"),
    }
}

fn row(path: &str) -> String {
    let described = describe_key(path).unwrap();
    let rows: BTreeMap<&str, &str> = described
        .lines()
        .skip(1)
        .map(|line| {
            let (name, value) = line.split_at(line.char_indices().nth(14).map_or(line.len(), |(at, _)| at));
            (name.trim(), value.trim())
        })
        .collect();
    let mut meaning = cell(rows["description"]);
    if let Some(bounds) = rows.get("bounds") {
        let _ = write!(meaning, " Bounds: {}.", cell(bounds).trim_end_matches('.'));
    }
    if let Some(condition) = rows.get("only with") {
        let _ = write!(meaning, " Only with `{condition}`.");
    }
    let kind = cell(rows["type"]);
    format!("| <a id=\"{path}\"></a>`{}` | {kind} | {} | {meaning} |\n", split(path).1, cell(&default(rows["default"])))
}

pub(crate) fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut add = |heading: &str, about: &str, keys: &[&str]| {
        if keys.is_empty() {
            return;
        }
        let _ = write!(text, "## {heading}\n\n");
        if !about.is_empty() {
            let _ = write!(text, "{}\n\n", wrapped(&cell(about)));
        }
        text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        text.extend(keys.iter().map(|key| row(key)));
        text.push('\n');
    };
    let all: Vec<&str> = keys().iter().map(|key| key.path.as_str()).collect();
    let of = |table: &str| all.iter().copied().filter(|path| split(path).0 == table).collect::<Vec<_>>();
    add("Top level", "", &of(""));
    for (table, about) in tables() {
        add(table, about, &of(table));
    }
    let own: Vec<&str> = own_keys().iter().map(|key| key.path.as_str()).collect();
    add("rewards.NAME", "A reward of your own, under any name that is free. See [rewards](../docs/rewards.md).", &own);
    text.trim_end().to_owned() + "\n"
}

/// A paragraph in lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().unwrap();
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= 120 {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}
