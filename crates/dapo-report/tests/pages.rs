//! Pages over generated run folders, checked by their text.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dapo_report::{Report, ReportError, ReportOptions, is_report, report};
use flate2::read::ZlibDecoder;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const HOSTILE: &str = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> \u{1b}[2J\u{202e} &amp; ]]>";

/// A whole run of two completions a step.
fn run(dir: &Path, name: &str, seed: u32, steps: u64) -> PathBuf {
    let folder = dir.join(name);
    fs::create_dir_all(folder.join("completions")).unwrap();
    let settings =
        format!("seed = {seed}\n[train]\nsteps = {steps}\n[eval]\nevery = 1\n[output]\ncompletions = true\n");
    fs::write(folder.join("config.resolved.toml"), settings).unwrap();
    let lines = |line: &dyn Fn(u64) -> Value| (1..=steps).map(|step| line(step).to_string() + "\n").collect::<String>();
    let metrics = lines(&|step| json!({ "step": step, "reward": step as f64 / 4.0, "kl": null }));
    fs::write(folder.join("metrics.jsonl"), metrics).unwrap();
    fs::write(folder.join("timings.jsonl"), lines(&|step| json!({ "step": step, "step_time": 1.5 }))).unwrap();
    let evaluation = json!({ "step": 0, "avg_at_k": { "mean": 0.5, "low": 0.25, "high": 0.75 } });
    fs::write(folder.join("evaluations.jsonl"), format!("{evaluation}\n")).unwrap();
    for step in 1..=steps {
        complete(&folder, step, &["one".to_owned(), "two".to_owned()]);
    }
    folder
}

fn complete(folder: &Path, step: u64, completions: &[String]) {
    let line =
        |text: &String| format!("{}\n", json!({ "step": step, "prompt": "1+1=", "completion": text, "n": "own" }));
    let lines: String = completions.iter().map(line).collect();
    fs::write(folder.join("completions").join(format!("step-{step}.jsonl")), lines).unwrap();
}

fn page(runs: &[PathBuf]) -> Report {
    report(runs, &ReportOptions::default()).unwrap()
}

/// The text of the script element with an id, as a browser cuts it.
fn script<'a>(html: &'a str, id: &str) -> &'a str {
    let (_, rest) = html.split_once(&format!("id=\"{id}\">")).unwrap();
    rest.split_once("</script>").unwrap().0
}

fn data(report: &Report) -> Value {
    serde_json::from_str(script(&report.html, "data")).unwrap()
}

/// The completions of a step: pairs of a line's number and the line.
fn block(report: &Report, run: usize, step: u64) -> Vec<(usize, Value)> {
    let bytes = STANDARD.decode(script(&report.html, &format!("block-{run}-{step}")).trim()).unwrap();
    let mut text = String::new();
    ZlibDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_whole_run_has_no_warning() {
    let dir = TempDir::new().unwrap();
    let page = page(&[run(dir.path(), "whole", 0, 3)]);
    assert_eq!(page.warnings, Vec::<String>::new());
    assert_eq!((page.shown, page.total), (6, 6));
    assert!(is_report(page.html.as_bytes()) && !is_report(b"<!doctype html>"));
    let run = &data(&page)["runs"][0];
    assert_eq!(run["name"], "whole");
    assert_eq!(run["steps"], json!([1, 2, 3]));
    assert_eq!(run["metrics"], json!({ "reward": [0.25, 0.5, 0.75] }));
    assert_eq!(run["evaluations"][0]["avg_at_k"]["high"], 0.75);
    assert_eq!(run["settings"]["train.steps"], "3");
    let completions = block(&page, 0, 2);
    assert_eq!((completions[1].0, &completions[1].1["completion"]), (2, &json!("two")));
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let dir = TempDir::new().unwrap();
    let html = page(&[run(dir.path(), "a", 0, 1)]).html;
    assert!(html.contains("default-src 'none'"));
    for loads in ["src=\"", "@import", "url(", "<link rel=\"stylesheet\"", "fetch(", "XMLHttpRequest", "innerHTML ="] {
        assert!(!html.contains(loads), "{loads}");
    }
}

#[test]
fn completions_stand_behind_everything_that_shows_them() {
    let dir = TempDir::new().unwrap();
    let html = page(&[run(dir.path(), "a", 0, 3)]).html;
    let last_script = html.rfind("<script>").unwrap();
    let blocks: Vec<_> = html.match_indices("id=\"block-").map(|(at, _)| at).collect();
    assert_eq!(blocks.len(), 3);
    assert!(blocks.iter().all(|at| *at > last_script));
    assert!(html.ends_with("</script>\n</body>\n</html>\n"));
}

#[test]
fn hostile_text_is_data() {
    let dir = TempDir::new().unwrap();
    let benign = page(&[run(dir.path(), "benign", 0, 1)]).html;
    let folder = run(dir.path(), "<script>name", 0, 1);
    let long = "<b>".repeat(34_000);
    complete(&folder, 1, &[HOSTILE.to_owned(), long.clone()]);
    let metrics = json!({ "step": 1, "reward": 1.0, HOSTILE: 2.0 });
    fs::write(folder.join("metrics.jsonl"), format!("{metrics}\n")).unwrap();
    fs::write(folder.join("config.resolved.toml"), format!("{} = 1\n", json!(HOSTILE.replace('\u{1b}', "")))).unwrap();
    let page = page(&[folder]);
    for tag in ["<script", "</script", "<!--", "<img", "<b>"] {
        assert_eq!(page.html.matches(tag).count(), benign.matches(tag).count(), "{tag}");
    }
    let run = &data(&page)["runs"][0];
    assert_eq!(run["metrics"][HOSTILE], json!([2.0]));
    let completions = block(&page, 0, 1);
    assert_eq!(completions[0].1["completion"], HOSTILE);
    assert_eq!(completions[1].1["completion"], long);
}

#[test]
fn damage_is_a_warning_and_the_rest_is_shown() {
    let dir = TempDir::new().unwrap();
    let folder = run(dir.path(), "hurt", 0, 9);
    let metrics = "{\"step\":1,\"reward\":1}\n{\"step\":2,\"re\u{0}\n[3]\n{\"step\":5,\"reward\":5}\n{\"step\":5,\"reward\":6}\n{\"st";
    fs::write(folder.join("metrics.jsonl"), metrics).unwrap();
    fs::remove_file(folder.join("timings.jsonl")).unwrap();
    fs::remove_file(folder.join("evaluations.jsonl")).unwrap();
    fs::remove_file(folder.join("completions/step-5.jsonl")).unwrap();
    fs::write(
        folder.join("completions/step-1.jsonl"),
        b"{\"completion\":\"\xff\"}\n{\"completion\":\"whole\"}\n{\"compl",
    )
    .unwrap();
    let page = page(&[folder]);
    let expected = [
        "hurt: metrics.jsonl: damaged and left out: line 2, 3",
        "hurt: metrics.jsonl: the last line is torn and left out",
        "hurt: metrics.jsonl: several lines are of step 5; the last of each is shown",
        "hurt: metrics.jsonl: no line for step 2 to 4",
        "hurt: timings.jsonl: missing",
        "hurt: evaluations.jsonl: missing",
        "hurt: completions: no file for step 5",
        "hurt: step 2 to 4, 6 to 9 left completions and no metrics: it failed or was interrupted",
        "hurt: unfinished: 5 of 9 steps",
        "hurt: completions/step-1.jsonl: damaged and left out: line 1",
        "hurt: completions/step-1.jsonl: the last line is torn and left out",
    ];
    assert_eq!(page.warnings, expected);
    let run = &data(&page)["runs"][0];
    assert_eq!(run["warnings"].as_array().unwrap().len(), expected.len());
    assert_eq!(run["metrics"]["reward"], json!([1.0, 6.0]));
    // Numbers stay those of the lines.
    assert_eq!(block(&page, 0, 1), [(2, json!({ "completion": "whole" }))]);
}

#[test]
fn edited_settings_are_a_warning() {
    let dir = TempDir::new().unwrap();
    let folder = run(dir.path(), "edited", 0, 1);
    let file = folder.join("config.resolved.toml");
    let settings = fs::read_to_string(&file).unwrap() + &format!("# BLAKE3 of the lines above: {}\n", "0".repeat(64));
    fs::write(&file, settings).unwrap();
    let expected = "edited: config.resolved.toml: changed after the run wrote it; the run may have had other settings";
    assert_eq!(page(&[folder]).warnings, [expected]);
}

#[test]
fn runs_that_differ_by_seed_alone_are_one_group() {
    let dir = TempDir::new().unwrap();
    let runs = [run(dir.path(), "a", 0, 2), run(dir.path(), "b", 0, 3), run(dir.path(), "c", 1, 2)];
    let data = data(&page(&runs));
    let groups: Vec<_> = data["runs"].as_array().unwrap().iter().map(|run| run["group"].as_u64().unwrap()).collect();
    assert_eq!(groups, [0, 1, 0]);
}

#[test]
fn completions_beyond_the_limits_are_counted() {
    let dir = TempDir::new().unwrap();
    let folder = run(dir.path(), "large", 0, 2);
    let texts: Vec<String> = (0..200).map(|number| format!("text {number} {}", number * 7919 % 10_007)).collect();
    complete(&folder, 1, &texts);
    let by_step = page(std::slice::from_ref(&folder));
    assert_eq!((by_step.shown, by_step.total), (66, 202));
    let numbers: Vec<_> = block(&by_step, 0, 1).iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers.len(), numbers[0], numbers[32], numbers[63]), (64, 1, 101, 197));
    assert_eq!(data(&by_step)["runs"][0]["blocks"][0], json!({ "step": 1, "shown": 64, "total": 200 }));

    // Those with the log-probs of their tokens are among them.
    let file = folder.join("completions/step-1.jsonl");
    let mut lines: Vec<_> = fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
    for number in [2, 3, 150] {
        lines[number - 1] =
            json!({ "completion": "logged", "token_texts": ["logged"], "token_logprobs": [-1.0] }).to_string();
    }
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let found = block(&page(std::slice::from_ref(&folder)), 0, 1);
    let logged = found.iter().filter(|(_, line)| line["completion"] == "logged").map(|(number, _)| *number);
    assert_eq!((found.len(), logged.collect::<Vec<_>>()), (64, vec![2, 3, 150]));

    let runs = [folder];
    let all = report(&runs, &ReportOptions::all()).unwrap();
    assert_eq!((all.shown, all.total), (202, 202));
    let small = report(&runs, &ReportOptions { per_step: None, bytes: Some(1000) }).unwrap();
    let sizes: usize = (1..=2).map(|step| script(&small.html, &format!("block-0-{step}")).trim().len()).sum();
    assert!(sizes <= 1000 && small.shown > 2 && small.shown < 202, "{sizes} bytes, {} completions", small.shown);
    assert_eq!(block(&small, 0, 2).len(), 2);
    let none = report(&runs, &ReportOptions { per_step: None, bytes: Some(0) }).unwrap();
    assert_eq!((none.shown, none.total), (0, 202));
}

#[test]
fn what_is_no_run_is_refused() {
    let dir = TempDir::new().unwrap();
    let refused = |runs: &[PathBuf]| report(runs, &ReportOptions::default()).unwrap_err();
    assert!(matches!(refused(&[]), ReportError::NoRuns));
    let empty = refused(&[dir.path().to_owned()]).to_string();
    assert!(empty.ends_with("is a folder without a run's files, expected a run folder"), "{empty}");
    let missing = refused(&[dir.path().join("none")]).to_string();
    assert!(missing.ends_with("none is no folder, expected a run folder"), "{missing}");
}
