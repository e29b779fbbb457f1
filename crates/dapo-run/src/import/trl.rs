//! TRL's `GRPOConfig`, with open-r1's additions.

use super::{
    draft::{Draft, Got, Rules, places},
    hf::{self, Component, Defaults, LengthKeys, RewardNames},
    parts::{self, Correction, MODES},
};

const DEFAULTS: Defaults = Defaults {
    per_device: 8,
    max_new_tokens: 512,
    temperature: 1.0,
    beta: 0.0,
    loss_type: "dapo",
    learning_rate: 1e-6,
    schedule: "linear",
    weight_decay: 0.0,
    beta2: 0.999,
};

/// The functions of open-r1's registry and of `trl grpo`.
const REWARDS: RewardNames = &[
    ("accuracy", Component::Accuracy),
    ("accuracy_reward", Component::Accuracy),
    ("format", Component::ThinkAnswer),
    ("think_format_reward", Component::Think),
    ("tag_count", Component::TagCount),
    ("soft_overlong_punishment", Component::SoftOverlong),
    ("get_soft_overlong_punishment", Component::SoftOverlong),
    ("repetition_penalty", Component::Repetition),
    ("cosine", Component::Length),
];

const LENGTH: LengthKeys = LengthKeys {
    values: [
        ("cosine_min_value_wrong", 0.0),
        ("cosine_max_value_wrong", -0.5),
        ("cosine_min_value_correct", 0.5),
        ("cosine_max_value_correct", 1.0),
    ],
    unit: "characters",
};

/// Translates everything there is.
pub(super) fn translate(d: &mut Draft<'_>) {
    model(d);
    data(d);
    let max_new_tokens = hf::rollout(d, &DEFAULTS);
    let batch = hf::batch(d, &DEFAULTS);
    d.assume("sampler.dynamic", false, "TRL trains on every group");
    rewards(d, &max_new_tokens);
    let mask = d.switch(&["mask_truncated_completions"]);
    d.put_or("overlong.filter", mask.map(|mask| mask.map(|mask| if mask { "mask" } else { "off" })), "off");
    hf::loss(d, &DEFAULTS, ["sapo_temperature_pos", "sapo_temperature_neg"]);
    hf::advantage(d, None);
    hf::kl(d, &DEFAULTS, &batch);
    let steps = hf::steps(d, &batch);
    hf::optimizer(d, &DEFAULTS, &batch, steps);
    hf::evaluation(d, &batch, false);
    hf::output(d, &batch, steps);
    importance(d);
    d.give_up_by(hf::CHANGES);
    d.give_up_by(CHANGES);
    d.skip_by(REST);
    d.skip_by(hf::RULES);
    d.skip_environment();
}

fn model(d: &mut Draft<'_>) {
    match d.text(&["model_name_or_path"]) {
        Some(path) => d.put("model.path", path),
        None => d.note(&[], "the file names no model: set model.path"),
    }
    if let Some(revision) = d.text(&["model_revision"]) {
        d.put("model.revision", revision);
    }
    let keys = ["lora_r", "lora_alpha", "lora_target_modules"];
    match d.switch(&["use_peft"]) {
        Some(on) if on.value => {
            let rank = d.count(&[keys[0]], 1);
            let rank = rank.unwrap_or(Got::default(16));
            let rank = Got::of(rank.value, &[&rank.from, &on.from]);
            let alpha = d.number(&[keys[1]]);
            let targets = d.names(&[keys[2]]);
            if targets.is_none() {
                d.note(
                    &on.from,
                    "PEFT would choose the layers by the kind of model; here all linear layers get adapters",
                );
            }
            parts::lora(d, Some(rank), 16, alpha, 32.0, targets);
            for key in ["use_dora", "use_rslora"] {
                if let Some(other) = d.switch(&[key]) {
                    let reason = "plain LoRA is trained, scaled by alpha / rank";
                    if other.value {
                        d.give_up(&other.from, reason);
                    } else {
                        d.leave(&other.from, reason);
                    }
                }
            }
        }
        Some(off) => d.put("lora.rank", off.map(|_| 0)),
        None => {}
    }
    d.skip(&keys, "use_peft is not true");
}

fn data(d: &mut Draft<'_>) {
    if let Some(name) = d.texts(&["dataset_name"]) {
        hf::data_sets(d, "data.train", &name);
    }
    if let Some(longest) = d.count(&["max_prompt_length"], 1) {
        d.note(&longest.from, "TRL cuts longer prompts at their start; here they are left out");
        d.put("data.max_prompt_tokens", longest);
    }
    if let Some(system) = d.text(&["system_prompt"]) {
        d.put("data.system", system);
    }
    if let Some(think) = d.switch(&["chat_template_kwargs.enable_thinking"]) {
        d.put("data.enable_thinking", think);
    }
}

/// The correction of log-probs that vLLM computed; TRL's own default corrects, too, which is 1 here.
fn importance(d: &mut Draft<'_>) {
    let Some(on) = d.switch(&["vllm_importance_sampling_correction"]) else { return };
    if !on.value && d.knows(&on.from) {
        return d.leave(&on.from, "no correction of log-probs is asked for");
    }
    let cap = d.number(&["vllm_importance_sampling_clip_max", "vllm_importance_sampling_cap"]);
    let mode = d.word(&["vllm_importance_sampling_mode"], &MODES);
    // Versions without modes truncate by token, with a cap of 2.
    let is_older = mode.is_none() && d.has(&["vllm_importance_sampling_cap"]);
    let (value, default) = match &mode {
        Some(mode) => (mode.value, 3.0),
        None if is_older => (Correction::Truncate("token"), 2.0),
        None => (Correction::Mask, 3.0),
    };
    parts::importance(d, Got { value, from: [on.from, places(mode.as_ref())].concat() }, cap, default);
    d.give_up_by(&[(&["vllm_importance_sampling_clip_min"], "weights have no lower bound here")]);
}

fn rewards(d: &mut Draft<'_>, max_new_tokens: &Got<i64>) {
    if !d.has(&["reward_funcs"]) {
        d.note(&[], "the file names no reward_funcs: open-r1's default is taken (accuracy, format, tag_count)");
    }
    let found = hf::rewards(d, REWARDS, &["accuracy", "format", "tag_count"], &LENGTH, max_new_tokens);
    let (longest, cache) = (["max_completion_len"], ["soft_punish_cache"]);
    if found.contains(&Component::SoftOverlong) {
        let length = d.count(&longest, 1);
        d.put_or("rewards.soft_overlong.max_len", length, 16384);
        let cache = d.count(&cache, 1);
        d.put_or("rewards.soft_overlong.cache_len", cache, 4096);
    }
    d.skip(&[longest[0], cache[0]], "reward_funcs does not ask for soft_overlong_punishment");
}

/// Keys of TRL and open-r1 alone without which training differs.
const CHANGES: Rules = &[
    (&["dataset_mixture*", "datasets*"], "data.train names files: name those of the mixture"),
    (&["chat_template_kwargs*"], "the chat template gets data.enable_thinking alone"),
    (&["config"], "another file, to be imported by itself"),
];

/// Keys of TRL and open-r1 alone without an effect here.
const REST: Rules = &[
    (&["dataset_prompt_column"], "a problem's fields are found by their names"),
    (
        &["dataset_config", "dataset_train_split", "dataset_test_split", "dataset_split", "dataset_streaming"],
        "data.train and data.validation name files",
    ),
    (&["config_file"], "how processes are started"),
    (&["lora_dropout"], "no dropout: rollout and training compute the same"),
    (&["lora_*", "use_dora", "use_rslora"], "plain LoRA on linear layers"),
];
