//! Runs as objects: the best checkpoint stays, runs are listed, compared and cleaned, and exported models have a card.
#![allow(clippy::unwrap_used)]

use dapo_run::{
    Layer, LeftoverKind, Run, RunFolder, RunStatus, clean, difference, find_runs, interrupted_starts, leftovers,
    model_card, resolve, settings_of, summarize,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const BASE: [&str; 14] = [
    "seed=3",
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "data.validation=builtin:addition",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "sampler.train_batch=3",
    "optimizer.lr=1e-3",
    "optimizer.warmup_steps=0",
    "eval.limit=6",
    "eval.samples=2",
    "eval.every=1",
    "output.checkpoint_every=3",
    "output.keep_checkpoints=1",
];

fn create(dir: &Path, extra: &[&str]) -> Run {
    let layers: Vec<Layer> = BASE.iter().chain(extra).map(|setting| Layer::Override((*setting).to_owned())).collect();
    Run::create(&resolve(&layers).unwrap(), dir).unwrap()
}

fn resume(dir: &Path) -> Run {
    Run::resume(&settings_of(dir, &[]).unwrap(), dir).unwrap()
}

fn finish(run: &mut Run) {
    run.evaluate_at_start().unwrap();
    while !run.is_finished() {
        run.step().unwrap();
    }
}

fn lines(dir: &Path, log: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(log)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn steps_of(run: &Run) -> Vec<u64> {
    run.folder().checkpoints().unwrap().into_iter().map(|(steps, _)| steps).collect()
}

/// Every file but the timings.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if ![RunFolder::TIMINGS, ".lock"].contains(&name.as_str()) {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_best_checkpoint_stays_and_a_resumed_run_keeps_the_same_ones() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, stopped) = (temp.path().join("whole"), temp.path().join("stopped"));
    let extra = ["train.steps=7", "output.keep_best=eval/avg_at_k"];
    let mut run = create(&whole, &extra);
    finish(&mut run);
    let scores: Vec<(u64, f64)> = lines(&whole, RunFolder::EVALUATIONS)
        .iter()
        .map(|line| (line["step"].as_u64().unwrap(), line["avg_at_k"]["mean"].as_f64().unwrap()))
        .filter(|(step, _)| *step > 0)
        .collect();
    let is_new = |(step, score): &&(u64, f64)| scores.iter().all(|(s, other)| s >= step || other < score);
    let new: Vec<u64> = scores.iter().filter(is_new).map(|(step, _)| *step).collect();
    let best = *new.last().unwrap();
    // Those of the schedule and those that were the best when they were made; of these the last two, and the best.
    let made: Vec<u64> = [3, 6, 7].into_iter().chain(new).collect::<BTreeSet<u64>>().into_iter().collect();
    let expected: BTreeSet<u64> = made[made.len() - 2..].iter().copied().chain([best]).collect();
    assert!(best < 6, "the best is among the last two: nothing was shown ({scores:?})");
    assert_eq!(steps_of(&run), expected.into_iter().collect::<Vec<_>>());

    // Killed after every step.
    let mut run = create(&stopped, &extra);
    for steps in 1..=7 {
        run.evaluate_at_start().unwrap();
        while run.trainer().steps() < steps {
            run.step().unwrap();
        }
        drop(run);
        run = resume(&stopped);
    }
    finish(&mut run);
    drop(run);
    let (whole, stopped) = (content(&whole), content(&stopped));
    assert_eq!(whole.keys().collect::<Vec<_>>(), stopped.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        assert!(*bytes == stopped[name], "{name} differs");
    }
}

#[test]
fn a_best_by_a_figure_that_no_evaluation_has_ends_the_run_before_its_first_step() {
    let temp = tempfile::tempdir().unwrap();
    let mut run = create(&temp.path().join("run"), &["output.keep_best=eval/reward"]);
    let error = run.evaluate_at_start().unwrap_err().to_string();
    let expected = "output.keep_best is \"eval/reward\", expected a figure of this run's evaluations: eval/avg_at_k, \
                    eval/pass_at_1, eval/pass_at_2, eval/maj_at_k";
    assert_eq!(error, expected);
}

#[test]
fn runs_have_a_state() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("some/where/run");
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let mut run = create(&dir, &["train.steps=2"]);
    assert_eq!(find_runs(temp.path()).unwrap(), std::slice::from_ref(&dir));
    assert_eq!(find_runs(&dir).unwrap(), std::slice::from_ref(&dir));
    run.evaluate_at_start().unwrap();
    run.step().unwrap();
    run.save_unscheduled().unwrap();
    let summary = summarize(&dir).unwrap();
    assert_eq!((summary.state, summary.steps, summary.planned), (RunStatus::Running, 1, Some(2)));
    drop(run);
    let summary = summarize(&dir).unwrap();
    assert_eq!((summary.state, summary.checkpoint), (RunStatus::Stopped, Some(1)));
    let mut run = resume(&dir);
    finish(&mut run);
    drop(run);
    let before = content(&dir);
    let summary = summarize(&dir).unwrap();
    assert_eq!((summary.state, summary.steps, &summary.damage), (RunStatus::Finished, 2, &Vec::new()));
    let best = summary.best.unwrap();
    assert!(best.figure == "eval/avg_at_k" && best.value >= 0.0, "{best:?}");
    let size: usize = before.values().map(Vec::len).sum();
    assert!(summary.bytes > size as u64 && summary.bytes < size as u64 + 4096, "{}", summary.bytes);
    assert!(summary.changed > 1_700_000_000);
    assert_eq!(content(&dir), before, "looking changes nothing");

    // A shorter weight file, a line that is none, other settings.
    let weights = dir.join("checkpoints/step-2/model/model.safetensors");
    let metrics = dir.join(RunFolder::METRICS);
    let config = dir.join(RunFolder::CONFIG);
    for (file, said) in [
        (&weights, "checkpoints/step-2/model/model.safetensors: "),
        (&metrics, "metrics.jsonl: line 1"),
        (&config, "config.resolved.toml: changed"),
    ] {
        let bytes = fs::read(file).unwrap();
        let damaged = if *file == weights { bytes[..99].to_vec() } else { [b"# x\n", bytes.as_slice()].concat() };
        fs::write(file, damaged).unwrap();
        let summary = summarize(&dir).unwrap();
        assert!(summary.state == RunStatus::Damaged && summary.damage[0].starts_with(said), "{:?}", summary.damage);
        fs::write(file, bytes).unwrap();
    }
    let error = summarize(temp.path()).unwrap_err().to_string();
    assert!(error.ends_with("not a run folder, expected a run folder, with its config.resolved.toml"), "{error}");
}

#[test]
fn two_runs_differ_by_settings_and_figures() {
    let temp = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| temp.path().join(name));
    finish(&mut create(&one, &["train.steps=2"]));
    finish(&mut create(&other, &["train.steps=1", "optimizer.lr=2e-3", "lora.rank=2", "output.trackers=csv"]));
    let difference = difference(&one, &other).unwrap();
    let changed = |key: &str| difference.settings[key].clone().map(|value| value.unwrap_or("unset".into()));
    assert_eq!(changed("train.steps"), ["2", "1"]);
    assert_eq!(changed("optimizer.lr"), ["0.001", "0.002"]);
    assert_eq!(changed("lora.rank"), ["unset", "2"]);
    assert!(!difference.settings.contains_key("seed"));
    assert_eq!((difference.steps, difference.averaged, difference.evaluated), ([2, 1], [2, 1], [Some(2), Some(1)]));
    let metrics = lines(&one, RunFolder::METRICS);
    let mean = metrics.iter().map(|line| line["reward"].as_f64().unwrap()).sum::<f64>() / 2.0;
    assert!((difference.figures["train/reward"][0].unwrap() - mean).abs() < 1e-12);
    assert_eq!(
        difference.evaluations["eval/avg_at_k"][1],
        lines(&other, RunFolder::EVALUATIONS)[1]["avg_at_k"]["mean"].as_f64()
    );
}

#[test]
fn only_what_the_program_wrote_and_nobody_needs_is_deleted() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let run = create(&dir, &["train.steps=3", "output.checkpoint_every=1", "output.keep_checkpoints=0"]);
    assert!(leftovers(&dir, true).unwrap_err().to_string().contains("another process is training"));
    assert!(clean(&dir, true).unwrap_err().to_string().contains("is being trained by another process"));
    let mut run = run;
    finish(&mut run);
    drop(run);
    assert_eq!(clean(&dir, false).unwrap(), []);
    let scores: Vec<f64> = lines(&dir, RunFolder::EVALUATIONS)[1..]
        .iter()
        .map(|line| line["avg_at_k"]["mean"].as_f64().unwrap())
        .collect();
    let best = (1..=3).rev().max_by(|a: &usize, b: &usize| scores[a - 1].total_cmp(&scores[b - 1])).unwrap();
    let own = |path: &str| dir.join(path);
    let write = |path: PathBuf| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "text").unwrap();
    };
    // Of others, or not what it seems.
    let others = [
        "checkpoints/step-9.part.old/x",
        "completions/step-09.jsonl",
        "notes.part",
        "mine.jsonl",
        "trackers/mine.csv.part",
    ];
    for path in others {
        write(own(path));
    }
    fs::create_dir(own("completions/step-8.jsonl")).unwrap();
    let theirs = content(&dir);
    let parts = [
        "checkpoints/step-7.part/trainer.json",
        "checkpoints/step-3/manifest.json.part",
        "config.resolved.toml.part",
        "trackers/metrics.csv.part",
        "completions/step-4.jsonl",
    ];
    for path in parts {
        write(own(path));
    }
    // Beside the run, starts that were interrupted, and what only looks like one.
    fs::create_dir_all(temp.path().join("new.part/completions")).unwrap();
    write(temp.path().join("new.part/.lock"));
    write(temp.path().join("data.part/.lock"));
    write(temp.path().join("data.part/important"));
    fs::create_dir(temp.path().join("empty.part")).unwrap();

    let found = leftovers(&dir, false).unwrap();
    let names: BTreeSet<String> =
        found.iter().map(|one| one.path.strip_prefix(&dir).unwrap().display().to_string()).collect();
    let expected = [
        "checkpoints/step-3/manifest.json.part",
        "checkpoints/step-7.part",
        "completions/step-4.jsonl",
        "config.resolved.toml.part",
        "trackers/metrics.csv.part",
    ];
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(found.iter().filter(|one| one.kind == LeftoverKind::FailedStep).count(), 1);
    assert!(found.iter().all(|one| one.bytes == 4));
    assert_eq!(clean(&dir, false).unwrap(), found);
    assert_eq!(content(&dir), theirs);

    let starts = interrupted_starts(temp.path(), false).unwrap();
    assert_eq!(starts.iter().map(|one| one.path.clone()).collect::<Vec<_>>(), [temp.path().join("new.part")]);
    interrupted_starts(temp.path(), true).unwrap();
    assert!(!temp.path().join("new.part").exists() && temp.path().join("data.part/important").exists());

    let deleted: Vec<PathBuf> = clean(&dir, true).unwrap().into_iter().map(|one| one.path).collect();
    let expected: Vec<PathBuf> =
        (1..3).filter(|step| *step != best).map(|step| own(&format!("checkpoints/step-{step}"))).collect();
    assert_eq!(deleted, expected);
    // What is left resumes.
    let longer = settings_of(&dir, &["train.steps=4".to_owned()]).unwrap();
    finish(&mut Run::resume(&longer, &dir).unwrap());

    // Beside a damaged last checkpoint no other is deleted.
    let weights = own("checkpoints/step-4/model/model.safetensors");
    fs::write(&weights, "short").unwrap();
    assert!(clean(&dir, true).unwrap_err().to_string().contains("expected an intact last checkpoint"));
}

#[test]
fn a_card_says_what_the_model_is_and_not_where_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("problems.jsonl");
    let problem = |i: u64| format!("{{\"question\": \"{i}+4=\", \"answer\": \"{}\"}}\n", i + 4);
    fs::write(&data, (1..40).map(problem).collect::<String>()).unwrap();
    let dir = temp.path().join("run");
    let train = format!("data.train={}", data.display());
    finish(&mut create(&dir, &["train.steps=2", "output.checkpoint_every=1", &train]));
    let card = model_card(dir.to_str().unwrap(), "my \"model\"");
    let evaluation = &lines(&dir, RunFolder::EVALUATIONS)[2];
    let mean = evaluation["avg_at_k"]["mean"].as_f64().unwrap();
    let [low, high] = ["low", "high"].map(|end| evaluation["avg_at_k"][end].as_f64().unwrap());
    for said in [
        "---\nlibrary_name: transformers\n",
        "- name: \"my \\\"model\\\"\"\n",
        "    - type: \"avg@2\"\n",
        "# my \"model\"\n",
        "`builtin:tiny` trained with",
        "after 2 steps",
        "| training data | `problems.jsonl` |",
        "| validation data | `builtin:addition` |",
        "data.train = [\"problems.jsonl\"]",
        "optimizer.lr = 0.001",
        "6 problems, 2 completions each",
        &format!("| avg@2 | {mean:.4} | {low:.4} to {high:.4} |"),
        "AutoModelForCausalLM.from_pretrained",
    ] {
        assert!(card.contains(said), "no {said:?} in {card}");
    }
    assert!(!card.contains(temp.path().to_str().unwrap()), "{card}");
    assert!(!card.contains("rollout.temperature"), "defaults are left out: {card}");
    let first = model_card(dir.join("checkpoints/step-1/model").to_str().unwrap(), "x");
    assert!(first.contains("after 1 steps"), "{first}");
    let plain = model_card("Qwen/Qwen3-0.6B", "x");
    assert!(
        plain.contains("base_model: \"Qwen/Qwen3-0.6B\"") && plain.contains("Exported from `Qwen/Qwen3-0.6B`"),
        "{plain}"
    );
}
