//! Answers that people reported as judged wrongly, and near misses of them: `testdata/answers/reported.jsonl`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dapo_reward::{Profile, Verdict, VerifyConfig, verify};
use serde_json::Value;

/// Rows that are judged otherwise than expected because the answer is not read or compared, by reason.
const READING: &[(&str, &[&str])] = &[
    ("leading approximately: not read yet", &["br-734", "br-735", "br-334"]),
    ("qualifiers and domains: not read yet", &["br-285", "br-826", "br-828", "br-749"]),
    ("bases: not read yet", &["br-347"]),
    ("conditions as sets: not read yet", &["br-054", "br-743", "br-751", "br-341", "br-742"]),
    ("counts with indices: not read yet", &["br-297", "br-118", "br-299"]),
    (
        "units and currencies: not read yet",
        &["br-815", "br-818", "br-737", "br-804", "br-280", "br-812", "br-816", "br-281", "br-805", "br-817"],
    ),
    ("prime command: not read yet", &["br-713", "br-712"]),
    ("decimal point before slash: not read yet", &["br-709"]),
    ("degrees and minutes: not read yet", &["br-750"]),
    ("two digit decimals in structures: not read yet", &["br-338"]),
    ("ordinals: not read yet", &["br-278"]),
    ("scientific notation and near integers: not read yet", &["br-466"]),
    ("indexed solutions: not read yet", &["br-349"]),
    ("value then unit in parentheses: not read yet", &["br-717", "br-718"]),
    ("compound quantities: not read yet", &["br-823", "br-824"]),
    ("mod as text: not read yet", &["br-831"]),
    (
        "chinese and unicode forms: not read yet",
        &["br-467", "br-490", "br-470", "br-842", "br-275", "br-268", "br-480"],
    ),
    ("other: not read yet", &["br-282"]),
];

/// Rows that are judged otherwise than expected because of the text around the answer, by reason.
const EXTRACTION: &[(&str, &[&str])] = &[("an amount in two units is read only with its units", &["br-516"])];

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
    let known: BTreeSet<&str> = READING.iter().chain(EXTRACTION).flat_map(|(_, ids)| *ids).copied().collect();
    let mut wrong = Vec::new();
    for row in &rows {
        let id = row["id"].as_str().expect("id");
        if is_as_expected(row) == known.contains(id) {
            wrong.push(format!("{} {row}", if known.contains(id) { "now right:" } else { "wrong:" }));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
