//! The settings of runs, and where they differ.

use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// Settings by their dotted keys, as TOML writes the values.
pub(crate) type Settings = BTreeMap<String, String>;

/// The setting in which repetitions of a run differ.
const SEED: &str = "seed";

/// Stands before the hash in the last line of a settings file.
const SEAL: &str = "# BLAKE3 of the lines above: ";

/// Reads a settings file.
///
/// # Errors
/// What is wrong with it, on one line.
pub(crate) fn parse(text: &[u8]) -> Result<Settings, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.message().replace('\n', " "))?;
    let mut settings = Settings::new();
    flatten("", table, &mut settings);
    Ok(settings)
}

/// Whether a settings file has changed since a run wrote it with the hash in its last line. Files without one are older.
pub(crate) fn is_edited(text: &[u8]) -> bool {
    let Some(start) = text.windows(SEAL.len()).rposition(|window| window == SEAL.as_bytes()) else { return false };
    let hash = blake3::hash(&text[..start]).to_hex();
    text[start + SEAL.len()..].trim_ascii() != hash.as_bytes()
}

fn flatten(prefix: &str, table: Table, settings: &mut Settings) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) if !table.is_empty() => flatten(&key, table, settings),
            value => {
                settings.insert(key, value.to_string());
            }
        }
    }
}

/// For each run the first of those that differ by their seeds alone; the run itself where there is no other, where a seed
/// occurs twice among them, or where it has no settings.
pub(crate) fn groups(runs: &[Option<&Settings>]) -> Vec<usize> {
    let mut classes: BTreeMap<Settings, Vec<usize>> = BTreeMap::new();
    for (run, settings) in runs.iter().enumerate() {
        if let Some(settings) = settings {
            let mut rest = (*settings).clone();
            rest.remove(SEED);
            classes.entry(rest).or_default().push(run);
        }
    }
    let mut groups: Vec<_> = (0..runs.len()).collect();
    for class in classes.into_values() {
        let seeds: BTreeSet<_> = class.iter().map(|run| runs[*run].and_then(|run| run.get(SEED))).collect();
        if seeds.len() == class.len() {
            for run in &class {
                groups[*run] = class[0];
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_settings_have_dotted_keys() {
        let settings = parse(b"seed = 3\n[a]\nx = 1.5\n[a.b]\ny = [\"p\", \"q\"]\n[c]\n").unwrap();
        let found: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, [("a.b.y", r#"["p", "q"]"#), ("a.x", "1.5"), ("c", "{}"), ("seed", "3")]);
    }

    #[test]
    fn an_edit_is_seen_by_the_hash() {
        let sealed = |text: &str| format!("{text}{SEAL}{}\n", blake3::hash(text.as_bytes()).to_hex());
        let file = sealed("seed = 3\n");
        assert!(!is_edited(file.as_bytes()));
        assert!(is_edited(file.replace("= 3", "= 4").as_bytes()));
        assert!(is_edited((file + "seed = 4\n").as_bytes()));
        assert!(!is_edited(b"seed = 3\n"));
    }

    #[test]
    fn runs_that_differ_by_their_seed_alone_belong_together() {
        let run = |seed: u32, lr: &str| parse(format!("seed = {seed}\nlr = {lr}\n").as_bytes()).unwrap();
        let runs = [run(1, "0.1"), run(1, "0.2"), run(2, "0.1"), run(3, "0.2"), run(1, "0.3"), run(1, "0.3")];
        let mut given: Vec<_> = runs.iter().map(Some).collect();
        given.push(None);
        given.push(None);
        assert_eq!(groups(&given), [0, 1, 0, 1, 4, 5, 6, 7]);
    }
}
