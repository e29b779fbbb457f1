//! Ranks that train one run, here threads of one process: one folder, whatever their number.

#![allow(clippy::unwrap_used)]

use dapo_dist::threads::worlds;
use dapo_dist::{Solo, World};
use dapo_reward::{RewardInput, RewardSum, RewardTerm, SampleReward, Score};
use dapo_run::{Layer, Resolved, Resume, Run, RunError, RunFolder, Stage, Trust, resolve, share_settings};
use dapo_trainer::Activity;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::tempdir;

const SETTINGS: [&str; 13] = [
    "model.path=builtin:tiny",
    "data.train=[\"builtin:addition\"]",
    "data.validation=[\"builtin:addition\"]",
    "rollout.group_size=4",
    "rollout.max_new_tokens=24",
    "sampler.train_batch=3",
    "sampler.gen_batch=8",
    "train.steps=4",
    "train.shards=4",
    "eval.every=2",
    "eval.limit=4",
    "eval.samples=1",
    "output.checkpoint_every=2",
];

fn settings(more: &[&str]) -> Resolved {
    let layers: Vec<Layer> = SETTINGS.iter().chain(more).map(|layer| Layer::parse(layer).unwrap()).collect();
    resolve(&layers).unwrap()
}

/// What every rank of a world comes to, by rank.
fn on_ranks<T: Send>(size: usize, rank: impl Fn(Arc<dyn World>) -> T + Sync) -> Vec<T> {
    let rank = &rank;
    std::thread::scope(|scope| {
        let threads = worlds(size, Duration::from_mins(2)).into_iter().map(|world| {
            scope.spawn(move || {
                let world: Arc<dyn World> = Arc::from(world);
                let value = rank(Arc::clone(&world));
                // A rank that fails to finish ends the others.
                let _ = world.finish();
                value
            })
        });
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Makes steps up to a number.
fn step_to(run: &mut Run, steps: u64) -> Result<(), RunError> {
    run.evaluate_at_start()?;
    while !run.is_finished() && run.trainer().steps() < steps {
        run.step()?;
    }
    run.save_unscheduled().map(|_| ())
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![folder.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if !path.ends_with(RunFolder::TIMINGS) && !path.ends_with(".lock") {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn assert_same(found: &Path, expected: &Path) {
    let (found, expected) = (files(found), files(expected));
    assert!(found.keys().eq(expected.keys()), "{:?} and {:?}", found.keys(), expected.keys());
    for (name, bytes) in &found {
        assert!(*bytes == expected[name], "{} differs", name.display());
    }
}

#[test]
fn a_run_starts_and_continues_with_any_number_of_ranks() {
    starts_and_continues(&settings(&[]));
}

#[test]
fn weights_in_bf16_start_and_continue_with_any_number_of_ranks() {
    let following = ["model.weights=bf16", "kl.coef=0.1", "kl.sync_every=2", "kl.sync_mixup=0.5"];
    starts_and_continues(&settings(&following));
}

fn starts_and_continues(settings: &Resolved) {
    let dir = tempdir().unwrap();
    let (reference, out) = (dir.path().join("reference"), dir.path().join("out"));
    step_to(&mut Run::create(settings, &reference).unwrap(), 4).unwrap();
    for outcome in on_ranks(2, |world| {
        let mut run = Run::start_among(world, settings, &out, Trust::Verified, None)?;
        step_to(&mut run, 3)
    }) {
        outcome.unwrap();
    }
    for outcome in on_ranks(4, |world| {
        let mut run = Run::resume_among(world, settings, &out, Resume::default(), None)?;
        assert_eq!(run.trainer().steps(), 3);
        step_to(&mut run, 4)
    }) {
        outcome.unwrap();
    }
    assert_same(&out, &reference);
}

/// The most problems that a run shows as done in an evaluation, of how many.
fn watch(run: &mut Run) -> Arc<Mutex<(usize, usize)>> {
    let most = Arc::new(Mutex::new((0, 0)));
    let seen = Arc::clone(&most);
    run.observe(move |activity| {
        if let Activity::Evaluation { done, problems, .. } = activity {
            let mut seen = seen.lock().unwrap();
            *seen = (seen.0.max(done), problems);
        }
    });
    most
}

#[test]
fn ranks_divide_the_problems_of_an_evaluation() {
    let dir = tempdir().unwrap();
    let reference = dir.path().join("reference");
    let settings = settings(&["eval.limit=7", "eval.samples=2", "eval.every=1", "train.steps=1"]);
    let mut run = Run::create(&settings, &reference).unwrap();
    let most = watch(&mut run);
    step_to(&mut run, 1).unwrap();
    assert_eq!(*most.lock().unwrap(), (7, 7));
    for (size, shares) in [(2, &[4, 3][..]), (3, &[3, 2, 2]), (4, &[2, 2, 2, 1])] {
        let out = dir.path().join(size.to_string());
        let shown = on_ranks(size, |world| {
            let mut run = Run::start_among(world, &settings, &out, Trust::Verified, None).unwrap();
            let most = watch(&mut run);
            step_to(&mut run, 1).unwrap();
            let (done, problems) = *most.lock().unwrap();
            assert_eq!(done, problems);
            done
        });
        assert_eq!(shown, shares);
        assert_same(&out, &reference);
    }
    let lines = fs::read_to_string(reference.join(RunFolder::EVALUATIONS)).unwrap();
    assert_eq!(lines.lines().count(), 2);
}

#[test]
fn every_rank_has_the_whole_of_an_evaluation() {
    let dir = tempdir().unwrap();
    let settings = settings(&[]);
    let evaluate = |run: &mut Run| run.evaluate_with(2, run.config().eval.sampling()).unwrap();
    let alone = evaluate(&mut Run::create(&settings, &dir.path().join("alone")).unwrap());
    assert_eq!(alone.groups.len(), 4);
    let out = dir.path().join("out");
    for found in
        on_ranks(2, |world| evaluate(&mut Run::start_among(world, &settings, &out, Trust::Verified, None).unwrap()))
    {
        assert_eq!(found, alone);
    }
}

/// A reward that is no number for the second problem of an evaluation.
fn failing_in_evaluations() -> RewardSum {
    let score = |input: &RewardInput<'_>| {
        let is_broken = input.step == 0 && input.draw == 1;
        Score::value(if is_broken { f64::NAN } else { input.num_tokens as f64 }).with_correct(input.sample == 0)
    };
    RewardSum::of(vec![RewardTerm::new(1.0, SampleReward::new("broken", score).judging())]).unwrap()
}

#[test]
fn an_evaluation_that_fails_on_one_rank_fails_on_all() {
    let dir = tempdir().unwrap();
    for at_start in [true, false] {
        let out = dir.path().join(at_start.to_string());
        let settings = settings(&[&format!("eval.at_start={at_start}"), "eval.every=1"]);
        let outcomes = on_ranks(2, |world| {
            let rewards = Some(failing_in_evaluations().into());
            let mut run = Run::start_among(world, &settings, &out, Trust::Verified, rewards).unwrap();
            step_to(&mut run, 1).unwrap_err()
        });
        assert!(!outcomes[0].is_of_another_rank() && outcomes[1].is_of_another_rank(), "{outcomes:?}");
        assert!(outcomes.iter().all(|error| !error.is_of_ranks()), "{outcomes:?}");
        let error = match &outcomes[0] {
            RunError::Step { stage: Stage::Evaluation, step: 1, source, .. } => source,
            error => error,
        };
        assert!(error.to_string().starts_with("rank 1: reward \"broken\" of draw 1, sample 0 is NaN, "), "{error}");
        assert_eq!(RunFolder::at(&out).checkpoint(1).exists(), !at_start);
    }
}

#[test]
fn a_failure_of_one_rank_is_one_of_all() {
    let dir = tempdir().unwrap();
    let out = dir.path().join("out");
    let outcomes = on_ranks(2, |world| {
        let rank = world.rank();
        let mut run = Run::start_among(world, &settings(&[]), &out, Trust::Verified, None).unwrap();
        step_to(&mut run, 1).unwrap();
        if rank == 0 {
            // Completions of step 2 cannot be written.
            fs::create_dir(RunFolder::at(&out).completions_file(2)).unwrap();
        }
        run.step().unwrap_err()
    });
    assert!(!outcomes[0].is_of_another_rank() && outcomes[1].is_of_another_rank(), "{outcomes:?}");
    let RunError::Step { step: 2, source, .. } = &outcomes[1] else { panic!("{}", outcomes[1]) };
    assert!(matches!(**source, RunError::Rank { rank: 0, .. }), "{source}");
    assert!(source.to_string().contains("completions"), "{source}");
    // Rank 0 has saved the step.
    assert!(RunFolder::at(&out).checkpoint(2).exists());
}

#[test]
fn ranks_with_other_settings_do_not_start() {
    let dir = tempdir().unwrap();
    for error in on_ranks(2, |world| {
        let settings = settings(&[["seed=0", "seed=1"][world.rank()]]);
        Run::start_among(world, &settings, &dir.path().join("out"), Trust::Verified, None).unwrap_err()
    }) {
        assert!(error.to_string().starts_with("the settings' hash of rank 1 is "), "{error}");
    }
}

#[test]
fn fewer_shards_than_ranks_are_refused() {
    let dir = tempdir().unwrap();
    let settings = settings(&["train.shards=1"]);
    for error in on_ranks(2, |world| {
        Run::start_among(world, &settings, &dir.path().join("out"), Trust::Verified, None).unwrap_err()
    }) {
        assert!(error.to_string().starts_with("train.shards is 1, expected "), "{error}");
    }
    assert!(!dir.path().join("out").exists());
}

#[test]
fn settings_are_those_of_rank_0() {
    let own = settings(&["seed=7"]);
    let all = on_ranks(3, |world| {
        let own = (world.rank() == 0).then(|| own.clone());
        share_settings(&*world, own).unwrap().config
    });
    assert!(all.iter().all(|config| *config == own.config));
    assert_eq!(share_settings(&Solo, Some(own.clone())).unwrap(), own);
}
