//! Rewards of one's own keep all that a run offers: its folder, logs, evaluations, and resuming to the byte.
#![allow(clippy::unwrap_used)]

use dapo_reward::{RewardSum, RewardTerm, SampleReward, Score};
use dapo_run::{Layer, Resolved, Run, RunFolder, resolve};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const BASE: [&str; 13] = [
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "data.validation=builtin:addition",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "sampler.train_batch=3",
    "sampler.gen_batch=6",
    "sampler.surplus=discard",
    "optimizer.warmup_steps=0",
    "optimizer.lr=1e-4",
    "eval.every=2",
    "eval.limit=4",
    "output.checkpoint_every=1",
];

fn settings(extra: &[&str]) -> Resolved {
    let layers: Vec<Layer> = BASE.iter().chain(extra).map(|setting| Layer::Override((*setting).to_owned())).collect();
    resolve(&layers).unwrap()
}

/// Short completions earn most; one is correct if it is short.
fn brevity() -> SampleReward<impl Fn(&dapo_reward::RewardInput<'_>) -> Score> {
    let score = |input: &dapo_reward::RewardInput<'_>| {
        let value = 1.0 - input.num_tokens as f64 / 40.0;
        Score::value(value).with_correct(value > 0.6).with_log("tokens", input.num_tokens as f64)
    };
    SampleReward::new("brevity", score).judging()
}

fn own() -> RewardSum {
    RewardSum::of(vec![RewardTerm::new(1.0, brevity())]).unwrap()
}

fn finish(run: &mut Run) {
    run.evaluate_at_start().unwrap();
    while !run.is_finished() {
        run.step().unwrap();
    }
}

fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut open = vec![dir.to_owned()];
    let mut files = BTreeMap::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with(RunFolder::TIMINGS) {
            files.insert(path.strip_prefix(dir).unwrap().display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

fn lines(run: &Run, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.folder().path().join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_with_rewards_of_ones_own_is_resumed_to_the_byte() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, parted) = (temp.path().join("whole"), temp.path().join("parted"));
    let mut run = Run::create_with(&settings(&["train.steps=3"]), &whole, own()).unwrap();
    finish(&mut run);
    drop(run);
    let mut run = Run::create_with(&settings(&["train.steps=3"]), &parted, own()).unwrap();
    run.evaluate_at_start().unwrap();
    run.step().unwrap();
    drop(run);
    let mut run = Run::resume_with(&settings(&["train.steps=3"]), &parted, own()).unwrap();
    finish(&mut run);
    let (one, other) = (content(&whole), content(&parted));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert!(one.iter().all(|(name, bytes)| other[name] == *bytes));

    let metrics = lines(&run, RunFolder::METRICS);
    assert_eq!(metrics.len(), 3);
    for line in &metrics {
        assert!(line["rewards/brevity/mean"].is_number() && line["accuracy"].is_number());
        let difference =
            line["rewards/brevity/tokens"].as_f64().unwrap() - line["completions/mean_length"].as_f64().unwrap();
        assert!(difference.abs() < 1e-9, "{line}");
        assert!(line.get("rewards/accuracy/mean").is_none());
    }
    // Evaluations are judged by the same rewards.
    let evaluations = lines(&run, RunFolder::EVALUATIONS);
    assert_eq!(evaluations.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2, 3]);
    for line in evaluations {
        assert!(line["abstained"] == 0 && line["avg_at_k"]["mean"].is_number());
        assert_eq!(line["reward"], line["rewards"]["brevity"]);
        assert!(line["reward"]["low"].as_f64().unwrap() < line["reward"]["high"].as_f64().unwrap());
    }
}

#[test]
fn rewards_of_settings_can_be_added_to_and_judged_by_another() {
    let temp = tempfile::tempdir().unwrap();
    let settings = settings(&["train.steps=1", "eval.every=none", "sampler.dynamic=false"]);
    let terms = || {
        let mut terms = settings.config.reward_terms().unwrap();
        terms.push(RewardTerm::new(0.0, brevity()));
        RewardSum::of(terms).unwrap()
    };
    let step = |name: &str, rewards: RewardSum| {
        let mut run = Run::create_with(&settings, &temp.path().join(name), rewards).unwrap();
        run.step().unwrap();
        lines(&run, "completions/step-1.jsonl")
    };
    for line in step("accuracy", terms()) {
        assert_eq!(line["correct"], line["rewards"]["accuracy"] == 1.0);
        assert_eq!(line["reward"], line["rewards"]["accuracy"]);
    }
    for line in step("brevity", terms().judged_by("brevity").unwrap()) {
        assert_eq!(line["correct"], line["rewards"]["brevity"].as_f64().unwrap() > 0.6);
        assert_eq!(line["reward"], line["rewards"]["accuracy"]);
    }
}

#[test]
fn the_judge_of_settings_is_one_of_their_components() {
    let sum = |extra: &[&str]| settings(extra).config.reward_sum();
    assert!(sum(&["rewards.correct=accuracy"]).is_ok());
    assert!(sum(&["rewards.correct=length", "rewards.length.weight=0.5"]).is_ok());
    let error = sum(&["rewards.correct=length"]).unwrap_err().to_string();
    assert_eq!(error, "rewards.correct is length, expected a reward that judges: accuracy");
}
