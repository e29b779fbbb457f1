//! `dapo report`.

use crate::dapo;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn run(dir: &Path) -> String {
    let run = dir.join("mine");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("metrics.jsonl"), "{\"step\": 1, \"reward\": 0.5}\n{\"step\": 2, \"rew").unwrap();
    run.display().to_string()
}

#[test]
fn a_report_is_written_into_the_run_and_replaced() {
    let dir = TempDir::new().unwrap();
    let run = run(dir.path());
    for _ in 0..2 {
        let made = dapo(&["report", &run]).success();
        assert_eq!(made.stdout.trim(), format!("{run}/report.html"));
        assert!(made.stderr.contains("mine: metrics.jsonl: the last line is torn and left out"), "{}", made.stderr);
    }
    assert!(fs::read_to_string(format!("{run}/report.html")).unwrap().starts_with("<!doctype html>"));
}

#[test]
fn a_report_replaces_no_other_file() {
    let dir = TempDir::new().unwrap();
    let run = run(dir.path());
    let out = dir.path().join("notes.html");
    fs::write(&out, "<!doctype html>notes").unwrap();
    let said = ["notes.html is no report, expected a new file or an earlier report for --out"];
    dapo(&["report", &run, "--out", out.to_str().unwrap()]).failure(1, &said);
    assert_eq!(fs::read_to_string(&out).unwrap(), "<!doctype html>notes");
}

#[test]
fn a_folder_without_a_run_is_no_report() {
    let dir = TempDir::new().unwrap();
    let said = ["is a folder without a run's files, expected a run folder"];
    dapo(&["report", dir.path().to_str().unwrap()]).failure(1, &said);
    assert!(!dir.path().join("report.html").exists());
}
