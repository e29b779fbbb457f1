//! Messages where stderr is no terminal. This program runs its own tests, as children.
#![allow(clippy::unwrap_used)]

use dapo_console::{ColorChoice, Level, LogFormat, Monitor, Shape, Voice};
use dapo_trainer::{StepMetrics, StepTimings};
use serde_json::Value;
use std::process::Command;

fn stderr(test: &str, env: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("DAPO_CONSOLE_CHILD", "1");
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    let output = command.envs(env.iter().copied()).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

fn is_child() -> bool {
    std::env::var_os("DAPO_CONSOLE_CHILD").is_some()
}

fn follow(voice: Voice) {
    voice.note("a note \x1b[2J");
    voice.detail("a detail");
    voice.warning("a warning");
    let mut monitor = Monitor::start(voice, Shape { steps: 2, ..Shape::default() }, None);
    let metrics = StepMetrics { step: 1, reward: Some(0.5), ..StepMetrics::default() };
    monitor.step(&metrics, &StepTimings { tokens_per_second: 1234.0, ..StepTimings::default() }, &[]);
    monitor.finish();
}

#[test]
fn child_speaks() {
    if is_child() {
        follow(Voice::new(Level::Normal, LogFormat::Text, ColorChoice::Auto));
    }
}

#[test]
fn child_speaks_json() {
    if is_child() {
        follow(Voice::new(Level::Verbose, LogFormat::Json, ColorChoice::Always));
    }
}

#[test]
fn child_is_quiet() {
    if is_child() {
        follow(Voice::new(Level::Quiet, LogFormat::Text, ColorChoice::Auto));
    }
}

#[test]
fn files_get_plain_lines_and_colours_only_by_force() {
    let plain = "a note \\x1b[2J\nwarning: a warning\nstep 1/2: reward 0.500, accuracy -, entropy -, length -, truncated -, \
                 groups 0 trained and 0 drawn, 1234 tokens/s\n";
    assert_eq!(stderr("child_speaks", &[]), plain);
    assert_eq!(stderr("child_speaks", &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
    let forced = stderr("child_speaks", &[("CLICOLOR_FORCE", "1")]);
    assert!(forced.contains("\x1b[") && forced.contains("warning:"), "{forced}");
}

#[test]
fn json_lines_are_events() {
    let text = stderr("child_speaks_json", &[("CLICOLOR_FORCE", "1")]);
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["note", "detail", "warning", "step"]);
    assert_eq!((&events[0]["message"], &events[2]["message"]), (&"a note \x1b[2J".into(), &"a warning".into()));
    let step = &events[3];
    assert_eq!(
        (step["step"].as_u64(), step["steps"].as_u64(), step["metrics"]["reward"].as_f64()),
        (Some(1), Some(2), Some(0.5))
    );
    assert!(events.iter().all(|event| event["time"].as_f64().unwrap() > 1e9) && step["left"].is_number());
}

#[test]
fn a_quiet_voice_warns_alone() {
    assert_eq!(stderr("child_is_quiet", &[]), "warning: a warning\n");
}
