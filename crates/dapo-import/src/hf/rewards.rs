//! Reward functions by name, with their weights.

use crate::draft::{Draft, Got, places};
use dapo_run::is_own_reward;

/// Our component for a reward function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Component {
    Accuracy,
    ThinkAnswer,
    Think,
    TagCount,
    SoftOverlong,
    Repetition,
    Length,
    /// A function of the user's own.
    Own,
}

/// Where a function that the source does not have itself is found: a file and the function in it, and what to know of it.
pub(crate) type Find<'a> = &'a dyn Fn(&str) -> Option<(Got<String>, &'static str)>;

/// The source's names of reward functions.
pub(crate) type RewardNames = &'static [(&'static str, Component)];

/// The source's keys and defaults of the length reward: values of a wrong answer of length 0 and of full length, of a
/// right answer of full length and of length 0, in this order.
pub(crate) struct LengthKeys {
    pub(crate) values: [(&'static str, f64); 4],
    pub(crate) unit: &'static str,
}

const NO_MODELS: &str = "reward models cannot be carried over: answers are graded by rule";

const LENGTH: [&str; 4] = [
    "rewards.length.min_incorrect",
    "rewards.length.max_incorrect",
    "rewards.length.min_correct",
    "rewards.length.max_correct",
];

/// The components that `reward_funcs` asks for, with `reward_weights`; returns them.
pub(crate) fn rewards(
    d: &mut Draft<'_>,
    names: RewardNames,
    default: &[&str],
    length: &LengthKeys,
    max_new_tokens: &Got<i64>,
    find: Find<'_>,
) -> Vec<Component> {
    let asked = d.names(&["reward_funcs"]);
    let weights = d.numbers(&["reward_weights"]);
    let functions = match &asked {
        Some(asked) => asked.value.clone(),
        None => default.iter().map(|&name| name.to_owned()).collect(),
    };
    let from = places(asked.as_ref());
    let models = d.texts(&["reward_model"]);
    let extra = models.as_ref().map_or(0, |models| models.value.len());
    if let Some(weights) = weights.as_ref().filter(|weights| d.knows(&weights.from)) {
        let (count, given) = (functions.len(), weights.value.len());
        if given != count && given != count + extra {
            d.refuse(&weights.from, &format!("as many numbers as reward_funcs: {count}"));
        } else {
            for (i, weight) in weights.value.iter().enumerate().skip(count) {
                d.skip_part(&weights.from, i, &weight.to_string(), NO_MODELS);
            }
        }
    }
    let is_offered = |function: &String| names.iter().any(|(name, _)| name == function) || find(function).is_some();
    if let Some(weights) = weights.as_ref().filter(|weights| d.knows(&weights.from)) {
        let mut offered = functions.iter().zip(&weights.value).filter(|(function, _)| is_offered(function)).peekable();
        if offered.peek().is_some() && offered.all(|(_, weight)| *weight == 0.0) {
            d.refuse(&weights.from, "one that is not 0 for a reward that is offered here");
        }
    }
    if let Some(models) = models {
        d.note(&models.from, NO_MODELS);
        d.give_up(&models.from, NO_MODELS);
    }
    let weight_from = places(weights.as_ref());
    let mut found = Vec::new();
    for (i, function) in functions.iter().enumerate() {
        let weight = weights.as_ref().map_or(1.0, |weights| weights.value.get(i).copied().unwrap_or(f64::NAN));
        match names.iter().find(|(name, _)| name == function) {
            Some(&(_, component)) if !found.contains(&component) => {
                component_lines(d, component, Got::of(weight, &[&from, &weight_from]), &from);
                found.push(component);
            }
            Some(_) => d.skip_part(&from, i, function, "a second reward of this kind"),
            None if let Some((python, note)) = find(function) => {
                let table = format!("rewards.{}", own_name(function));
                let places = [&from[..], &python.from].concat();
                d.put(format!("{table}.python"), Got { value: python.value, from: places });
                d.put_or(format!("{table}.weight"), Some(Got::of(weight, &[&from, &weight_from])), 1.0);
                d.note(&from, format!("{function}: {note}"));
                found.push(Component::Own);
            }
            None => {
                let reason = "no such reward here; a function of your own can take its place";
                d.note(&from, format!("{function}: {reason}"));
                d.skip_part(&from, i, function, reason);
            }
        }
    }
    if !d.knows(&from) {
        d.leave_open("rewards.accuracy.weight", from.clone());
    } else if found.is_empty() {
        d.note(
            &from,
            "no reward function has a counterpart here: rewards.accuracy keeps its weight; give [rewards] what the run \
             should be rewarded for",
        );
        d.give_up(&from, "no reward function has a counterpart here");
        d.give_up(&weight_from, "no reward function has a counterpart here");
    } else if !found.contains(&Component::Accuracy) && !found.contains(&Component::Own) {
        d.put_or("rewards.accuracy.weight", Some(Got { value: 0.0, from: from.clone() }), 0.0);
        d.note(&from, "accuracy is not asked for: it is measured with weight 0");
    }
    if found.contains(&Component::Length) {
        for ((key, default), ours) in length.values.into_iter().zip(LENGTH) {
            let value = d.number(&[key]);
            d.put_or(ours, value, default);
        }
        let longest = d.count(&["cosine_max_len"], 1);
        let default = if length.unit == "tokens" { max_new_tokens.clone() } else { Got::default(1000) };
        d.put_or("rewards.length.max_len", Some(longest.unwrap_or(default)), 1000);
        d.assume("rewards.length.unit", length.unit, "as the source counts");
    }
    if found.contains(&Component::Repetition) {
        let size = d.count(&["repetition_n_grams"], 1);
        d.put_or("rewards.repetition.ngram_size", size, 3);
        let penalty = d.number(&["repetition_max_penalty"]);
        d.put_or("rewards.repetition.max_penalty", penalty, -1.0);
    }
    d.skip_by(&[
        (&["cosine_*"], "reward_funcs does not ask for cosine"),
        (&["repetition_n_grams", "repetition_max_penalty"], "reward_funcs does not ask for repetition"),
    ]);
    found
}

/// The name of a reward of one's own: the function's, where it is no other reward's.
fn own_name(function: &str) -> String {
    let last = function.rsplit(['.', ':']).next().unwrap_or(function);
    let plain: String = last.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if is_own_reward(&format!("rewards.{plain}")) { plain } else { format!("own_{plain}") }
}

fn component_lines(d: &mut Draft<'_>, component: Component, weight: Got<f64>, from: &[usize]) {
    let place = Got { value: (), from: from.to_vec() };
    let key = match component {
        Component::Accuracy => "rewards.accuracy.weight",
        Component::ThinkAnswer | Component::Think => "rewards.format.weight",
        Component::TagCount => "rewards.tag_count.weight",
        Component::SoftOverlong => "rewards.soft_overlong.weight",
        Component::Repetition => "rewards.repetition.weight",
        Component::Length => "rewards.length.weight",
        Component::Own => return,
    };
    d.put_or(key, Some(weight), 1.0);
    match component {
        Component::Accuracy => {
            d.assume("rewards.accuracy.correct", 1.0, "as the source's accuracy reward");
            d.assume("rewards.accuracy.incorrect", 0.0, "as the source's accuracy reward");
        }
        Component::ThinkAnswer => {
            d.put_or("rewards.format.pattern", Some(place.map(|()| "think-answer")), "think-answer");
        }
        Component::Think => d.put_or("rewards.format.pattern", Some(place.map(|()| "think")), "think"),
        _ => {}
    }
}
