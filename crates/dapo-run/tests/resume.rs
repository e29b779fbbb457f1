//! A run that was stopped and resumed ends as one that was not, byte for byte.
#![allow(clippy::unwrap_used)]

use dapo_policy::Compute;
use dapo_run::{Layer, Resolved, Resume, Run, RunFolder, Trust, resolve, settings_of};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

const BASE: [&str; 12] = [
    "seed=3",
    "model.path=builtin:tiny",
    "data.train=[\"builtin:addition\"]",
    "data.validation=[\"builtin:addition\"]",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "sampler.train_batch=4",
    "sampler.gen_batch=12",
    "optimizer.lr=1e-4",
    "optimizer.warmup_steps=4",
    "eval.limit=8",
    "output.checkpoint_every=3",
];

fn settings(extra: &[&str]) -> Resolved {
    let layers: Vec<Layer> = BASE.iter().chain(extra).map(|setting| Layer::Override((*setting).to_owned())).collect();
    resolve(&layers).unwrap()
}

fn finish(mut run: Run, threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        run.evaluate_at_start().unwrap();
        while !run.is_finished() {
            run.step().unwrap();
        }
    });
}

/// Every file but the timings, by its path in the run folder.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                visit(root, &path, files);
            } else if name != RunFolder::TIMINGS {
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    visit(dir, dir, &mut files);
    files
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (content(one), content(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(*bytes == other[name], "{name} differs");
    }
}

/// Six steps, against three, an interruption of the given kind, and the rest.
fn six_against_three_and_three(extra: &[&str], threads: [usize; 3], interrupt: impl Fn(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, halves) = (folder.path().join("whole"), folder.path().join("halves"));
    let six = settings(&[extra, &["train.steps=6"]].concat());
    finish(Run::create(&six, &whole).unwrap(), threads[0]);
    let three = settings(&[extra, &["train.steps=3"]].concat());
    finish(Run::create(&three, &halves).unwrap(), threads[1]);
    interrupt(&halves);
    let rest = settings_of(&halves, &["train.steps=6".to_owned()]).unwrap();
    let of_older_version = !halves.join("checkpoints/step-3/manifest.json").exists();
    let run = if of_older_version {
        let refused = Run::resume(&rest, &halves).unwrap_err().to_string();
        assert!(refused.contains("--trust-unverified accepts"), "{refused}");
        Run::resume_from(&rest, &halves, Resume { trust: Trust::Unverified, ..Resume::default() }, None)
    } else {
        Run::resume(&rest, &halves)
    };
    let run = run.unwrap();
    assert_eq!(run.trainer().steps(), 3);
    finish(run, threads[2]);
    if of_older_version {
        for dir in [&whole, &halves] {
            fs::remove_dir_all(dir.join("checkpoints/step-3")).unwrap();
        }
    }
    assert_same(&whole, &halves);
    let timings = |dir: &Path| fs::read_to_string(dir.join(RunFolder::TIMINGS)).unwrap().lines().count();
    assert_eq!((timings(&whole), timings(&halves)), (6, 6));
}

#[test]
fn three_and_three_steps_are_six() {
    six_against_three_and_three(&["eval.every=2"], [2, 2, 2], |run| {
        let state = fs::read_to_string(run.join("checkpoints/step-3/trainer.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        let surplus = state["sampler"]["kept"].as_array().unwrap();
        assert!(!surplus.is_empty(), "no group was carried over the interruption: nothing was shown");
    });
}

/// Replaces text that a file has.
fn rewrite(file: &Path, changes: &[(&str, &str)]) {
    let mut text = fs::read_to_string(file).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "no {from} in {text}");
        text = text.replace(from, to);
    }
    fs::write(file, text).unwrap();
}

#[test]
fn a_folder_of_an_older_version_resumes() {
    let settings = ["loss.kl.coef=0.1", "rewards.accuracy.incorrect=0"];
    six_against_three_and_three(&settings, [2, 2, 2], |run| {
        let state = [
            ("\"dynamic\":true", "\"enabled\":true"),
            ("\"gen_batch\":12,\"gen_batch_min\":1,\"gen_batch_max\":null", "\"gen_batch\":{\"fixed\":12}"),
            ("\"surplus\":\"carry\",\"max_age\":1", "\"surplus\":{\"carry\":{\"max_age\":1}}"),
        ];
        rewrite(&run.join("checkpoints/step-3/trainer.json"), &state);
        let config = [
            ("\n[loss.kl]\n", "\n[kl]\nin_reward = false\nsync_every = 0\n"),
            ("\n[loss.policy_loss.clip]\nlow = 0.2\n", "\n[loss.policy_loss.clip]\n"),
            ("incorrect = 0.0", "wrong = 0.0"),
            ("updates_per_batch", "epochs"),
        ];
        rewrite(&run.join(RunFolder::CONFIG), &config);
        // Older versions wrote no hashes.
        let file = run.join(RunFolder::CONFIG);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.split_once("# BLAKE3").unwrap().0).unwrap();
        fs::remove_file(run.join("checkpoints/step-3/manifest.json")).unwrap();
    });
}

#[test]
fn the_number_of_threads_may_change_on_the_way() {
    six_against_three_and_three(&[], [1, 2, 1], |_| ());
}

#[test]
fn a_critic_resumes_with_its_algorithm() {
    for more in [&["critic.optimizer.lr=1e-3", "rollout.group_size=1"][..], &["critic.layers=shared"]] {
        six_against_three_and_three(&[&["algorithm=ppo"], more].concat(), [2, 2, 2], |_| {});
    }
}

#[test]
fn adapters_resume() {
    six_against_three_and_three(&["lora.rank=3", "optimizer.lr=1e-3", "kl.coef=0.1"], [2, 2, 2], |_| ());
}

#[test]
fn a_reference_resumes_where_it_was() {
    six_against_three_and_three(&["kl.coef=0.2", "kl.sync_every=2", "kl.sync_mixup=0.5"], [2, 2, 2], |_| ());
    six_against_three_and_three(&["kl.coef=0.2", "kl.in_reward=true"], [2, 2, 2], |_| ());
}

#[test]
fn weights_in_bf16_resume_from_their_f32_values() {
    let bf16 = ["model.weights=bf16"];
    six_against_three_and_three(&[&bf16[..], &["eval.every=2"]].concat(), [2, 1, 2], |_| ());
    six_against_three_and_three(&[&bf16[..], &["lora.rank=3", "kl.coef=0.1"]].concat(), [2, 2, 2], |_| ());
    let moving = ["kl.coef=0.2", "kl.sync_every=2", "kl.sync_mixup=0.5"];
    six_against_three_and_three(&[&bf16[..], &moving].concat(), [2, 2, 2], |_| ());
}

#[test]
fn products_in_bf16_resume_where_the_cpu_has_them() {
    let bf16 = ["model.weights=bf16", "model.compute=bf16"];
    if Compute::Bf16.is_supported() {
        six_against_three_and_three(&[&bf16[..], &["eval.every=2"]].concat(), [2, 1, 2], |_| ());
        six_against_three_and_three(&[&bf16[..], &["lora.rank=3", "kl.coef=0.1"]].concat(), [2, 2, 2], |_| ());
        return;
    }
    // A new run and one that continues read their settings alike.
    let folder = tempfile::tempdir().unwrap();
    let error = Run::create(&settings(&bf16), &folder.path().join("run")).unwrap_err().to_string();
    assert!(error.contains("model.compute is \"bf16\", expected \"f32\" on this CPU"), "{error}");
}

#[test]
fn what_was_written_after_the_checkpoint_is_taken_back() {
    six_against_three_and_three(&["eval.every=2"], [2, 2, 2], |run| {
        // Two more steps, of which the second ended in the middle of a line and of a checkpoint.
        let on = settings_of(run, &["train.steps=5".to_owned()]).unwrap();
        let mut on = Run::resume(&on, run).unwrap();
        on.step().unwrap();
        on.step().unwrap();
        fs::remove_dir_all(run.join("checkpoints/step-5")).unwrap();
        fs::create_dir(run.join("checkpoints/step-5.part")).unwrap();
        fs::write(run.join("checkpoints/step-5.part/trainer.json"), "{\"format\":").unwrap();
        for log in [RunFolder::METRICS, RunFolder::TIMINGS, RunFolder::EVALUATIONS] {
            let mut log = fs::OpenOptions::new().append(true).open(run.join(log)).unwrap();
            log.write_all(b"{\"step\":6,\"rew").unwrap();
        }
        assert!(run.join("completions/step-5.jsonl").exists());
    });
}

#[test]
fn a_run_without_a_checkpoint_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    let settings = settings(&["train.steps=2", "eval.every=1"]);
    finish(Run::create(&settings, &whole).unwrap(), 2);
    let mut run = Run::create(&settings, &stopped).unwrap();
    run.evaluate_at_start().unwrap();
    run.step().unwrap();
    drop(run);
    fs::remove_dir_all(stopped.join("checkpoints")).unwrap();
    finish(Run::resume(&settings_of(&stopped, &[]).unwrap(), &stopped).unwrap(), 2);
    assert_same(&whole, &stopped);
}

#[test]
fn what_a_run_cannot_change_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    finish(Run::create(&settings(&["train.steps=1", "lora.rank=2"]), &dir).unwrap(), 2);
    let error = |change: &str| {
        let changed = settings_of(&dir, &[change.to_owned()]).unwrap();
        Run::resume(&changed, &dir).unwrap_err().to_string()
    };
    for (change, found) in [
        ("seed=4", "seed is 4, expected 3"),
        ("lora.rank=3", "lora.rank is 3, expected 2"),
        ("model.weights=bf16", "model.weights is \"bf16\", expected \"f32\""),
        ("model.compute=bf16", "model.compute is \"bf16\", expected \"f32\""),
        ("data.limit=7", "data.limit is 7, expected unset"),
        ("algorithm=ppo", "algorithm is \"ppo\", expected unset"),
        ("critic={}", "critic.layers is \"own\", expected unset"),
    ] {
        let whole = format!("{found} as it was: start a new run, from this one's checkpoint if you like");
        assert_eq!(error(change), whole);
    }
    // Where the model is may change: its fingerprint decides.
    assert!(error("model.path=no/such/model").contains("model no/such/model not found"));
    // A setting that nothing was trained with leaves no trace.
    let idle = settings_of(&dir, &["optimizer.lr=1.0".to_owned()]).unwrap();
    drop(Run::resume(&idle, &dir).unwrap());
    assert_eq!(settings_of(&dir, &[]).unwrap().config.optimizer.lr, 1e-4);
    // Others may change.
    let changed = settings_of(&dir, &["train.steps=2".to_owned(), "optimizer.lr=5e-5".to_owned()]).unwrap();
    finish(Run::resume(&changed, &dir).unwrap(), 2);
    let resolved = settings_of(&dir, &[]).unwrap();
    assert_eq!((resolved.config.train.steps, resolved.config.optimizer.lr), (2, 5e-5));

    // One process at a time.
    let again = settings_of(&dir, &["train.steps=3".to_owned()]).unwrap();
    let held = Run::resume(&again, &dir).unwrap();
    let error = Run::resume(&again, &dir).unwrap_err().to_string();
    assert!(error.contains("is being trained by another process"), "{error}");
    drop(held);

    let nowhere = folder.path().join("nowhere");
    let error = settings_of(&nowhere, &[]).unwrap_err().to_string();
    assert!(error.ends_with("nowhere is no run folder: it has no config.resolved.toml"), "{error}");
}

#[test]
fn changed_data_or_damaged_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("problems.jsonl");
    let problems = |answers: u64| -> String {
        let problem = |i: u64| format!("{{\"question\": \"{i}+1=\", \"answer\": \"{}\"}}", i + answers);
        (0..40).map(problem).collect::<Vec<_>>().join("\n")
    };
    fs::write(&data, problems(1)).unwrap();
    let dir = folder.path().join("run");
    let train = format!("data.train=[{:?}]", data.to_str().unwrap());
    let settings = settings(&["train.steps=1", "sampler.on_exhausted=keep-zero-std", &train]);
    finish(Run::create(&settings, &dir).unwrap(), 2);
    let resume = || Run::resume(&settings_of(&dir, &["train.steps=2".to_owned()]).unwrap(), &dir);
    resume().unwrap();
    fs::write(&data, problems(2)).unwrap();
    let error = resume().unwrap_err().to_string();
    assert!(
        error.contains("step-1/trainer.json: a run on 40 other prompts, expected one on the same prompts"),
        "{error}"
    );
    fs::write(&data, problems(1)).unwrap();
    let moments = dir.join("checkpoints/step-1/optimizer.safetensors");
    let bytes = fs::read(&moments).unwrap();
    fs::write(&moments, &bytes[..bytes.len() / 2]).unwrap();
    let error = resume().unwrap_err().to_string();
    assert!(error.contains("optimizer.safetensors"), "{error}");
}
