//! What TRL and ms-swift share: both build on Hugging Face's `TrainingArguments` and on TRL's GRPO loss.
//!
//! Sources of meaning: `trl/trainer/grpo_config.py` and `grpo_trainer.py`, transformers' `TrainingArguments`, and
//! ms-swift's `swift/rlhf_trainers/`.

mod batch;
mod loss;
mod optimizer;
mod ppo;
mod rest;
mod rewards;
mod run;

pub(super) use batch::{Batch, batch};
pub(super) use loss::{advantage, kl, loss};
pub(super) use optimizer::optimizer;
pub(super) use ppo::{is_ppo, ppo};
pub(super) use rest::{CHANGES, RULES};
pub(super) use rewards::{Component, LengthKeys, RewardNames, rewards};
pub(super) use run::{evaluation, output, rollout, steps};

use super::draft::{Draft, Got};

/// What a trainer does where its file says nothing.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    /// Completions of a device and forward pass.
    pub(super) per_device: i64,
    pub(super) max_new_tokens: i64,
    pub(super) temperature: f64,
    pub(super) beta: f64,
    pub(super) loss_type: &'static str,
    pub(super) learning_rate: f64,
    pub(super) schedule: &'static str,
    pub(super) weight_decay: f64,
    pub(super) beta2: f64,
    pub(super) max_grad_norm: f64,
}

/// Adds data sets to train on or to evaluate on; names of a hub become `hf://datasets/…`.
pub(super) fn data_sets(d: &mut Draft<'_>, key: &'static str, names: &Got<Vec<String>>) {
    let mut from_hub = false;
    let paths = names.value.iter().map(|name| {
        let is_file = name.starts_with(['.', '/', '~', '$'])
            || [".jsonl", ".json", ".parquet", ".csv"].iter().any(|extension| name.ends_with(extension));
        from_hub |= !is_file;
        if is_file { name.clone() } else { format!("hf://datasets/{name}") }
    });
    let paths = Got { value: paths.collect::<Vec<_>>(), from: names.from.clone() };
    if from_hub {
        d.note(&names.from, format!("the name of a data set on a hub: name its files in {key}"));
    }
    d.put(key, paths);
}

/// How many processes train, as far as the file tells.
fn processes(d: &mut Draft<'_>) -> Got<i64> {
    let mut total: Got<i64> = Got::default(1);
    for keys in [&["NPROC_PER_NODE", "nproc_per_node", "num_processes"][..], &["NNODES", "nnodes"]] {
        if let Some(count) = d.count(keys, 1) {
            total = Got::of(total.value.saturating_mul(count.value), &[&total.from, &count.from]);
        }
    }
    total
}
