//! Models whose files disagree or are damaged, in every command that generates.

use crate::{TINY_MODEL, additions, dapo, dapo_with_stdin, folder, path};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A copy of the tiny model.
fn copy() -> TempDir {
    let dir = folder();
    for entry in fs::read_dir(TINY_MODEL).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let file = dir.join(name);
    let mut json = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut json);
    fs::write(&file, json.to_string()).unwrap();
}

/// The tiny model with another end token in its configurations than in its tokenizer, as base models have it.
fn with_other_config_eos() -> TempDir {
    let dir = copy();
    for name in ["config.json", "generation_config.json"] {
        edit(dir.path(), name, |json| json["eos_token_id"] = 2.into());
    }
    dir
}

/// The tiny model with such a number in its last norm.
fn with_number(number: f32) -> TempDir {
    let dir = copy();
    edit_weights(dir.path(), "model.norm.weight", |_, weights| weights[0] = number);
    dir
}

/// A model whose first layer multiplies large weights until they are infinite.
fn that_overflows() -> TempDir {
    let dir = copy();
    for name in ["post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] {
        edit_weights(dir.path(), &format!("model.layers.0.{name}.weight"), |shape, weights| {
            // Of either sign, whatever they meet.
            let sign = |index: usize| if shape.len() == 2 && index / shape[1] % 2 == 1 { -1.0 } else { 1.0 };
            weights.iter_mut().enumerate().for_each(|(index, weight)| *weight = 9e8 * sign(index));
        });
    }
    dir
}

fn edit_weights(dir: &Path, tensor: &str, edit: impl FnOnce(&[usize], &mut [f32])) {
    let file = dir.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let numbers = |value: &Value| -> Vec<usize> { serde_json::from_value(value.clone()).unwrap() };
    let (shape, range) = (numbers(&json[tensor]["shape"]), numbers(&json[tensor]["data_offsets"]));
    let bytes_of = &mut bytes[8 + header + range[0]..8 + header + range[1]];
    let mut weights: Vec<f32> = bytes_of.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    edit(&shape, &mut weights);
    bytes_of.copy_from_slice(&weights.iter().flat_map(|weight| weight.to_le_bytes()).collect::<Vec<u8>>());
    fs::write(&file, bytes).unwrap();
}

fn name(dir: &TempDir) -> &str {
    dir.path().to_str().unwrap()
}

#[test]
fn the_tokenizers_end_token_counts_in_every_command() {
    let dir = with_other_config_eos();
    let generate = |model: &str| {
        let args = ["generate", "--model", model, "12+7=", "--temperature", "0", "--max-tokens", "40", "--json"];
        dapo(&args).success().json_lines()
    };
    let found = generate(name(&dir));
    assert_eq!(found, generate(TINY_MODEL));
    assert_eq!(found[0]["finish_reason"], "stop");

    let problems = additions();
    let eval = |model: &str| {
        let args = ["eval", "--model", model, "--data", path(&problems), "--temperature", "0", "--max-tokens", "72"];
        let mut report = dapo(&[args.as_slice(), &["--json"]].concat()).success().json_lines().remove(0);
        for field in ["model", "seconds"] {
            report.as_object_mut().unwrap().remove(field);
        }
        report
    };
    assert_eq!(eval(name(&dir)), eval(TINY_MODEL));

    let chat = |model: &str| {
        let args = ["chat", "--model", model, "--temperature", "0", "--max-tokens", "40"];
        dapo_with_stdin(&args, "12+7=\n").success()
    };
    let talk = chat(name(&dir));
    assert_eq!(talk.stdout, chat(TINY_MODEL).stdout);
    assert!(!talk.stderr.contains("stopped after"), "{}", talk.stderr);

    let exported = folder();
    let out = exported.path().join("out");
    dapo(&["export", name(&dir), "--out", out.to_str().unwrap()]).success();
    let written: Value = serde_json::from_slice(&fs::read(out.join("generation_config.json")).unwrap()).unwrap();
    assert_eq!(written["eos_token_id"], serde_json::json!([2, 1]));
}

#[test]
fn training_stops_at_the_tokenizers_end_token() {
    let dir = with_other_config_eos();
    let runs = folder();
    let train = |model: &str, run: &str| {
        let out = runs.path().join(run);
        let model = format!("model.path={model}");
        let args = ["train", "tiny", &model, "train.steps=1", "eval.limit=16", "--out", out.to_str().unwrap()];
        dapo(&args).success();
        let read = |log: &str| fs::read_to_string(out.join(log)).unwrap();
        (read("metrics.jsonl"), read("evaluations.jsonl"))
    };
    assert_eq!(train(name(&dir), "other"), train(TINY_MODEL, "original"));
}

#[test]
fn a_model_without_an_end_token_is_warned_about() {
    let dir = with_other_config_eos();
    for name in ["config.json", "generation_config.json"] {
        edit(dir.path(), name, |json| json["eos_token_id"] = Value::Null);
    }
    edit(dir.path(), "tokenizer_config.json", |json| drop(json.as_object_mut().unwrap().remove("eos_token")));
    let said = "warning: the model has no end token";
    let generate = dapo(&["generate", "--model", name(&dir), "12+7=", "--max-tokens", "4"]).success();
    assert!(generate.stderr.contains(said), "{}", generate.stderr);
    let out = folder();
    let run = out.path().join("run");
    let model = format!("model.path={}", name(&dir));
    let args = ["train", "tiny", &model, "train.steps=1", "eval.limit=16", "--out", run.to_str().unwrap()];
    let train = dapo(&args).success();
    assert!(train.stderr.contains(said), "{}", train.stderr);
    assert!(!dapo(&["generate", "--model", TINY_MODEL, "12+7="]).success().stderr.contains("end token"));
}

#[test]
fn weights_that_are_not_finite_or_absurd_are_an_error_in_every_command() {
    for (number, found) in [(f32::NAN, "NaN at index 0, expected finite"), (1e30, "0 at index 0, expected at most 1e9")]
    {
        let dir = with_number(number);
        let file = dir.path().join("model.safetensors");
        let said: &[&str] = &[file.to_str().unwrap(), "tensor model.norm.weight is ", found];
        let (problems, out) = (additions(), folder());
        let (run, model) = (out.path().join("run"), format!("model.path={}", name(&dir)));
        let run = run.to_str().unwrap();
        dapo(&["generate", "--model", name(&dir), "12+7="]).failure(1, said);
        dapo(&["eval", "--model", name(&dir), "--data", path(&problems)]).failure(1, said);
        dapo_with_stdin(&["chat", "--model", name(&dir)], "12+7=\n").failure(1, said);
        dapo(&["export", name(&dir), "--out", run]).failure(1, said);
        dapo(&["train", "tiny", &model, "--out", run]).failure(1, said);
    }
}

#[test]
fn logits_that_are_not_finite_are_an_error_in_every_command() {
    let dir = that_overflows();
    let said: &[&str] = &[name(&dir), "logits are NaN or infinite at token 0"];
    dapo(&["generate", "--model", name(&dir), "12+7=", "--max-tokens", "8"]).failure(1, said);
    let problems = additions();
    dapo(&["eval", "--model", name(&dir), "--data", path(&problems)]).failure(1, said);
    dapo_with_stdin(&["chat", "--model", name(&dir)], "12+7=\n").failure(1, said);
    let out = folder();
    let run = out.path().join("run");
    let model = format!("model.path={}", name(&dir));
    for eval in ["eval.every=none", "eval.every=20"] {
        dapo(&["train", "tiny", &model, eval, "--out", run.to_str().unwrap()]).failure(1, said);
        fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn the_tiny_model_is_never_unpacked() {
    let dir = folder();
    let nowhere = dir.path().join("missing");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dapo"));
    command.args(["generate", "--model", "builtin:tiny", "12+7=", "--temperature", "0", "--max-tokens", "40"]);
    let output = command.env("TMPDIR", &nowhere).env("TEMP", &nowhere).env("TMP", &nowhere).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plain =
        dapo(&["generate", "--model", TINY_MODEL, "12+7=", "--temperature", "0", "--max-tokens", "40"]).success();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), plain.stdout);
    assert!(!nowhere.exists());
}

#[test]
fn an_export_that_fails_leaves_nothing_and_one_that_was_interrupted_is_made_again() {
    let (model, exported) = (with_number(1e30), folder());
    let out = exported.path().join("out");
    let args = ["export", name(&model), "--dtype", "f16", "--out", out.to_str().unwrap()];
    dapo(&args).failure(1, &["model.norm.weight"]);
    assert!(!out.exists());
    // An empty folder stays, and stays empty.
    fs::create_dir(&out).unwrap();
    dapo(&args).failure(1, &["model.norm.weight"]);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    // What a killed export leaves: some files at their places, the others not.
    fs::create_dir(out.join(".dapo-export.part")).unwrap();
    fs::write(out.join(".dapo-export.part/model.safetensors.tmp"), "half").unwrap();
    fs::write(out.join("config.json"), "{}").unwrap();
    let whole = ["export", TINY_MODEL, "--out", out.to_str().unwrap()];
    dapo(&whole).success();
    assert!(!out.join(".dapo-export.part").exists());
    dapo(&["generate", "--model", out.to_str().unwrap(), "1+1=", "--max-tokens", "3"]).success();
    dapo(&whole).failure(1, &["is not empty"]);
}

#[test]
fn a_checkpoint_without_its_manifest_names_it() {
    let (dir, problems) = (folder(), additions());
    let checkpoint = dir.path().join("step-3");
    fs::create_dir(&checkpoint).unwrap();
    fs::rename(copy().keep(), checkpoint.join("model")).unwrap();
    let model = checkpoint.to_str().unwrap();
    let said: &[&str] = &["step-3/manifest.json: missing", "--trust-unverified"];
    dapo(&["eval", "--model", model, "--data", path(&problems)]).failure(1, said);
    dapo(&["eval", "--model", model, "--data", path(&problems), "--trust-unverified", "--samples", "1"]).success();
}
