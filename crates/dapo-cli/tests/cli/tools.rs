//! `dapo chat`, `dapo doctor` and `dapo completions`.

use crate::{dapo, dapo_with_stdin};
use serde_json::Value;

#[test]
fn chats_line_by_line() {
    let chat = ["chat", "--model", "builtin:tiny", "--temperature", "0", "--max-tokens", "72"];
    let run = dapo_with_stdin(&chat, "17+4+25=\n\n/new\n17+4+25=\n/quit\n1+1=\n").success();
    let answers: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[0], answers[1], "a new conversation forgets the old one");
    assert!(answers[0].contains("####"), "{answers:?}");
    assert!(run.stderr.contains("a new conversation"), "{}", run.stderr);
}

#[test]
fn the_doctor_reports_the_machine() {
    let run = dapo(&["doctor"]).success();
    for name in ["version", "cpu", "kernels", "cores", "memory", "cuda"] {
        assert!(run.stdout.lines().any(|line| line.starts_with(name)), "no {name} in {}", run.stdout);
    }
    let report: Value = dapo(&["doctor", "--json"]).success().json_lines().remove(0);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = dapo(&["completions", shell]).success().stdout;
        assert!(script.contains("dapo") && script.contains("recipes"), "{shell}");
    }
    dapo(&["completions", "tcsh"]).failure(2, &["tcsh", "bash"]);
}
