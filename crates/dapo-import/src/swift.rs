//! ms-swift's `swift rlhf --rlhf_type grpo` or `ppo`, and `megatron rlhf`.

use std::path::Path;

use super::{
    draft::{Draft, Got, Rules, places},
    entry::{Entry, Value},
    error::ImportError,
    hf::{self, Component, Defaults, LengthKeys, RewardNames},
    parts::{self, Band, MODES},
    yaml,
};

/// With low-rank adapters, ms-swift's own default, the learning rate is ten times that of full training.
const fn defaults(has_adapters: bool) -> Defaults {
    Defaults {
        per_device: 1,
        max_new_tokens: 512,
        temperature: 0.9,
        beta: 0.04,
        loss_type: "grpo",
        learning_rate: if has_adapters { 1e-4 } else { 1e-5 },
        schedule: "cosine",
        weight_decay: 0.1,
        beta2: 0.95,
        max_grad_norm: 1.0,
    }
}

const REWARDS: RewardNames = &[
    ("accuracy", Component::Accuracy),
    ("format", Component::ThinkAnswer),
    ("cosine", Component::Length),
    ("repetition", Component::Repetition),
    ("soft_overlong", Component::SoftOverlong),
];

/// ms-swift's own rewards without a counterpart here.
const BUILT_IN: [&str; 3] = ["toolbench", "math", "react_format"];

const LENGTH: LengthKeys = LengthKeys {
    values: [
        ("cosine_min_len_value_wrong", -0.5),
        ("cosine_max_len_value_wrong", 0.0),
        ("cosine_max_len_value_correct", 0.5),
        ("cosine_min_len_value_correct", 1.0),
    ],
    unit: "tokens",
};

/// Settings of a YAML file without what groups them: the environment, and the roles of its Ray trainer.
pub(super) fn ungrouped(entries: Vec<Entry>) -> Vec<Entry> {
    let bare = |mut entry: Entry| {
        for group in ["ENV.", "train."] {
            if let Some(key) = entry.key.strip_prefix(group) {
                entry.key = key.to_owned();
            }
        }
        entry
    };
    // A mapping of columns may be a text.
    let read = |entry: Entry| match &entry.value {
        Value::Text(text) if entry.key == "columns" && entry.missing.is_empty() && entry.aside.is_none() => {
            yaml::inline(&entry.key, text, entry.line).unwrap_or_else(|| vec![entry.clone()])
        }
        _ => vec![entry],
    };
    entries.into_iter().map(bare).flat_map(read).collect()
}

/// Translates everything there is.
///
/// # Errors
/// When another algorithm is asked for, such as DPO.
pub(super) fn translate(d: &mut Draft<'_>) -> Result<(), ImportError> {
    let kind = d.word(&["rlhf_type"], &[("grpo", false), ("ppo", true)]);
    if let Some(error) = d.refused.pop() {
        return Err(error);
    }
    let is_ppo = kind.as_ref().is_some_and(|kind| kind.value);
    if let Some(kind) = kind {
        d.leave(
            &kind.from,
            if is_ppo { "the critic says so" } else { "what is trained here is GRPO with DAPO's changes" },
        );
    }
    let has_adapters = model(d);
    let defaults = defaults(has_adapters);
    let has_validation = data(d);
    if is_ppo {
        hf::ppo(d, &defaults, has_validation);
        if d.has(&["reward_funcs"]) {
            rewards(d, &Got::default(defaults.max_new_tokens));
        }
    } else {
        grpo(d, &defaults, has_validation);
    }
    d.give_up_by(hf::CHANGES);
    d.give_up_by(CHANGES);
    d.skip_by(REST);
    d.skip_by(hf::RULES);
    d.skip_environment();
    Ok(())
}

fn grpo(d: &mut Draft<'_>, defaults: &Defaults, has_validation: bool) {
    let max_new_tokens = hf::rollout(d, defaults);
    let batch = hf::batch(d, defaults);
    dynamic_sampling(d);
    rewards(d, &max_new_tokens);
    let filter = d.switch(&["overlong_filter"]);
    d.put_or("overlong.filter", filter.map(|filter| filter.map(|on| if on { "mask" } else { "off" })), "off");
    hf::loss(d, defaults, ["tau_pos", "tau_neg"]);
    hf::kl(d, defaults, &batch);
    advantage(d);
    let steps = hf::steps(d, &batch);
    hf::optimizer(d, defaults, &batch, steps);
    hf::evaluation(d, &batch, has_validation);
    hf::output(d, &batch, steps);
    correction(d);
}

/// The model and its adapters; returns whether it has any.
fn model(d: &mut Draft<'_>) -> bool {
    match d.text(&["model"]) {
        Some(path) => {
            if !d.has(&["use_hf", "USE_HF"]) && !path.value.starts_with(['.', '/', '~', '$']) {
                d.note(
                    &path.from,
                    "ms-swift takes names from ModelScope's hub; here they are looked up on Hugging Face's",
                );
            }
            d.put("model.path", path);
        }
        None => d.note(&[], "the file names no model: set model.path"),
    }
    if let Some(revision) = d.text(&["model_revision"]) {
        d.put("model.revision", revision);
    }
    let kind = d.word(&["tuner_type", "train_type"], &[("lora", true), ("full", false)]);
    let has_adapters = kind.as_ref().is_none_or(|kind| kind.value);
    if kind.as_ref().is_some_and(|kind| !d.knows(&kind.from)) {
        d.leave_open("lora.rank", places(kind.as_ref()));
        d.skip(&["lora_rank", "lora_alpha", "target_modules", "use_rslora"], "tuner_type is not known");
    } else if has_adapters {
        let from = kind.map(|kind| kind.from).unwrap_or_default();
        let rank = d.count(&["lora_rank"], 1).unwrap_or(Got::default(8));
        let rank = Got::of(rank.value, &[&rank.from, &from]);
        let alpha = d.number(&["lora_alpha"]);
        let targets = d.names(&["target_modules"]);
        parts::lora(d, Some(rank), 8, alpha, 32.0, targets);
        if let Some(by_root) = d.switch(&["use_rslora"]) {
            d.put("lora.rslora", by_root);
        }
    } else {
        d.put_or("lora.rank", kind.map(|kind| kind.map(|_| 0)), 0);
        d.skip(&["lora_rank", "lora_alpha", "target_modules", "use_rslora"], "tuner_type is full");
    }
    has_adapters
}

/// The data; returns whether there are any to evaluate on.
fn data(d: &mut Draft<'_>) -> bool {
    let mut has_validation = false;
    for (key, ours) in [("dataset", "data.train"), ("val_dataset", "data.validation")] {
        let Some(names) = d.texts(&[key]) else { continue };
        has_validation |= key == "val_dataset";
        let parts: Vec<(String, Option<i64>)> = names.value.iter().map(|name| name_and_count(name)).collect();
        if let ([(_, Some(count))], "dataset") = (parts.as_slice(), key) {
            d.note(&names.from, "ms-swift draws so many problems at random; here they are the first");
            d.put("data.limit", names.clone().map(|_| *count));
        } else if parts.iter().any(|(_, count)| count.is_some()) {
            d.note(&names.from, "counts of single data sets are left out: data.limit and eval.limit count over all");
        }
        let names = names.map(|_| parts.into_iter().map(|(name, _)| name).collect());
        hf::data_sets(d, ours, &names);
    }
    if let Some(share) = d.number(&["split_dataset_ratio"]) {
        has_validation |= share.value > 0.0;
        d.put("data.validation_split", share);
    }
    columns(d);
    if let Some(longest) = d.count(&["max_length"], 1) {
        d.put("data.max_prompt_tokens", longest);
    }
    if let Some(side) = d.text(&["truncation_strategy"]) {
        if side.value == "left" {
            d.note(&side.from, "ms-swift cuts longer prompts at their start; here they are left out");
        }
        d.leave(&side.from, "longer prompts are left out, never cut");
    }
    if let Some(system) = d.text(&["system"]) {
        if Path::new(&system.value).extension().is_some_and(|extension| extension == "txt") {
            d.note(&system.from, "ms-swift reads this file: put its text into data.system");
            d.give_up(&system.from, "another file is not read");
        } else {
            d.put("data.system", system);
        }
    }
    if let Some(think) = d.switch(&["enable_thinking"]) {
        d.put("data.enable_thinking", think);
    }
    has_validation
}

/// Columns of the data, by the names that ms-swift gives them.
fn columns(d: &mut Draft<'_>) {
    for key in d.keys_below("columns") {
        let Some(name) = d.text(&[&key]) else { continue };
        let column = key["columns.".len()..].to_owned();
        match name.value.as_str() {
            "query" | "messages" => d.put("data.fields.prompt", name.map(|_| column)),
            "solution" => d.put("data.fields.answer", name.map(|_| column)),
            "system" => d.put("data.fields.system", name.map(|_| column)),
            "response" => d.leave(&name.from, "completions are generated"),
            _ => d.give_up(&name.from, "a problem has a question, an answer, a system message and choices"),
        }
    }
}

/// `hub/name:subset#1000` as name and count.
fn name_and_count(name: &str) -> (String, Option<i64>) {
    match name.rsplit_once('#') {
        Some((name, count)) => match count.parse() {
            Ok(count) => (name.to_owned(), Some(count)),
            Err(_) => (name.to_owned(), None),
        },
        None => (name.to_owned(), None),
    }
}

fn dynamic_sampling(d: &mut Draft<'_>) {
    let dynamic = d.switch(&["dynamic_sample"]);
    let is_on = dynamic.as_ref().is_some_and(|dynamic| dynamic.value);
    let from = dynamic.as_ref().map(|dynamic| dynamic.from.clone()).unwrap_or_default();
    d.put_or("sampler.dynamic", dynamic, false);
    if is_on {
        let times = d.count(&["max_resample_times"], 1);
        let times_from = times.as_ref().map(|times| times.from.clone()).unwrap_or_default();
        d.note(
            &times_from,
            "ms-swift judges this many rounds, the first one counted; one more is generated and never judged",
        );
        d.put_or("sampler.max_gen_rounds", times, 3);
        d.note(
            &from,
            "when the rounds end, ms-swift trains on the first round as it was; here groups that were kept stay, and \
             dropped ones fill up",
        );
        d.assume("sampler.metric", "seq_reward", "ms-swift filters by the weighted sum of the rewards");
        d.assume("sampler.surplus", "discard", "as ms-swift does");
        d.assume("sampler.on_exhausted", "keep-zero-std", "as ms-swift does");
    }
    d.skip(&["max_resample_times"], "dynamic_sample is not true");
}

fn rewards(d: &mut Draft<'_>, max_new_tokens: &Got<i64>) {
    let plugins = d.names(&["external_plugins"]);
    let plugin = plugins.as_ref().filter(|plugins| plugins.value.len() == 1 || !d.knows(&plugins.from)).cloned();
    let find = |function: &str| {
        let file = plugin.clone()?.map(|files| files.concat());
        let is_taken = BUILT_IN.contains(&function);
        let note = "the function of this name in the plugin, or in its orms; python_bin must have ms-swift";
        (!is_taken).then(|| (file.map(|file| format!("{file}:{function}")), note))
    };
    let found = hf::rewards(d, REWARDS, &[], &LENGTH, max_new_tokens, &find);
    if let Some(plugins) = plugins {
        let reason = "of several plugins, the one with the function is not known: set rewards.NAME.python";
        if plugin.is_none() {
            d.note(&plugins.from, reason);
        }
        d.give_up(&plugins.from, if plugin.is_none() { reason } else { "reward_funcs names no function of it" });
    }
    if found.contains(&Component::ThinkAnswer) {
        d.note(
            &[],
            "ms-swift's format reward asks for no line breaks around the tags, open-r1's, which is taken, does",
        );
    }
    if found.contains(&Component::SoftOverlong) {
        let longest = d.count(&["soft_max_length"], 1).unwrap_or_else(|| max_new_tokens.clone());
        d.put_or("rewards.soft_overlong.max_len", Some(longest), 0);
        match d.count(&["soft_cache_length"], 1) {
            Some(cache) => d.put("rewards.soft_overlong.cache_len", cache),
            None => d.note(&[], "soft_overlong needs soft_cache_length, which the file does not set: a fifth is taken"),
        }
        d.assume("rewards.soft_overlong.floor", false, "ms-swift's line has no floor");
    }
    d.skip(&["soft_max_length", "soft_cache_length"], "reward_funcs does not ask for soft_overlong");
}

/// The correction of log-probs that vLLM computed.
fn correction(d: &mut Draft<'_>) {
    let Some(mode) = d.word(&["rollout_importance_sampling_mode"], &MODES) else { return };
    let threshold = d.number(&["rollout_importance_sampling_threshold"]);
    if mode.value.level == "sequence" && mode.value.outside == "mask" && d.knows(&mode.from) {
        d.note(
            &mode.from,
            "ms-swift gives the tokens of a masked sequence weight 0; here it leaves the loss, and what the loss is divided \
             by, too",
        );
        d.put("loss.rollout_correction.level", mode.clone().map(|_| "token"));
        d.assume(
            "loss.rollout_correction.high",
            f64::INFINITY,
            "ms-swift bounds no weight of a sequence that it keeps",
        );
        d.put("loss.rollout_correction.reject.by", mode.map(|_| "geometric-mean"));
        d.assume("loss.rollout_correction.reject.low", 0.0, "ms-swift has no lower bound");
        d.put_or("loss.rollout_correction.reject.high", threshold, 2.0);
    } else {
        if mode.value.level == "sequence" {
            d.refuse(
                &mode.from,
                "token_truncate, token_mask or sequence_mask: the weight of a sequence is the product of its ratios here, \
                 and their geometric mean in ms-swift",
            );
        }
        parts::weights(d, mode, Band { low: None, high: threshold, default: (2.0, "") });
    }
    let has_kl = d.value("loss.kl.coef").is_some_and(|coef| coef.as_float() != Some(0.0));
    if has_kl {
        d.note(&[], "ms-swift's weights are for the KL term, too; here for the policy loss alone");
    }
}

fn advantage(d: &mut Draft<'_>) {
    let names = [("grpo", "mean"), ("rloo", "leave-one-out")];
    let estimator = d.word(&["advantage_estimator"], &names);
    let is_rloo = estimator.as_ref().is_some_and(|estimator| estimator.value == "leave-one-out");
    hf::advantage(d, estimator);
    let in_reward = d.switch(&["kl_in_reward"]);
    let from = places(in_reward.as_ref());
    if !d.knows(&from) {
        let key = "loss.kl.coef";
        return d.leave_open(key, from);
    }
    if in_reward.map_or(is_rloo, |switch| switch.value) {
        d.redirect(&from, "loss.kl.coef", "rewards.kl_coef");
    } else {
        d.leave(&from, "the KL stays in the loss");
    }
}

/// Keys of ms-swift alone without which training differs.
const CHANGES: Rules = &[
    (&["config"], "another file, to be imported by itself"),
    (&["use_dora", "freeze_*"], "plain LoRA on linear layers, or all weights"),
    (&["columns"], "not a mapping of columns to names"),
    (&["loss_scale"], "every token of a completion counts"),
];

/// Keys of ms-swift alone without an effect here.
const REST: Rules = &[
    (&["rollout.*", "colocate_groups*", "gpus", "use_ray"], "one process: nothing is sharded or distributed"),
    (&["custom_dataset_info"], "data.train and data.validation name files"),
    (&["disable_auto_column_mapping"], "columns that data.fields does not name are found by the known layouts"),
    (&["lora_*", "merge_lora", "tuner_backend"], "plain LoRA on linear layers"),
    (&["val_dataset_shuffle"], "problems to evaluate on keep their order"),
];
