//! Text and files made to harm who looks at them.

use crate::{Run, TINY_MODEL, additions, dapo, file, folder, path};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A window title, a cleared screen, the clipboard, C1, and text in another order.
const EVIL: &str = "\x1b]0;title\x07\x1b[2J\x1b]52;c;aGk=\x07\u{9b}31m\u{202e}abc\u{2066}\r\x7f";

/// Whether a text has nothing that a terminal would obey.
#[track_caller]
fn assert_harmless(text: &str) {
    let bad = text.chars().find(|c| {
        c.is_control() && !"\n\t".contains(*c)
            || matches!(*c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    assert_eq!(bad, None, "{text:?}");
}

fn copy() -> TempDir {
    let dir = folder();
    for entry in fs::read_dir(TINY_MODEL).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// The tiny model, every plain character of whose vocabulary reads as something that controls a terminal.
fn talking_evil() -> TempDir {
    let dir = copy();
    let file = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    // Whatever it says is followed by the same text.
    json["decoder"] = json!({"type": "Sequence", "decoders": [
        {"type": "Fuse"},
        {"type": "Replace", "pattern": {"Regex": "$"}, "content": EVIL},
    ]});
    fs::write(&file, json.to_string()).unwrap();
    dir
}

/// What a command shows on a terminal, made by `script` of util-linux.
#[cfg(target_os = "linux")]
fn on_a_terminal(args: &[&str]) -> Option<String> {
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let line = format!("'{}' {} 2>/dev/null", env!("CARGO_BIN_EXE_dapo"), quoted.join(" "));
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    // The terminal itself turns line feeds into carriage returns with them.
    Some(String::from_utf8(output.ok()?.stdout).unwrap().replace("\r\n", "\n"))
}

#[test]
fn completions_do_not_control_the_terminal() {
    let model = talking_evil();
    let model = model.path().to_str().unwrap();
    let args = ["generate", "--model", model, "1+1=", "--temperature", "0", "--max-tokens", "3"];
    let piped = dapo(&args).success();
    assert!(piped.stdout.contains(EVIL), "what is not for a terminal stays as it is: {:?}", piped.stdout);
    #[cfg(target_os = "linux")]
    {
        let Some(shown) = on_a_terminal(&args) else {
            eprintln!("SKIPPED: there is no `script` to make a terminal with");
            return;
        };
        assert_harmless(&shown);
        assert!(shown.contains(r"\x1b]0;title\x07") && shown.contains(r"\u{202e}abc"), "{shown:?}");
        let raw = on_a_terminal(&[&args[..], &["--raw"]].concat()).unwrap();
        assert!(raw.contains(EVIL), "{raw:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn text_that_is_shown_while_it_is_generated_is_the_same_text() {
    for question in ["17+4+25=", "1+1="] {
        let args = ["generate", "--model", TINY_MODEL, question, "--seed", "3", "--max-tokens", "72"];
        let Some(shown) = on_a_terminal(&args) else {
            eprintln!("SKIPPED: there is no `script` to make a terminal with");
            return;
        };
        assert_eq!(shown, dapo(&args).success().stdout);
    }
}

#[test]
fn messages_do_not_control_the_terminal() {
    let check = |run: Run, shown: &str| {
        assert!(run.stderr.contains(shown), "no {shown:?} in {:?}", run.stderr);
        assert_harmless(&run.stderr);
    };
    // A template's complaint.
    let model = copy();
    let name = model.path().to_str().unwrap();
    fs::write(model.path().join("chat_template.jinja"), format!("{{{{ raise_exception('no {EVIL}') }}}}")).unwrap();
    check(dapo(&["generate", "--model", name, "1+1="]), r"no \x1b]0;title\x07");
    // A prompt, with -v.
    let args = ["generate", "--model", TINY_MODEL, EVIL, "-v", "--max-tokens", "1"];
    check(dapo(&args), r"\x1b[2J");
    // Keys and ids of data.
    let data = file(&json!({ EVIL: 1, "b": 2 }).to_string());
    check(dapo(&["eval", "--model", TINY_MODEL, "--data", path(&data)]), r"\x1b]0;title");
    let data = file(&json!({"question": "1+1=", "answer": "2", "id": EVIL}).to_string());
    let args = ["eval", "--model", TINY_MODEL, "--data", path(&data), "--samples", "1", "--max-tokens", "2", "-v"];
    check(dapo(&args).success(), r"problem \x1b]0;title");
    // The base of an adapter.
    let adapter = folder();
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"], "base_model_name_or_path": EVIL});
    fs::write(adapter.path().join("adapter_config.json"), config.to_string()).unwrap();
    check(dapo(&["generate", "--model", adapter.path().to_str().unwrap(), "1"]), r"\x1b]0;title");
    // Keys of settings to import.
    let foreign = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let text = format!("algorithm:\n  adv_estimator: grpo\n  {}: 1\n", json!(EVIL));
    fs::write(foreign.path(), text).unwrap();
    let run = dapo(&["config", "import", foreign.path().to_str().unwrap()]);
    assert_harmless(&run.stderr);
    // A file's name.
    let odd = folder();
    let odd = odd.path().join("a\x1b[2Jb.jsonl");
    check(dapo(&["verify", odd.to_str().unwrap()]), r"a\x1b[2Jb.jsonl");
    // Colours are ours.
    let run = dapo(&["verify", odd.to_str().unwrap(), "--color", "always"]);
    assert!(run.stderr.starts_with("\x1b[1m\x1b[31merror:\x1b[0m "), "{:?}", run.stderr);
    assert_harmless(run.stderr.trim_start_matches("\x1b[1m\x1b[31merror:\x1b[0m "));
}

#[test]
fn adapters_of_adapters_are_refused() {
    let (one, two, out) = (folder(), folder(), folder());
    let set = |dir: &Path, base: &Path| {
        let config = json!({
            "peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"], "base_model_name_or_path": base,
        });
        fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    };
    let out = out.path().join("out");
    let problems = additions();
    for (first, second) in [(one.path(), one.path()), (one.path(), two.path())] {
        set(first, second);
        set(two.path(), one.path());
        let model = first.to_str().unwrap();
        let expected = "adapter_config.json: base_model_name_or_path is \"";
        let said: &[&str] = &[expected, "expected a model, not an adapter"];
        dapo(&["generate", "--model", model, "1+1="]).failure(1, said);
        dapo(&["eval", "--model", model, "--data", path(&problems)]).failure(1, said);
        dapo(&["export", model, "--out", out.to_str().unwrap()]).failure(1, said);
        let path = format!("model.path={model}");
        dapo(&["train", "tiny", &path, "--dry-run"]).failure(1, said);
        dapo(&["train", "tiny", &path, "--out", out.to_str().unwrap()]).failure(1, said);
    }
}

#[test]
fn lines_without_end_are_refused_by_file_and_line() {
    let long = "1+".repeat(33 << 20);
    let data = file(&format!(
        "{{\"question\": \"1+1=\", \"answer\": \"2\"}}\n{{\"question\": \"{long}\", \"answer\": \"2\"}}"
    ));
    let said = format!("{}:2: a line of more than 64 MiB, expected at most 64 MiB", path(&data));
    dapo(&["eval", "--model", TINY_MODEL, "--data", path(&data)]).failure(1, &[&said]);
    let said = format!("{}:2", path(&data));
    dapo(&["verify", path(&data)]).failure(1, &[&said, "a line of more than 64 MiB"]);
}

#[test]
fn usage_errors_show_arguments_with_visible_escapes() {
    let shown = r"\x1b]0;title\x07\x1b[2J";
    for args in
        [&[EVIL][..], &["eval", "--model", "m", "--data", "d", "--samples", EVIL], &["verify", &format!("--{EVIL}")]]
    {
        let run = dapo(args).failure(2, &[shown]);
        assert_harmless(&run.stderr);
        let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let line = format!("'{}' {} 2>&1", env!("CARGO_BIN_EXE_dapo"), quoted.join(" "));
        let Ok(output) = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output() else {
            eprintln!("SKIPPED: there is no `script` to make a terminal");
            continue;
        };
        assert!(String::from_utf8_lossy(&output.stdout).contains(shown), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_in_the_place_of_any_file_of_a_run_is_named() {
    let dir = folder();
    let run = dir.path().join("run");
    let name = run.to_str().unwrap();
    let steps = ["train.steps=1", "eval.every=1", "sampler.train_batch=2", "rollout.group_size=2"];
    dapo(&[&["train", "tiny", "--out", name][..], &steps].concat()).success();
    for file in [
        "config.resolved.toml",
        "metrics.jsonl",
        "timings.jsonl",
        "evaluations.jsonl",
        "completions/step-1.jsonl",
        ".lock",
        "checkpoints/step-1/manifest.json",
        "checkpoints/step-1/trainer.json",
        "checkpoints/step-1/optimizer.safetensors",
        "checkpoints/step-1/model/tokenizer.json",
    ] {
        let (path, aside) = (run.join(file), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let args = ["60", env!("CARGO_BIN_EXE_dapo"), "train", "--resume", name, "train.steps=2"];
        let output = Command::new("timeout").args(args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{file}: {said}");
        assert!(said.contains(file), "{file}: {said}");
        fs::rename(&aside, &path).unwrap();
    }
}
