//! The book's reference is what the program says: settings, metrics, commands.
//!
//! `scripts/book-reference` writes the pages again (`DAPO_RENEW_BOOK=1`).

#![allow(clippy::unwrap_used)]

mod commands;
mod metrics;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the program prints on stdout, with a failure for any exit code but 0.
#[track_caller]
fn stdout(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dapo")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Compares a page of the reference with the committed one, or writes it.
#[track_caller]
fn is_current(name: &str, text: &str) {
    let path = root().join("docs/book/src/reference").join(name);
    if std::env::var_os("DAPO_RENEW_BOOK").is_some() {
        fs::write(path, text).unwrap();
        return;
    }
    let committed = fs::read_to_string(&path).unwrap();
    let differs = committed.lines().zip(text.lines()).find(|(committed, current)| committed != current);
    if let Some((committed, current)) = differs {
        panic!("{name} is out of date; run scripts/book-reference\n  committed: {committed}\n  current:   {current}");
    }
    assert!(committed == text, "{name} is out of date; run scripts/book-reference");
}

/// A text in a cell of a table: no bars, no markup outside code.
fn cell(text: &str) -> String {
    let mut escaped = String::new();
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '`' => in_code = !in_code,
            '|' => escaped.push('\\'),
            '<' | '>' | '*' | '_' | '[' | ']' if !in_code => escaped.push('\\'),
            _ => {}
        }
        escaped.push(c);
    }
    escaped
}

#[test]
fn settings_are_those_of_the_program() {
    is_current("settings.md", &settings::page());
}

#[test]
fn metrics_are_those_of_the_program() {
    is_current("metrics.md", &metrics::page());
}

#[test]
fn commands_are_those_of_the_program() {
    is_current("commands.md", &commands::page());
}

#[test]
fn exit_codes_are_those_of_the_program() {
    is_current("exit-codes.md", &commands::exit_codes_page());
}

#[test]
fn every_figure_of_a_run_is_on_the_page_of_metrics() {
    metrics::are_complete();
}
