//! Every setting: type, default, bounds, meaning.

use crate::cell;
use dapo_run::{Key, describe_key, keys, own_keys, own_kinds, tables};
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

/// A default as code.
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
    line(path, split(path).1, rows["type"], rows["default"], &meaning)
}

fn line(id: &str, key: &str, kind: &str, value: &str, meaning: &str) -> String {
    format!("| <a id=\"{id}\"></a>`{key}` | {} | {} | {meaning} |\n", cell(kind), cell(&default(value)))
}

const TABLE: &str = "| key | type | default | meaning |\n|---|---|---|---|\n";

/// Rewards under names of the user's own: the keys that all have, then those of each kind with its own meanings.
fn own_rewards() -> String {
    let mut text = "\
## rewards.NAME

A reward of your own, under any name that is free. See [rewards](../docs/rewards.md). Every kind has these keys, except
`kind`, which selects a rule:

"
    .to_owned();
    let add = |text: &mut String, place: &str, keys: &mut dyn Iterator<Item = Key>| {
        text.push_str(TABLE);
        for key in keys {
            let Key { path, kind, default, description, .. } = key;
            let (name, value) = (split(&path).1, default.as_deref().unwrap_or("not set"));
            text.push_str(&line(&format!("{place}.{name}"), name, &kind.to_string(), value, &cell(&description)));
        }
        text.push('\n');
    };
    let is_common = |key: &Key| key.is_of_all() || key.path == "rewards.NAME.kind";
    add(&mut text, "rewards.NAME", &mut own_keys().iter().filter(|key| is_common(key)).cloned());
    for (kind, about) in own_kinds() {
        let (place, heading) = match kind {
            "code" => ("rewards.code".to_owned(), "rewards.code".to_owned()),
            "command" | "url" | "python" | "judge_url" => {
                (format!("rewards.NAME.{kind}"), format!("rewards.NAME with {}", cell(kind)))
            }
            rule => (format!("rewards.NAME.{rule}"), format!("rewards.NAME with kind = \"{rule}\"")),
        };
        let _ = write!(text, "### {heading}\n\n{}\n\n", wrapped(&paragraph(&about)));
        let keys = own_keys().iter().filter(|key| !is_common(key));
        let mut keys: Vec<Key> = keys.filter_map(|key| key.for_kind(kind)).collect();
        // What selects the kind comes first.
        keys.sort_by_key(|key| split(&key.path).1 != kind);
        add(&mut text, &place, &mut keys.into_iter());
    }
    text
}

pub(crate) fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut add = |heading: &str, about: &str, keys: &[&str]| {
        if keys.is_empty() {
            return;
        }
        let _ = write!(text, "## {heading}\n\n");
        if !about.is_empty() {
            let _ = write!(text, "{}\n\n", wrapped(&paragraph(about)));
        }
        text.push_str(TABLE);
        text.extend(keys.iter().map(|key| row(key)));
        text.push('\n');
    };
    let all: Vec<&str> = keys().iter().map(|key| key.path.as_str()).collect();
    let of = |table: &str| all.iter().copied().filter(|path| split(path).0 == table).collect::<Vec<_>>();
    add("Top level", "", &of(""));
    for (table, about) in tables() {
        add(table, about, &of(table));
    }
    text.push_str(&own_rewards());
    text.trim_end().to_owned() + "\n"
}

/// A text outside tables, where bars are plain.
fn paragraph(text: &str) -> String {
    cell(text).replace("\\|", "|")
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
