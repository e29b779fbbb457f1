//! Lesson 2: a reward of one's own, first on completions written by hand, then in a training run.
//!
//! `cargo run --release --example 02_custom_reward`
//!
//! The tiny model answers chains of additions such as `17+4+25=` with a guess (`####46`) or with its work
//! (`17+4=21,21+25=46####46`). Equations are those of the DAPO paper, arXiv 2503.14476.

use anyhow::Result;
use dapo::reward::{Accuracy, RewardInput, RewardSum, RewardTerm, SampleReward, SoftOverlong};
use dapo::run::{Run, resolve_words};

/// The share of a completion's steps, such as `17+4=21`, that are correct; 0 without a step.
///
/// A reward is a function of the sample: prompt, completion, gold answer, length and further columns of the data. It
/// may return a number, `None` to abstain, a `Score` with figures to log, or a `Result` of these.
fn correct_steps(input: &RewardInput<'_>) -> f64 {
    let work = input.completion.split("####").next().unwrap_or_default();
    let is_correct = |step: &str| -> Option<bool> {
        let (sum, result) = step.split_once('=')?;
        let (a, b) = sum.split_once('+')?;
        Some(a.parse::<f64>().ok()? + b.parse::<f64>().ok()? == result.parse::<f64>().ok()?)
    };
    let steps: Vec<bool> = work.split(',').filter_map(is_correct).collect();
    steps.iter().filter(|is_correct| **is_correct).count() as f64 / steps.len().max(1) as f64
}

/// The reward of a completion is a weighted sum of functions, R = Σ weight · value.
fn rewards() -> Result<RewardSum> {
    Ok(RewardSum::of(vec![
        // Section 2.4: 1 for a correct answer, −1 for any other.
        RewardTerm::new(1.0, Accuracy::default()),
        // Eq. 13: up to −1 over the last 8 of 72 tokens, so that a completion learns to end in time.
        RewardTerm::new(1.0, SoftOverlong::new(72, 8)?),
        RewardTerm::new(0.5, SampleReward::new("correct_steps", correct_steps)),
    ])?)
}

fn main() -> Result<()> {
    let sum = rewards()?;
    println!("completion                accuracy  overlong  correct_steps  total");
    let completions =
        [("####46", 7), ("17+4=21,21+25=46####46", 23), ("17+4=22,22+25=47####47", 23), ("17+4=21,21+25=46", 70)];
    for (completion, num_tokens) in completions {
        let input = RewardInput::new("17+4+25=", completion, "46").with_num_tokens(num_tokens);
        let reward = sum.score(&input)?;
        let values: Vec<f64> = reward.components.iter().filter_map(|component| component.value).collect();
        let total = reward.total.unwrap_or_default();
        println!("{completion:24} {:9.2} {:9.2} {:14.2} {total:6.2}", values[0], values[1], values[2]);
    }

    // The recipe `tiny` is the model and its task. `Run` writes logs, completions and checkpoints into a folder.
    let settings = resolve_words(["tiny", "train.steps=10", "eval.every=none"])?;
    let folder = tempfile::tempdir()?;
    let mut run = Run::create_with(&settings, &folder.path().join("run"), rewards()?)?;
    println!("\nmeans over the completions of a step, in training");
    while !run.is_finished() {
        let progress = run.step()?;
        let Some(metrics) = progress.step().map(|step| &step.metrics).filter(|of| [1, 5, 10].contains(&of.step)) else {
            continue;
        };
        let (accuracy, of_steps) = (metrics.accuracy.unwrap_or_default(), metrics.components["correct_steps"]);
        println!("step {:2}: accuracy {accuracy:.2}, correct_steps {:.2}", metrics.step, of_steps.unwrap_or_default());
    }
    Ok(())
}
