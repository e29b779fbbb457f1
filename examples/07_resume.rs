//! Lesson 7: a run that is interrupted and resumed ends with the same bytes as one that was never interrupted.
//!
//! `cargo run --release --example 07_resume`
//!
//! Random numbers are keyed by what they are for (seed, draw, sample, position), not taken from a stream, and every sum
//! has one order. So a checkpoint needs weights, the optimizer's moments, the sampler's carried groups and a few counts.

use anyhow::{Context, Result};
use dapo::run::{Run, RunFolder, resolve_words, settings_of};
use dapo::trainer::fingerprint_of_weights;
use std::{fs, path::Path};

fn main() -> Result<()> {
    // A checkpoint is written after every second step, and after the last one.
    let settings = resolve_words(["tiny", "train.steps=5", "eval.every=none", "output.checkpoint_every=2"])?;
    let temp = tempfile::tempdir()?;
    let (whole, parted) = (temp.path().join("whole"), temp.path().join("parted"));

    let mut run = Run::create(&settings, &whole)?;
    finish(&mut run)?;
    let of_whole = fingerprint_of_weights(run.trainer().policy())?;

    // The other run stops after its third step, as if it were killed: the last checkpoint is that of step 2, and the
    // logs already have step 3.
    let mut run = Run::create(&settings, &parted)?;
    for _ in 0..3 {
        run.step()?;
    }
    println!("stopped: {} steps made, {} in the log", run.trainer().steps(), logged(&parted)?);
    drop(run);

    // The folder has the settings. Resuming checks every file against its digest, and cuts the logs back to the
    // checkpoint.
    let mut run = Run::resume(&settings_of(&parted, &[])?, &parted)?;
    println!("resumed: {} steps made, {} in the log", run.trainer().steps(), logged(&parted)?);
    finish(&mut run)?;
    println!("finished: {} steps made, {} in the log", run.trainer().steps(), logged(&parted)?);

    println!("same weights: {}", fingerprint_of_weights(run.trainer().policy())? == of_whole);
    let same = |name: &str| Ok::<_, anyhow::Error>(fs::read(whole.join(name))? == fs::read(parted.join(name))?);
    println!("same metrics: {}", same(RunFolder::METRICS)?);
    println!("same completions: {}", same("completions/step-5.jsonl")?);
    drop(run);

    // A finished run goes on when it is given more steps. What the steps so far were drawn with cannot be changed.
    let more = settings_of(&parted, &["train.steps=6".to_owned()])?;
    let mut run = Run::resume(&more, &parted)?;
    finish(&mut run)?;
    println!("continued: {} steps made", run.trainer().steps());
    drop(run);
    let other = settings_of(&parted, &["seed=1".to_owned()])?;
    let refused = Run::resume(&other, &parted).err().context("a run was resumed with another seed")?;
    println!("refused: {refused}");
    Ok(())
}

fn finish(run: &mut Run) -> Result<()> {
    while !run.is_finished() {
        run.step()?;
    }
    Ok(())
}

/// Steps in a run's log.
fn logged(run: &Path) -> Result<usize> {
    Ok(fs::read_to_string(run.join(RunFolder::METRICS))?.lines().count())
}
