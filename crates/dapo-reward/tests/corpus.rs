//! The corpora under `testdata/answers/`: public cases of other graders, and this project's own.

use std::fs;
use std::path::Path;

use dapo_reward::{Profile, Verdict, VerifyConfig, verify};
use serde_json::Value;

fn rows(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/answers").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}"))
}

fn profile(row: &Value) -> Profile {
    match row["config"]["extract"][0].as_str() {
        Some("completion") => Profile::auto(),
        Some("string") => Profile::choice(),
        _ => Profile::whole(),
    }
}

fn is_correct(gold: &str, pred: &str, profile: Profile) -> bool {
    let config = VerifyConfig { profile, ..VerifyConfig::default() };
    verify(gold, pred, &config).verdict == Verdict::Correct
}

/// Rows on which graders may differ, where this one decides otherwise, and why.
const CONVENTIONS: &[(&str, &str)] = &[
    ("og-057", "the order of a list does not matter"),
    ("og-063", "the order of a list does not matter"),
    ("og-075", "fractions need not be in lowest terms"),
    ("og-121", "a quotient need not be left as written"),
];

#[test]
fn public_cases_are_decided_as_expected() {
    let rows = rows("public.jsonl");
    assert_eq!(rows.len(), 138);
    for row in &rows {
        let id = text(row, "id");
        let expected = row["expected"].as_bool().expect("expected");
        let found = is_correct(text(row, "gold"), text(row, "pred"), profile(row));
        let is_convention = CONVENTIONS.iter().any(|(known, _)| *known == id);
        assert!(!is_convention || text(row, "label") == "convention", "{id} is no matter of convention");
        assert_eq!(found == expected, !is_convention, "{row}");
    }
}

/// Own rows that are judged otherwise than they say, and why.
const OVERRULED: &[(&str, &str)] =
    &[("own-227", "an answer in a base also meets its bare digits: graders of base problems take both for right")];

#[test]
fn own_cases_are_decided_as_expected_in_both_directions() {
    let rows = rows("own.jsonl");
    assert!(rows.len() >= 300);
    for row in &rows {
        let expected = row["expected"].as_bool().expect("expected");
        let expected = expected != OVERRULED.iter().any(|(id, _)| *id == text(row, "id"));
        let (gold, pred) = (text(row, "gold"), text(row, "pred"));
        assert_eq!(is_correct(gold, pred, Profile::whole()), expected, "{row}");
        if row["directed"] != Value::Bool(true) {
            assert_eq!(is_correct(pred, gold, Profile::whole()), expected, "turned round: {row}");
        }
    }
}
