//! Exit codes, messages and colours.

use crate::{TINY_MODEL, additions, dapo, dapo_with_stdin, file, folder, path};
use std::process::{Command, Stdio};

#[test]
fn usage_errors_exit_with_2_and_name_the_argument() {
    dapo(&[]).failure(2, &["Usage: dapo", "train", "eval", "generate", "verify"]);
    dapo(&["frobnicate"]).failure(2, &["frobnicate"]);
    dapo(&["eval"]).failure(2, &["--model <PATH>", "--data <FILE>"]);
    dapo(&["eval", "--sampels", "3"]).failure(2, &["--sampels", "--samples"]);
    let eval = |flag, value| dapo(&["eval", "--model", "m", "--data", "d", flag, value]);
    eval("--samples", "0").failure(2, &["--samples <K>", "0 is not in 1.."]);
    eval("--temperature", "warm").failure(2, &["--temperature <T>", "invalid float"]);
    eval("--temperature=-1", "--json").failure(2, &["temperature is -1, expected a finite number of at least 0"]);
    eval("--top-p", "1.5").failure(2, &["top_p is 1.5, expected a number above 0 and at most 1"]);
    eval("--device", "gpu").failure(2, &["--device <DEVICE>", "expected auto, cpu, cuda or cuda:n"]);
    eval("--extract", "nope").failure(2, &["unknown profile \"nope\"", "last-number"]);
    dapo(&["train", "tiny"]).failure(2, &["--out <DIR>", "dapo train [OPTIONS] --resume <DIR> [KEY=VALUE]..."]);
    dapo(&["train", "--resume", "a", "--out", "b"]).failure(2, &["--resume <DIR>", "--out <DIR>"]);
    dapo(&["verify", "--precision", "0"]).failure(2, &["0 is not a whole number from 1 to 200"]);
    dapo(&["verify", "-q", "-v"]).failure(2, &["--quiet", "--verbose"]);
}

#[test]
fn failures_exit_with_1_and_name_the_file_once() {
    let data = additions();
    let missing = ["verify", "no/such/file.jsonl"];
    let run = dapo(&missing).failure(1, &["error: no/such/file.jsonl\n  caused by: No such file"]);
    assert_eq!(run.stdout, "");
    let run = dapo(&["eval", "--model", TINY_MODEL, "--data", "no/such/file.jsonl"]);
    let run = run.failure(1, &["error: no/such/file.jsonl: No such file"]);
    assert!(!run.stderr.contains("caused by"), "said once: {}", run.stderr);
    let empty = folder();
    let model = empty.path().to_str().unwrap();
    dapo(&["eval", "--model", model, "--data", path(&data)]).failure(1, &["error: ", model, "config.json"]);
    let broken = file("{\"question\": \"1+1=\", \"answer\": \"2\"}\n{\"text\": \"1+1=\"}\n");
    dapo(&["eval", "--model", TINY_MODEL, "--data", path(&broken)]).failure(
        1,
        &["error: ", ":2: no question and answer in the fields text (to train on others, set data.fields."],
    );
    let long = file(&format!("{{\"question\": \"{}\", \"answer\": \"2\"}}", "1+".repeat(100)));
    dapo(&["eval", "--model", TINY_MODEL, "--data", path(&long)])
        .failure(1, &["every problem is longer than 128 tokens: the model's context is 256"]);
}

#[test]
fn help_and_version_go_to_stdout() {
    assert!(dapo(&["--version"]).success().stdout.starts_with("dapo "));
    for command in [
        "train",
        "recipes",
        "config",
        "eval",
        "generate",
        "chat",
        "verify",
        "export",
        "report",
        "doctor",
        "completions",
    ] {
        let run = dapo(&[command, "--help"]).success();
        assert!(run.stdout.contains(&format!("Usage: dapo {command}")), "{}", run.stdout);
        assert!(run.stdout.contains("--color <WHEN>"), "{}", run.stdout);
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn colours_appear_only_where_wanted() {
    let stderr = |color| dapo_with_stdin(&["verify", "--color", color], "nonsense").stderr;
    assert!(stderr("always").contains("\x1b[1m\x1b[31merror:\x1b[0m <stdin>:1"));
    assert!(stderr("auto").starts_with("error: "), "stderr is no terminal");
    assert!(stderr("never").starts_with("error: "));
    assert!(dapo(&["--color", "always", "frobnicate"]).stderr.contains("\x1b["));
    assert!(!dapo(&["--color", "never", "frobnicate"]).stderr.contains("\x1b["));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let lines = "{\"gold\": \"2\", \"pred\": \"2\"}\n".repeat(1000);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dapo"));
    let input = file(&lines);
    let mut child =
        command.args(["verify", path(&input)]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stderr, b"");
}
