//! Settings in layers: recipes, files and single values, from left to right.

mod read;

use crate::error::{KeyError, KeyFault};
use crate::keys::nearest_of;
use crate::recipes::recipes;
use crate::{RunConfig, SettingsError, write};
use read::{Assignment, Reader};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// One source of settings. What a later layer sets replaces what an earlier one did, key by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A recipe of this crate, by its name.
    Recipe(String),
    /// A TOML file. Paths in it stay as they are written: relative to the working directory.
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

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// No layer sets it.
    Default,
    /// A recipe.
    Recipe {
        /// Its name.
        name: String,
    },
    /// A file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
    },
    /// An override.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Recipe { name } => write!(f, "recipe {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Merged settings, and where each comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The settings.
    pub config: RunConfig,
    sources: BTreeMap<String, Source>,
}

impl Resolved {
    /// Where a setting's value comes from, such as `optimizer.lr`.
    pub fn source_of(&self, key: &str) -> &Source {
        self.sources.get(&crate::keys::canonical(key)).unwrap_or(&Source::Default)
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
        write::write(&self.config, |key| match self.sources.get(key) {
            None | Some(Source::Default) => Some("default".to_owned()),
            Some(source) => Some(format!("from {source}")),
        })
    }
}

/// Merges layers from left to right over the defaults: tables key by key, everything else replaced.
///
/// # Errors
/// When a file cannot be read, a text is not TOML, there is no such recipe; or with all keys at once that do not exist
/// or have a value they cannot take. Ranges and what settings mean for one another are not checked here.
///
/// ```
/// use dapo_run::{Layer, resolve};
/// let words = ["dapo", "rollout.group_size=16", "optimizer.lr=1e-5"];
/// let layers = words.map(Layer::parse).into_iter().collect::<Result<Vec<_>, _>>()?;
/// let resolved = resolve(&layers)?;
/// assert_eq!((resolved.config.rollout.group_size, resolved.config.loss.clip_high), (16, Some(0.28)));
/// assert_eq!(resolved.source_of("loss.clip_high").to_string(), "recipe dapo");
///
/// let wrong = Layer::parse("optimizer.learning_rate=1e-5")?;
/// let error = resolve(&[wrong]).unwrap_err().to_string();
/// assert_eq!(error, "command line: unknown key optimizer.learning_rate; did you mean optimizer.lr?");
/// # Ok::<(), dapo_run::SettingsError>(())
/// ```
pub fn resolve(layers: &[Layer]) -> Result<Resolved, SettingsError> {
    let mut merged = BTreeMap::new();
    let mut errors = Vec::new();
    for layer in layers {
        match layer {
            Layer::Recipe(name) => {
                let recipe = recipes().iter().find(|recipe| recipe.name == name);
                let unknown = || SettingsError::Recipe { name: name.clone(), hint: recipe_hint(name) };
                let place = |_| Source::Recipe { name: name.clone() };
                merge(&mut merged, Reader::new(&place, &mut errors).document(recipe.ok_or_else(unknown)?.text)?);
            }
            Layer::File(path) => {
                let io = |error| SettingsError::Io { path: path.clone(), error };
                let text = std::fs::read_to_string(path).map_err(io)?;
                let place = |line| Source::File { path: path.clone(), line };
                merge(&mut merged, Reader::new(&place, &mut errors).document(&text)?);
            }
            Layer::Override(word) => {
                let mut reader = Reader::new(&|_| Source::CommandLine, &mut errors);
                if let Some(removed) = reader.removal(word)? {
                    let below = format!("{removed}.");
                    merged.retain(|path: &String, _| *path != removed && !path.starts_with(&below));
                } else {
                    merge(&mut merged, reader.assignment(word)?);
                }
            }
        }
    }
    if !errors.is_empty() {
        return Err(SettingsError::Keys(errors));
    }
    let config = toml::from_str(&document(&merged)).map_err(|error| SettingsError::Keys(culprits(&merged, &error)))?;
    Ok(Resolved { config, sources: merged.into_iter().map(|(path, (_, source))| (path, source)).collect() })
}

/// The TOML of each key's value and its source. A table that is present has the value `{}`.
type Merged = BTreeMap<String, (String, Source)>;

fn merge(merged: &mut Merged, assignments: Vec<Assignment>) {
    merged.extend(assignments.into_iter().map(|a| (a.path, (a.value, a.source))));
}

fn document(merged: &Merged) -> String {
    let empty = |path: &str| merged.range(format!("{path}.")..format!("{path}/")).next().is_none();
    let lines = merged.iter().filter(|(path, (value, _))| value != "{}" || empty(path));
    lines.map(|(path, (value, _))| format!("{path} = {value}")).collect::<Vec<_>>().join("\n")
}

/// The values that the settings' types refuse although their kind is right: numbers too large.
fn culprits(merged: &Merged, error: &toml::de::Error) -> Vec<KeyError> {
    let mut errors = Vec::new();
    for (path, (value, source)) in merged {
        if let Err(error) = toml::from_str::<RunConfig>(&format!("{path} = {value}")) {
            let fault = KeyFault::Value { found: value.clone(), expected: error.message().to_owned() };
            errors.push(KeyError { place: source.clone(), key: path.clone(), fault });
        }
    }
    if errors.is_empty() {
        let fault = KeyFault::Value { found: "what it is".into(), expected: error.message().to_owned() };
        errors.push(KeyError { place: Source::Default, key: "settings".into(), fault });
    }
    errors
}
