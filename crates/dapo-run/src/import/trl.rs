//! TRL's `GRPOConfig`, with open-r1's additions.

use super::{
    draft::{Draft, Got},
    error::ImportError,
    hf::{self, Component, Defaults, LengthKeys, RewardNames},
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
pub(super) fn translate(d: &mut Draft<'_>) -> Result<(), ImportError> {
    model(d)?;
    data(d)?;
    let max_new_tokens = hf::rollout(d, &DEFAULTS)?;
    let batch = hf::batch(d, &DEFAULTS)?;
    d.assume("sampler.dynamic", false, "TRL trains on every group");
    rewards(d, &max_new_tokens)?;
    let mask = d.switch(&["mask_truncated_completions"])?;
    d.put_or("overlong.filter", mask.map(|mask| mask.map(|mask| if mask { "mask" } else { "off" })), "off");
    hf::loss(d, &DEFAULTS, ["sapo_temperature_pos", "sapo_temperature_neg"])?;
    hf::advantage(d, None)?;
    hf::kl(d, &DEFAULTS, &batch)?;
    let steps = hf::steps(d, &batch)?;
    hf::optimizer(d, &DEFAULTS, &batch, steps)?;
    hf::evaluation(d, &batch, false)?;
    hf::output(d, &batch, steps)?;
    d.skip_by(REST);
    d.skip_by(hf::RULES);
    d.skip_environment();
    Ok(())
}

fn model(d: &mut Draft<'_>) -> Result<(), ImportError> {
    match d.text(&["model_name_or_path"])? {
        Some(path) => d.put("model.path", path),
        None => d.note(&[], "the file names no model: set model.path"),
    }
    if let Some(revision) = d.text(&["model_revision"])? {
        d.put("model.revision", revision);
    }
    let keys = ["lora_r", "lora_alpha", "lora_target_modules"];
    match d.switch(&["use_peft"])? {
        Some(on) if on.value => {
            let rank = d.count(&[keys[0]], 1)?;
            let rank = rank.unwrap_or(Got { value: 16, from: Vec::new() });
            let rank = Got::of(rank.value, &[&rank.from, &on.from]);
            let alpha = d.number(&[keys[1]])?;
            let targets = d.texts(&[keys[2]]);
            if targets.is_none() {
                d.note(
                    &on.from,
                    "PEFT would choose the layers by the kind of model; here all linear layers get adapters",
                );
            }
            hf::lora(d, Some(rank), 16, alpha, 32.0, targets);
            for key in ["use_dora", "use_rslora"] {
                if let Some(other) = d.switch(&[key])? {
                    if other.value {
                        d.note(&other.from, "not offered here: plain LoRA is trained, scaled by alpha / rank");
                    }
                    d.leave(&other.from, "plain LoRA, scaled by alpha / rank");
                }
            }
        }
        Some(off) => d.put("lora.rank", off.map(|_| 0)),
        None => {}
    }
    d.skip(&keys, "use_peft is not true");
    Ok(())
}

fn data(d: &mut Draft<'_>) -> Result<(), ImportError> {
    if let Some(name) = d.texts(&["dataset_name"]) {
        hf::data_sets(d, "data.train", &name);
    }
    if let Some(longest) = d.count(&["max_prompt_length"], 1)? {
        d.note(&longest.from, "TRL cuts longer prompts at their start; here they are left out");
        d.put("data.max_prompt_tokens", longest);
    }
    if let Some(system) = d.text(&["system_prompt"])? {
        d.put("data.system", system);
    }
    if let Some(think) = d.switch(&["chat_template_kwargs.enable_thinking"])? {
        d.put("data.enable_thinking", think);
    }
    Ok(())
}

fn rewards(d: &mut Draft<'_>, max_new_tokens: &Got<i64>) -> Result<(), ImportError> {
    if !d.has(&["reward_funcs"]) {
        d.note(&[], "the file names no reward_funcs: open-r1's default is taken (accuracy, format, tag_count)");
    }
    let found = hf::rewards(d, REWARDS, &["accuracy", "format", "tag_count"], &LENGTH, max_new_tokens)?;
    let (longest, cache) = (["max_completion_len"], ["soft_punish_cache"]);
    if found.contains(&Component::SoftOverlong) {
        let length = d.count(&longest, 1)?;
        d.put_or("rewards.soft_overlong.max_len", length, 16384);
        let cache = d.count(&cache, 1)?;
        d.put_or("rewards.soft_overlong.cache_len", cache, 4096);
    }
    d.skip(&[longest[0], cache[0]], "reward_funcs does not ask for soft_overlong_punishment");
    Ok(())
}

/// Keys of TRL and open-r1 alone that decide nothing here, and why.
const REST: &[(&[&str], &str)] = &[
    (&["dataset_prompt_column"], "a problem's fields are found by their names"),
    (
        &[
            "dataset_config",
            "dataset_train_split",
            "dataset_test_split",
            "dataset_split",
            "dataset_streaming",
            "dataset_mixture*",
            "datasets*",
        ],
        "data.train and data.validation name files",
    ),
    (&["config", "config_file"], "another file, to be imported by itself"),
    (&["lora_dropout"], "no dropout: roll-out and training compute the same"),
    (&["lora_*", "use_dora", "use_rslora"], "plain LoRA on linear layers"),
    (&["chat_template_kwargs*"], "the chat template gets data.enable_thinking alone"),
];
