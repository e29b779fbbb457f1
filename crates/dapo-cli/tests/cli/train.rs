//! `dapo train`.

use crate::{TINY_MODEL, additions, dapo, folder, path};
use serde_json::Value;
use std::fs;

#[test]
fn trains_a_model_that_can_be_evaluated() {
    let (data, folder) = (additions(), folder());
    let out = folder.path().join("runs/a");
    let dir = out.to_str().unwrap();
    let steps = "--steps 2 --prompts 2 --group 6 --max-tokens 72 --lr 1e-4 --warmup 0 --seed 3";
    let mut args = vec!["train", "--model", TINY_MODEL, "--data", path(&data), "--out", dir];
    args.extend(steps.split(' '));
    let run = dapo(&args).success();
    let model = run.stdout.trim_end();
    assert_eq!(model, out.join("model").to_str().unwrap());
    assert!(run.stderr.contains("step 1/2: ") && run.stderr.contains("step 2/2: "), "{}", run.stderr);

    let metrics = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let metrics: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<_> = metrics.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 1]);
    assert!(metrics[0]["num_tokens"].as_u64() < metrics[1]["num_tokens"].as_u64());
    assert!(metrics.iter().all(|line| line["lr"] == 1e-4 && line["rewards"]["accuracy"].is_f64()), "{metrics:?}");

    let weights = |dir: &str| fs::read(format!("{dir}/model.safetensors")).unwrap();
    assert_ne!(weights(model), weights(TINY_MODEL), "the weights have moved");
    let eval = ["eval", "--model", model, "--data", path(&data), "--samples", "2", "--max-tokens", "72", "--json"];
    let report = &dapo(&eval).success().json_lines()[0];
    assert_eq!(report["problems"], 8);

    let before = fs::read(out.join("metrics.jsonl")).unwrap();
    dapo(&args).failure(1, &["error: ", dir, " is not empty, expected a new or empty folder for --out"]);
    assert_eq!(fs::read(out.join("metrics.jsonl")).unwrap(), before);
}

#[test]
fn a_failure_at_the_start_leaves_no_folder() {
    let (data, folder) = (additions(), folder());
    let out = folder.path().join("run");
    let args = ["train", "--data", path(&data), "--out", out.to_str().unwrap()];
    dapo(&[args.as_slice(), &["--model", "no/such/model"]].concat()).failure(1, &["error: no/such/model: "]);
    let invalid = ["--model", TINY_MODEL, "--temperature", "0"];
    dapo(&[args.as_slice(), &invalid].concat()).failure(1, &["error: sampling.temperature is 0, expected above 0"]);
    assert!(!out.exists());
}

#[test]
fn a_file_is_no_folder() {
    let data = additions();
    dapo(&["train", "--model", TINY_MODEL, "--data", path(&data), "--out", path(&data)])
        .failure(1, &["error: ", path(&data), "given for --out"]);
}
