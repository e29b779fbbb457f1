//! The number of ranks leaves no trace.

use crate::job::{
    TINY, alone, assert_same, dapo, mpirun_of, process_of, python, resuming, run, send, training, wait_for_steps,
};
use std::fs;
use tempfile::{TempDir, tempdir};

/// Trains with no launcher and with 1, 2 and 4 ranks, in the folders `reference` and `of-N`.
fn same_at_any_size(more: &[&str]) -> TempDir {
    let _one = alone();
    let dir = tempdir().unwrap();
    let settings = [&TINY[..], more].concat();
    let reference = dir.path().join("reference");
    let mut command = dapo();
    command.args(training(&settings, &reference));
    run(command).success();
    let metrics = fs::read_to_string(reference.join("metrics.jsonl")).unwrap();
    assert!(metrics.lines().count() >= 4);
    for ranks in [1, 2, 4] {
        let out = dir.path().join(format!("of-{ranks}"));
        let ended = run(mpirun_of(ranks, &training(&settings, &out))).success();
        assert_same(&out, &reference, &format!("{ranks} ranks"));
        // Rank 0 alone says where the model is.
        assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
        assert_eq!(ended.stderr.matches("problems to train on").count(), 1, "{}", ended.stderr);
        assert!(!ended.stderr.contains("rank 1:"), "{}", ended.stderr);
    }
    dir
}

#[test]
fn full_weights_are_the_same_at_any_number_of_ranks() {
    same_at_any_size(&[]);
}

/// The f32 values are divided as the moments are, and so is the evaluation of an odd number of problems.
#[test]
fn weights_in_bf16_are_the_same_at_any_number_of_ranks() {
    same_at_any_size(&["model.weights=bf16", "eval.every=2", "eval.limit=7", "eval.samples=2"]);
}

#[test]
fn adapters_with_a_reference_are_the_same_at_any_number_of_ranks() {
    same_at_any_size(&["lora.rank=4", "loss.kl.coef=0.05"]);
}

/// The answers that a rank gets stand in the run's folder, as those of one rank do.
#[test]
fn rewards_that_are_computed_elsewhere_are_the_same_at_any_number_of_ranks() {
    if !python() {
        return;
    }
    let code = "def score(completions, **kwargs):\n    return [len(text) % 3 for text in completions]\n";
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("rewards.py"), code).unwrap();
    let reward = format!("rewards.mine.python={}:score", dir.path().join("rewards.py").display());
    let runs = same_at_any_size(&["rewards.accuracy.weight=1", "train.steps=4", "eval.every=2", &reward]);
    let answers = fs::read_to_string(runs.path().join("of-2/reward_cache/mine.jsonl")).unwrap();
    assert!(answers.lines().count() > 100, "{answers}");
}

/// Killed with two ranks, ended by a signal of rank 1 of four, and finished by one.
#[test]
fn a_run_continues_with_any_number_of_ranks() {
    let _one = alone();
    let dir = tempdir().unwrap();
    let (reference, out) = (dir.path().join("reference"), dir.path().join("chain"));
    let settings = [&TINY[..], &["train.steps=14", "eval.every=7", "model.weights=bf16"]].concat();
    let mut command = dapo();
    command.args(training(&settings, &reference));
    run(command).success();

    let mut job = mpirun_of(2, &training(&settings, &out)).spawn().unwrap();
    wait_for_steps(&out, 3, &mut job);
    for rank in [0, 1] {
        send("-KILL", process_of(rank, &out));
    }
    send("-KILL", job.id());
    job.wait().unwrap();
    // What is left of the job notices that its launcher is gone.
    let last = || fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().count();
    assert!((3..14).contains(&last()), "{}", last());

    let before = last();
    let mut job = mpirun_of(4, &resuming(&out, &[])).spawn().unwrap();
    wait_for_steps(&out, before + 2, &mut job);
    send("-TERM", process_of(1, &out));
    let ended = crate::job::end(job).failure(143, &["SIGTERM of rank 1 after step"]);
    assert!(!ended.stderr.contains("rank 1:"), "{}", ended.stderr);
    assert!(last() < 14, "{}", last());

    run(mpirun_of(1, &resuming(&out, &[]))).success();
    assert_same(&out, &reference, "2, 4 and 1 ranks");
}
