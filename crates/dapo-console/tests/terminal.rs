//! The transient area on a terminal. This program runs its own tests, as children on a pseudo-terminal.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod pty;

use dapo_console::{ColorChoice, Level, LogFormat, Meter, Monitor, Shape, Voice};
use dapo_trainer::{Activity, RolloutProgress, StepMetrics, StepTimings, UpdateProgress};
use pty::Terminal;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Whether this is the child of another test.
fn is_child() -> bool {
    std::env::var_os("DAPO_CONSOLE_CHILD").is_some()
}

/// One of this program's tests on a terminal.
fn child(test: &str, columns: u16) -> Terminal {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("DAPO_CONSOLE_CHILD", "1");
    // The emulator cuts lines off when it is made narrower, as xterm does.
    Terminal::run(command.env("XTERM_VERSION", "emulated").env_remove("TMUX"), columns)
}

fn voice() -> Voice {
    Voice::new(Level::Normal, LogFormat::Text, ColorChoice::Auto)
}

fn metrics(step: u64) -> StepMetrics {
    let value = Some(step as f64 / 10.0);
    StepMetrics { step, reward: value, accuracy: value, entropy: value, mean_length: value, ..StepMetrics::default() }
}

/// A monitor in the middle of its third step.
fn in_a_step() -> Monitor {
    let mut monitor = Monitor::start(voice(), Shape { steps: 10, ..Shape::default() }, None);
    for step in 1..=2 {
        monitor.step(&metrics(step), &StepTimings::default(), &[]);
    }
    let mut observer = monitor.observer();
    observer(Activity::Rollout(RolloutProgress { round: 1, groups: 5, drawn: 24, kept: 3, needed: 16, tokens: 1234 }));
    sleep(Duration::from_millis(400));
    monitor
}

#[test]
fn child_panics() {
    if is_child() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            dapo_console::restore();
            hook(panic);
        }));
        let _monitor = in_a_step();
        panic!("as it should");
    }
}

#[test]
fn a_panic_removes_the_area_first() {
    for columns in [40, 80, 200] {
        let terminal = child("child_panics", columns);
        terminal.wait_for("rollout  5/24 groups  3/16 kept");
        let left = terminal.wait();
        left.is_restored();
        let text = left.rows.join("\n");
        assert!(text.contains("as it should") && text.contains("2/10"), "{text}");
        assert!(!text.contains("rollout") && !text.contains("elapsed"), "{text}");
        assert_ne!(left.code, Some(0));
    }
}

#[test]
fn child_follows_a_training() {
    if is_child() {
        let mut monitor = in_a_step();
        voice().warning("a warning of some words that is longer than forty columns of a terminal");
        let mut observer = monitor.observer();
        for done in 0..2000 {
            observer(Activity::Update(UpdateProgress { update: 2, updates: 4, done, micro_batches: 2000 }));
            sleep(Duration::from_micros(500));
        }
        for step in 3..=60 {
            monitor.step(&metrics(step), &StepTimings::default(), &[]);
        }
        monitor.finish();
    }
}

#[test]
fn the_area_is_drawn_at_most_ten_times_a_second_and_ends_as_a_table_with_curves() {
    for columns in [40, 80, 200] {
        let terminal = child("child_follows_a_training", columns);
        terminal.wait_for("update  2/4  micro-batch");
        let left = terminal.wait();
        left.is_restored();
        assert_eq!(left.broken, Vec::<String>::new());
        // Each drawing removes the one before.
        let drawings = left.bytes.windows(4).filter(|bytes| bytes == b"\x1b[0J").count();
        assert!((3..=22).contains(&drawings), "{drawings} in less than two seconds");
        let text = left.rows.join("\n");
        let (headers, rows) = (text.matches("reward  accuracy").count(), text.matches("/10").count());
        assert_eq!((headers, rows), (3, 60), "{text}");
        assert!(text.contains("accuracy ▁"), "{text}");
        assert!(!text.contains("micro-batch") && !text.contains("elapsed"), "{text}");
        let warning = left.rows.iter().position(|row| row.starts_with("warning: a warning")).unwrap();
        assert_eq!(left.rows[warning + 1].starts_with("  "), columns < 80, "{text}");
    }
}

#[test]
fn a_window_that_gets_narrower_keeps_the_lines_above_the_area() {
    let terminal = child("child_follows_a_training", 200);
    terminal.wait_for("rollout  5/24 groups");
    terminal.resize(40);
    terminal.wait_for("update  2/4  micro-batch");
    let text = terminal.text();
    assert!(text.contains("1/10") && text.contains("2/10"), "{text}");
    terminal.wait().is_restored();
}

#[test]
fn child_measures() {
    if is_child() {
        let meter = Meter::start(voice(), "model.safetensors \x1b[31m");
        for done in 0..=50 {
            meter.set(f64::from(done), 50.0, &format!("{done}/50 MB"));
            sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_meter_shows_a_bar_and_is_gone_at_the_end() {
    let terminal = child("child_measures", 80);
    terminal.wait_for("━");
    let text = terminal.text();
    assert!(text.contains(r"model.safetensors \x1b[31m") && text.contains(" %") && text.contains('━'), "{text}");
    let left = terminal.wait();
    left.is_restored();
    assert!(!left.rows.join("\n").contains("model.safetensors"));
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_follows_a_training", "--nocapture"]).env("DAPO_CONSOLE_CHILD", "1");
    let left = Terminal::run(command.env("TERM", "dumb"), 80).wait();
    assert!(!left.bytes.contains(&b'\x1b'));
    assert!(left.rows.join("\n").contains("step 60/10: reward 6.000, accuracy 6.000"));
}
