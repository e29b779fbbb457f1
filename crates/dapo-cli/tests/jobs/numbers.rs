//! Numbers that are none: every rank ends, with one error and one code.

use crate::job::{TINY, alone, dapo, end, files, is_left, mpirun_of, python, resuming, run, training, wait_for_steps};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// A reward in Python that is NaN on rank 1 alone, as soon as there is the file `nan` beside it.
fn reward(dir: &Path) -> String {
    let code = format!(
        "import os\n\n\
         def score(completions, **kwargs):\n    \
             second = os.environ.get('OMPI_COMM_WORLD_RANK') == '1'\n    \
             is_nan = second and os.path.exists('{}')\n    \
             return [float('nan') if is_nan else len(text) % 3 for text in completions]\n",
        dir.join("nan").display()
    );
    fs::write(dir.join("rewards.py"), code).unwrap();
    format!("rewards.mine.python={}:score", dir.join("rewards.py").display())
}

#[test]
fn a_reward_that_is_nan_on_one_rank_ends_the_job() {
    if !python() {
        return;
    }
    let _one = alone();
    let dir = tempdir().unwrap();
    let (reference, out) = (dir.path().join("reference"), dir.path().join("run"));
    let reward = reward(dir.path());
    let settings =
        [&TINY[..], &["rewards.accuracy.weight=1", "train.steps=40", "eval.every=none", reward.as_str()]].concat();
    let mut job = mpirun_of(4, &training(&settings, &out)).spawn().unwrap();
    wait_for_steps(&out, 2, &mut job);
    fs::write(dir.path().join("nan"), "").unwrap();
    let ended = end(job).failure(
        1,
        &[
            "error: step ",
            " of 40 failed",
            "caused by: rank 1: reward \"mine\" failed: step ",
            "is nan, expected a finite number",
            "finished steps are saved in",
        ],
    );
    // Rank 0 alone tells of it, and nobody was lost.
    assert_eq!(ended.stderr.matches("expected a finite number").count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("silent") && !ended.stderr.contains("MPI_ABORT"), "{}", ended.stderr);
    assert!(!is_left(&out));

    // The step was taken back: it is made again, by another number of ranks.
    fs::remove_file(dir.path().join("nan")).unwrap();
    let made = fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().count();
    assert!((2..40).contains(&made), "{made}");
    let steps = format!("train.steps={}", made + 2);
    run(mpirun_of(2, &resuming(&out, &[&steps]))).success();
    let mut command = dapo();
    command.args(training(&[&settings[..], &[&steps]].concat(), &reference));
    run(command).success();
    for name in ["metrics.jsonl", &format!("checkpoints/step-{}/optimizer.safetensors", made + 2)] {
        assert!(files(&out)[Path::new(name)] == files(&reference)[Path::new(name)], "{name}");
    }
}

#[test]
fn weights_that_diverge_end_the_job() {
    let _one = alone();
    let dir = tempdir().unwrap();
    let settings = [&TINY[..], &["optimizer.lr=1e30", "optimizer.warmup_steps=0"]].concat();
    let mut said = Vec::new();
    for ranks in [1, 4] {
        let out = dir.path().join(format!("of-{ranks}"));
        let ended = run(mpirun_of(ranks, &training(&settings, &out)));
        let ended = ended.failure(1, &["error: the norm of the weights is ", "after update 1 of step 1"]);
        assert!(!ended.stderr.contains("rank 1:") && !ended.stderr.contains("MPI_ABORT"), "{}", ended.stderr);
        said.extend(ended.stderr.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned));
        assert!(!is_left(&out));
    }
    assert!(said.len() == 2 && said[0] == said[1], "{said:?}");
}
