//! The examples of docs/rewards.md work as they stand.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::inputs;
use dapo_external::{
    BuiltinConfig, BuiltinReward, CommandReward, ExternalConfig, JudgeReward, PythonReward, UrlReward, open,
};
use dapo_reward::{RewardFn, RewardInput, Score};
use tempfile::tempdir;

/// The code blocks of the page in this language, in order.
fn blocks(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rewards.md");
    let page = fs::read_to_string(page).unwrap();
    let start = format!("```{language}\n");
    page.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The table's name, and what it holds.
fn table(text: &str) -> (String, toml::Table) {
    let mut table: toml::Table = text.parse().unwrap();
    let rewards = table.remove("rewards").unwrap();
    let (name, table) = rewards.as_table().unwrap().iter().next().unwrap();
    (name.clone(), table.as_table().unwrap().clone())
}

/// Scores two completions with an example's settings; says so if the program is missing.
fn scores(program: &str, name: &str, config: &ExternalConfig, dir: &Path) -> Option<Vec<Option<f64>>> {
    if !Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no {program}");
        return None;
    }
    let reward = open(name, config, dir, Some(dir)).unwrap();
    let scores = reward.score_batch(&inputs(&["2, please", "3"], 0, 1)).unwrap();
    Some(scores.into_iter().map(|score| score.value).collect())
}

#[test]
fn the_python_example_scores() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("rewards.py"), &blocks("python")[0]).unwrap();
    let (name, table) = table(&blocks("toml")[0]);
    let config: PythonReward = table.try_into().unwrap();
    if let Some(scores) = scores("python3", &name, &config.into(), dir.path()) {
        assert_eq!(scores, [Some(1.0), Some(0.0)]);
    }
}

#[test]
fn the_shell_example_scores() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("judge.sh");
    fs::write(&file, &blocks("sh")[0]).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let (name, table) = table(&blocks("toml")[1]);
    let config: CommandReward = table.try_into().unwrap();
    if let Some(scores) = scores("jq", &name, &config.into(), dir.path()) {
        assert_eq!(scores, [Some(1.0), Some(0.0)]);
    }
}

#[test]
fn the_servers_example_is_valid() {
    let (_, table) = table(&blocks("toml")[2]);
    let config: UrlReward = table.try_into().unwrap();
    config.validate().unwrap();
    assert_eq!((config.concurrency, config.batch), (4, Some(16)));
    let error = toml::from_str::<UrlReward>("urll = 1").unwrap_err().to_string();
    assert!(error.contains("unknown field `urll`"), "{error}");
}

#[test]
fn the_judges_example_is_valid() {
    let (_, table) = table(&blocks("toml")[3]);
    let config: JudgeReward = table.try_into().unwrap();
    config.validate().unwrap();
    let template = config.template.unwrap();
    assert!(template.starts_with("Question: {prompt}\n") && template.contains("{columns.rubric}"));
}

#[test]
fn the_rules_example_scores() {
    let (name, table) = table(&blocks("toml")[4]);
    let config: BuiltinConfig = table.try_into().unwrap();
    let reward = BuiltinReward::new(&name, &config).unwrap();
    let score = reward.score(&RewardInput::new("When?", "In 1969.", "1969")).unwrap();
    assert_eq!(score, Score::value(1.0).with_correct(true));
}

#[test]
fn the_schemas_example_is_read() {
    let (name, table) = table(&blocks("toml")[5]);
    let config: BuiltinConfig = table.try_into().unwrap();
    let reward = BuiltinReward::new(&name, &config);
    if cfg!(feature = "json-schema") {
        let value =
            |completion| reward.as_ref().unwrap().score(&RewardInput::new("Where?", completion, "")).unwrap().value;
        assert_eq!([r#"{"city": "Paris"}"#, r#"{"city": ""}"#].map(value), [Some(1.0), Some(0.0)]);
    } else {
        assert!(reward.unwrap_err().to_string().contains("--features json-schema"));
    }
}
