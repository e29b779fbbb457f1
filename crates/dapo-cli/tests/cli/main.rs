//! The binary as its users run it, on the tiny model of the test data.

#![allow(clippy::unwrap_used)]

mod eval;
mod generate;
mod hostile;
#[cfg(target_os = "linux")]
mod live;
mod manners;
mod messages;
mod models;
#[cfg(target_os = "linux")]
#[path = "../../../dapo-console/tests/pty/mod.rs"]
mod pty;
mod report;
#[cfg(target_os = "linux")]
mod reward_kinds;
#[cfg(target_os = "linux")]
mod rewards;
mod runs;
mod settings;
mod show;
mod tools;
mod train;
mod verify;

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};
use tempfile::{NamedTempFile, TempDir};

const TINY_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/tiny-qwen3");

/// What a run of the binary came to.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    #[track_caller]
    fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Checks the exit code, and that stderr says everything in `said`.
    #[track_caller]
    fn failure(self, code: i32, said: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for text in said {
            assert!(self.stderr.contains(text), "no {text:?} in {}", self.stderr);
        }
        self
    }

    fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn dapo(args: &[&str]) -> Run {
    dapo_with_stdin(args, "")
}

fn dapo_with_stdin(args: &[&str], stdin: impl AsRef<[u8]>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dapo"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may have ended before.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_ref());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn file(content: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

/// Chains of additions that the tiny model has a fair chance to work out.
fn additions() -> NamedTempFile {
    let chains: [&[u32]; 8] =
        [&[17, 4, 25], &[3, 9, 2], &[40, 11, 6], &[5, 5, 5], &[21, 34, 8], &[12, 30, 7], &[2, 48, 13], &[9, 27, 33]];
    let lines = chains.map(|operands| {
        let question: Vec<String> = operands.iter().map(u32::to_string).collect();
        let answer: u32 = operands.iter().sum();
        serde_json::json!({ "question": question.join("+") + "=", "answer": answer }).to_string()
    });
    file(&lines.join("\n"))
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}
