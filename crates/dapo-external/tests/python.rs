//! Python functions with the signatures of TRL and verl.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{inputs, message, values};
use dapo_external::{ExternalReward, OnError, PythonReward, open};
use dapo_reward::{RewardFn, RewardInput, Score};
use serde_json::json;
use tempfile::{TempDir, tempdir};

/// Whether there is a Python; says aloud that tests are skipped where it is missing.
fn has_python() -> bool {
    let version = "import sys; sys.exit(sys.version_info < (3, 9))";
    let is_there = Command::new("python3").args(["-c", version]).status().is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("SKIPPED: no python3 of version 3.9 or newer");
    }
    is_there
}

/// A folder with this `rewards.py`.
fn folder(source: &str) -> TempDir {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("rewards.py"), source).unwrap();
    dir
}

fn config(function: &str) -> PythonReward {
    PythonReward { python: format!("rewards.py:{function}"), ..PythonReward::default() }
}

fn opened(dir: &Path, config: PythonReward) -> ExternalReward {
    open("mine", &config.into(), dir, Some(dir)).unwrap()
}

#[test]
fn a_trl_function_gets_lists_and_columns_by_name() {
    if !has_python() {
        return;
    }
    let dir = folder(
        r#"
def accuracy(completions, answer, level, **kwargs):
    assert sorted(kwargs) == ["completion_ids", "prompts", "tags"], sorted(kwargs)
    assert kwargs["prompts"] == ["1+1?", "Hi"] and kwargs["completion_ids"] == [[5, 6], []]
    assert kwargs["tags"] == [["a"], None]
    return [None if a is None else float(c == a) + l for c, a, l in zip(completions, answer, level)]
"#,
    );
    let (first, second) = (json!({"level": 3, "tags": ["a"], "prompt": "1+1?"}), json!({"level": 4}));
    let inputs = [
        RewardInput::new("1+1?", "2", "2").with_token_ids(&[5, 6]).with_columns(&first),
        RewardInput::new("Hi", "", "").with_columns(&second).with_place(0, 1, 0),
    ];
    let reward = opened(dir.path(), config("accuracy"));
    assert_eq!(reward.score_batch(&inputs).unwrap(), [Score::value(4.0), Score::abstain()]);
}

#[test]
fn a_trl_function_gets_messages_where_the_data_has_messages() {
    if !has_python() {
        return;
    }
    let dir = folder(
        r#"
def polite(prompts, completions):
    assert prompts == [[{"role": "user", "content": "Hi"}], "<user>Hi"], prompts
    assert completions[0] == [{"role": "assistant", "content": "Hello"}] and completions[1] == "Hello", completions
    return [1, True]
"#,
    );
    let messages = [json!({"role": "user", "content": "Hi"})];
    let chat = json!({"prompt": messages});
    let input = |columns, sample| {
        RewardInput::new("<user>Hi", "Hello", "")
            .with_messages(&messages)
            .with_columns(columns)
            .with_place(0, sample, 1)
    };
    let reward = opened(dir.path(), config("polite"));
    let plain = json!({"question": "Hi"});
    let scores = reward.score_batch(&[input(&chat, 0), input(&plain, 1)]).unwrap();
    assert_eq!(scores, [Score::value(1.0), Score::value(1.0)]);
}

#[test]
fn a_verl_function_gets_one_sample_a_call() {
    if !has_python() {
        return;
    }
    let dir = folder(
        r#"
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if solution_str == "number":
        return 0.5
    if solution_str == "none":
        return None
    assert data_source == "mine" and ground_truth == {"target": 7} and extra_info == {"index": 3}
    return {"score": 1, "acc": True, "steps": 3, "pred": "7"}

def partial(solution_str, ground_truth, **kwargs):
    assert kwargs["extra_info"]["level"] == 2 and ground_truth == "2"
    return {"score": 1.0, "acc": 0.25}

def missing(solution_str, ground_truth):
    return {"value": 1.0}
"#,
    );
    let columns =
        json!({"data_source": "mine", "reward_model": {"ground_truth": {"target": 7}}, "extra_info": {"index": 3}});
    let texts = ["number", "none", "dict"];
    let mut samples = inputs(&texts, 0, 1);
    for input in &mut samples {
        input.columns = &columns;
    }
    let reward = opened(dir.path(), config("compute_score"));
    let expected = [Score::value(0.5), Score::abstain(), Score::value(1.0).with_correct(true).with_log("steps", 3.0)];
    assert_eq!(reward.score_batch(&samples).unwrap(), expected);

    let columns = json!({"level": 2});
    let input = RewardInput::new("", "dict", "2").with_columns(&columns);
    let reward = open("partial", &config("partial").into(), dir.path(), None).unwrap();
    assert_eq!(reward.score(&input).unwrap(), Score::value(1.0).with_log("acc", 0.25));
    let reward = open("missing", &config("missing").into(), dir.path(), None).unwrap();
    let found = reward.score(&input).unwrap_err().to_string();
    assert!(found.contains("the score of sample 0 is {'value': 1.0}, expected a dict with \"score\""), "{found}");
}

#[test]
fn what_a_function_prints_does_not_disturb_and_is_in_the_log() {
    if !has_python() {
        return;
    }
    let dir = folder(
        r#"
import os, subprocess, sys
print("at import")
def noisy(completions, **kwargs):
    print("printed")
    os.write(1, b"written\n")
    sys.__stdout__.write("through the original\n")
    sys.__stdout__.flush()
    subprocess.run(["echo", "by a child"])
    assert sys.stdin.read() == ""
    return [float(c) for c in completions]
"#,
    );
    let reward = opened(dir.path(), config("noisy"));
    assert_eq!(values(&reward, &["0.5", "1"]), [Some(0.5), Some(1.0)]);
    assert_eq!(values(&reward, &["2"]), [Some(2.0)]);
    let log = fs::read_to_string(dir.path().join("log-mine.txt")).unwrap();
    for text in ["at import\n", "printed\n", "written\n", "through the original\n", "by a child\n"] {
        assert!(log.contains(text), "{text:?} is not in {log:?}");
    }
}

#[test]
fn modules_beside_the_file_and_async_functions_work() {
    if !has_python() {
        return;
    }
    let dir = folder(
        "from helper import VALUE\nasync def slow(completions, **kwargs):\n    return [VALUE] * len(completions)\n",
    );
    fs::write(dir.path().join("helper.py"), "VALUE = 0.25\n").unwrap();
    assert_eq!(values(&opened(dir.path(), config("slow")), &["a", "b"]), [Some(0.25); 2]);
}

#[test]
fn mistakes_of_a_function_are_named() {
    if !has_python() {
        return;
    }
    let source = r#"
def raises(completions, **kwargs):
    raise KeyError("level")
def short(completions, **kwargs):
    return [1.0]
def nan(completions, **kwargs):
    return [1.0, float("nan")]
def text(completions, **kwargs):
    return ["1", 2]
def alone(completions, **kwargs):
    return 1.0
def needy(completions, solution):
    return [1.0] * 2
def leaves(completions, **kwargs):
    raise SystemExit("no licence")
"#;
    for (function, kind, expected) in [
        ("raises", "reported", "it reports: KeyError: 'level'"),
        ("short", "count", "the reply has 1 rewards, expected 2"),
        ("nan", "reported", "it reports: ValueError: reward 1 is nan, expected a finite number"),
        ("text", "reported", "it reports: TypeError: reward 0 is '1', expected a number"),
        ("alone", "reported", "it reports: TypeError: alone returns 1.0, expected a list of numbers"),
        (
            "needy",
            "reported",
            "it reports: TypeError: needy needs solution, expected no others than answer, prompts, completions, \
             completion_ids",
        ),
        ("leaves", "exit", "the command ended (exit status: 1), saying \"no licence\" in "),
        ("absent", "exit", "the command ended (exit status: 1), saying \""),
    ] {
        let dir = folder(source);
        let reward = opened(dir.path(), config(function));
        let found = message(&reward, &["1", "2"]);
        assert!(found.starts_with(&format!("step 3: {expected}")), "{function}: {found}");
        assert_eq!(reward.take_counters().faults.into_keys().collect::<Vec<_>>(), [kind]);
        if function == "raises" {
            let log = fs::read_to_string(dir.path().join("log-mine.txt")).unwrap();
            assert!(log.contains("rewards.py\", line 3, in raises"), "{log}");
        }
        if function == "absent" {
            assert!(found.contains("has no absent, but raises, short, nan, text, alone, needy, leaves"), "{found}");
        }
    }
}

#[test]
fn a_file_that_does_not_load_and_a_function_that_hangs_are_faults() {
    if !has_python() {
        return;
    }
    let dir = folder("import no_such_module\n");
    let found = message(&opened(dir.path(), config("f")), &["1"]);
    assert!(found.contains("saying \"ModuleNotFoundError: No module named 'no_such_module'\" in "), "{found}");

    let dir = folder("import time\ndef f(completions, **kwargs):\n    time.sleep(60)\n");
    let config = PythonReward { timeout_s: 1.0, on_error: OnError::Abstain, ..config("f") };
    let reward = opened(dir.path(), config);
    assert_eq!(values(&reward, &["1", "2"]), [None, None]);
    assert_eq!(reward.take_counters().faults["timeout"], 1);
}

#[test]
fn answers_of_a_function_are_kept() {
    if !has_python() {
        return;
    }
    let dir = folder("def f(completions, **kwargs):\n    return [float(c) for c in completions]\n");
    assert_eq!(values(&opened(dir.path(), config("f")), &["1"]), [Some(1.0)]);
    fs::write(dir.path().join("rewards.py"), "raise SystemExit\n").unwrap();
    assert_eq!(values(&opened(dir.path(), config("f")), &["1"]), [Some(1.0)]);
}

#[test]
fn settings_are_checked_when_the_reward_is_opened() {
    let dir = folder("");
    let fails = |config: PythonReward| open("mine", &config.into(), dir.path(), None).unwrap_err().to_string();
    assert_eq!(
        fails(PythonReward { python: "rewards.py".to_owned(), ..PythonReward::default() }),
        "PythonReward: python is \"rewards.py\", expected a file and a function: \"rewards.py:accuracy\""
    );
    assert!(
        fails(PythonReward { python: "none.py:f".to_owned(), ..PythonReward::default() })
            .ends_with("none.py\", which is not there")
    );
    assert_eq!(
        fails(PythonReward { python_bin: "no-python-7".to_owned(), ..config("f") }),
        "python_bin names \"no-python-7\", which is not there, in no folder of PATH"
    );
}

#[test]
fn a_plugin_of_ms_swift_is_found_in_its_orms_and_gets_texts() {
    if !has_python() {
        return;
    }
    let dir = folder(
        r#"
class Length:
    def __call__(self, completions, solution, **kwargs):
        assert all(isinstance(c, str) for c in completions), completions
        return [len(c) / s for c, s in zip(completions, solution)]

class Bare(Length):
    pass

orms = {"external_length": Length, "ready": Length()}
"#,
    );
    let messages = [json!({"role": "user", "content": "Hi"})];
    let columns = json!({"messages": messages, "solution": 2});
    let input = RewardInput::new("<user>Hi", "Hello", "").with_messages(&messages).with_columns(&columns);
    // Known answers would not be asked for.
    let score = |name: &str, draw| opened(dir.path(), config(name)).score(&input.with_place(draw, 0, 0));
    for (draw, name) in ["external_length", "ready"].into_iter().enumerate() {
        assert_eq!(score(name, draw as u64).unwrap(), Score::value(2.5), "{name}");
    }
    let found = score("Bare", 2).unwrap_err().to_string();
    assert!(found.contains("it reports: AssertionError"), "a class is called as TRL calls a function: {found}");
    let found = score("other", 3).unwrap_err().to_string();
    assert!(found.contains("before it replied"), "{found}");
}
