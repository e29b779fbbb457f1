//! Two machines: `scripts/mpi-namespaces` runs these tests. `DAPO_DIST_MPIRUN` is an mpirun over both, `DAPO_DIST_CUT` cuts
//! the link between them, and `DAPO_DIST_MEND` joins it again.

use crate::job::{TINY, alone, assert_same, dapo, end, is_left, mpirun_of, resuming, run, training, wait_for_steps};
use std::env;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// A command that the script gives; `None`, said aloud, where there are no two machines.
fn command(name: &str) -> Option<String> {
    let given = env::var(name).ok();
    if given.is_none() {
        println!("SKIPPED: no second machine; see scripts/mpi-namespaces");
    }
    given
}

#[track_caller]
fn shell(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

#[test]
fn two_machines_leave_the_folder_of_one_process() {
    if command("DAPO_DIST_CUT").is_none() {
        return;
    }
    let _one = alone();
    let dir = tempdir().unwrap();
    let (reference, out) = (dir.path().join("reference"), dir.path().join("of-two"));
    let mut whole = dapo();
    whole.args(training(&TINY, &reference));
    run(whole).success();
    let since = Instant::now();
    let ended = run(mpirun_of(2, &training(&TINY, &out))).success();
    println!("six steps over the link: {:.1} s", since.elapsed().as_secs_f64());
    assert_same(&out, &reference, "two machines");
    assert!(!ended.stderr.contains("rank 1:"), "{}", ended.stderr);
}

#[test]
fn a_cut_link_ends_the_training_which_then_continues() {
    let (Some(cut), Some(mend)) = (command("DAPO_DIST_CUT"), command("DAPO_DIST_MEND")) else { return };
    let _one = alone();
    let dir = tempdir().unwrap();
    let (reference, out) = (dir.path().join("reference"), dir.path().join("run"));
    let settings = [&TINY[..], &["train.steps=200", "eval.every=none"]].concat();
    let hasty = [&settings[..], &["dist.timeout_s=2"]].concat();
    let mut job = mpirun_of(2, &training(&hasty, &out)).spawn().unwrap();
    wait_for_steps(&out, 3, &mut job);
    shell(&cut);
    let since = Instant::now();
    let ended = end(job);
    let took = since.elapsed();
    // Joined again in any case: other tests follow.
    shell(&mend);
    let ended = ended.failure(75, &["error: ", "is silent for 2.0 s, expected \"", "step"]);
    assert!(took < Duration::from_secs(5), "{took:?}: {}", ended.stderr);
    println!("the job ended {:.1} s after the cut", took.as_secs_f64());
    while is_left(&out) {
        // Only daemons of the launcher may be left, on the other side of the cut.
        assert!(since.elapsed() < Duration::from_secs(8), "a process is left");
        sleep(Duration::from_millis(20));
    }

    let made = fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().count();
    assert!((3..200).contains(&made), "{made}");
    let steps = format!("train.steps={}", made + 3);
    run(mpirun_of(2, &resuming(&out, &[&steps, "dist.timeout_s=60"]))).success();
    let mut whole = dapo();
    whole.args(training(&[&settings[..], &[&steps]].concat(), &reference));
    run(whole).success();
    assert_same(&out, &reference, "after a cut");
}
