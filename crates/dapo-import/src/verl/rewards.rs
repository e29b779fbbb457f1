//! The reward manager and its overlong buffer.

use std::path::Path;

use crate::draft::{Draft, Got};

/// Keys of the overlong buffer, in each place that a version of verl has kept them.
const BUFFERS: [&str; 3] = [
    "reward_model.overlong_buffer",
    "reward_model.reward_kwargs.overlong_buffer_cfg",
    "reward.reward_kwargs.overlong_buffer_cfg",
];

/// Keys of a reward function in Python.
const FUNCTIONS: [&str; 2] = ["custom_reward_function", "reward.custom_reward_function"];

/// The reward's components.
pub(super) fn translate(d: &mut Draft<'_>, max_new_tokens: &Got<i64>) {
    let has_function = function(d);
    if has_function {
        d.skip(&MANAGERS, "the reward function of the file judges");
    } else {
        accuracy(d);
    }
    overlong(d, max_new_tokens);
    let paths = ["path", "url"].map(|name| format!("reward_model.sandbox_fusion.{name}"));
    if let Some(path) = d.text(&[&paths[0], &paths[1]]) {
        let reason = "a sandbox that runs code cannot be carried over";
        d.note(&path.from, format!("{reason}: the components here are those of [rewards]; rewards.code runs programs"));
        d.give_up(&path.from, reason);
    }
    if let Some(model) = d.switch(&["reward_model.enable", "reward.reward_model.enable"]) {
        if model.value {
            d.note(
                &model.from,
                "a reward model cannot be carried over: rewards.NAME.url or judge_url asks one that is served",
            );
            d.give_up(&model.from, "there are no reward models here: answers are graded by rule");
        }
        d.leave(&model.from, "there are no reward models here: answers are graded by rule");
    }
}

/// The reward function of a file, which judges in the place of verl's own scorers. Returns whether there is one.
fn function(d: &mut Draft<'_>) -> bool {
    let keys = |name: &str| FUNCTIONS.map(|function| format!("{function}.{name}"));
    let (path, name) = (keys("path"), keys("name"));
    let Some(path) = d.text(&path.each_ref().map(String::as_str)) else { return false };
    let name = d.text(&name.each_ref().map(String::as_str)).unwrap_or(Got::default("compute_score".to_owned()));
    let from = Got::of((), &[&path.from, &name.from]).from;
    if d.knows(&path.from) && Path::new(&path.value).extension().is_none_or(|extension| extension != "py") {
        d.refuse(&path.from, "a Python file");
    }
    d.put("rewards.custom.python", Got { value: format!("{}:{}", path.value, name.value), from: from.clone() });
    d.note(
        &from,
        "the file's folder is that of the settings, unless its path is absolute; where the function returns a dict with acc, \
         rewards.correct = \"custom\" has it judge",
    );
    true
}

/// Whether the file names a reward function.
pub(super) fn has_function(d: &Draft<'_>) -> bool {
    FUNCTIONS.iter().any(|function| d.spelled(&format!("{function}.path")).is_some_and(|path| path != "null"))
}

const MANAGERS: [&str; 3] = ["reward_model.reward_manager", "reward_manager.name", "reward.reward_manager.name"];

/// verl's own scorers.
fn accuracy(d: &mut Draft<'_>) {
    let manager = d.text(&MANAGERS);
    let is_recipe = BUFFERS.iter().any(|buffer| d.has_prefix(buffer)) || d.has_prefix("algorithm.filter_groups");
    let is_dapo = manager.as_ref().map_or(is_recipe, |manager| manager.value == "dapo");
    let from = manager.map(|manager| manager.from).unwrap_or_default();
    let (grader, wrong) = if is_dapo { ("dapo", -1.0) } else { ("math", 0.0) };
    d.put_or("rewards.accuracy.grader.name", Some(Got { value: grader, from: from.clone() }), grader);
    d.put_or("rewards.accuracy.correct", Some(Got { value: 1.0, from: from.clone() }), 1.0);
    d.put_or("rewards.accuracy.incorrect", Some(Got { value: wrong, from: from.clone() }), wrong);
    if is_dapo {
        d.note(
            &from,
            "verl picks a scorer by each row's data_source; that of DAPO's data (math_dapo) is taken for all",
        );
    } else {
        d.note(
            &from,
            "verl picks a scorer by each row's data_source; mathematical equivalence is taken for all, 1 or 0 as for \
             GSM8K and MATH",
        );
    }
}

fn overlong(d: &mut Draft<'_>, max_new_tokens: &Got<i64>) {
    let keys = |name: &str| BUFFERS.map(|buffer| format!("{buffer}.{name}"));
    let (enable, len, factor, log) = (keys("enable"), keys("len"), keys("penalty_factor"), keys("log"));
    let enabled = d.switch(&enable.each_ref().map(String::as_str));
    let lengths = ["reward_model.reward_kwargs.max_resp_len", "reward.reward_kwargs.max_resp_len"];
    match enabled {
        Some(enabled) if enabled.value => {
            d.put("rewards.soft_overlong.weight", enabled.clone().map(|_| 1.0));
            let longest = d.count(&lengths, 1).unwrap_or_else(|| max_new_tokens.clone());
            d.put_or("rewards.soft_overlong.max_len", Some(longest), 0);
            if let Some(cache) = d.count(&len.each_ref().map(String::as_str), 1) {
                d.put("rewards.soft_overlong.cache_len", cache);
            } else {
                d.refuse(&enabled.from, "false, or beside it the overlong buffer's len");
                d.leave_open("rewards.soft_overlong.cache_len", enabled.from);
            }
            let factor = d.number(&factor.each_ref().map(String::as_str));
            d.put_or("rewards.soft_overlong.penalty_factor", factor, 0.0);
            d.assume("rewards.soft_overlong.floor", false, "verl's line has no floor");
        }
        Some(disabled) => d.leave(&disabled.from, "without it there is no [rewards.soft_overlong]"),
        None => {}
    }
    let off = "the overlong buffer is not enabled";
    for names in [&len, &factor] {
        d.skip(&names.each_ref().map(String::as_str), off);
    }
    d.skip(&log.each_ref().map(String::as_str), "each component is always in metrics.jsonl");
    d.skip(&lengths, off);
}
