//! Where models come from.

use crate::checkpoints::check_files;
use crate::folder::RunFolder;
use crate::run_error::RunError;
use crate::trust::Trust;
use dapo_files::read_file;
use dapo_policy::{Decoder, ModelConfig, PolicyError, Tokenizer};
use dapo_trainer::{Manifest, step_of_name};
use std::fs;
use std::path::{Path, PathBuf};

/// The tiny model that comes with the crate: a Qwen3 of half a million parameters that half knows how to add.
pub const TINY: &str = "builtin:tiny";

/// The files of the tiny model.
const TINY_FILES: [(&str, &[u8]); 6] = [
    ("chat_template.jinja", include_bytes!("../builtin/tiny-qwen3/chat_template.jinja")),
    ("config.json", include_bytes!("../builtin/tiny-qwen3/config.json")),
    ("generation_config.json", include_bytes!("../builtin/tiny-qwen3/generation_config.json")),
    ("model.safetensors", include_bytes!("../builtin/tiny-qwen3/model.safetensors")),
    ("tokenizer.json", include_bytes!("../builtin/tiny-qwen3/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../builtin/tiny-qwen3/tokenizer_config.json")),
];

/// The file that makes a folder an adapter's.
const ADAPTER: &str = "adapter_config.json";

/// What of a model is downloaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    All,
    /// All but the weights.
    Outline,
}

/// A model that can be loaded.
#[derive(Debug)]
pub struct ModelSource {
    path: PathBuf,
    /// What leads to the same model again.
    name: String,
    trust: Trust,
}

impl ModelSource {
    /// Finds a model: a Hugging Face folder, a GGUF file, an adapter's folder, a run folder (its last checkpoint), one of its
    /// checkpoints, or `builtin:tiny`. With the feature `hub` also a hub id such as `Qwen/Qwen3-0.6B`, which is downloaded.
    ///
    /// # Errors
    /// When there is no such model, or its checkpoint's files are not as they were written.
    pub fn find(name: &str, revision: &str) -> Result<Self, RunError> {
        Self::find_with(name, revision, Trust::Verified)
    }

    /// As [`find`](Self::find), where checkpoints of older versions may be accepted.
    ///
    /// # Errors
    /// As there.
    pub fn find_with(name: &str, revision: &str, trust: Trust) -> Result<Self, RunError> {
        Self::find_parts(name, revision, trust, Parts::All)
    }

    /// As [`find_with`](Self::find_with), where a model of the hub is downloaded without its weights: it can be described, and
    /// not loaded.
    pub(crate) fn outline(name: &str, revision: &str, trust: Trust) -> Result<Self, RunError> {
        Self::find_parts(name, revision, trust, Parts::Outline)
    }

    fn find_parts(name: &str, revision: &str, trust: Trust, parts: Parts) -> Result<Self, RunError> {
        if name == TINY {
            return Ok(Self { path: TINY.into(), name: TINY.into(), trust });
        }
        if name.is_empty() {
            let expected = "a folder, a file, a hub id, or builtin:tiny";
            return Err(RunError::setting("model.path", "not set", expected));
        }
        let path = Path::new(name);
        if path.exists() {
            let path = inside(path, trust)?;
            let name = fs::canonicalize(&path).map_err(RunError::io(&path))?;
            return Ok(Self { path, name: name.to_string_lossy().into_owned(), trust });
        }
        from_hub(name, revision, trust, parts)
    }

    /// The folder or file with the model's weights; of the tiny model, its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What leads to the same model again, from any folder and when its run has gone on: for an adapter, its base model.
    ///
    /// # Errors
    /// When an adapter does not name its base.
    pub fn base(&self) -> Result<String, RunError> {
        if self.is_adapter() {
            return Ok(dapo_policy::adapter_base(&self.path)?);
        }
        Ok(self.name.clone())
    }

    /// The model's sizes, without its weights where the files allow it.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn config(&self) -> Result<ModelConfig, RunError> {
        if self.is_adapter() {
            return self.base_source()?.config();
        }
        let file = self.path.join("config.json");
        if self.is_tiny() {
            let json = serde_json::from_slice(tiny_file("config.json")).map_err(std::io::Error::from);
            return Ok(ModelConfig::from_json(&json.map_err(RunError::io(&file))?, &file)?);
        }
        if !file.exists() {
            return Ok(dapo_policy::load_checkpoint(&self.path)?.config);
        }
        let text = read_file(&file).map_err(RunError::io(&file))?;
        let json = serde_json::from_slice(&text).map_err(std::io::Error::from).map_err(RunError::io(&file))?;
        Ok(ModelConfig::from_json(&json, &file)?)
    }

    /// The model's tokenizer, without the weights where the files allow it.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn tokenizer(&self) -> Result<Tokenizer, RunError> {
        if self.is_adapter() {
            return Ok(dapo_policy::adapter_tokenizer(&self.path, self.base_source()?.tokenizer()?)?);
        }
        if self.path.is_dir() { Ok(Tokenizer::from_folder(&self.path)?) } else { Ok(self.load()?.1) }
    }

    /// Loads the model and its tokenizer.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(&self) -> Result<(Decoder, Tokenizer), RunError> {
        if self.is_tiny() {
            return Ok(dapo_policy::load_in_memory(TINY, &TINY_FILES)?);
        }
        if !self.is_adapter() {
            return Ok(dapo_policy::load(&self.path)?);
        }
        let (decoder, tokenizer) = self.base_source()?.load()?;
        let tokenizer = dapo_policy::adapter_tokenizer(&self.path, tokenizer)?;
        Ok((dapo_policy::load_adapter(&self.path, decoder)?, tokenizer))
    }

    pub(crate) fn is_tiny(&self) -> bool {
        self.name == TINY
    }

    /// Where the model is that this adapter is for; `None` for a model.
    ///
    /// # Errors
    /// When the base model is missing.
    pub(crate) fn base_path(&self) -> Result<Option<PathBuf>, RunError> {
        self.is_adapter().then(|| Ok(self.base_source()?.path)).transpose()
    }

    pub(crate) fn is_adapter(&self) -> bool {
        !self.is_tiny() && self.path.join(ADAPTER).exists()
    }

    /// The model that this adapter is for: one with weights, so that no chain of adapters leads back to its start.
    fn base_source(&self) -> Result<Self, RunError> {
        let name = dapo_policy::adapter_base(&self.path)?;
        let base = Self::find_with(&name, "main", self.trust)?;
        if base.is_adapter() {
            let (file, field) = (self.path.join(ADAPTER), "base_model_name_or_path".to_owned());
            let (found, expected) = (format!("{name:?}"), "a model, not an adapter".to_owned());
            return Err(PolicyError::Field { file, field, found, expected }.into());
        }
        Ok(base)
    }
}

/// The folders of a checkpoint that hold a model.
const PARTS: [&str; 2] = ["model", "adapter"];

/// The model in a folder: its own, or that of a checkpoint in it. Of a checkpoint, its files are checked.
fn inside(path: &Path, trust: Trust) -> Result<PathBuf, RunError> {
    if path.join(RunFolder::CHECKPOINTS).is_dir() {
        let run = RunFolder::at(path);
        let Some((steps, checkpoint)) = run.last_checkpoint()? else {
            return Err(RunError::folder(path, "a run without a checkpoint", "at least one, to take the model from"));
        };
        return inside(&checkpoint, trust).map_err(|error| other_checkpoint(&run, steps, error));
    }
    if is_checkpoint(path)
        && let Some(part) = PARTS.iter().find(|part| path.join(part).is_dir())
    {
        check_model(path, part, trust)?;
        return Ok(path.join(part));
    }
    let part = PARTS.iter().find(|part| path.file_name().is_some_and(|name| name == **part));
    if let (Some(part), Some(checkpoint)) = (part, path.parent().filter(|parent| is_checkpoint_around(parent))) {
        check_model(checkpoint, part, trust)?;
    }
    Ok(path.to_owned())
}

/// Whether a folder is a trainer's checkpoint, even where files of it are missing: it holds a model and is none.
fn is_checkpoint(path: &Path) -> bool {
    let holds_a_model = || PARTS.iter().any(|part| path.join(part).join(config_of(part)).exists());
    ["trainer.json", Manifest::FILE].iter().any(|file| path.join(file).exists())
        || (holds_a_model() && !path.join("config.json").exists())
}

/// The same of the folder around a model, which may be called `model` anywhere.
fn is_checkpoint_around(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    is_checkpoint(path) && (name.and_then(step_of_name).is_some() || path.join("trainer.json").exists())
}

/// The configuration of a checkpoint's part.
fn config_of(part: &str) -> &'static str {
    if part == "adapter" { ADAPTER } else { "config.json" }
}

fn check_model(checkpoint: &Path, part: &str, trust: Trust) -> Result<(), RunError> {
    check_files(checkpoint, trust, |name| name.split('/').next() == Some(part)).map(|_| ())
}

/// The error of a run's last checkpoint, with the newest one whose model is intact.
fn other_checkpoint(run: &RunFolder, steps: u64, error: RunError) -> RunError {
    let others = run.checkpoints().unwrap_or_default().into_iter().rev().filter(|(other, _)| *other != steps);
    let is_intact = |path: &PathBuf| inside(path, Trust::Verified).is_ok();
    let hint = match others.map(|(_, path)| path).find(is_intact) {
        Some(path) => format!("the newest intact checkpoint is {}", path.display()),
        None => "no other checkpoint is intact".into(),
    };
    RunError::Damaged { source: Box::new(error), hint }
}

/// A file of the tiny model.
fn tiny_file(name: &str) -> &'static [u8] {
    TINY_FILES.iter().find(|(file, _)| *file == name).map_or(&[], |(_, bytes)| bytes)
}

/// Why a name that is no path may be meant as one, which is not looked for on the hub: where it says so, or stands in a
/// folder that exists.
#[cfg(feature = "hub")]
fn looks_like_a_path(name: &str) -> bool {
    let path = Path::new(name);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    !name.starts_with("hf://")
        && (name.matches('/').count() > 1 || name.starts_with(['.', '/', '~']) || parent.is_some_and(Path::is_dir))
}

#[cfg(feature = "hub")]
fn from_hub(name: &str, revision: &str, trust: Trust, parts: Parts) -> Result<ModelSource, RunError> {
    use crate::downloads::report;
    use dapo_hub::{Hub, HubPath};
    if looks_like_a_path(name) {
        let expected =
            format!("one that exists, or hf://{} for a model on the hub", name.trim_start_matches(['.', '/']));
        return Err(RunError::folder(Path::new(name), "neither a folder nor a file", expected));
    }
    let Ok(HubPath::Model { id, revision: pinned }) = name.parse() else {
        let expected = "a folder, a GGUF file, ORG/NAME on the hub, or builtin:tiny";
        return Err(RunError::NoModel { name: name.into(), expected });
    };
    let revision = if pinned == "main" { revision } else { &pinned };
    let hub = Hub::from_env()?;
    let path = match parts {
        Parts::All => hub.model(&id, revision, &mut report),
        Parts::Outline => hub.model_outline(&id, revision, &mut report),
    };
    let path = path.map_err(|error| match name.starts_with("hf://") {
        true => RunError::from(error),
        false => RunError::HubModel { name: name.to_owned(), source: error },
    })?;
    Ok(ModelSource { path, name: id, trust })
}

#[cfg(not(feature = "hub"))]
fn from_hub(name: &str, _revision: &str, _trust: Trust, _parts: Parts) -> Result<ModelSource, RunError> {
    let expected = "a folder, a GGUF file, or builtin:tiny (models of the hub need the feature `hub`)";
    Err(RunError::NoModel { name: name.into(), expected })
}
