//! What shells complete: recipes, settings and their values.

use clap_complete::CompletionCandidate;
use clap_complete::engine::{PathCompleter, ValueCompleter};
use dapo_run::{Key, Kind, keys, recipes, tables};
use std::ffi::OsStr;
use std::path::Path;

/// Words of a command that takes layers of settings: recipes, TOML files, `KEY=`, and behind that its values.
pub(crate) fn layers(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = current.to_str() else { return Vec::new() };
    if let Some((path, value)) = typed.split_once('=') {
        return values(path, value);
    }
    let mut found = recipe_names(typed);
    found.extend(starting(typed, |key| format!("{}=", key.path)));
    let is_toml = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    found.extend(PathCompleter::file().filter(is_toml).complete(current));
    found
}

/// Names of recipes.
pub(crate) fn recipe(current: &OsStr) -> Vec<CompletionCandidate> {
    current.to_str().map(recipe_names).unwrap_or_default()
}

/// Names of tables and settings.
pub(crate) fn key(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = current.to_str() else { return Vec::new() };
    let of_tables = tables().filter(|(path, _)| path.starts_with(typed));
    let mut found: Vec<CompletionCandidate> =
        of_tables.map(|(path, about)| CompletionCandidate::new(path).help(Some(about.to_owned().into()))).collect();
    found.extend(starting(typed, |key| key.path.clone()));
    found
}

fn recipe_names(typed: &str) -> Vec<CompletionCandidate> {
    let found = recipes().iter().filter(|recipe| recipe.name.starts_with(typed));
    found.map(|recipe| CompletionCandidate::new(recipe.name).help(Some(recipe.summary.into()))).collect()
}

fn starting(typed: &str, word: impl Fn(&Key) -> String) -> Vec<CompletionCandidate> {
    let found = keys().iter().filter(|key| key.path.starts_with(typed));
    found.map(|key| CompletionCandidate::new(word(key)).help(Some(key.description.clone().into()))).collect()
}

/// The values of a setting that are names, and its default.
fn values(path: &str, typed: &str) -> Vec<CompletionCandidate> {
    // What stands in the place of a table is its name.
    let named = format!("{path}.name");
    let Some(key) = keys().iter().find(|key| key.path == path || key.path == named) else { return Vec::new() };
    let mut names: Vec<String> = match &key.kind {
        Kind::Flag => vec!["true".into(), "false".into()],
        Kind::Choice(names) | Kind::Choices(names) | Kind::IntegerOr(names) => names.clone(),
        _ if key.path == "model.device" => ["auto", "cpu", "cuda"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    };
    let default = key.default.as_deref().filter(|text| !text.contains(['"', '[', ' ']));
    names.extend(default.map(str::to_owned).filter(|default| !names.contains(default)));
    let found = names.into_iter().filter(|name| name.starts_with(typed));
    found.map(|name| CompletionCandidate::new(format!("{path}={name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(found: &[CompletionCandidate]) -> Vec<String> {
        found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn settings_complete_in_two_steps() {
        assert_eq!(words(&layers("optimizer.sch".as_ref())), ["optimizer.schedule="]);
        assert_eq!(
            words(&layers("optimizer.schedule=".as_ref())),
            ["optimizer.schedule=constant", "optimizer.schedule=linear", "optimizer.schedule=cosine"]
        );
        assert_eq!(words(&layers("optimizer.schedule=co".as_ref())).len(), 2);
        assert_eq!(words(&layers("output.completions=f".as_ref())), ["output.completions=false"]);
        assert_eq!(words(&layers("optimizer.beta1=".as_ref())), ["optimizer.beta1=0.9"]);
        assert!(words(&layers("loss.policy_loss=g".as_ref())).contains(&"loss.policy_loss=gspo".to_owned()));
        assert!(words(&layers("no.such=".as_ref())).is_empty());
        assert_eq!(words(&recipe("verl-dapo-e".as_ref())), ["verl-dapo-early"]);
        let words = words(&key("reference_s".as_ref()));
        assert_eq!(words, ["reference_sync", "reference_sync.every", "reference_sync.mixup"]);
    }
}
