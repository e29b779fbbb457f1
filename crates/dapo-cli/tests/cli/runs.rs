//! `dapo runs`, and the card of an exported model.

use crate::{dapo, folder};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn train(dir: &Path, name: &str, settings: &[&str]) -> String {
    let out = dir.join(name).display().to_string();
    let small = [
        "rollout.group_size=4",
        "rollout.max_new_tokens=32",
        "sampler.train_batch=2",
        "eval.limit=4",
        "eval.samples=1",
    ];
    dapo(&[&["train", "tiny", "--out", &out, "-q"], &small[..], settings].concat()).success();
    out
}

#[test]
fn runs_are_listed_compared_and_cleaned() {
    let dir = folder();
    let runs = dir.path().display().to_string();
    assert!(dapo(&["runs", &runs]).success().stderr.contains("no run in"));
    let a = train(
        dir.path(),
        "a",
        &["train.steps=2", "output.checkpoint_every=1", "output.keep_checkpoints=0", "eval.every=2"],
    );
    let b = train(dir.path(), "b", &["train.steps=1", "seed=9", "eval.every=1"]);

    let listed = dapo(&["runs", &runs]).success();
    let rows: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["state", "steps", "best", "size", "changed", "run"]);
    assert!(rows[1].starts_with(&["finished", "2/2"]) && rows[1].last() == Some(&a.as_str()), "{rows:?}");
    assert!(rows[2].starts_with(&["finished", "1/1"]), "{rows:?}");
    let json = dapo(&["runs", &a, &runs, "--json"]).success().json_lines();
    assert_eq!(json.len(), 2, "each run once");
    assert_eq!((&json[0]["state"], &json[0]["steps"]), (&"finished".into(), &2.into()));

    let shown = dapo(&["runs", "diff", &a, &b]).success().stdout;
    for (key, one, other) in [("train.steps", "2", "1"), ("seed", "0", "9"), ("steps", "2", "1"), ("step", "2", "1")] {
        let row = |line: &str| line.split_whitespace().rev().take(3).eq([other, one, key]);
        assert!(shown.lines().any(row), "no {key} in {shown}");
    }
    assert!(shown.contains("avg_at_k") && shown.contains(" to "), "{shown}");
    let json: Value = dapo(&["runs", "diff", &a, &b, "--json"]).success().json_lines().remove(0);
    assert_eq!(json["settings"]["seed"], serde_json::json!(["0", "9"]));

    fs::write(dir.path().join("a/completions/step-3.jsonl"), "{}\n").unwrap();
    let said = dapo(&["runs", "clean", &runs]).success();
    assert!(said.stdout.contains("failed step") && said.stderr.contains("--yes deletes them"), "{}", said.stderr);
    assert!(dir.path().join("a/completions/step-3.jsonl").exists());
    let deleted = dapo(&["runs", "clean", &runs, "--yes", "--json"]).success();
    assert_eq!(deleted.json_lines()[0]["kind"], "failed-step");
    assert!(!dir.path().join("a/completions/step-3.jsonl").exists());
    assert!(dapo(&["runs", "clean", &runs, "--yes"]).success().stderr.contains("nothing to delete"));
    dapo(&["runs", "clean", &a, "--checkpoints", "--yes"]).success();
    assert!(!dir.path().join("a/checkpoints/step-1").exists() && dir.path().join("a/checkpoints/step-2").exists());

    dapo(&["runs", "diff", &a, &runs]).failure(1, &["expected a run folder, with its config.resolved.toml"]);
    dapo(&["runs", &format!("{runs}/nowhere")]).failure(1, &["nowhere: "]);
}

#[test]
fn an_exported_model_has_a_card() {
    let dir = folder();
    let run = train(dir.path(), "run", &["train.steps=1", "eval.every=1"]);
    let out = dir.path().join("exported");
    dapo(&["export", &run, "--out", out.to_str().unwrap()]).success();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    for said in ["---\nlibrary_name: transformers\n", "# exported", "`builtin:tiny`", "| avg@1 |", "95 % interval"] {
        assert!(card.contains(said), "no {said:?} in {card}");
    }
    assert!(!card.contains(dir.path().to_str().unwrap()), "{card}");
    // The folder is a model as before.
    dapo(&["generate", "--model", out.to_str().unwrap(), "1+1=", "--max-tokens", "4"]).success();
}
