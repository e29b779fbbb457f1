//! Faults at numbered system calls.

use crate::{
    CARRIED, FULL, KL, Kind, LORA, assert_same, assert_whole_checkpoints, copy, of_environment, resume, success,
};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What happens at a call, as `shim.c` names it.
const FAULTS: [&str; 5] = ["kill", "torn", "eio", "dead", "full"];

/// The library that counts calls; `None`: it cannot be built here.
fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults-shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"]).args([&library, &source]);
        let built = !cfg!(target_env = "musl") && compiler.arg("-ldl").status().is_ok_and(|status| status.success());
        built.then_some(library)
    };
    SHIM.get_or_init(build).as_deref()
}

/// A command whose calls at `dir` are counted into a file.
fn counted(mut command: Command, shim: &Path, dir: &Path, log: &Path) -> Command {
    command.env("LD_PRELOAD", shim).env("FAULT_PATH", dir).env("FAULT_LOG", log);
    command
}

/// Lets every n-th call of a run fail in every way that applies to it. `torn` is a folder to continue from; by default the
/// run starts anew.
fn try_calls(kind: &Kind, torn: Option<&Path>, offset: usize) {
    let Some(shim) = shim() else {
        println!("SKIPPED: no C compiler for the library that counts system calls");
        return;
    };
    let stride = of_environment("DAPO_FAULT_STRIDE", 31);
    let (_whole, whole) = kind.whole();
    let begin = |dir: &Path| match torn {
        Some(torn) => {
            copy(torn, dir);
            resume(dir)
        }
        None => kind.start(dir),
    };
    let temp = tempfile::tempdir().unwrap();
    let (dir, log) = (temp.path().join("counted/run"), temp.path().join("log"));
    fs::create_dir(temp.path().join("counted")).unwrap();
    success(&mut counted(begin(&dir), shim, &dir, &log), kind.name);
    assert_same(&whole, &dir, "counted");
    let calls: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    assert!(calls.len() >= 50, "{calls:?}");

    let (mut tried, mut failures) = ([0; FAULTS.len()], Vec::new());
    for (of_fault, fault) in FAULTS.into_iter().enumerate() {
        let applies = |call: &str| match fault {
            "torn" => call == "write",
            "full" => ["mkdir", "open", "write"].contains(&call),
            _ => true,
        };
        let numbered = calls.iter().enumerate().filter(|(_, call)| applies(call.split(' ').nth(1).unwrap()));
        for (number, call) in numbered.skip((offset + 7 * of_fault) % stride).step_by(stride) {
            let what = format!("{}: {fault} at {call}", kind.name);
            let try_call = || {
                let temp = tempfile::tempdir().unwrap();
                let dir = temp.path().join("run");
                let mut faulty = begin(&dir);
                faulty.env("LD_PRELOAD", shim).env("FAULT_PATH", &dir);
                faulty.env("FAULT_AT", (number + 1).to_string()).env("FAULT_KIND", fault);
                let end = faulty.output().unwrap();
                let said = String::from_utf8(end.stderr).unwrap();
                assert!(!said.contains("panicked"), "{what}: {said}");
                match fault {
                    "kill" | "torn" => assert_eq!(end.status.signal(), Some(9), "{what}: {said}"),
                    // What may fail without harm has failed.
                    _ if end.status.success() => assert_same(&whole, &dir, &what),
                    _ => {
                        let why = if fault == "full" { "No space left on device" } else { "Input/output error" };
                        assert!(end.status.code() == Some(1) && said.contains(why), "{what}: {}: {said}", end.status);
                    }
                }
                assert_whole_checkpoints(&dir, &what);
                kind.finish(&dir, &whole, &what);
            };
            // All that fail are of interest.
            if catch_unwind(AssertUnwindSafe(try_call)).is_err() {
                failures.push(what.clone());
            }
            tried[of_fault] += 1;
        }
    }
    let tried: Vec<String> = FAULTS.iter().zip(tried).map(|(fault, count)| format!("{count} {fault}")).collect();
    println!("{}, {} calls: {}", kind.name, calls.len(), tried.join(", "));
    assert!(failures.is_empty(), "{} failed: {failures:#?}", failures.len());
}

#[test]
fn a_run_of_all_weights_survives_a_fault_at_any_call() {
    try_calls(&FULL, None, 0);
}

#[test]
fn a_run_of_adapters_survives_a_fault_at_any_call() {
    try_calls(&LORA, None, 3);
}

#[test]
fn a_run_whose_reference_follows_survives_a_fault_at_any_call() {
    try_calls(&KL, None, 11);
}

#[test]
fn a_run_with_carried_groups_survives_a_fault_at_any_call() {
    try_calls(&CARRIED, None, 17);
}

/// A run that was killed while it deleted a checkpoint, and then meets another fault.
#[test]
fn a_resumed_run_survives_a_fault_at_any_call() {
    let Some(shim) = shim() else {
        println!("SKIPPED: no C compiler for the library that counts system calls");
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let (dir, log) = (temp.path().join("run"), temp.path().join("log"));
    success(&mut counted(CARRIED.start(&dir), shim, &dir, &log), "counted");
    let calls = fs::read_to_string(&log).unwrap();
    let deletion = calls.lines().position(|call| call.contains(" unlink ")).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let mut killed = CARRIED.start(&dir);
    killed.env("LD_PRELOAD", shim).env("FAULT_PATH", &dir).env("FAULT_AT", (deletion + 3).to_string());
    assert_eq!(killed.env("FAULT_KIND", "kill").output().unwrap().status.signal(), Some(9));
    assert!(dir.join("checkpoints/step-1.part").exists());
    // Two steps are to be made again: the last checkpoint goes.
    fs::remove_dir_all(dir.join("checkpoints/step-3")).unwrap();
    try_calls(&CARRIED, Some(&dir), 23);
}
