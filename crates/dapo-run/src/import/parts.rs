//! Settings that several sources have, each under names of its own.

use super::draft::{Draft, Got, places};

/// The lower clip range ε_low. From 1 on it bounds nothing, since ratios are above 0, and 1 says so.
pub(super) fn clip_low(d: &mut Draft<'_>, got: Option<Got<f64>>, default: f64) {
    if let Some(got) = got.as_ref().filter(|got| got.value > 1.0) {
        d.note(&got.from, "from 1 on there is no lower bound: imported as 1");
    }
    d.put_or("loss.policy_loss.clip.low", got.map(|got| got.map(|low| low.min(1.0))), default);
}

/// How log-probs of another engine are corrected: whether by truncated weights, or by masks, and of what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Correction {
    Truncate(&'static str),
    Mask,
}

/// The correction's modes as TRL and ms-swift name them.
pub(super) const MODES: [(&str, Correction); 4] = [
    ("token_truncate", Correction::Truncate("token")),
    ("sequence_truncate", Correction::Truncate("sequence")),
    ("token_mask", Correction::Mask),
    ("sequence_mask", Correction::Mask),
];

/// Truncated importance weights; `from` are the entries that ask for them.
pub(super) fn importance(d: &mut Draft<'_>, mode: Got<Correction>, cap: Option<Got<f64>>, default: f64) {
    match mode.value {
        Correction::Truncate(level) => {
            d.put("loss.truncated_importance.level", Got { value: level, from: mode.from });
            d.put_or("loss.truncated_importance.cap", cap, default);
        }
        Correction::Mask => {
            let reason = "masks are not offered here, and weights are 1 where rollout and training compute the same";
            d.give_up(&mode.from, reason);
            d.give_up(&places(cap.as_ref()), reason);
        }
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
