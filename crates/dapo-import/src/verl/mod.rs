//! verl's settings: `main_ppo` and the DAPO recipe's `main_dapo`.
//!
//! Sources of meaning: `verl/trainer/config/*.yaml`, `verl/trainer/ppo/core_algos.py`,
//! `verl/workers/reward_manager/dapo.py` and the recipe's `dapo_ray_trainer.py`.

mod correction;
mod critic;
mod loss;
mod references;
mod rest;
mod rewards;
mod sampling;
mod training;

pub(super) use references::resolve;

use super::{draft::Draft, parts};

/// Translates everything there is.
pub(super) fn translate(d: &mut Draft<'_>) {
    let has_critic = critic::is_asked_for(d);
    model(d);
    data(d);
    let max_new_tokens = sampling::rollout(d, has_critic);
    let (prompts, is_dynamic) = sampling::sampler(d);
    rewards::translate(d, &max_new_tokens);
    let is_reinforce = correction::translate(d);
    loss::translate(d, is_reinforce);
    loss::kl(d);
    if has_critic {
        critic::advantage(d);
    } else {
        loss::advantage(d);
    }
    let steps = training::steps(d, &prompts, is_dynamic);
    training::optimizer(d, steps);
    if has_critic {
        critic::translate(d, steps);
    }
    training::evaluation(d);
    training::output(d);
    if d.has_prefix("defaults") || d.has_prefix("--config") {
        d.note(&[], "the Hydra files that the file names are not read; what they set counts as verl's defaults");
    }
    d.skip_by(rest::FIRST);
    for (section, switch) in rest::SWITCHED {
        let is_on =
            d.spelled(switch).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "null"));
        if !is_on {
            d.skip_by(&[(section, &format!("{switch} is not true"))]);
        }
    }
    d.give_up_by(rest::CHANGES);
    d.skip_by(if has_critic { critic::RULES } else { critic::NONE });
    d.skip_by(rest::RULES);
    d.skip_environment();
}

fn model(d: &mut Draft<'_>) {
    match d.text(&["actor_rollout_ref.model.path"]) {
        Some(path) => d.put("model.path", path),
        None => d.note(&[], "the file names no model: set model.path"),
    }
    let rank = d.count(&["actor_rollout_ref.model.lora_rank"], 0);
    if rank.as_ref().is_some_and(|rank| rank.value > 0 && d.knows(&rank.from)) {
        let alpha = d.number(&["actor_rollout_ref.model.lora_alpha"]);
        let targets = d.names(&["actor_rollout_ref.model.target_modules"]);
        parts::lora(d, rank, 0, alpha, 16.0, targets);
    } else if let Some(rank) = rank {
        d.put("lora.rank", rank);
    }
    let none = "no adapters: actor_rollout_ref.model.lora_rank is 0";
    d.skip(&["actor_rollout_ref.model.lora_alpha", "actor_rollout_ref.model.target_modules"], none);
    if let Some(recompute) = d.switch(&["actor_rollout_ref.model.enable_gradient_checkpointing"]) {
        d.put("train.layer_memory", recompute.map(|recompute| if recompute { "recompute" } else { "keep" }));
    }
}

fn data(d: &mut Draft<'_>) {
    for (key, ours) in [("data.train_files", "data.train"), ("data.val_files", "data.validation")] {
        if let Some(files) = d.texts(&[key]) {
            d.put(ours, files);
        }
    }
    for (key, ours) in [("data.train_max_samples", "data.limit"), ("data.val_max_samples", "eval.limit")] {
        if let Some(limit) = d.integer(&[key]) {
            d.put(ours, limit.map(|limit| limit.max(0)));
        }
    }
    if let Some(prompt) = d.text(&["data.prompt_key"]) {
        d.put("data.fields.prompt", prompt);
        d.assume("data.fields.answer", "reward_model.ground_truth", "where verl has the gold answer");
    }
    if let Some(seed) = d.count(&["data.seed"], 0) {
        d.put("seed", seed);
    }
    let longest = d.count(&["data.max_prompt_length"], 1);
    d.put_or("data.max_prompt_tokens", longest, 512);
    if let Some(side) = d.text(&["data.truncation"]) {
        if side.value != "error" {
            d.note(&side.from, format!("verl cuts longer prompts ({}); here they are left out", side.value));
        }
        d.leave(&side.from, "longer prompts are left out, never cut");
    }
    if let Some(think) = d.switch(&["data.apply_chat_template_kwargs.enable_thinking"]) {
        d.put("data.enable_thinking", think);
    }
    if let Some(shuffle) = d.switch(&["data.shuffle"]) {
        if !shuffle.value {
            d.note(
                &shuffle.from,
                "verl keeps the order of the file; here every pass has an order of its own by the seed",
            );
        }
        d.leave(&shuffle.from, "problems are always shuffled, by the seed");
    }
}
