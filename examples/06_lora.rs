//! Lesson 6: low-rank adapters (LoRA, arXiv 2106.09685): the model is frozen, and small matrices beside it are trained.
//!
//! `cargo run --release --example 06_lora`
//!
//! A projection computes y = W·x + (α / r)·B·A·x. W is frozen; A is `[r, in]` and B `[out, r]`, with r far below both.

use anyhow::{Context, Result};
use dapo::policy::load_adapter;
use dapo::run::{ModelSource, Run, TINY, resolve_words};
use dapo::trainer::fingerprint_of_weights;
use std::fs;

fn main() -> Result<()> {
    // Any setting of `lora` adds adapters; by default on every projection. Adapters take a higher learning rate.
    let settings = resolve_words([
        "tiny",
        "lora.rank=4",
        "lora.alpha=8",
        "optimizer.lr=2e-3",
        "train.steps=15",
        "eval.every=15",
        "eval.limit=96",
    ])?;
    let (base, _tokenizer) = ModelSource::find(TINY, "main")?.load()?;
    let temp = tempfile::tempdir()?;
    let mut run = Run::create(&settings, &temp.path().join("run"))?;

    let policy = run.trainer().policy();
    println!("trained: {} of {} values", policy.num_parameters(), base.num_parameters());
    for (name, shape) in policy.parameters().into_iter().take(2) {
        println!("  {name} {:?}", shape.dims());
    }
    // B begins at 0, so the policy begins as the model. Fingerprints are of weights with B·A added to W.
    let of_base = fingerprint_of_weights(&base)?;
    println!("before training, the policy is the model: {}", fingerprint_of_weights(policy)? == of_base);

    let before = run.evaluate_at_start()?.context("no evaluation before training")?;
    let (mut after, mut checkpoint) = (None, None);
    while !run.is_finished() {
        let progress = run.step()?;
        after = progress.evaluation().cloned();
        checkpoint = progress.step().and_then(|step| step.checkpoint.clone());
    }
    let accuracy = |report: &dapo::eval::EvalReport| report.avg_at_k.map_or(0.0, |estimate| estimate.mean);
    let after = after.context("no evaluation after training")?;
    println!("held-out accuracy: {:.2} before, {:.2} after", accuracy(&before), accuracy(&after));

    // A checkpoint holds the adapters alone, in the format of PEFT. With the model they are the policy again.
    let adapter = checkpoint.context("no checkpoint")?.join("adapter");
    let mut files: Vec<_> = fs::read_dir(&adapter)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    files.sort();
    println!("adapter: {files:?}");
    let loaded = load_adapter(&adapter, base)?;
    let is_policy = fingerprint_of_weights(&loaded)? == fingerprint_of_weights(run.trainer().policy())?;
    println!("the model with the adapter is the policy: {is_policy}");
    Ok(())
}
