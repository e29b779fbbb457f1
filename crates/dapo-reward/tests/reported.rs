//! Answers that people reported as judged wrongly, and near misses of them: `testdata/answers/reported.jsonl`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dapo_reward::{Profile, Verdict, VerifyConfig, verify};
use serde_json::Value;

/// Rows that are judged otherwise than expected because of the text around the answer, by reason.
const EXTRACTION: &[(&str, &[&str])] = &[
    ("announcement in another language: not read yet", &["br-273"]),
    ("a box inside a thought counts unless the profile looks only after it", &["br-260"]),
    ("choice letters: not read yet", &["br-248", "br-757", "br-233", "br-243", "br-082", "br-238", "br-225"]),
    (
        "prose after the announcement: not read yet",
        &[
            "br-505", "br-495", "br-771", "br-059", "br-520", "br-504", "br-511", "br-503", "br-509", "br-493",
            "br-512", "br-494",
        ],
    ),
    ("headings and sentences: not read yet", &["br-103", "br-028", "br-747"]),
    ("chat tokens: not read yet", &["br-263", "br-262"]),
    ("box without braces: not read yet", &["br-051"]),
    ("emphasised announcement: not read yet", &["br-087"]),
    ("gold that cannot be read: not read yet", &["br-724", "br-754", "br-730", "br-752", "br-726", "br-722"]),
    ("announcement inside the answer: not read yet", &["br-201", "br-264"]),
    ("answer in several pieces: not read yet", &["br-314", "br-308", "br-313", "br-310"]),
    ("dollars as money: not read yet", &["br-254", "br-064"]),
];

fn rows() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/answers/reported.jsonl");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

fn is_as_expected(row: &Value) -> bool {
    let text = |key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}"));
    let profile = row["profile"].as_str().map_or_else(Profile::auto, |name| name.parse().expect("a profile"));
    let config = VerifyConfig { profile, ..VerifyConfig::default() };
    let is_correct = verify(text("gold"), text("pred"), &config).verdict == Verdict::Correct;
    is_correct == row["expected"].as_bool().expect("expected")
}

#[test]
fn reported_cases_are_judged_as_expected() {
    let rows = rows();
    assert_eq!(rows.len(), 262);
    let known: BTreeSet<&str> = EXTRACTION.iter().flat_map(|(_, ids)| *ids).copied().collect();
    let mut wrong = Vec::new();
    for row in &rows {
        let id = row["id"].as_str().expect("id");
        if is_as_expected(row) == known.contains(id) {
            wrong.push(format!("{} {row}", if known.contains(id) { "now right:" } else { "wrong:" }));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
