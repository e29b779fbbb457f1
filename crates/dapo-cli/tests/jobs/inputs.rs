//! Other machines need only the program: settings, model and data are those of rank 0.

use crate::job::{TINY, alone, assert_same, dapo, mpirun_in, resuming, run};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/tiny-qwen3");

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn problems() -> String {
    let line = |i: u32| format!("{{\"prompt\": \"{} + {} =\", \"answer\": \"{}\"}}\n", i, i * 7 % 40, i + i * 7 % 40);
    (1..40).map(line).collect()
}

const ARGS: [&str; 5] = ["mine.toml", "model.path=model", "data.train=[\"data\"]", "train.steps=4", "eval.every=none"];

#[test]
fn a_rank_without_model_data_and_settings_gets_them() {
    let _one = alone();
    let dir = tempdir().unwrap();
    let (full, empty) = (dir.path().join("full"), dir.path().join("empty"));
    copy(Path::new(MODEL), &full.join("model"));
    fs::create_dir_all(full.join("data")).unwrap();
    fs::write(full.join("data/a.jsonl"), problems()).unwrap();
    fs::write(full.join("mine.toml"), "sampler.dynamic = false\nrollout.max_new_tokens = 12\n").unwrap();
    fs::create_dir_all(&empty).unwrap();
    let args = |out: &'static str| [&["train"], &TINY[..], &ARGS, &["--out", out]].concat();

    let mut command = dapo();
    command.args(args("alone")).current_dir(&full);
    run(command).success();
    let ranks = [full.as_path(), empty.as_path(), full.as_path()];
    run(mpirun_in(&ranks, &args("together"))).success();
    assert_same(&full.join("together"), &full.join("alone"), "three ranks, one with nothing");
    // Nothing is left there, nor among the temporary files.
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);

    // The run continues in the same way, and alone.
    let more = resuming(Path::new("together"), &["train.steps=6"]);
    run(mpirun_in(&ranks, &more)).success();
    let mut command = dapo();
    command.args(resuming(Path::new("alone"), &["train.steps=6"])).current_dir(&full);
    run(command).success();
    assert_same(&full.join("together"), &full.join("alone"), "continued");
}

#[test]
fn another_file_in_the_place_of_rank_0s_is_refused() {
    let _one = alone();
    let dir = tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for folder in [&first, &second] {
        copy(Path::new(MODEL), &folder.join("model"));
    }
    let file = second.join("model/tokenizer.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text + " ").unwrap();
    let args = [&["train"], &TINY[..], &["model.path=model", "--out", "run"]].concat();
    let ended = run(mpirun_in(&[&first, &second], &args));
    ended.failure(1, &["error: ", "first/model/tokenizer.json of rank 1 is", "as on rank 0"]);
    assert!(!first.join("run").exists());
}
