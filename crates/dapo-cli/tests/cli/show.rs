//! `dapo show`.

use crate::dapo;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A run of two steps, the second of four completions.
fn run(dir: &Path) -> String {
    let run = dir.join("mine");
    fs::create_dir_all(run.join("completions")).unwrap();
    fs::write(run.join("config.resolved.toml"), "[train]\nsteps = 2\n").unwrap();
    for file in ["metrics.jsonl", "timings.jsonl"] {
        fs::write(run.join(file), "{\"step\": 1}\n{\"step\": 2}\n").unwrap();
    }
    let line = |step: u64, prompt: &str, correct: Value, finish: &str, fate: &str, text: &str| {
        json!({
            "step": step, "prompt_id": prompt, "prompt": "1+1=", "completion": text, "answer": "2", "extracted": text,
            "rule": "whole", "tokens": 3, "finish_reason": finish, "rewards": {"accuracy": 1.0}, "reward": 1.0,
            "correct": correct, "advantage": null, "in_loss": fate == "trained", "fate": fate,
        })
        .to_string()
            + "\n"
    };
    let second = [
        line(2, "a", json!(true), "stop", "trained", "two"),
        line(2, "a", json!(false), "length", "trained", "three"),
        line(2, "b", json!(false), "stop", "all_wrong", "\u{1b}[2Jfour"),
        line(2, "b", json!(null), "stop", "all_wrong", &"many words ".repeat(300)),
    ];
    fs::write(run.join("completions/step-1.jsonl"), line(1, "a", json!(true), "stop", "filled", "first")).unwrap();
    fs::write(run.join("completions/step-2.jsonl"), second.concat()).unwrap();
    run.display().to_string()
}

#[test]
fn completions_of_the_last_step_are_shown() {
    let dir = TempDir::new().unwrap();
    let run = run(dir.path());
    let shown = dapo(&["show", &run]).success();
    assert_eq!(shown.stderr, "");
    let expected = "\
step 2: 4 completions

#1  correct  reward 1  trained, in the loss  3 tokens, ended by stop  prompt a
  prompt      1+1=
  completion  two
  gold        2
  extracted   two (by whole)
  rewards     accuracy 1
  advantage   –

#2  incorrect  reward 1  trained, in the loss  3 tokens, truncated  prompt a
";
    assert!(shown.stdout.starts_with(expected), "{}", shown.stdout);
    // Nothing controls the terminal that a pager leads to, and long texts lose their middle.
    assert!(shown.stdout.contains("  completion  \\x1b[2Jfour\n"), "{}", shown.stdout);
    assert!(shown.stdout.contains(" characters left out, --full shows them …\n"));
    let full = dapo(&["show", &run, "--full", "--color", "always"]).success().stdout;
    assert!(full.contains(&"many words ".repeat(299)) && !full.contains("left out"));
    assert!(full.contains("\u{1b}[32mcorrect\u{1b}[0m") && full.contains("\u{1b}[31mincorrect\u{1b}[0m"));
}

#[test]
fn filters_choose_completions() {
    let dir = TempDir::new().unwrap();
    let run = run(dir.path());
    let shown = |more: &[&str]| {
        let out = dapo(&[&["show", run.as_str()], more].concat()).success().stdout;
        let numbers = out.lines().filter_map(|line| line.strip_prefix('#')?.split(' ').next()?.parse::<u64>().ok());
        (out.lines().next().unwrap().to_owned(), numbers.collect::<Vec<_>>())
    };
    let step = |words: &str| format!("step 2: 4 completions{words}");
    assert_eq!(shown(&["--wrong"]), (step(", 2 match"), vec![2, 3]));
    assert_eq!(shown(&["--wrong", "--limit", "1"]), (step(", 2 match, 1 shown"), vec![2]));
    assert_eq!(shown(&["--correct"]), (step(", 1 match"), vec![1]));
    assert_eq!(shown(&["--truncated"]), (step(", 1 match"), vec![2]));
    assert_eq!(shown(&["--fate", "all_wrong"]), (step(", 2 match"), vec![3, 4]));
    assert_eq!(shown(&["--prompt", "b", "--wrong"]), (step(", 1 match"), vec![3]));
    assert_eq!(shown(&["--prompt", "none"]), (step(", 0 match"), vec![]));
    assert_eq!(shown(&["--limit", "1"]), (step(", 1 shown"), vec![1]));
    assert_eq!(shown(&["--step", "1"]), ("step 1: 1 completions".to_owned(), vec![1]));

    let lines = dapo(&["show", &run, "--wrong", "--json"]).success().json_lines();
    let texts: Vec<_> = lines.iter().map(|line| line["completion"].as_str().unwrap()).collect();
    assert_eq!(texts, ["three", "\u{1b}[2Jfour"]);
    dapo(&["show", &run, "--wrong", "--correct"]).failure(2, &["cannot be used with"]);
    dapo(&["show", &run, "--fate", "all_worng"]).failure(2, &["all_wrong"]);
}

#[test]
fn unfinished_and_damaged_runs_are_shown_with_a_warning() {
    let dir = TempDir::new().unwrap();
    let run = run(dir.path());
    let folder = Path::new(&run);
    fs::write(folder.join("config.resolved.toml"), "[train]\nsteps = 9\n").unwrap();
    fs::write(folder.join("completions/step-3.jsonl"), "{\"completion\": \"whole\"}\nnot\n{\"compl").unwrap();
    let shown = dapo(&["show", &run]).success();
    assert!(shown.stdout.starts_with("step 3: 1 completions\n\n#1  not judged"), "{}", shown.stdout);
    for said in [
        "warning: unfinished: 2 of 9 steps",
        "warning: step 3 left completions and no metrics: it failed or was interrupted",
        "warning: completions/step-3.jsonl: damaged and left out: line 2",
        "warning: completions/step-3.jsonl: the last line is torn and left out",
    ] {
        assert!(shown.stderr.contains(said), "no {said:?} in {}", shown.stderr);
    }
    dapo(&["show", &run, "--step", "7"])
        .failure(1, &["--step is 7, expected a step of", "that left completions: 1 to 3"]);
    dapo(&["show", dir.path().to_str().unwrap()]).failure(1, &["expected a run folder"]);
}
