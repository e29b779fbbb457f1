//! The model and the data of a run, of which ranks other than rank 0 may have nothing.

use crate::model::ModelSource;
use crate::problems::{file, is_builtin};
use crate::ranks::Ranks;
use crate::run_error::RunError;
use crate::settings::RunConfig;
use crate::trust::Trust;
use dapo_dist::handshake;
use dapo_trainer::{Digest, Prefix};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a folder that belong to its model.
const OF_MODEL: [&str; 3] = ["json", "jinja", "safetensors"];
const ADAPTER: &str = "adapter_config.json";

/// A file or folder that a run reads.
#[derive(Debug, Serialize, Deserialize)]
struct Input {
    what: What,
    /// Where rank 0 has it.
    path: PathBuf,
    is_folder: bool,
    /// Its files, by their names.
    files: Vec<(String, Digest)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    Model,
    /// The model that an adapter is for.
    Base,
    Train(usize),
    Validation(usize),
}

/// Gives the model and the data of rank 0 to the ranks that lack them. Returns the settings that lead to them on this rank.
///
/// # Errors
/// When they cannot be read or written; [`RunError::Dist`], also where a rank has another file in the place of rank 0's.
pub(crate) fn share_inputs(ranks: &Ranks, config: &RunConfig, trust: Trust) -> Result<RunConfig, RunError> {
    if !ranks.are_several() {
        return Ok(config.clone());
    }
    ranks.phase("start: what the model and the data are");
    let list = if ranks.keeps() { ranks.alive_during(|| inputs(config, trust))? } else { Vec::new() };
    let json = serde_json::to_vec(&list).map_err(not_written)?;
    let list: Vec<Input> = serde_json::from_slice(&ranks.send(json)?).map_err(not_written)?;

    let here = if ranks.keeps() {
        list.iter().map(|input| Some(input.path.clone())).collect()
    } else {
        places(&list, config, trust)?
    };
    let mut items = Vec::new();
    for (input, here) in list.iter().zip(&here) {
        for (name, digest) in &input.files {
            let mine = match here.as_ref().filter(|_| !ranks.keeps()) {
                None => Some(digest.clone()),
                Some(path) => ranks.alive_during(|| digest_of(&inside(path, input.is_folder, name))),
            };
            let text = |digest: Digest| format!("{} bytes, BLAKE3 {}", digest.bytes, digest.blake3);
            let mine = mine.map_or_else(|| "missing".to_owned(), text);
            items.push((inside(&input.path, input.is_folder, name).display().to_string(), mine));
        }
    }
    let items: Vec<(&str, String)> = items.iter().map(|(name, digest)| (name.as_str(), digest.clone())).collect();
    handshake(&**ranks.world(), &items)?;

    ranks.phase("start: sending the model and the data");
    let lacking: Vec<u8> = here.iter().map(|here| u8::from(here.is_none())).collect();
    let lacking = ranks.gather(&lacking)?;
    let mut config = config.clone();
    for (index, (input, here)) in list.iter().zip(&here).enumerate() {
        if lacking.iter().all(|of_rank| of_rank.get(index) == Some(&0)) {
            continue;
        }
        let place = ranks.place(&index.to_string()).filter(|_| here.is_none());
        for (name, _) in &input.files {
            let to = place.as_ref().map(|place| place.join(name));
            ranks.send_file(&inside(&input.path, input.is_folder, name), to.as_deref())?;
        }
        if let Some(place) = place {
            let path = if input.is_folder { place } else { place.join(&input.files[0].0) };
            use_sent(&mut config, input.what, &path)?;
        }
    }
    Ok(config)
}

/// What a run reads, as rank 0 has it.
fn inputs(config: &RunConfig, trust: Trust) -> Result<Vec<Input>, RunError> {
    let mut list = Vec::new();
    let source = ModelSource::find_with(&config.model.path, &config.model.revision, trust)?;
    if !source.is_tiny() {
        list.push(input(What::Model, source.path())?);
        if let Some(base) = source.base_path()? {
            list.push(input(What::Base, &base)?);
        }
    }
    for (what, name) in data(config).filter(|(_, name)| !is_builtin(name)) {
        list.push(input(what, &file(name)?)?);
    }
    Ok(list)
}

fn data(config: &RunConfig) -> impl Iterator<Item = (What, &String)> {
    let train = config.data.train.iter().enumerate().map(|(index, name)| (What::Train(index), name));
    let validation = config.data.validation.iter().enumerate();
    train.chain(validation.map(|(index, name)| (What::Validation(index), name)))
}

fn input(what: What, path: &Path) -> Result<Input, RunError> {
    let is_folder = path.is_dir();
    let mut names = Vec::new();
    if is_folder {
        for entry in fs::read_dir(path).map_err(RunError::io(path))? {
            let entry = entry.map_err(RunError::io(path))?.path();
            let belongs = match what {
                What::Model | What::Base => {
                    entry.extension().is_some_and(|extension| OF_MODEL.iter().any(|known| extension == *known))
                }
                What::Train(_) | What::Validation(_) => true,
            };
            let name = entry.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
            names.extend(name.filter(|_| belongs && entry.is_file()).map(str::to_owned));
        }
        names.sort();
    } else {
        names.push(path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
    }
    let digest = |name: String| {
        let file = inside(path, is_folder, &name);
        let digest = Prefix::of_file(&file, u64::MAX).map_err(RunError::io(&file))?.digest();
        Ok((name, digest))
    };
    let files = names.into_iter().map(digest).collect::<Result<_, RunError>>()?;
    Ok(Input { what, path: path.to_owned(), is_folder, files })
}

fn inside(path: &Path, is_folder: bool, name: &str) -> PathBuf {
    if is_folder { path.join(name) } else { path.to_owned() }
}

fn digest_of(file: &Path) -> Option<Digest> {
    Prefix::of_file(file, u64::MAX).ok().map(|prefix| prefix.digest())
}

/// Where this rank has the inputs; `None` for what it lacks.
fn places(list: &[Input], config: &RunConfig, trust: Trust) -> Result<Vec<Option<PathBuf>>, RunError> {
    let mut model = None;
    if Path::new(&config.model.path).exists() {
        let source = ModelSource::find_with(&config.model.path, &config.model.revision, trust)?;
        // An adapter without its model is sent with it.
        let base = if source.is_adapter() { source.base_path().ok().flatten() } else { None };
        model = (base.is_some() || !source.is_adapter()).then(|| (source.path().to_owned(), base));
    }
    let named = |name: Option<&String>| name.map(PathBuf::from).filter(|path| path.exists());
    let place = |input: &Input| match input.what {
        What::Model => model.as_ref().map(|(path, _)| path.clone()),
        What::Base => model.as_ref().and_then(|(_, base)| base.clone()),
        What::Train(index) => named(config.data.train.get(index)),
        What::Validation(index) => named(config.data.validation.get(index)),
    };
    Ok(list.iter().map(place).collect())
}

/// Has the settings lead to what was sent.
fn use_sent(config: &mut RunConfig, what: What, path: &Path) -> Result<(), RunError> {
    let text = path.to_string_lossy().into_owned();
    match what {
        What::Model => config.model.path = text,
        What::Train(index) => config.data.train[index] = text,
        What::Validation(index) => config.data.validation[index] = text,
        What::Base => {
            // The adapter came before it.
            let file = Path::new(&config.model.path).join(ADAPTER);
            let io = || RunError::io(&file);
            let mut json: Value =
                serde_json::from_slice(&fs::read(&file).map_err(io())?).map_err(|error| io()(error.into()))?;
            json["base_model_name_or_path"] = text.into();
            fs::write(&file, json.to_string()).map_err(io())?;
        }
    }
    Ok(())
}

fn not_written(error: serde_json::Error) -> RunError {
    RunError::io(Path::new("the list of inputs"))(error.into())
}
