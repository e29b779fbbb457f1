//! Settings that several sources have, each under names of its own.

use super::draft::{Draft, Got};

/// The lower clip range ε_low. From 1 on it bounds nothing, since ratios are above 0, and 1 says so.
pub(super) fn clip_low(d: &mut Draft<'_>, got: Option<Got<f64>>, default: f64) {
    if let Some(got) = got.as_ref().filter(|got| got.value > 1.0) {
        d.note(&got.from, "from 1 on there is no lower bound: imported as 1");
    }
    d.put_or("loss.policy_loss.clip.low", got.map(|got| got.map(|low| low.min(1.0))), default);
}

/// Weights for log-probs of another engine: one of what, and what becomes of a ratio outside its band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weights {
    pub(super) level: &'static str,
    pub(super) outside: &'static str,
}

/// The modes of the weights as TRL and ms-swift name them.
pub(super) const MODES: [(&str, Weights); 4] = [
    ("token_truncate", Weights { level: "token", outside: "truncate" }),
    ("token_mask", Weights { level: "token", outside: "mask" }),
    ("sequence_truncate", Weights { level: "sequence", outside: "truncate" }),
    ("sequence_mask", Weights { level: "sequence", outside: "mask" }),
];

/// The band of a weight's ratio.
pub(super) struct Band {
    /// Without a lower bound it is 0.
    pub(super) low: Option<Got<f64>>,
    pub(super) high: Option<Got<f64>>,
    /// The upper bound where none is given, and why it is that; by default because the source has it so.
    pub(super) default: (f64, &'static str),
}

/// Weights within a band; `mode.from` are the entries that ask for them.
pub(super) fn weights(d: &mut Draft<'_>, mode: Got<Weights>, band: Band) {
    let open = if d.knows(&mode.from) { Vec::new() } else { mode.from.clone() };
    d.put("loss.rollout_correction.level", mode.clone().map(|mode| mode.level));
    d.put("loss.rollout_correction.outside", mode.map(|mode| mode.outside));
    if let Some(low) = band.low {
        d.put("loss.rollout_correction.low", Got::of(low.value, &[&low.from, &open]));
    }
    match band.high {
        Some(high) => d.put("loss.rollout_correction.high", Got::of(high.value, &[&high.from, &open])),
        None if open.is_empty() => d.assume("loss.rollout_correction.high", band.default.0, band.default.1),
        None => d.leave_open("loss.rollout_correction.high", open),
    }
}

/// The sampler's further options.
pub(super) fn sampler(d: &mut Draft<'_>, min_p: Option<Got<f64>>, penalty: Option<Got<f64>>) {
    if let Some(min_p) = min_p {
        d.put("rollout.min_p", min_p);
    }
    if let Some(penalty) = penalty {
        if penalty.value != 1.0 && d.knows(&penalty.from) {
            d.note(&penalty.from, "a repetition penalty needs model.device = \"cpu\": a GPU draws without one");
        }
        d.put("rollout.repetition_penalty", penalty);
    }
}

/// The linear layers that take adapters, in our settings' order.
const LINEAR: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Adapters; without targets, or with `all-linear`, on every linear layer.
pub(super) fn lora(
    d: &mut Draft<'_>,
    rank: Option<Got<i64>>,
    default_rank: i64,
    alpha: Option<Got<f64>>,
    default_alpha: f64,
    targets: Option<Got<Vec<String>>>,
) {
    d.put_or("lora.rank", rank, default_rank);
    d.put_or("lora.alpha", alpha, default_alpha);
    let all = || LINEAR.map(str::to_owned).to_vec();
    let Some(targets) = targets else { return d.assume("lora.targets", all(), "all linear layers") };
    if targets.value.iter().any(|target| target == "all-linear") {
        return d.put("lora.targets", targets.map(|_| all()));
    }
    let is_known = |name: &String| LINEAR.contains(&name.as_str());
    if !targets.value.iter().any(is_known) {
        d.refuse(&targets.from, &format!("all-linear, or some of {}", LINEAR.join(", ")));
    }
    for (i, name) in targets.value.iter().enumerate().filter(|(_, name)| !is_known(name)) {
        d.skip_part(&targets.from, i, name, "adapters go on linear layers of attention and MLP alone");
    }
    let mut names = Vec::new();
    for name in targets.value.iter().filter(|name| is_known(name)) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    d.put("lora.targets", Got { value: names, from: targets.from });
}
