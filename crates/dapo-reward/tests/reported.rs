//! Answers that people reported as judged wrongly, and near misses of them: `testdata/answers/reported.jsonl`.

use std::fs;
use std::path::Path;

use dapo_reward::{Profile, Verdict, VerifyConfig, verify};
use serde_json::Value;

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
    let wrong: Vec<String> = rows.iter().filter(|row| !is_as_expected(row)).map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
