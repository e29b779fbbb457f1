//! Nothing of a run is lost, and nothing of it is believed blindly: damaged files, interrupted starts and deletions,
//! checkpoints beside the schedule, renamed models and data.
#![allow(clippy::unwrap_used)]

use dapo_run::{Layer, ModelSource, Resolved, Resume, Run, RunFolder, Trust, resolve, settings_of};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const BASE: [&str; 11] = [
    "seed=3",
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "data.validation=builtin:addition",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "sampler.train_batch=4",
    "sampler.gen_batch=12",
    "optimizer.lr=1e-4",
    "optimizer.warmup_steps=0",
    "eval.limit=4",
];

fn settings(extra: &[&str]) -> Resolved {
    let layers: Vec<Layer> = BASE.iter().chain(extra).map(|setting| Layer::Override((*setting).to_owned())).collect();
    resolve(&layers).unwrap()
}

fn finish(run: &mut Run) {
    run.evaluate_at_start().unwrap();
    while !run.is_finished() {
        run.step().unwrap();
    }
}

/// A finished run in a folder of its own.
fn finished(extra: &[&str]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    finish(&mut Run::create(&settings(extra), &dir).unwrap());
    (folder, dir)
}

fn resume(dir: &Path, changes: &[&str], how: Resume) -> Result<Run, String> {
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    let settings = settings_of(dir, &changes).map_err(|error| error.to_string())?;
    Run::resume_from(&settings, dir, how, None).map_err(|error| error.to_string())
}

fn from(steps: u64) -> Resume {
    Resume { from_step: Some(steps), ..Resume::default() }
}

/// Files of a folder by their path in it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Writes files that [`files`] read.
fn write(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

/// What must be equal, whatever happened on the way.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = files(dir);
    found.retain(|name, _| ![RunFolder::TIMINGS, ".lock"].contains(&name.as_str()));
    found
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (content(one), content(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(*bytes == other[name], "{name} differs");
    }
}

fn checkpoints(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join(RunFolder::CHECKPOINTS)).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn flip(file: &Path, bit: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(file, bytes).unwrap();
}

const RICH: &[&str] = &[
    "train.steps=3",
    "eval.every=2",
    "output.checkpoint_every=2",
    "output.keep_checkpoints=0",
    "loss.kl.coef=0.1",
    "reference_sync.every=1",
    "reference_sync.mixup=0.5",
    "sampler.gen_batch=24",
];

/// `DAPO_FAULT_FLIPS` is the number of bits that are flipped, over all files.
#[test]
fn every_single_bit_flip_is_detected_or_without_effect() {
    let flips = std::env::var("DAPO_FAULT_FLIPS").map_or(500, |flips| flips.parse().unwrap());
    let (_folder, dir) = finished(RICH);
    let (_longer, longer) = finished(RICH);
    finish(&mut resume(&longer, &["train.steps=4"], Resume::default()).unwrap());
    let all = files(&dir);
    assert!(all.contains_key("checkpoints/step-3/groups.safetensors"), "no group is carried: nothing is shown");
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut draw = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % bound
    };
    let mut without_effect = 0;
    // The lock is empty.
    let damageable: Vec<_> = all.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    for number in 0..flips {
        let (name, bytes) = damageable[number % damageable.len()];
        let file = dir.join(name);
        let how = if name.starts_with("checkpoints/step-2") { from(2) } else { Resume::default() };
        // The first and the last bit of each file, and then any.
        let bit = match number / damageable.len() {
            end @ 0..2 => end * (bytes.len() * 8 - 1),
            _ => draw(bytes.len() * 8),
        };
        flip(&file, bit);
        match resume(&dir, &["train.steps=4"], how) {
            Err(error) => {
                fs::write(&file, bytes).unwrap();
                let last = file.file_name().unwrap().to_str().unwrap();
                assert!(error.contains(last) || error.contains("manifest.json"), "bit {bit} of {name}: {error}");
            }
            // No checkpoint knows the timings.
            Ok(mut run) => {
                assert_eq!(name, RunFolder::TIMINGS, "bit {bit} of {name} was accepted");
                finish(&mut run);
                drop(run);
                assert_same(&longer, &dir);
                fs::remove_dir_all(&dir).unwrap();
                write(&dir, &all);
                without_effect += 1;
            }
        }
    }
    assert!(files(&dir) == all, "a refusal changes nothing");
    println!("{flips} flips: {} detected, {without_effect} without effect", flips - without_effect);
    resume(&dir, &[], Resume::default()).unwrap();
}

#[test]
fn every_file_that_is_cut_emptied_removed_or_replaced_is_named() {
    let (_folder, dir) = finished(RICH);
    let all = files(&dir);
    for (name, bytes) in &all {
        if name == RunFolder::TIMINGS || name == ".lock" || name.starts_with("checkpoints/step-2") {
            continue;
        }
        let file = dir.join(name);
        let last = file.file_name().unwrap().to_str().unwrap();
        let other = vec![b'0'; bytes.len()];
        for (what, damage) in [("cut", &bytes[..bytes.len() - 1]), ("emptied", &[][..]), ("replaced", &other[..])] {
            fs::write(&file, damage).unwrap();
            let error = resume(&dir, &["train.steps=5"], Resume::default()).expect_err(&format!("{name} {what}"));
            assert!(error.contains(last), "{name} {what}: {error}");
        }
        fs::remove_file(&file).unwrap();
        let error = resume(&dir, &["train.steps=5"], Resume::default()).expect_err(&format!("{name} removed"));
        assert!(error.contains(last), "{name} removed: {error}");
        fs::create_dir(&file).unwrap();
        let error = resume(&dir, &["train.steps=5"], Resume::default()).expect_err(&format!("{name} is a folder"));
        assert!(error.contains(last), "{name} is a folder: {error}");
        fs::remove_dir(&file).unwrap();
        fs::write(&file, bytes).unwrap();
    }
    assert!(files(&dir) == all, "a refusal changes nothing");
}

#[test]
fn a_damaged_checkpoint_names_the_newest_intact_one_from_which_the_run_continues_to_the_bit() {
    let extra = ["train.steps=6", "eval.every=2", "output.checkpoint_every=2", "output.keep_checkpoints=0"];
    let (_whole, whole) = finished(&extra);
    let (_folder, dir) = finished(&extra);
    flip(&dir.join("checkpoints/step-6/optimizer.safetensors"), 4000);
    flip(&dir.join("checkpoints/step-4/model/model.safetensors"), 40_000);
    let error = resume(&dir, &[], Resume::default()).unwrap_err();
    let hint = format!("step-2: dapo train --resume {} --from-step 2", dir.display());
    assert!(error.contains("step-6/optimizer.safetensors: damaged") && error.ends_with(&hint), "{error}");
    let error = ModelSource::find(dir.to_str().unwrap(), "main").map(|model| model.path().to_owned());
    // The moments are no part of the model.
    assert_eq!(error.unwrap(), dir.join("checkpoints/step-6/model"));
    flip(&dir.join("checkpoints/step-6/model/model.safetensors"), 40_000);
    for model in ["", "checkpoints/step-6", "checkpoints/step-6/model"] {
        let error = ModelSource::find(dir.join(model).to_str().unwrap(), "main").unwrap_err().to_string();
        assert!(error.contains("step-6/model/model.safetensors: damaged"), "{model}: {error}");
        assert_eq!(error.ends_with("the newest intact checkpoint is ") || error.contains("step-2"), model.is_empty());
    }
    let error = resume(&dir, &[], from(3)).unwrap_err();
    assert!(error.contains("step-3: missing, expected one of the run's checkpoints, those of step "), "{error}");
    let mut run = resume(&dir, &[], from(2)).unwrap();
    assert_eq!((run.trainer().steps(), checkpoints(&dir)), (2, vec!["step-2".to_owned()]));
    finish(&mut run);
    assert_same(&whole, &dir);
    drop(run);
    // From the start.
    let mut run = resume(&dir, &[], from(0)).unwrap();
    assert_eq!(run.trainer().steps(), 0);
    finish(&mut run);
    assert_same(&whole, &dir);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let (_folder, dir) = finished(&["train.steps=1"]);
    let (_other, other) = finished(&["train.steps=1", "seed=4"]);
    let checkpoint = |dir: &Path| dir.join("checkpoints/step-1");
    fs::remove_dir_all(checkpoint(&dir)).unwrap();
    fs::rename(checkpoint(&other), checkpoint(&dir)).unwrap();
    let error = resume(&dir, &["train.steps=2"], Resume::default()).unwrap_err();
    assert!(error.contains("manifest.json: of a run with another seed"), "{error}");
}

#[test]
fn a_torn_last_line_is_cut_off_and_a_damaged_one_is_named_and_kept() {
    let (_folder, dir) = finished(&["train.steps=3", "eval.every=1"]);
    let before = content(&dir);
    for log in [RunFolder::METRICS, RunFolder::EVALUATIONS, RunFolder::TIMINGS] {
        let file = dir.join(log);
        let whole = fs::read(&file).unwrap();
        fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"step\":4,\"rew").unwrap();
        resume(&dir, &[], Resume::default()).unwrap();
        assert!(fs::read(&file).unwrap() == whole, "{log}");

        let text = String::from_utf8(whole.clone()).unwrap();
        let damaged = text.replacen("{\"step\":2", "{\"step\"/2", 1);
        assert_ne!(text, damaged, "{log} has no step 2");
        fs::write(&file, &damaged).unwrap();
        // A checkpoint of an older version says nothing of its logs.
        let manifest = dir.join("checkpoints/step-3/manifest.json");
        let kept = fs::read(&manifest).unwrap();
        let line = if log == RunFolder::EVALUATIONS { 3 } else { 2 };
        for trust in [Trust::Verified, Trust::Unverified] {
            if trust == Trust::Unverified {
                fs::remove_file(&manifest).unwrap();
            }
            let error = resume(&dir, &["train.steps=4"], Resume { trust, ..Resume::default() }).unwrap_err();
            assert!(error.contains(&format!("{log}:{line}: damaged (")), "{error}");
            assert!(fs::read(&file).unwrap() == damaged.as_bytes(), "{log} was changed");
        }
        fs::write(&manifest, kept).unwrap();
        fs::write(&file, whole).unwrap();
    }
    assert_eq!(content(&dir), before);
}

#[test]
fn what_the_program_did_not_write_is_left_alone() {
    let (_folder, dir) = finished(&["train.steps=2", "output.checkpoint_every=1"]);
    let own = [
        "completions/notes.txt",
        "completions/step-1-annotated.jsonl",
        "completions/step-9.jsonl.bak",
        "completions/step-09.jsonl",
        "completions/.ipynb_checkpoints/step-7.jsonl",
        "completions/step-8.jsonl/mine",
        "checkpoints/mine.part/file",
        "checkpoints/best/file",
        "checkpoints/step-07/file",
        "notes.md",
    ];
    for name in own {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "mine").unwrap();
    }
    fs::write(dir.join("completions/step-3.jsonl"), "{}\n").unwrap();
    finish(&mut resume(&dir, &["train.steps=3"], Resume::default()).unwrap());
    for name in own {
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), "mine", "{name}");
    }
    resume(&dir, &[], from(2)).unwrap();
    assert!(!dir.join("completions/step-3.jsonl").exists() && dir.join("completions/step-2.jsonl").exists());
}

fn problems(answers: u64) -> String {
    let problem = |i: u64| format!("{{\"question\": \"{i}+1=\", \"answer\": \"{}\"}}\n", i + answers);
    (0..40).map(problem).collect()
}

#[test]
fn models_and_data_may_move_and_their_fingerprints_decide() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    for (name, answers) in [("train", 1), ("moved", 1), ("other", 2)] {
        fs::write(path(name) + ".jsonl", problems(answers)).unwrap();
    }
    let set = |key: &str, name: &str| format!("{key}={}.jsonl", path(name));
    let (train, validation) = (set("data.train", "train"), set("data.validation", "train"));
    let dir = temp.path().join("run");
    // A relative path.
    let model = "model.path=../../testdata/tiny-qwen3";
    let extra = [model, &train, &validation, "train.steps=1", "sampler.on_exhausted=keep-zero-std"];
    finish(&mut Run::create(&settings(&extra), &dir).unwrap());
    let config = settings_of(&dir, &[]).unwrap().config;
    let absolute = std::path::absolute("../../testdata/tiny-qwen3").unwrap();
    assert_eq!(Path::new(&config.model.path), absolute);

    let copy = path("model");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&absolute).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), Path::new(&copy).join(entry.file_name())).unwrap();
    }
    let again = |changes: &[&str]| resume(&dir, &[&["train.steps=2"], changes].concat(), Resume::default());
    let moved = [set("data.train", "moved"), set("data.validation", "moved"), format!("model.path={copy}")];
    drop(again(&moved.each_ref().map(String::as_str)).unwrap());
    assert_eq!(settings_of(&dir, &[]).unwrap().config.model.path, copy);

    let error = again(&[&set("data.train", "other")]).unwrap_err();
    assert!(error.contains("trainer.json: a run on 40 other prompts, expected one on the same prompts"), "{error}");
    let error = again(&[&set("data.validation", "other")]).unwrap_err();
    assert!(error.contains("manifest.json: a run with other validation problems (40 prompts, "), "{error}");
    let trained = dir.join("checkpoints/step-1/model");
    let error = again(&[&format!("model.path={}", trained.display())]).unwrap_err();
    assert!(error.contains("trainer.json: a run that began with other model weights (fingerprint "), "{error}");
}

#[test]
fn kl_can_be_switched_on_and_off_when_a_run_is_resumed() {
    let (_folder, dir) = finished(&["train.steps=1"]);
    let ref_kl = |dir: &Path| {
        let text = fs::read_to_string(dir.join(RunFolder::METRICS)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["ref_kl"].is_number()).collect::<Vec<_>>()
    };
    finish(&mut resume(&dir, &["train.steps=2", "loss.kl.coef=0.1"], Resume::default()).unwrap());
    finish(&mut resume(&dir, &["train.steps=3", "loss.kl.coef=0"], Resume::default()).unwrap());
    assert_eq!(ref_kl(&dir), [false, true, false]);
}

#[test]
fn a_start_that_is_interrupted_anywhere_leaves_a_folder_that_can_be_used() {
    let settings = settings(&["train.steps=1"]);
    let (_whole, whole) = finished(&["train.steps=1"]);
    // What a start makes, in its order.
    let parts = ["completions/", "checkpoints/", ".lock", "config.resolved.toml.part", "config.resolved.toml"];
    for in_place in [false, true] {
        for made in 0..=parts.len() {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("run");
            let place = if in_place { dir.clone() } else { temp.path().join("run.part") };
            fs::create_dir(&place).unwrap();
            for part in &parts[..made] {
                match part.strip_suffix('/') {
                    Some(folder) => fs::create_dir(place.join(folder)).unwrap(),
                    None if *part == RunFolder::CONFIG => {
                        fs::remove_file(place.join("config.resolved.toml.part")).unwrap();
                        fs::copy(whole.join(part), place.join(part)).unwrap();
                    }
                    None => fs::write(place.join(part), "").unwrap(),
                }
            }
            let run = if in_place && made == parts.len() {
                Run::create(&settings, &dir).unwrap_err();
                resume(&dir, &[], Resume::default())
            } else {
                Run::create(&settings, &dir).map_err(|error| error.to_string())
            };
            finish(&mut run.unwrap_or_else(|error| panic!("{made} parts, in place: {in_place}: {error}")));
            assert_same(&whole, &dir);
            assert!(!temp.path().join("run.part").exists());
        }
    }
    // Somebody else's folder.
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("run.part")).unwrap();
    fs::write(temp.path().join("run.part/notes"), "mine").unwrap();
    let error = Run::create(&settings, &temp.path().join("run")).unwrap_err().to_string();
    assert!(error.contains("run.part: not empty, expected a new or empty folder"), "{error}");
}

#[test]
fn a_deletion_that_is_interrupted_is_completed_on_resume() {
    let extra = ["train.steps=3", "output.checkpoint_every=1"];
    let (_folder, dir) = finished(&extra);
    let before = content(&dir);
    assert_eq!(checkpoints(&dir), ["step-2", "step-3"]);
    let torn = dir.join("checkpoints/step-1.part/model");
    fs::create_dir_all(&torn).unwrap();
    fs::write(torn.join("config.json"), "{}").unwrap();
    resume(&dir, &[], Resume::default()).unwrap();
    assert_eq!(content(&dir), before);
    // A kill between the last checkpoint and the deletions that follow it.
    let (_other, other) = finished(&["train.steps=3", "output.checkpoint_every=1", "output.keep_checkpoints=0"]);
    fs::rename(other.join("checkpoints/step-1"), dir.join("checkpoints/step-1")).unwrap();
    resume(&dir, &[], Resume::default()).unwrap();
    assert_eq!(content(&dir), before);
}

#[test]
fn a_checkpoint_beside_the_schedule_counts_for_nothing_and_goes_with_the_next_scheduled_one() {
    let extra = ["train.steps=6", "eval.every=3", "output.checkpoint_every=2", "output.keep_checkpoints=2"];
    let (_whole, whole) = finished(&extra);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let mut run = Run::create(&settings(&extra), &dir).unwrap();
    run.evaluate_at_start().unwrap();
    for (step, expected) in [
        (1, &["step-1"][..]),
        (2, &["step-2"]),
        (3, &["step-2", "step-3"]),
        (4, &["step-2", "step-4"]),
        (5, &["step-2", "step-4", "step-5"]),
    ] {
        run.step().unwrap();
        let path = run.save_unscheduled().unwrap();
        assert_eq!(path, run.folder().checkpoint(step));
        assert_eq!(checkpoints(&dir), expected);
        drop(run);
        run = resume(&dir, &[], Resume::default()).unwrap();
        assert_eq!(
            (run.trainer().steps(), checkpoints(&dir)),
            (step, expected.iter().map(|&n| n.to_owned()).collect())
        );
    }
    finish(&mut run);
    assert_same(&whole, &dir);

    // Those of the clock likewise.
    let timed = temp.path().join("timed");
    let often = [&extra[..], &["output.checkpoint_minutes=1e-9"]].concat();
    let mut run = Run::create(&settings(&often), &timed).unwrap();
    run.evaluate_at_start().unwrap();
    let saved = run.step().unwrap().step().unwrap().checkpoint.clone();
    assert_eq!(saved, Some(run.folder().checkpoint(1)));
    finish(&mut run);
    drop(run);
    let (mut whole, mut timed) = (content(&whole), content(&timed));
    for files in [&mut whole, &mut timed] {
        files.remove(RunFolder::CONFIG).unwrap();
    }
    assert!(whole == timed);
}

#[test]
fn the_last_checkpoint_whose_next_step_succeeded_stays() {
    let (_folder, dir) = finished(&["train.steps=5", "output.checkpoint_every=2", "output.keep_checkpoints=1"]);
    assert_eq!(checkpoints(&dir), ["step-4", "step-5"]);
}

#[test]
fn a_lock_outlives_the_deletion_of_its_file() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let mut run = Run::create(&settings(&["train.steps=1"]), &dir).unwrap();
    fs::remove_file(dir.join(".lock")).unwrap();
    let error = resume(&dir, &[], Resume::default()).unwrap_err();
    assert!(error.contains("is being trained by another process"), "{error}");
    finish(&mut run);
    drop(run);
    resume(&dir, &[], Resume::default()).unwrap();
}

#[test]
fn an_edited_settings_file_is_refused() {
    let (_folder, dir) = finished(&["train.steps=1"]);
    let file = dir.join(RunFolder::CONFIG);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(dir.to_str().unwrap()));
    let edited = text.replace("steps = 1\n", "steps = 2\n");
    assert_ne!(edited, text);
    fs::write(&file, &edited).unwrap();
    let error = resume(&dir, &[], Resume::default()).unwrap_err();
    assert!(error.contains("config.resolved.toml: changed: its hash is another"), "{error}");
    fs::write(&file, edited.split_once("# BLAKE3").unwrap().0).unwrap();
    let error = resume(&dir, &[], Resume::default()).unwrap_err();
    assert!(error.contains("config.resolved.toml: without its hash"), "{error}");
    let trusting = Resume { trust: Trust::Unverified, ..Resume::default() };
    assert_eq!(resume(&dir, &[], trusting).unwrap().config().train.steps, 2);
    resume(&dir, &[], Resume::default()).unwrap();
}
