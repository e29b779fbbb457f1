//! TRL's `GRPOConfig`, with open-r1's additions, and its `PPOConfig`.

use super::{
    draft::{Draft, Got, Rules, places},
    hf::{self, Component, Defaults, LengthKeys, RewardNames},
    parts::{self, Band, MODES, Weights},
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
    max_grad_norm: 1.0,
};

/// `PPOConfig`'s, over Hugging Face's own.
const PPO: Defaults = Defaults {
    per_device: 8,
    max_new_tokens: 53,
    temperature: 0.7,
    beta: 0.0,
    loss_type: "dapo",
    learning_rate: 5e-5,
    schedule: "linear",
    weight_decay: 0.0,
    beta2: 0.999,
    max_grad_norm: 1.0,
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
    let is_ppo = hf::is_ppo(d);
    model(d);
    data(d);
    if is_ppo {
        ppo(d);
    } else {
        grpo(d);
    }
    d.give_up_by(hf::CHANGES);
    d.give_up_by(CHANGES);
    d.skip_by(REST);
    d.skip_by(hf::RULES);
    d.skip_environment();
}

fn ppo(d: &mut Draft<'_>) {
    hf::ppo(d, &PPO, false);
    if d.has(&["reward_funcs"]) {
        rewards(d, &Got::default(PPO.max_new_tokens));
    }
}

fn grpo(d: &mut Draft<'_>) {
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
    correction(d);
}

fn model(d: &mut Draft<'_>) {
    // PPO's policy; model_name_or_path is its tokenizer's then.
    let policy = d.text(&["sft_model_path"]);
    if policy.is_some() {
        d.skip(&["model_name_or_path"], "the tokenizer is the policy's");
    }
    match policy.or_else(|| d.text(&["model_name_or_path"])) {
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
            if let Some(by_root) = d.switch(&["use_rslora"]) {
                d.put("lora.rslora", by_root);
            }
            if let Some(dora) = d.switch(&["use_dora"]) {
                let reason = "weights are not decomposed into magnitude and direction";
                if dora.value {
                    d.give_up(&dora.from, reason);
                } else {
                    d.leave(&dora.from, reason);
                }
            }
        }
        Some(off) => d.put("lora.rank", off.map(|_| 0)),
        None => {}
    }
    d.skip(&keys, "use_peft is not true");
    d.skip(&["use_rslora"], "use_peft is not true");
}

fn data(d: &mut Draft<'_>) {
    if let Some(name) = d.texts(&["dataset_name"]) {
        hf::data_sets(d, "data.train", &name);
    }
    if let Some(column) = d.text(&["dataset_prompt_column"]) {
        d.put("data.fields.prompt", column);
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
fn correction(d: &mut Draft<'_>) {
    const MODE: &str = "vllm_importance_sampling_mode";
    const CAP: &str = "vllm_importance_sampling_cap";
    const LOW: &str = "vllm_importance_sampling_clip_min";
    const HIGH: &str = "vllm_importance_sampling_clip_max";
    let on = d.switch(&["vllm_importance_sampling_correction"]);
    if let Some(off) = on.as_ref().filter(|on| !on.value && d.knows(&on.from)) {
        return d.leave(&off.from, "no correction of log-probs is asked for");
    }
    let mode = d.word(&[MODE], &MODES);
    // Versions without modes truncate by token, with a cap of 2.
    let is_older = mode.is_none() && d.has(&[CAP]);
    let is_unbounded = d.spelled(HIGH).is_some_and(|high| high == "null") && !d.has(&[CAP]);
    let low = d.number(&[LOW]);
    let high = d.number(&[HIGH, CAP]);
    if on.is_none() && mode.is_none() && low.is_none() && high.is_none() {
        return;
    }
    let default = match (is_unbounded, is_older) {
        (true, _) => (f64::INFINITY, "vllm_importance_sampling_clip_max is null"),
        (_, true) => (2.0, ""),
        _ => (3.0, ""),
    };
    let value = match &mode {
        Some(mode) => mode.value,
        None if is_older => Weights { level: "token", outside: "truncate" },
        None => Weights { level: "sequence", outside: "mask" },
    };
    let from = [places(on.as_ref()), places(mode.as_ref())].concat();
    let from = if from.is_empty() { [places(low.as_ref()), places(high.as_ref())].concat() } else { from };
    parts::weights(d, Got { value, from }, Band { low, high, default });
}

fn rewards(d: &mut Draft<'_>, max_new_tokens: &Got<i64>) {
    if !d.has(&["reward_funcs"]) {
        d.note(&[], "the file names no reward_funcs: open-r1's default is taken (accuracy, format, tag_count)");
    }
    let found = hf::rewards(d, REWARDS, &["accuracy", "format", "tag_count"], &LENGTH, max_new_tokens, &imported);
    let (longest, cache) = (["max_completion_len"], ["soft_punish_cache"]);
    if found.contains(&Component::SoftOverlong) {
        let length = d.count(&longest, 1);
        d.put_or("rewards.soft_overlong.max_len", length, 16384);
        let cache = d.count(&cache, 1);
        d.put_or("rewards.soft_overlong.cache_len", cache, 4096);
    }
    d.skip(&[longest[0], cache[0]], "reward_funcs does not ask for soft_overlong_punishment");
}

/// A function that is named by its module, as TRL's own script has it.
fn imported(function: &str) -> Option<(Got<String>, &'static str)> {
    let (module, name) = function.rsplit_once('.')?;
    let is_name = |part: &str| part.starts_with(|c: char| c.is_alphabetic() || c == '_') && !part.contains(['/', ':']);
    if !function.split('.').all(is_name) || module.starts_with("trl") {
        return None;
    }
    let note = "its module is taken for a file below the folder of the settings";
    Some((Got::default(format!("{}.py:{name}", module.replace('.', "/"))), note))
}

/// Keys of TRL and open-r1 alone without which training differs.
const CHANGES: Rules = &[
    (&["dataset_mixture*", "datasets*"], "data.train names files: name those of the mixture"),
    (&["chat_template_kwargs*"], "the chat template gets data.enable_thinking alone"),
    (&["config"], "another file, to be imported by itself"),
];

/// Keys of TRL and open-r1 alone without an effect here.
const REST: Rules = &[
    (
        &["dataset_config", "dataset_train_split", "dataset_test_split", "dataset_split", "dataset_streaming"],
        "data.train and data.validation name files",
    ),
    (&["config_file"], "how processes are started"),
    (&["lora_dropout"], "no dropout: rollout and training compute the same"),
    (&["lora_*", "use_dora"], "plain LoRA on linear layers"),
];
