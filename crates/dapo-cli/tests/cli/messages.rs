//! What is said where something is not as it should be.

use crate::{additions, dapo, file, folder, path};

/// A dry run of the tiny recipe with a setting more.
#[track_caller]
fn refused(setting: &str, said: &str) {
    let run = dapo(&["train", "tiny", setting, "--dry-run"]);
    assert!(matches!(run.code, Some(1 | 2)), "{:?}", run.code);
    assert!(run.stderr.starts_with("error: ") && run.stderr.contains(said), "no {said:?} in {}", run.stderr);
    assert!(!run.stderr.contains("caused by"), "{}", run.stderr);
}

#[test]
fn settings_that_cannot_be_are_named_once_with_what_can() {
    let most = "expected a whole number of at most 18446744073709551615";
    refused("train.steps=99999999999999999999", &format!("train.steps is 99999999999999999999, {most}"));
    let one_of = "expected one of command, url, python, judge_url, kind in it, or one of the built-in rewards";
    refused("rewards.custom.weight=1", &format!("command line: rewards.custom is no reward, {one_of}"));
    refused("optimizer.lr=-1", "error: command line: optimizer.lr is -1, expected a finite number of at least 0\n");
    refused("train.steps", "error: train.steps is a setting without a value, expected train.steps=VALUE\n");
    refused("model.path=/nope", "error: model /nope not found, expected a folder, a GGUF file, ");
}

#[test]
fn a_setting_as_a_flag_is_told_how_settings_are_given() {
    let run = dapo(&["train", "tiny", "--steps", "5", "--out", "x"]);
    run.failure(2, &["unexpected argument '--steps'", "settings are given as KEY=VALUE: train.steps=VALUE"]);
    let run = dapo(&["train", "tiny", "--group-size", "5", "--out", "x"]);
    run.failure(2, &["settings are given as KEY=VALUE: rollout.group_size=VALUE"]);
    let run = dapo(&["train", "tiny", "--nonsense"]).failure(2, &["unexpected argument '--nonsense'"]);
    assert!(!run.stderr.contains("KEY=VALUE: "), "{}", run.stderr);
}

#[test]
fn negative_numbers_reach_the_check_of_their_range() {
    let data = additions();
    let run = dapo(&["eval", "--model", "builtin:tiny", "--data", path(&data), "--temperature", "-1"]);
    run.failure(2, &["temperature is -1, expected a finite number of at least 0"]);
}

#[test]
fn data_without_questions_name_their_fields_and_what_is_known() {
    let tickets = file("{\"ticket\": \"a\", \"category\": \"b\"}\n");
    let setting = format!("data.train={}", path(&tickets));
    refused(
        &setting,
        ":1: no question and answer in the fields ticket, category (to train on others, set data.fields.prompt and \
         data.fields.answer), expected question/answer, problem/answer",
    );
    let text = file("{\"question\": \"1+1=\", \"answer\": \"2\"}\nhello\n");
    refused(&format!("data.train={}", path(&text)), ":2: not JSON (");
}

#[test]
fn folders_that_are_no_runs_or_are_runs_already_say_so() {
    let folder = folder();
    let dir = folder.path().to_str().unwrap();
    let run = dapo(&["train", "--resume", dir]).failure(1, &[" is no run folder: it has no config.resolved.toml\n"]);
    assert!(!run.stderr.contains("os error"), "{}", run.stderr);
    std::fs::write(folder.path().join("notes.txt"), "x").unwrap();
    let run = dapo(&["train", "tiny", "--out", dir]).failure(1, &["not empty, expected a new or empty folder\n"]);
    assert!(!run.stderr.contains("--resume"), "{}", run.stderr);
}

#[test]
fn a_gradient_that_is_not_finite_is_said_once_with_a_hint() {
    let folder = folder();
    let out = folder.path().join("run");
    let dir = out.to_str().unwrap();
    let args = ["train", "tiny", "optimizer.lr=1e30", "train.steps=2", "eval.every=none", "--out", dir];
    let run = dapo(&args)
        .failure(1, &["error: the norm of the weights is inf after update 1 of step 1", "optimizer.lr is 1e30"]);
    assert_eq!(run.stderr.matches("step 1").count(), 1, "{}", run.stderr);
    assert!(!run.stderr.contains("caused by"), "{}", run.stderr);
}

#[test]
fn figures_that_are_the_same_or_zero_are_not_repeated() {
    let data = additions();
    let eval = |samples: &str| dapo(&["eval", "--model", "builtin:tiny", "--data", path(&data), "--samples", samples]);
    let once = eval("1").success().stdout;
    assert!(once.contains("avg@1 ") && !once.contains("pass@") && !once.contains("maj@"), "{once}");
    assert!(!once.contains("unreadable") && !once.contains("left out"), "{once}");
    let twice = eval("2").success().stdout;
    assert!(twice.contains("avg@2 ") && twice.contains("pass@2 ") && twice.contains("maj@2 "), "{twice}");
}
