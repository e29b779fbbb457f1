//! How runs end other than by their last step: nothing left to learn, nothing to learn from, and failures.
#![allow(clippy::unwrap_used)]

use dapo_run::{Layer, Progress, Rescue, Run, RunError, RunFolder, RunStatus, Stage, resolve, settings_of, summarize};
use dapo_trainer::TrainerError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Two problems that the tiny model solves now and then, and masters within a few steps.
fn easy(dir: &Path) -> PathBuf {
    let file = dir.join("easy.jsonl");
    fs::write(&file, "{\"question\": \"5+5=\", \"answer\": 10}\n{\"question\": \"17+4=\", \"answer\": 21}\n").unwrap();
    file
}

/// Problems that nothing solves.
fn impossible(dir: &Path) -> PathBuf {
    let file = dir.join("impossible.jsonl");
    fs::write(&file, "{\"question\": \"5+5=\", \"answer\": 1000}\n{\"question\": \"17+4=\", \"answer\": 2000}\n")
        .unwrap();
    file
}

fn settings(data: &Path, more: &[&str]) -> dapo_run::Resolved {
    let data = format!("data.train={}", data.display());
    let own = [
        "model.path=builtin:tiny",
        data.as_str(),
        "data.validation=builtin:addition",
        "rollout.group_size=8",
        "rollout.max_new_tokens=48",
        "sampler.train_batch=2",
        "sampler.gen_batch=4",
        "sampler.max_gen_rounds=3",
        "optimizer.lr=1e-4",
        "optimizer.warmup_steps=0",
        "train.steps=60",
        "eval.every=25",
        "eval.limit=8",
        "eval.samples=1",
    ];
    let layers: Vec<Layer> = own.iter().chain(more).map(|setting| Layer::Override((*setting).to_owned())).collect();
    resolve(&layers).unwrap()
}

/// Runs to the end; gives the last word.
fn finish(run: &mut Run) -> Result<Option<Progress>, RunError> {
    run.evaluate_at_start()?;
    let mut last = None;
    while !run.is_finished() {
        last = Some(run.step()?);
    }
    Ok(last)
}

fn lines(dir: &Path, log: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(log)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every file but the timings and those that are named as logs.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if ![RunFolder::TIMINGS, ".lock", RunFolder::CONFIG].contains(&name.as_str())
                && !name.starts_with("log")
            {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_run_that_has_mastered_its_data_ends_well_with_checkpoint_and_evaluation() {
    let temp = tempfile::tempdir().unwrap();
    let (data, dir) = (easy(temp.path()), temp.path().join("run"));
    let mut run = Run::create(&settings(&data, &[]), &dir).unwrap();
    let Some(Progress::Mastered(end)) = finish(&mut run).unwrap() else { panic!("the run was not mastered") };
    let steps = run.trainer().steps();
    assert!(steps > 0 && steps < 60, "{steps} steps");
    assert!(end.steps == steps && end.outcomes.are_mastered() && end.outcomes.groups() == 12);
    assert!(run.is_finished());
    assert_eq!(end.checkpoint, run.folder().checkpoint(steps));
    assert!(end.checkpoint.join("model/model.safetensors").exists());
    let evaluations = lines(&dir, RunFolder::EVALUATIONS);
    assert_eq!(evaluations.last().unwrap()["step"], steps);
    assert_eq!(lines(&dir, RunFolder::METRICS).len() as u64, steps);
    assert!(!run.folder().completions_file(steps + 1).exists(), "the step in which nothing was learned is none");
    assert_eq!(run.folder().last_checkpoint().unwrap().map(|(made, _)| made), Some(steps));

    // Resumed, it finds the same, and leaves the same bytes.
    let before = content(&dir);
    drop(run);
    assert_eq!(summarize(&dir).unwrap().state, RunStatus::Finished);
    let mut again = Run::resume(&settings_of(&dir, &[]).unwrap(), &dir).unwrap();
    assert!(matches!(finish(&mut again).unwrap(), Some(Progress::Mastered(_))));
    assert_eq!(content(&dir), before);
}

#[test]
fn a_mastered_step_can_be_skipped_and_is_accounted_for() {
    let temp = tempfile::tempdir().unwrap();
    let (data, dir) = (easy(temp.path()), temp.path().join("run"));
    let mut run = Run::create(&settings(&data, &["train.on_mastered=skip", "train.steps=40"]), &dir).unwrap();
    let last = finish(&mut run).unwrap();
    assert!(matches!(last, Some(Progress::Step(_))));
    let metrics = lines(&dir, RunFolder::METRICS);
    assert_eq!(metrics.len(), 40);
    let skipped: Vec<&Value> = metrics.iter().filter(|line| line["dynamic_sampling/trained"] == 0).collect();
    assert!(!skipped.is_empty());
    for line in skipped {
        assert_eq!((&line["updates"], &line["dynamic_sampling/generated"]), (&0.into(), &12.into()));
        for unknown in ["loss", "grad_norm", "entropy", "sampling/stale_fraction"] {
            assert_eq!(line[unknown], Value::Null, "{unknown}");
        }
        let rewards: f64 = line["rewards/accuracy/mean"].as_f64().unwrap();
        assert!(rewards > 0.0, "what was generated is measured");
    }
}

#[test]
fn a_mastered_run_fails_on_request_and_loses_no_step() {
    let temp = tempfile::tempdir().unwrap();
    let (data, dir) = (easy(temp.path()), temp.path().join("run"));
    let mut run = Run::create(&settings(&data, &["train.on_mastered=error"]), &dir).unwrap();
    let error = finish(&mut run).unwrap_err();
    let steps = run.trainer().steps();
    let RunError::Step { step, rescue: Rescue::Saved(checkpoint), source, .. } = error else { panic!("{error}") };
    assert_eq!((step, &checkpoint), (steps + 1, &run.folder().checkpoint(steps)));
    assert!(
        source.to_string().starts_with("nothing left to learn: 0 of 2 groups were kept after 3 rounds"),
        "{source}"
    );
    let completions = fs::read_to_string(run.folder().completions_file(step)).unwrap();
    assert_eq!(completions.lines().count(), 12 * 8, "every completion of the step");

    // What was saved is what an uninterrupted run has after so many steps.
    let other = temp.path().join("other");
    let settings = settings(&data, &["train.on_mastered=error", &format!("train.steps={steps}")]);
    finish(&mut Run::create(&settings, &other).unwrap()).unwrap();
    let state = |dir: &Path| {
        let mut all = content(&dir.join(format!("checkpoints/step-{steps}")));
        // It says that an error asked for the checkpoint.
        all.remove("manifest.json").unwrap();
        assert!(all.len() > 5);
        all
    };
    assert_eq!(state(&dir), state(&other));
    drop(run);
    let resumed = Run::resume(&settings_of(&dir, &[]).unwrap(), &dir).unwrap();
    assert_eq!(resumed.trainer().steps(), steps);
    assert!(!dir.join(format!("completions/step-{step}.jsonl")).exists(), "the failed step is taken back");
}

#[test]
fn a_run_that_solves_nothing_fails_and_leaves_its_completions() {
    let temp = tempfile::tempdir().unwrap();
    for on_exhausted in ["train-short", "error"] {
        let (data, dir) = (impossible(temp.path()), temp.path().join(on_exhausted));
        let own = ["output.completions=false", &format!("sampler.on_exhausted={on_exhausted}")];
        let mut run = Run::create(&settings(&data, &own), &dir).unwrap();
        let RunError::Step { step: 1, steps: 60, rescue: Rescue::Nothing, source, .. } = finish(&mut run).unwrap_err()
        else {
            panic!("another error")
        };
        let RunError::Trainer(source) = *source else { panic!("{source}") };
        let TrainerError::NoSignal(end) = *source else { panic!("{source}") };
        assert!(!end.ends_well && end.shortage.all_incorrect == 12 && end.groups.len() == 12);
        assert!(end.to_string().starts_with("nothing to train on: 0 of 2 groups were kept"), "{end}");
        for line in lines(&dir, "completions/step-1.jsonl") {
            assert_eq!((&line["fate"], &line["correct"]), (&"all_wrong".into(), &false.into()));
        }
    }
}

#[test]
fn a_step_with_too_few_groups_leaves_all_its_completions_where_that_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let (data, dir) = (easy(temp.path()), temp.path().join("run"));
    let own = [
        "data.train=builtin:addition",
        "output.completions=false",
        "sampler.on_exhausted=error",
        "sampler.train_batch=12",
        "sampler.gen_batch=12",
        "sampler.max_gen_rounds=1",
    ];
    let mut run = Run::create(&settings(&data, &own), &dir).unwrap();
    let RunError::Step { stage: Stage::Training, step: 1, source, .. } = finish(&mut run).unwrap_err() else {
        panic!("another error")
    };
    assert!(source.to_string().starts_with("too few groups to train on: "), "{source}");
    let lines = lines(&dir, "completions/step-1.jsonl");
    assert_eq!(lines.len(), 12 * 8);
    let kept: Vec<&Value> = lines.iter().filter(|line| line["fate"] == "kept").collect();
    assert!(!kept.is_empty() && kept.len() < lines.len());
    for line in kept {
        assert_eq!((&line["advantage"], &line["in_loss"]), (&Value::Null, &false.into()));
    }
}

#[test]
fn a_step_whose_logs_cannot_be_written_is_saved() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["data.train=builtin:addition", "train.steps=3", "eval.every=0", "output.checkpoint_every=0"];
    let whole = temp.path().join("whole");
    finish(&mut Run::create(&settings(&easy(temp.path()), &own), &whole).unwrap()).unwrap();
    for log in [RunFolder::METRICS, RunFolder::TIMINGS, "completions/step-2.jsonl"] {
        let dir = temp.path().join(log.replace('/', "-"));
        let mut run = Run::create(&settings(&easy(temp.path()), &own), &dir).unwrap();
        run.step().unwrap();
        let (log, aside) = (dir.join(log), temp.path().join("aside"));
        if log.exists() {
            fs::rename(&log, &aside).unwrap();
        }
        fs::create_dir(&log).unwrap();
        let error = run.step().unwrap_err();
        let RunError::Step { stage: Stage::Logs, step: 2, rescue: Rescue::Saved(saved), .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(saved, &run.folder().checkpoint(2));
        assert_eq!(error.to_string(), "writing the logs of step 2 of 3 failed");

        // Once the cause is gone, the run continues after the step.
        drop(run);
        fs::remove_dir(&log).unwrap();
        if aside.exists() {
            fs::rename(&aside, &log).unwrap();
        }
        for _ in 0..2 {
            let run = Run::resume(&settings_of(&dir, &[]).unwrap(), &dir).unwrap();
            assert_eq!(run.trainer().steps(), 2);
            // What could not be written is in the checkpoint, and is written once.
            let steps =
                |log: &str| lines(&dir, log).iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>();
            assert_eq!((steps(RunFolder::METRICS), steps(RunFolder::TIMINGS)), (vec![1, 2], vec![1, 2]));
        }
        finish(&mut Run::resume(&settings_of(&dir, &[]).unwrap(), &dir).unwrap()).unwrap();
        assert!(content(&dir) == content(&whole), "{}", log.display());
    }
}

#[test]
fn an_evaluation_that_is_missing_after_a_checkpoint_is_made_on_resume() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["data.train=builtin:addition", "train.steps=2", "eval.every=1"];
    let (whole, torn) = (temp.path().join("whole"), temp.path().join("torn"));
    finish(&mut Run::create(&settings(&easy(temp.path()), &own), &whole).unwrap()).unwrap();
    let mut run = Run::create(&settings(&easy(temp.path()), &own), &torn).unwrap();
    run.evaluate_at_start().unwrap();
    run.step().unwrap();
    let (log, aside) = (torn.join(RunFolder::EVALUATIONS), temp.path().join("aside"));
    fs::rename(&log, &aside).unwrap();
    fs::create_dir(&log).unwrap();
    let error = run.step().unwrap_err();
    let RunError::Step { stage: Stage::Evaluation, rescue: Rescue::Saved(_), .. } = error else { panic!("{error:?}") };
    drop(run);
    fs::remove_dir(&log).unwrap();
    fs::rename(&aside, &log).unwrap();
    let mut run = Run::resume(&settings_of(&torn, &[]).unwrap(), &torn).unwrap();
    assert!(run.evaluate_at_start().unwrap().is_some());
    assert!(run.evaluate_at_start().unwrap().is_none());
    assert_eq!(content(&torn), content(&whole));
}

#[test]
fn a_guard_ends_a_run_which_continues_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (easy(dir.path()), dir.path().join("run"));
    // Correct and incorrect are worth the same: nothing can be learnt.
    // Nothing is carried, so that every step has figures.
    let equal = ["rewards.accuracy.incorrect=1", "sampler.surplus=discard", "guards.rewards=stop", "guards.steps=2"];
    let mut run = Run::create(&settings(&data, &equal), &out).unwrap();
    run.step().unwrap();
    let error = run.step().unwrap_err();
    let RunError::Step { stage: Stage::Guards, step: 2, rescue: Rescue::Saved(checkpoint), source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(checkpoint, &run.folder().checkpoint(2));
    let message = source.to_string();
    assert!(message.starts_with("all completions of each group have had the same reward for 2 steps"), "{message}");
    assert!(message.ends_with("to continue all the same, set guards.rewards = \"warn\""), "{message}");
    drop(run);

    // The steps before count from the log.
    let changes = ["guards.rewards=warn", "guards.steps=3"].map(String::from);
    let mut run = Run::resume(&settings_of(&out, &changes).unwrap(), &out).unwrap();
    let step = run.step().unwrap();
    let alarms = &step.step().unwrap().alarms;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!((alarms[0].key.as_str(), alarms[0].step, alarms[0].stops), ("guards.rewards", 3, false));
    assert_eq!(lines(&out, RunFolder::METRICS).len(), 3);
}

#[test]
fn a_step_that_diverges_is_dumped_and_the_checkpoint_before_it_stays() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["data.train=builtin:addition", "train.steps=3", "eval.every=0", "output.checkpoint_every=1"];
    let (whole, dir) = (temp.path().join("whole"), temp.path().join("run"));
    finish(&mut Run::create(&settings(&easy(temp.path()), &own), &whole).unwrap()).unwrap();
    let mut run = Run::create(&settings(&easy(temp.path()), &own), &dir).unwrap();
    run.step().unwrap();
    drop(run);
    let lr = run_lr(&dir);
    let resume = |change: String| Run::resume(&settings_of(&dir, &[change]).unwrap(), &dir).unwrap();
    let error = resume("optimizer.lr=1e30".into()).step().unwrap_err();
    let RunError::Step { stage: Stage::Training, step: 2, rescue: Rescue::Torn, dump: Some(dump), source, .. } = &error
    else {
        panic!("{error:?}")
    };
    let why = source.to_string();
    assert!(why.starts_with("the norm of the weights is ") && why.contains(" after update 1 of step 2, "), "{why}");
    assert_eq!(dump, &dir.join("log-failed-step-2.jsonl"));
    let samples = lines(&dir, "log-failed-step-2.jsonl");
    let trained: Vec<_> = samples.iter().filter(|sample| sample["fate"] == "trained").collect();
    assert!(trained.len() >= 4, "{samples:?}");
    for sample in trained {
        assert!(sample["advantage"].is_number() && sample["prompt"].is_string(), "{sample}");
        let len = |key: &str| sample[key].as_array().unwrap().len();
        assert!(len("token_ids") == len("logprobs") && len("token_ids") == len("old_logprobs"), "{sample}");
        assert!(len("prompt_token_ids") > 0 && sample["tokens"] == len("token_ids"), "{sample}");
    }
    assert!(!dir.join("checkpoints/step-2").exists(), "garbage was saved");
    finish(&mut resume(format!("optimizer.lr={lr}"))).unwrap();
    assert!(content(&dir) == content(&whole));
}

fn run_lr(dir: &Path) -> f64 {
    settings_of(dir, &[]).unwrap().config.optimizer.lr
}
