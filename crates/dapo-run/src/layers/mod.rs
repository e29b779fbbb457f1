//! Settings in layers: recipes, files and single values, from left to right.

mod merge;
mod own;
mod read;

use crate::error::{KeyError, SettingsError};
use crate::keys::{LAYOUT, canonical, nearest_of};
use crate::recipes::{recipes, text_of};
use crate::settings::{Algorithm, RunConfig};
use crate::source::Source;
use crate::write::write;
use dapo_files::read_text;
use merge::{Merged, unquoted};
use read::{Assignment, Reader};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One source of settings. What a later layer sets replaces what an earlier one did, key by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A recipe of this crate, by its name.
    Recipe(String),
    /// A TOML file. Paths in it stay as they are written, relative to the working directory; those of commands and Python
    /// functions that score are relative to the file's folder.
    File(PathBuf),
    /// One setting, `key.path=value`; `key.path=` takes the setting, or a whole table, out again, so that its default
    /// holds.
    Override(String),
}

impl Layer {
    /// What a word of a command line means.
    ///
    /// In this order: an override, if it has a `=` with nothing but letters, digits, `_`, `-` and `.` before it; a
    /// file, if it ends in `.toml` or has a path separator; a recipe.
    ///
    /// # Errors
    /// When it is none of these; the nearest recipe is named.
    ///
    /// ```
    /// use dapo_run::Layer;
    /// assert_eq!(Layer::parse("dapo")?, Layer::Recipe("dapo".into()));
    /// assert_eq!(Layer::parse("runs/first.toml")?, Layer::File("runs/first.toml".into()));
    /// assert_eq!(Layer::parse("optimizer.lr=1e-5")?, Layer::Override("optimizer.lr=1e-5".into()));
    /// let error = Layer::parse("clip-hihger").unwrap_err().to_string();
    /// assert!(error.ends_with("did you mean clip-higher?"));
    /// # Ok::<(), dapo_run::SettingsError>(())
    /// ```
    pub fn parse(word: &str) -> Result<Self, SettingsError> {
        let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if word.split_once('=').is_some_and(|(key, _)| is_key(key.trim())) {
            return Ok(Self::Override(word.to_owned()));
        }
        if word.contains(std::path::is_separator) || Path::new(word).extension().is_some_and(|e| e == "toml") {
            return Ok(Self::File(word.into()));
        }
        match recipes().iter().find(|recipe| recipe.name == word) {
            None if word.contains('.') && LAYOUT.target(&canonical(word)).is_some() => {
                Err(SettingsError::NoValue { word: word.to_owned() })
            }
            Some(_) => Ok(Self::Recipe(word.to_owned())),
            None => Err(SettingsError::Word { word: word.to_owned(), hint: recipe_hint(word) }),
        }
    }
}

fn recipe_hint(word: &str) -> String {
    let names = || recipes().iter().map(|recipe| recipe.name);
    match nearest_of(word, names()) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("the recipes are {}", names().collect::<Vec<_>>().join(", ")),
    }
}

/// Merged settings, and where each comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The settings.
    pub config: RunConfig,
    sources: BTreeMap<String, Source>,
    warnings: Vec<String>,
}

impl Resolved {
    /// Where a setting's value comes from, such as `optimizer.lr`.
    pub fn source_of(&self, key: &str) -> &Source {
        // An item of a list, `rollout.stop[0]`, comes from where the list does.
        let key = key.split_once('[').map_or(key, |(list, _)| list);
        self.sources.get(&canonical(key)).unwrap_or(&Source::Default)
    }

    /// What is deprecated in the layers, and what a layer took out of those below it by another name; each with its place.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// As [`RunConfig::to_toml`].
    ///
    /// # Errors
    /// As there.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        self.config.to_toml()
    }

    /// The same, with each value's origin in a comment.
    ///
    /// # Errors
    /// As [`RunConfig::to_toml`].
    pub fn to_annotated_toml(&self) -> Result<String, SettingsError> {
        write(&self.config, |key| match self.sources.get(key) {
            None | Some(Source::Default) => Some("default".to_owned()),
            Some(source) => Some(format!("from {source}")),
        })
    }
}

/// Merges layers from left to right over the defaults: tables key by key, everything else replaced.
///
/// A table that has a `name` may be written as that name alone. A layer that changes the name drops the constants that
/// layers below it set for the one before. `none` unsets what may be unset. Keys of older versions work, with a warning.
/// The settings of the `algorithm` that the layers leave set lie beneath all of them.
///
/// # Errors
/// When a file cannot be read, a text is not TOML, there is no such recipe; or with all keys at once that do not exist
/// or have a value they cannot take. Ranges and what settings mean for one another are not checked here.
///
/// ```
/// use dapo_run::{Layer, resolve};
/// let layers = [Layer::Recipe("dapo".into()), Layer::Override("rollout.group_size=16".into())];
/// let resolved = resolve(&layers)?;
/// assert_eq!(resolved.config.rollout.group_size, 16);
/// assert_eq!(resolved.source_of("loss.policy_loss.clip.high").to_string(), "recipe dapo");
/// # Ok::<(), dapo_run::SettingsError>(())
/// ```
pub fn resolve(layers: &[Layer]) -> Result<Resolved, SettingsError> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let mut changes = Vec::new();
    for layer in layers {
        let assignments = match layer {
            Layer::Recipe(name) => {
                let recipe = recipes().iter().find(|recipe| recipe.name == name);
                let unknown = || SettingsError::Recipe { name: name.clone(), hint: recipe_hint(name) };
                let place = |_| Source::Recipe { name: name.clone() };
                let text = recipe.ok_or_else(unknown)?.text;
                Reader::new(&place, &mut errors, &mut warnings).document(text)?
            }
            Layer::File(path) => {
                let io = |error| SettingsError::Io { path: path.clone(), error };
                let text = read_text(path).map_err(io)?;
                let place = |line| Source::File { path: path.clone(), line };
                Reader::new(&place, &mut errors, &mut warnings).document(&text)?
            }
            Layer::Override(word) => {
                let mut reader = Reader::new(&|_| Source::CommandLine, &mut errors, &mut warnings);
                if let Some(removed) = reader.removal(word)? {
                    changes.push(Change::Remove(removed));
                    continue;
                }
                reader.assignment(word)?
            }
        };
        changes.push(Change::Lay(assignments));
    }
    merge(changes, errors, warnings)
}

/// Merges the layers that the words of a command line name, such as those of `dapo train`.
///
/// # Errors
/// As [`Layer::parse`] and [`resolve`].
///
/// ```
/// use dapo_run::resolve_words;
/// let resolved = resolve_words(["dapo", "rollout.group_size=16", "optimizer.lr=1e-5"])?;
/// assert_eq!((resolved.config.rollout.group_size, resolved.config.optimizer.lr), (16, 1e-5));
///
/// let error = resolve_words(["optimizer.learning_rate=1e-5"]).unwrap_err().to_string();
/// assert_eq!(error, "command line: unknown key optimizer.learning_rate; did you mean optimizer.lr?");
/// # Ok::<(), dapo_run::SettingsError>(())
/// ```
pub fn resolve_words(words: impl IntoIterator<Item: AsRef<str>>) -> Result<Resolved, SettingsError> {
    let layers: Vec<Layer> = words.into_iter().map(|word| Layer::parse(word.as_ref())).collect::<Result<_, _>>()?;
    resolve(&layers)
}

/// Settings of one text, such as a file that is still to be written, over the defaults. Errors name `path` as its file.
///
/// # Errors
/// As [`resolve`] of a file.
pub fn resolve_text(text: &str, path: &Path) -> Result<Resolved, SettingsError> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let place = |line| Source::File { path: path.to_owned(), line };
    let assignments = Reader::new(&place, &mut errors, &mut warnings).document(text)?;
    merge(vec![Change::Lay(assignments)], errors, warnings)
}

/// What a layer does to those before it.
enum Change {
    Lay(Vec<Assignment>),
    Remove(String),
}

const ALGORITHM: &str = "algorithm";

/// The algorithm that the layers leave set.
fn algorithm_of(changes: &[Change]) -> Option<Algorithm> {
    let name = changes.iter().fold(None, |before, change| match change {
        Change::Lay(assignments) => match assignments.iter().find(|assignment| assignment.path == ALGORITHM) {
            Some(assignment) => assignment.value.as_deref(),
            None => before,
        },
        Change::Remove(path) => before.filter(|_| path != ALGORITHM),
    });
    name.and_then(|name| Algorithm::named(unquoted(name)))
}

/// Merges layers over the settings of the algorithm that they name.
fn merge(
    changes: Vec<Change>,
    mut errors: Vec<KeyError>,
    mut warnings: Vec<String>,
) -> Result<Resolved, SettingsError> {
    let mut merged = match algorithm_of(&changes) {
        Some(algorithm) => {
            let place = |_| Source::Algorithm { name: algorithm.name() };
            Merged::over(Reader::new(&place, &mut errors, &mut warnings).document(text_of(algorithm))?)
        }
        None => Merged::default(),
    };
    for change in changes {
        match change {
            Change::Lay(assignments) => merged.lay(assignments, &mut warnings),
            Change::Remove(path) => merged.remove(&path),
        }
    }
    resolved(merged, errors, warnings)
}

fn resolved(mut merged: Merged, mut errors: Vec<KeyError>, warnings: Vec<String>) -> Result<Resolved, SettingsError> {
    if errors.is_empty() {
        merged.finish(&mut errors);
    }
    if !errors.is_empty() {
        return Err(SettingsError::Keys(errors));
    }
    let mut config: RunConfig =
        toml::from_str(&merged.document()).map_err(|error| SettingsError::Keys(merged.culprits(&error)))?;
    if (config.rewards.own.have_external() || config.env.is_some()) && !merged.sets_accuracy() {
        config.rewards.accuracy = None;
    }
    Ok(Resolved { config, sources: merged.sources(), warnings })
}
