//! `dapo train` with rewards of one's own.

use crate::{additions, dapo, file, folder, path};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const SMALL: [&str; 8] = [
    "train",
    "tiny",
    "sampler.train_batch=2",
    "rollout.group_size=2",
    "sampler.dynamic=false",
    "eval.every=none",
    "train.steps=1",
    "--out",
];

/// Runs programs of the interpreter that every user can start.
fn interpreter() -> &'static str {
    if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" }
}

fn completions(dir: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(dir).join("completions/step-1.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn programs_are_run_against_the_tests_of_the_data() {
    if !Command::new(interpreter()).arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no python3");
        return;
    }
    let row = |n: u32| {
        let tests = serde_json::json!([{"input": n.to_string(), "output": "9"}]);
        serde_json::json!({"question": format!("{n}+1="), "answer": n + 1, "tests": tests}).to_string()
    };
    let data = file(&(1..9).map(row).collect::<Vec<_>>().join("\n"));
    let (folder, data) = (folder(), format!("data.train={}", path(&data)));
    let python = format!("rewards.code.python={}", interpreter());
    for (name, sandbox) in [("loose", "rewards.code.sandbox=rlimits-only"), ("strict", "rewards.code.sandbox=strict")] {
        let out = folder.path().join(name);
        let dir = out.to_str().unwrap();
        let run = dapo(&[&SMALL[..], &[dir, &data, &python, sandbox]].concat());
        if run.code != Some(0) && run.stderr.contains("rewards.code") && name == "strict" {
            println!("SKIPPED, strict: {}", run.stderr);
            continue;
        }
        run.success();
        // The tiny model writes no programs.
        let lines = completions(dir);
        assert!(!lines.is_empty() && lines.iter().all(|line| line["rewards"]["code"] == 0.0), "{lines:?}");
    }
}

#[test]
fn a_command_scores_and_its_faults_end_the_run() {
    let (data, folder) = (additions(), folder());
    let data = format!("data.train={}", path(&data));
    let out = folder.path().join("fault");
    let dir = out.to_str().unwrap();
    let nonsense = "rewards.mine.command=['sh', '-c', 'while read -r line; do echo nonsense; done']";
    dapo(&[&SMALL[..], &[dir, &data, nonsense]].concat()).failure(1, &["mine", "step 1", "nonsense"]);
    let missing = "rewards.mine.command=['./no-such-program']";
    let out = folder.path().join("missing");
    dapo(&[&SMALL[..], &[out.to_str().unwrap(), &data, missing]].concat())
        .failure(1, &["rewards.mine", "no-such-program"]);
    assert!(!out.exists());
}

#[test]
fn a_reward_is_tried_on_lines_of_json() {
    let data = file("{\"completion\": \"in 1969\", \"answer\": 1969}\n{\"completion\": \"long ago\"}\n");
    let test = |name: &str, settings: &[&str]| {
        dapo(&[&["reward", "test", path(&data), "--reward", name][..], settings].concat())
    };
    let run =
        test("year", &["rewards.year.kind=regex", "rewards.year.pattern='[0-9]{4}'", "rewards.year.group=0"]).success();
    let values: Vec<Value> = run.json_lines().into_iter().map(|line| line["value"].clone()).collect();
    assert_eq!(values, [1.0, 0.0]);
    assert!(run.stderr.contains("2 scored, 0 abstained"), "{}", run.stderr);
    let fault = ["rewards.mine.command=['sh', '-c', 'read line; echo nonsense']", "rewards.mine.on_error=abstain"];
    let run = test("mine", &fault).success();
    assert!(run.stderr.contains("0 scored, 2 abstained") && run.stderr.contains("nonsense"), "{}", run.stderr);
    test("mine", &fault[..1]).failure(1, &["rewards.mine", "nonsense"]);
    test("yaer", &["seed=1"]).failure(1, &["\"yaer\"", "one of accuracy"]);
}

#[test]
fn a_reward_is_tried_with_what_the_line_says_of_its_completion() {
    let line = r#"{"completion": "9", "prompt": "4+5=", "num_tokens": 36, "truncated": true}"#;
    let data = file(&format!("{line}\n{{\"completion\": \"9\"}}\n"));
    let folder = folder();
    let log = folder.path().join("request");
    let script = format!("read -r line; echo \"$line\" > {}; echo '{{\"id\":1,\"rewards\":[1,1]}}'", log.display());
    let command = format!("rewards.mine.command={}", serde_json::json!(["sh", "-c", script]));
    dapo(&["reward", "test", path(&data), "--reward", "mine", &command]).success();
    let request: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    let seen = |index: usize| {
        let sample = &request["samples"][index];
        (sample["prompt"].clone(), sample["num_tokens"].clone(), sample["truncated"].clone())
    };
    assert_eq!(seen(0), ("4+5=".into(), 36.into(), true.into()));
    assert_eq!(seen(1), ("".into(), 0.into(), false.into()));
    let wrong = file("{\"completion\": \"9\", \"num_tokens\": -1}\n");
    dapo(&["reward", "test", path(&wrong), "--reward", "mine", &command])
        .failure(1, &[":1: num_tokens is -1, expected a number of tokens"]);
}

/// A Python interpreter; without one, tests with Python functions are skipped.
fn has_python() -> bool {
    let has = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has {
        println!("SKIPPED: no python3");
    }
    has
}

#[test]
fn problems_without_answers_are_named_where_a_reward_may_miss_them() {
    if !has_python() {
        return;
    }
    let data = file("{\"question\": \"1+1=\", \"gold_ans\": \"2\"}\n{\"question\": \"1+2=\", \"answer\": \"3\"}\n");
    let folder = folder();
    let file = folder.path().join("reward.py");
    let verl = "def score(solution_str, ground_truth):\n    return 1\n";
    let trl = "\n\ndef plain(completions, **kwargs):\n    return [0] * len(completions)\n";
    fs::write(&file, verl.to_owned() + trl).unwrap();
    let dry_run = |function: &str, setting: &str| {
        let python = format!("rewards.mine.python={}:{function}", file.display());
        let data = format!("data.train={}", path(&data));
        dapo(&["train", "tiny", "data.validation=[]", "eval.every=none", &data, &python, setting, "--dry-run"])
            .success()
    };
    let said = "1 of 2 problems have no answer; their entries have question, gold_ans: where they have one, \
                data.fields.answer names its column\n";
    let note = dry_run("plain", "seed=0").stderr;
    assert!(note.contains(said) && !note.contains("warning"), "{note}");
    let warning = dry_run("score", "seed=0").stderr;
    assert!(
        warning.contains("warning: 1 of 2 problems have no answer, which rewards.mine takes as ground_truth; "),
        "{warning}"
    );
    let settings = folder.path().join("mine.toml");
    fs::write(&settings, format!("[rewards.mine]\npython = \"{}:score\"\n", file.display())).unwrap();
    let settings = settings.to_str().unwrap();
    let run = dapo(&["eval", "--model", "builtin:tiny", "--data", path(&data), "--rewards", settings]).success();
    assert!(run.stderr.contains("warning: 1 of 2 problems have no answer, which rewards.mine"), "{}", run.stderr);
    assert!(run.stderr.contains("data.fields.answer"), "{}", run.stderr);
    let error = {
        let python = format!("rewards.mine.python={}:score", file.display());
        let data = format!("data.train={}", path(&data));
        dapo(&["train", "tiny", "eval.every=none", &data, &python, "data.fields.answer=gold", "--dry-run"])
    };
    error.failure(1, &["expected gold, which data.fields.answer names; did you mean gold_ans?"]);
}

#[test]
fn a_judge_that_judges_nothing_is_told_what_to_reply() {
    let (data, folder) = (additions(), folder());
    let script = "import json, sys\nfor line in sys.stdin:\n    request = json.loads(line)\n    \
                  print(json.dumps({'id': request['id'], 'rewards': [i % 2 for i in range(len(request['samples']))]}))\n";
    if !has_python() {
        return;
    }
    let file = folder.path().join("exact.py");
    fs::write(&file, script).unwrap();
    let command = format!("rewards.exact.command={}", serde_json::json!(["python3", file]));
    let out = folder.path().join("run");
    let dir = out.to_str().unwrap();
    let settings = [
        "train",
        "tiny",
        "sampler.train_batch=2",
        "rollout.group_size=2",
        "eval.every=none",
        "train.steps=1",
        "rewards.correct=exact",
        &command,
        &format!("data.train={}", path(&data)),
        "--out",
    ];
    let run = dapo(&[&settings[..], &[dir]].concat()).failure(
        1,
        &["rewards.exact, which rewards.correct names, never said what is correct: it must reply {\"value\": NUMBER, \"correct\""],
    );
    assert!(!run.stderr.contains("rewards.accuracy.grader"), "{}", run.stderr);
    // The folder holds a run without a step.
    dapo(&[&settings[..], &[dir]].concat()).failure(
        1,
        &["has finished no step: to start it again with other settings: dapo train --resume ", " KEY=VALUE"],
    );
    dapo(&["train", "--resume", dir, "rewards.correct="]).success();
}
