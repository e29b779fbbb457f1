//! What a terminal shows of a training.

use crate::{folder, pty::Terminal};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;

fn train(out: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dapo"));
    command.args(["train", "tiny", "eval.limit=16"]).args(settings).arg("--out").arg(out);
    command
}

#[test]
fn a_training_fits_terminals_of_any_width() {
    let folder = folder();
    for columns in [40, 80, 200] {
        let out = folder.path().join(columns.to_string());
        // Steps that are long enough to be seen.
        let settings = ["train.steps=3", "sampler.train_batch=96", "eval.every=2", "--samples-every", "2"];
        let terminal = Terminal::run(&mut train(&out, &settings), columns);
        terminal.wait_for("groups");
        terminal.wait_for("step 3/3");
        let left = terminal.wait();
        left.is_restored();
        let text = left.rows.join("\n");
        assert_eq!(left.code, Some(0), "{text}");
        // No line had to be broken by the terminal, nor was any cut.
        assert_eq!(left.broken, Vec::<String>::new(), "{text}");
        for said in
            ["step   reward  accuracy", "  1/3  ", "  3/3  ", "sample 1 of 2", "outcome     ", "gold  ", "reward   ▁"]
        {
            assert!(text.contains(said), "no {said:?} in {text}");
        }
        assert!(text.contains("evaluation before training: avg@1"), "{text}");
        assert!(!text.contains("elapsed"), "the area is gone: {text}");
    }
}

#[test]
fn the_first_signal_is_acknowledged_at_once_and_the_second_leaves_a_clean_terminal() {
    let folder = folder();
    let out = folder.path().join("run");
    let terminal =
        Terminal::run(&mut train(&out, &["train.steps=500", "sampler.train_batch=96", "eval.every=none"]), 80);
    terminal.wait_for("step 2/500");
    terminal.signal(Signal::INT);
    terminal.wait_for("SIGINT: saving after this step");
    let left = terminal.wait();
    left.is_restored();
    let text = left.rows.join("\n");
    assert_eq!(left.code, Some(130), "{text}");
    assert!(text.contains("to continue: dapo train") && !text.contains("elapsed"), "{text}");

    // A step that takes long.
    let out = folder.path().join("other");
    let long = ["train.steps=500", "eval.every=none", "sampler.train_batch=512", "sampler.gen_batch=512"];
    let terminal = Terminal::run(&mut train(&out, &long), 80);
    terminal.wait_for("rollout");
    terminal.signal(Signal::TERM);
    terminal.wait_for("SIGTERM: saving after this step");
    terminal.signal(Signal::TERM);
    let left = terminal.wait();
    left.is_restored();
    assert_eq!(left.code, Some(143));
    assert!(!left.rows.join("\n").contains("elapsed"), "{:#?}", left.rows);
}

#[test]
fn an_error_is_the_last_thing_on_the_terminal() {
    let folder = folder();
    let out = folder.path().join("run");
    let terminal = Terminal::run(&mut train(&out, &["optimizer.lr=1e30", "eval.every=none"]), 80);
    let left = terminal.wait();
    left.is_restored();
    let text = left.rows.join("\n");
    assert!(text.contains("error: the norm of the weights is inf after update 1 of step 1"), "{text}");
    assert!(!text.contains("elapsed"), "{text}");
}

#[test]
fn events_are_json_lines_where_asked() {
    let folder = folder();
    let out = folder.path().join("run");
    let mut command =
        train(&out, &["train.steps=2", "eval.every=2", "--samples-every", "1", "--log-format", "json", "-v"]);
    let output = command.output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!([count("step"), count("evaluation"), count("samples"), count("checkpoint")], [2, 2, 2, 1], "{text}");
    let samples = events.iter().find(|event| event["event"] == "samples").unwrap();
    assert!(
        samples["samples"][0]["completion"].is_string() && samples["samples"][0]["rewards"]["accuracy"].is_number()
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.trim_end().ends_with("checkpoints/step-2/model"), "{stdout}");
}
