//! `dapo chat`, `dapo doctor` and `dapo completions`.

use crate::{dapo, dapo_with_stdin};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

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
    for name in ["version", "cpu", "kernels", "cores", "memory", "cuda", "mpi", "ranks", "interfaces"] {
        assert!(run.stdout.lines().any(|line| line.starts_with(name)), "no {name} in {}", run.stdout);
    }
    let report: Value = dapo(&["doctor", "--json"]).success().json_lines().remove(0);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
}

/// What a shell offers for a line; `None` where there is no such shell.
fn offered(shell: &str, script: &str, line: &str) -> Option<Vec<String>> {
    let dapo = std::path::Path::new(env!("CARGO_BIN_EXE_dapo"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", dapo.parent().unwrap().display());
    let mut command = Command::new(shell);
    command.args(["-c", script, shell, line]).env("PATH", path).env("LINE", line).env("HOME", "/nonexistent");
    let Ok(output) = command.output() else {
        eprintln!("SKIPPED: there is no {shell}");
        return None;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect())
}

/// Lines, and what is offered for their last word.
const OFFERED: [(&str, &[&str]); 9] = [
    ("dapo exp", &["export"]),
    ("dapo train --res", &["--resume"]),
    ("dapo train ti", &["tiny"]),
    ("dapo recipes verl-dapo-e", &["verl-dapo-early"]),
    ("dapo train tiny optimizer.sch", &["optimizer.schedule="]),
    ("dapo train tiny optimizer.schedule=co", &["optimizer.schedule=constant", "optimizer.schedule=cosine"]),
    ("dapo config check tiny output.trackers=", &["output.trackers=tensorboard", "output.trackers=csv"]),
    ("dapo train tiny model.device=", &["model.device=auto", "model.device=cpu", "model.device=cuda"]),
    ("dapo config schema reference_sync.", &["reference_sync.every", "reference_sync.mixup"]),
];

#[test]
fn bash_completes_recipes_settings_and_values() {
    let script = r#"source <(dapo completions bash)
        COMP_WORDBREAKS=$' \t\n"\'><=;|&(:' COMP_LINE=$1 COMP_POINT=${#1}
        _dapo
        printf '%s\n' "${COMPREPLY[@]}""#;
    for (line, expected) in OFFERED {
        let Some(found) = offered("bash", script, line) else { return };
        // Bash replaces what stands behind a `=` alone.
        let last = |word: &&str| if word.ends_with('=') { *word } else { word.rsplit('=').next().unwrap() }.to_owned();
        assert_eq!(found, expected.iter().map(last).collect::<Vec<_>>(), "{line}");
    }
    // In the middle of a line, only what stands before the cursor counts.
    let middle = script.replace("${#1}", "13");
    assert_eq!(offered("bash", &middle, "dapo train ti optimizer").unwrap(), ["tiny"]);
}

#[test]
fn fish_completes_recipes_settings_and_values() {
    for (line, expected) in OFFERED {
        let script = "dapo completions fish | source; complete -C $LINE";
        let Some(found) = offered("fish", script, line) else { return };
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn zsh_and_the_others_get_a_script() {
    for shell in ["zsh", "elvish", "powershell"] {
        let script = dapo(&["completions", shell]).success().stdout;
        assert!(script.contains("_DAPO_COMPLETE") && script.contains("dapo"), "{shell}");
    }
    // Zsh's script is read, and its question is answered.
    let script = "autoload -U compinit; compinit -u -D; eval \"$(dapo completions zsh)\"; \
        [[ -n $_comps[dapo] ]] && print defined; words=(dapo train tiny optimizer.sch); \
        _CLAP_COMPLETE_INDEX=3 _CLAP_IFS=$'\\n' _DAPO_COMPLETE=zsh dapo -- $words";
    let Some(found) = offered("zsh", script, "") else { return };
    assert_eq!(found[0], "defined");
    assert!(found[1].starts_with("optimizer.schedule=:"), "{found:?}");
    dapo(&["completions", "tcsh"]).failure(2, &["tcsh", "bash"]);
}

#[test]
fn a_chat_has_commands() {
    let chat = ["chat", "--model", "builtin:tiny", "--temperature", "0", "--max-tokens", "72"];
    let lines = "/help\n/halp me\n/system\n17+4+25=\n/reset\n17+4+25=\n//new\n/exit\n1+1=\n";
    let run = dapo_with_stdin(&chat, lines).success();
    let answers: Vec<&str> = run.stdout.lines().collect();
    assert!(answers.len() == 3 && answers[0] == answers[1], "{answers:?}");
    for said in [
        "/system TEXT  set the system message",
        "there is no command /halp; /help lists them, and //halp is a message",
        "a new conversation without a system message",
    ] {
        assert!(run.stderr.contains(said), "no {said:?} in {}", run.stderr);
    }
    assert!(!run.stderr.contains("> "), "no prompt where nobody types: {}", run.stderr);
}

/// A chat on a terminal made by `script` of util-linux: the editor's lines, the answer, and the history.
#[cfg(target_os = "linux")]
#[test]
fn lines_of_a_chat_on_a_terminal_are_edited_and_kept() {
    let state = crate::folder();
    let line = format!("'{}' chat --model builtin:tiny --temperature 0", env!("CARGO_BIN_EXE_dapo"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("XDG_STATE_HOME", state.path());
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        eprintln!("SKIPPED: there is no `script` to make a terminal with");
        return;
    };
    // A letter that is taken back, then the question; Ctrl-C gives a line up.
    let mut stdin = child.stdin.take().unwrap();
    for typed in ["17+4x\x7f+25=\r", "half a line\x03", "/exit\r"] {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        stdin.write_all(typed.as_bytes()).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("####"), "{shown}");
    let history = std::fs::read_to_string(state.path().join("dapo/chat-history")).unwrap();
    assert!(history.lines().any(|line| line == "17+4+25="), "{history:?}");
    assert!(!history.contains("half a line"), "{history:?}");
}
