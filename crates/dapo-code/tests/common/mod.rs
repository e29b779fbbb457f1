//! What the tests share: rewards in a sandbox, where this system has one.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::Path;
use std::process::Command;

use dapo_code::{CodeError, CodeReward, CodeScorer, Language, Launcher, Sandbox};
use dapo_reward::{RewardFn, RewardInput, Score};
use serde_json::Value;

pub(crate) fn launcher() -> Launcher {
    Launcher::at(env!("CARGO_BIN_EXE_dapo-sandbox"))
}

/// Whether a program starts here.
pub(crate) fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The settings with an interpreter that the sandbox's user can start: programs of root run as `nobody`, who has no way
/// into root's home folder.
pub(crate) fn config(language: Language, sandbox: Sandbox) -> CodeReward {
    let mut config = CodeReward { language, sandbox, workers: Some(2), ..CodeReward::default() };
    if sandbox == Sandbox::RlimitsOnly && Path::new("/usr/bin/python3").exists() {
        config.python = "/usr/bin/python3".into();
    }
    config
}

/// The reward, or `None` said aloud: without the language's programs, or where the system lacks a layer.
pub(crate) fn open(test: &str, config: &CodeReward) -> Option<CodeScorer> {
    let sandbox = config.sandbox;
    let program = match config.language {
        Language::Python => Some(config.python.as_str()),
        Language::Rust => Some("cargo"),
        Language::Command => None,
    };
    if let Some(program) = program.filter(|program| !has(program)) {
        println!("SKIPPED {test}, {sandbox:?}: no {program}");
        return None;
    }
    match config.open("code", launcher()) {
        Ok(scorer) => {
            println!("ran {test}, {sandbox:?}");
            Some(scorer)
        }
        Err(CodeError::Refused { layer, reason }) => {
            assert!(!layer.is_empty() && !reason.is_empty());
            assert!(sandbox == Sandbox::Strict && !has_namespaces(), "{test}: {layer}: {reason}, but others make them");
            println!("SKIPPED {test}, {sandbox:?}: this system has no {layer}: {reason}");
            None
        }
        Err(error) => panic!("{test}: {error}"),
    }
}

/// Whether another program can make all namespaces and mount in them.
fn has_namespaces() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork"]);
    unshare.args(["mount", "-t", "tmpfs", "tmpfs", "/usr"]).output().is_ok_and(|output| output.status.success())
}

/// The score of a program in a code block without a tag.
pub(crate) fn score(scorer: &CodeScorer, program: &str, columns: &Value) -> Score {
    let completion = format!("So:\n```\n{program}\n```\n");
    scorer.score(&RewardInput::new("", &completion, "").with_columns(columns)).unwrap()
}

pub(crate) const BOTH: [Sandbox; 2] = [Sandbox::Strict, Sandbox::RlimitsOnly];
