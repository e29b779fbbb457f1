//! `dapo eval`.

use crate::{TINY_MODEL, additions, dapo, file, path};
use serde_json::Value;

fn eval(data: &str, more: &[&str]) -> Value {
    let mut args = vec!["eval", "--model", TINY_MODEL, "--data", data, "--max-tokens", "72", "--json"];
    args.extend(more);
    let mut report = dapo(&args).success().json_lines().pop().unwrap();
    assert!(report["seconds"].take().as_f64().unwrap() > 0.0);
    report
}

#[test]
fn reports_one_json_object() {
    let data = additions();
    let report = eval(path(&data), &["--samples", "4", "--limit", "6"]);
    for (name, expected) in [
        ("problems", 6.0),
        ("too_long", 0.0),
        ("abstained", 0.0),
        ("samples", 4.0),
        ("temperature", 1.0),
        ("max_tokens", 72.0),
        ("seed", 0.0),
    ] {
        assert_eq!(report[name].as_f64(), Some(expected), "{name} in {report}");
    }
    let share = |name: &str| report[name].as_f64().unwrap();
    assert!((share("top_p") - 0.7).abs() < 1e-6);
    assert!(
        share("avg_at_k") > 0.0 && share("avg_at_k") <= share("pass_at_k") && share("pass_at_k") <= 1.0,
        "{report}"
    );
    assert!((0.0..=1.0).contains(&share("truncated")));
    assert!((1.0..=72.0).contains(&share("mean_length")));
}

#[test]
fn is_a_function_of_the_seed() {
    let data = additions();
    let report = |seed| eval(path(&data), &["--samples", "2", "--temperature", "3", "--seed", seed]);
    assert_eq!(report("1"), report("1"));
    assert_ne!(report("1")["mean_length"], report("2")["mean_length"]);
}

#[test]
fn judges_with_the_profile_asked_for() {
    let data = additions();
    // The tiny model writes `####` before its answers, and never a box.
    let solved = |profile| eval(path(&data), &["--top-p", "1", "--extract", profile]);
    assert!(solved("hash")["avg_at_k"].as_f64().unwrap() > 0.0);
    assert_eq!(solved("boxed")["avg_at_k"], 0.0);
}

#[test]
fn prints_a_table_and_says_what_was_left_out() {
    let long = "1+".repeat(120);
    let data = file(&format!(
        "{{\"question\": \"3+4=\", \"answer\": \"7\"}}\n{{\"question\": \"5+6=\", \"answer\": \"\\\\frac{{1}}{{\"}}\n\
         {{\"question\": \"{long}\", \"answer\": \"0\"}}\n"
    ));
    let run = dapo(&["eval", "--model", TINY_MODEL, "--data", path(&data), "--samples", "2", "-v"]).success();
    let table: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |name: &str| table.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name}: {table:?}"));
    assert_eq!(row("problems")[1], "2");
    assert_eq!(row("left")[2], "1");
    assert_eq!(row("unreadable")[1], "1");
    assert!(row("avg@2")[1].parse::<f64>().unwrap() <= row("pass@2")[1].parse::<f64>().unwrap());
    for said in [
        "warning: 1 of 3 problems left out, longer than 128 tokens",
        "warning: 1 of 2 gold answers cannot be read",
        "problem 1: ",
        "M parameters",
    ] {
        assert!(run.stderr.contains(said), "no {said:?} in {}", run.stderr);
    }
}
