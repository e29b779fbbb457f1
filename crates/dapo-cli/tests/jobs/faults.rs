//! What a fault of a rank, or of its start, leads to.

use crate::job::{
    TINY, alone, dapo, end, is_left, mpirun_of, process_of, resuming, run, send, training, wait_for_steps,
};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::tempdir;

const TIMEOUT: Duration = Duration::from_secs(2);
/// What the end of a job may take beyond the deadline.
const GRACE: Duration = Duration::from_secs(3);

/// A rank that is killed or stopped: the job ends, says which rank it was and what the others waited in, and continues.
fn missing(signal: &str, ranks: usize) {
    let _one = alone();
    let dir = tempdir().unwrap();
    let out = dir.path().join("run");
    let settings = [&TINY[..], &["train.steps=400", "eval.every=none", "dist.timeout_s=2"]].concat();
    let mut job = mpirun_of(ranks, &training(&settings, &out)).spawn().unwrap();
    wait_for_steps(&out, 3, &mut job);
    let process = process_of(1, &out);
    send(signal, process);
    let since = Instant::now();
    let ended = end(job).failure(75, &["error: ", "rank 1 is silent for 2.0 s", "expected \"", "step"]);
    assert!(since.elapsed() < TIMEOUT + GRACE, "{:?}: {}", since.elapsed(), ended.stderr);
    while is_left(&out) {
        assert!(since.elapsed() < TIMEOUT + 2 * GRACE, "a process is left");
        sleep(Duration::from_millis(20));
    }
    let made = fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().count();
    assert!((3..400).contains(&made));
    let steps = format!("train.steps={}", made + 1);
    run(mpirun_of(ranks, &resuming(&out, &[&steps, "dist.timeout_s=60"]))).success();
}

#[test]
fn a_killed_rank_ends_the_job() {
    missing("-KILL", 2);
}

#[test]
fn a_stopped_rank_ends_the_job() {
    missing("-STOP", 4);
}

/// A failure of rank 0 after a step is one of all ranks, and rank 0 tells of it and saves the step.
#[test]
fn a_file_that_cannot_be_written_ends_the_job() {
    let _one = alone();
    let dir = tempdir().unwrap();
    let out = dir.path().join("run");
    let settings = [&TINY[..], &["train.steps=400", "eval.every=none", "output.checkpoint_every=0"]].concat();
    let mut job = mpirun_of(2, &training(&settings, &out)).spawn().unwrap();
    wait_for_steps(&out, 1, &mut job);
    fs::create_dir(out.join("completions/step-4.jsonl")).unwrap();
    let said =
        ["writing the logs of step 4 of 400 failed", "completions/step-4.jsonl", "the 4 finished steps are saved"];
    let ended = end(job).failure(1, &said);
    assert!(!ended.stderr.contains("rank 1:"), "{}", ended.stderr);
}

#[test]
fn too_few_shards_are_refused() {
    let _one = alone();
    let dir = tempdir().unwrap();
    let out = dir.path().join("run");
    let ended = run(mpirun_of(4, &training(&["tiny", "train.shards=2"], &out)))
        .failure(2, &["error: train.shards is 2, expected at least 4, the number of ranks"]);
    assert_eq!(ended.stderr.matches("train.shards is 2").count(), 1, "{}", ended.stderr);
    assert!(!out.exists());
}

#[test]
fn other_settings_are_refused() {
    let _one = alone();
    let dir = tempdir().unwrap();
    let out = dir.path().join("run");
    let first = training(&["tiny", "train.shards=2", "seed=0"], &out);
    let second = training(&["tiny", "train.shards=2", "seed=1"], &out);
    let mut command = mpirun_of(1, &first);
    command.args([":", "-n", "1", env!("CARGO_BIN_EXE_dapo")]).args(second);
    let ended = run(command).failure(2, &["error: the command line of rank 1 is", "seed=1", "as on rank 0"]);
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{}", ended.stderr);
    assert!(!out.exists());
}

#[test]
fn a_folder_that_is_not_free_is_refused() {
    let _one = alone();
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("mine"), "").unwrap();
    let ended = run(mpirun_of(2, &training(&["tiny", "train.shards=2"], dir.path())))
        .failure(1, &["not empty, expected a new or empty folder"]);
    assert!(!ended.stderr.contains("rank 1"), "{}", ended.stderr);
}

#[test]
fn a_silent_singleton_is_refused() {
    let dir = tempdir().unwrap();
    let mut command = dapo();
    command.args(training(&["tiny"], &dir.path().join("run"))).env("PMI_SIZE", "2");
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    run(command).failure(2, &["the world has 1 process, expected 2 as PMI_SIZE says"]);
}

#[test]
fn the_dry_run_tells_of_memory_by_rank() {
    let _one = alone();
    let ended = run(mpirun_of(2, &["train", "tiny", "train.shards=2", "--dry-run"])).success();
    assert_eq!(ended.stdout.matches("\nranks                     2, each with ").count(), 1, "{}", ended.stdout);
    assert!(ended.stdout.contains("; 2 on this machine, with "), "{}", ended.stdout);
}

#[test]
fn the_doctor_tells_of_mpi_and_ranks() {
    let _one = alone();
    let ended = run(mpirun_of(1, &["doctor"])).success();
    assert!(ended.stdout.contains("mpi               Open MPI v"), "{}", ended.stdout);
    assert!(ended.stdout.contains("ranks             1 (OMPI_COMM_WORLD_SIZE)"), "{}", ended.stdout);
}
