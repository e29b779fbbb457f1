//! What there is to say of one setting.

use crate::keys::{Key, Kind, LAYOUT, OWN_LAYOUT, canonical, join, key_table_of, nearest_keys, split};
use crate::layers::{Layer, resolve};
use crate::run_error::RunError;
use crate::settings::CODE;
use std::fmt::Write;

/// One setting for people: type, default, bounds, description and an example. Of a table, the list of its settings.
///
/// The bounds are what the checks of settings say about values that are not allowed.
///
/// # Errors
/// When there is neither a setting nor a table of this name: the nearest ones.
///
/// ```
/// let text = dapo_run::describe_key("rollout.group_size").unwrap();
/// assert!(text.contains("\n  default      8\n") && text.contains("\n  bounds       at least 2: "));
/// let near = dapo_run::describe_key("optimizer.learning_rate").unwrap_err();
/// assert_eq!(near[0], "optimizer.lr");
/// ```
pub fn describe_key(name: &str) -> Result<String, Vec<String>> {
    let path = canonical(name.trim_end_matches('.'));
    // A table's own key of that name is what a value in its place sets.
    let is_table = LAYOUT.table(&path).is_some() && !path.is_empty();
    if is_table && LAYOUT.key(&path).is_none() {
        return Ok(key_table_of(&path));
    }
    let Some(key) = LAYOUT.key(&path) else { return Err(nearest_keys(&path)) };
    let is_own = OWN_LAYOUT.keys.iter().any(|own| own.path == key.path);
    // A table's name may say which kind it is.
    let of_kind = Some(split(&path).0).filter(|table| *table == join("rewards", CODE)).and_then(|_| key.for_kind(CODE));
    let key = of_kind.as_ref().unwrap_or(key);
    let mut text = format!("{path}\n");
    let mut row = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    if path != name {
        row("instead of", name);
    }
    row("type", &key.kind.to_string());
    row("default", &key.shown_default());
    if !is_own && let Some(bounds) = bounds(key) {
        row("bounds", &bounds);
    }
    if key.optional {
        row("unset by", &format!("{path}="));
    }
    if let Some((by, names)) = LAYOUT.condition(&path) {
        row("only with", &format!("{by} = {}", names.join(", ")));
    }
    row("description", &key.description);
    if !is_own {
        row("example", &format!("dapo train dapo {}", example(key)));
    }
    Ok(text)
}

/// Values that some settings do not allow, the likeliest mistakes first.
fn probes(kind: &Kind) -> &'static [&'static str] {
    match kind {
        Kind::Integer | Kind::IntegerOr(_) => &["0", "1"],
        Kind::Number => &["0.0", "nan", "-1.0", "inf", "2.0"],
        _ => &[],
    }
}

/// What is allowed, in the words of the first check that fails.
fn bounds(key: &Key) -> Option<String> {
    probes(&key.kind).iter().find_map(|value| match validated(key, value) {
        // What another setting forbids is no bound.
        Err(Some(expected)) if !expected.starts_with("unset ") => Some(expected),
        _ => None,
    })
}

/// Checks a value among default settings; an error of this setting says what is expected.
fn validated(key: &Key, value: &str) -> Result<(), Option<String>> {
    let path = &key.path;
    let layers: Vec<Layer> =
        condition(path).into_iter().chain([format!("{path}={value}")]).map(Layer::Override).collect();
    let resolved = resolve(&layers).map_err(|_| None)?;
    resolved.config.validate().map_err(|error| match error {
        RunError::Setting { key, expected, .. } if key == *path => Some(expected),
        _ => None,
    })
}

/// The setting without which a table does not have this key.
fn condition(path: &str) -> Option<String> {
    LAYOUT.condition(path).and_then(|(by, names)| Some(format!("{by}={}", names.first()?)))
}

/// A setting with a value that is allowed and is not the default, where one is known.
fn example(key: &Key) -> String {
    let candidates: Vec<String> = match &key.kind {
        Kind::Flag => ["true", "false"].map(str::to_owned).to_vec(),
        Kind::Integer => ["8", "2", "64"].map(str::to_owned).to_vec(),
        Kind::Number => {
            let half =
                key.default.as_ref().and_then(|default| default.parse::<f64>().ok()).map(|default| default / 2.0);
            let half = half.filter(|half| *half != 0.0 && half.is_finite()).map(|half| format!("{half:?}"));
            half.into_iter().chain(["0.5", "0.1", "1.5", "1e-6"].map(str::to_owned)).collect()
        }
        Kind::Choice(names) | Kind::Choices(names) | Kind::IntegerOr(names) => names.clone(),
        Kind::Text | Kind::Texts | Kind::Table => Vec::new(),
    };
    let is_default = |value: &String| key.default.as_ref().is_some_and(|default| default.trim_matches('"') == value);
    let good = candidates.iter().find(|value| !is_default(value) && validated(key, value).is_ok());
    let text = match &key.kind {
        Kind::Text | Kind::Texts => example_text(&key.path),
        Kind::Table => "{}".to_owned(),
        _ => good.cloned().or_else(|| key.default.clone()).or(candidates.into_iter().next()).unwrap_or_default(),
    };
    let setting = format!("{}={text}", key.path);
    condition(&key.path).map_or(setting.clone(), |condition| format!("{condition} {setting}"))
}

/// A text that makes sense.
fn example_text(path: &str) -> String {
    let text = match path {
        "model.path" => "Qwen/Qwen3-0.6B",
        "model.device" => "cpu",
        "data.train" | "data.validation" => "problems.jsonl",
        "data.fields.prompt" => "question",
        "data.fields.answer" => "answer",
        "data.suffix" => "' Think step by step.'",
        "data.system" => "'You are a careful solver.'",
        "rollout.stop" | "eval.stop" => "'</answer>'",
        "output.keep_best" => "eval/avg_at_k",
        _ => "TEXT",
    };
    text.to_owned()
}
