//! Evaluations, whose problems the ranks divide.

use crate::job::{TINY, alone, assert_same, dapo, is_left, mpirun_of, python, resuming, run, training};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// A command that gives rewards, and fails in evaluations on rank 1 for as long as there is the file `broken` beside it.
fn reward(dir: &Path) -> String {
    let code = format!(
        "import json, os, sys\n\n\
         for line in sys.stdin:\n    \
             request = json.loads(line)\n    \
             second = os.environ.get('OMPI_COMM_WORLD_RANK') == '1'\n    \
             reply = {{'id': request['id'], 'rewards': [len(of['completion']) % 3 for of in request['samples']]}}\n    \
             if request['step'] == 0 and second and os.path.exists('{}'):\n        \
                 reply = {{'id': request['id'], 'error': 'out of order'}}\n    \
             print(json.dumps(reply), flush=True)\n",
        dir.join("broken").display()
    );
    fs::write(dir.join("reward.py"), code).unwrap();
    format!("rewards.mine.command=['python3', '{}']", dir.join("reward.py").display())
}

#[test]
fn a_command_that_fails_in_an_evaluation_of_another_rank_ends_the_job() {
    if !python() {
        return;
    }
    let _one = alone();
    let dir = tempdir().unwrap();
    let (reference, out) = (dir.path().join("reference"), dir.path().join("run"));
    let (reward, broken) = (reward(dir.path()), dir.path().join("broken"));
    let settings = [&TINY[..], &["rewards.accuracy.weight=1", "eval.every=2", "train.steps=3", &reward]].concat();
    let why = "rank 1: reward \"mine\" failed: step 0: it reports: out of order";

    // Before the first step, and then, where that is not asked for, after the second.
    fs::write(&broken, "").unwrap();
    let first = dir.path().join("first");
    let ended = run(mpirun_of(2, &training(&settings, &first))).failure(1, &["error: ", why]);
    assert_eq!(ended.stderr.matches("out of order").count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("silent") && !ended.stderr.contains("MPI_ABORT"), "{}", ended.stderr);
    assert!(!is_left(&first));
    let settings = [&settings[..], &["eval.at_start=false"]].concat();
    let ended = run(mpirun_of(4, &training(&settings, &out)))
        .failure(1, &["error: the evaluation after step 2 of 3 failed", why, "the 2 finished steps are saved in"]);
    assert_eq!(ended.stderr.matches("out of order").count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("silent") && !ended.stderr.contains("MPI_ABORT"), "{}", ended.stderr);
    assert!(!is_left(&out));

    // The evaluation is made when the run continues.
    fs::remove_file(&broken).unwrap();
    run(mpirun_of(2, &resuming(&out, &[]))).success();
    let mut command = dapo();
    command.args(training(&settings, &reference));
    run(command).success();
    assert_same(&out, &reference, "after a failed evaluation");
}
