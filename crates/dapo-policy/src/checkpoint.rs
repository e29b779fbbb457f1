//! Models on disk: loading a Hugging Face folder or a GGUF file, and saving a Hugging Face folder.

mod adapter;
mod safetensors;

pub use adapter::{adapter_base, adapter_tokenizer, load_adapter, read_adapter, save_adapter};
pub use safetensors::{
    TensorFile, read_tensors, read_weights, write_tensors, write_tensors_with, write_weights, write_weights_with,
};

use crate::check::{Bound, check_memory};
use crate::config::{ModelConfig, token_ids};
use crate::decoder::Decoder;
use crate::error::PolicyError;
use crate::folder::Folder;
use crate::gguf;
use crate::lora::{merge, name_of_a, name_of_b};
use crate::stop::StopTokens;
use crate::tokenizer::{Tokenizer, read_json_of, read_object_if_exists, write_json};
use adapter::Adapter;
use candle_core::{DType, Shape, Tensor};
use safetensors::Weights;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// A model as it is on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The decoder's sizes.
    pub config: ModelConfig,
    /// The parameters by their Hugging Face names, f32 on the CPU: exactly those of
    /// [`ModelConfig::parameter_shapes`], so a tied head is absent.
    pub tensors: BTreeMap<String, Tensor>,
    /// The tokenizer, with chat template and stop tokens.
    pub tokenizer: Tokenizer,
}

/// Loads a policy and its tokenizer from a Hugging Face folder, a GGUF file, or a folder with an adapter
/// (`adapter_config.json`). An adapter stays trainable, on the base model that it names.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn load(path: &Path) -> Result<(Decoder, Tokenizer), PolicyError> {
    if !adapter::is_adapter(path) {
        let checkpoint = load_model(path)?;
        return Ok((Decoder::new(checkpoint.config, checkpoint.tensors)?, checkpoint.tokenizer));
    }
    let base = load_base(path)?;
    let decoder = load_adapter(path, Decoder::new(base.config, base.tensors)?)?;
    Ok((decoder, base.tokenizer))
}

/// Loads a policy and its tokenizer from the files of a Hugging Face folder that are in memory, by their names. In
/// messages `name` stands before the names.
///
/// # Errors
/// As [`load`].
pub fn load_in_memory(name: &str, files: &[(&str, &'static [u8])]) -> Result<(Decoder, Tokenizer), PolicyError> {
    let Checkpoint { config, tensors, tokenizer } = load_folder(Folder::Memory(Path::new(name), files))?;
    Ok((Decoder::new(config, tensors)?, tokenizer))
}

/// Loads a Hugging Face folder (`model.safetensors`, or shards with `model.safetensors.index.json`, in f32, f16 or
/// bf16), a `.gguf` file, or a folder with an adapter (`adapter_config.json`). An adapter is merged into the base model
/// that it names.
///
/// Weights are read and widened tensor by tensor, so that memory holds them once, plus at most one more tensor. The
/// configuration's `eos_token_ids` are those of `config.json` followed by those that only `generation_config.json`
/// names.
///
/// # Errors
/// Every error names the file; of a tensor that is missing, unexpected, of another shape or of an unsupported type it
/// says which, what was found and what was expected. A tied model whose file also has a head is loaded if that head
/// equals the embeddings.
///
/// ```no_run
/// let checkpoint = dapo_policy::load_checkpoint("path/to/model".as_ref())?;
/// println!("{} layers", checkpoint.config.num_hidden_layers);
/// # Ok::<(), dapo_policy::PolicyError>(())
/// ```
pub fn load_checkpoint(path: &Path) -> Result<Checkpoint, PolicyError> {
    if !adapter::is_adapter(path) {
        return load_model(path);
    }
    let mut base = load_base(path)?;
    let adapter = Adapter::open(path)?;
    let adapters = adapter.read(&base.config)?;
    for module in adapter.lora.modules(&base.config) {
        let (a, b) = (&adapters[&name_of_a(&module)], &adapters[&name_of_b(&module)]);
        if let Some(weight) = base.tensors.get_mut(&format!("{module}.weight")) {
            *weight = merge(weight, a, b, adapter.lora.scale())?;
        }
    }
    Ok(base)
}

/// The model an adapter's folder names, with the adapter's tokenizer where it has one of its own.
fn load_base(dir: &Path) -> Result<Checkpoint, PolicyError> {
    let mut base = load_model(&adapter::base_model(dir)?)?;
    base.tokenizer = adapter_tokenizer(dir, base.tokenizer)?;
    Ok(base)
}

fn load_model(path: &Path) -> Result<Checkpoint, PolicyError> {
    let metadata = fs::metadata(path).map_err(PolicyError::io(path))?;
    if metadata.is_dir() {
        return load_folder(Folder::Disk(path));
    }
    let (config, tensors, tokenizer) = gguf::load(path)?;
    Ok(Checkpoint { config, tensors, tokenizer })
}

fn load_folder(folder: Folder<'_>) -> Result<Checkpoint, PolicyError> {
    let config_file = folder.file("config.json");
    let mut config = ModelConfig::from_json(&read_json_of(folder, "config.json")?, &config_file)?;
    let generation_file = folder.file("generation_config.json");
    if let Some(generation) = read_object_if_exists(folder, "generation_config.json")? {
        let generation = generation.into();
        config.source.set_generation(&generation);
        let ids = token_ids(&generation, "eos_token_id", &generation_file)?;
        config.check_stop_tokens(&ids, &generation_file)?;
        for id in ids {
            if !config.eos_token_ids.contains(&id) {
                config.eos_token_ids.push(id);
            }
        }
    }
    let tokenizer = Tokenizer::of_folder(folder)?;
    let tensors = load_tensors(&mut Weights::open(folder)?, &config)?;
    Ok(Checkpoint { config, tensors, tokenizer })
}

const HEAD: &str = "lm_head.weight";

fn load_tensors(weights: &mut Weights, config: &ModelConfig) -> Result<BTreeMap<String, Tensor>, PolicyError> {
    let shapes = config.parameter_shapes();
    let listed: HashMap<&str, &[usize]> = shapes.iter().map(|(name, shape)| (&name[..], &shape[..])).collect();
    // Old files carry the rotary frequencies, which follow from the configuration.
    let derived = |name: &str| name.ends_with("rotary_emb.inv_freq");
    let tied_head = |name: &str| config.tie_word_embeddings && name == HEAD;
    let extra = |name: &&str| !(listed.contains_key(name) || derived(name) || tied_head(name));
    if let Some(name) = weights.names().find(extra) {
        let expected =
            format!("absent: a {} with this configuration has no such parameter", config.architecture.class_name());
        return Err(PolicyError::tensor(weights.file_of(name), name, "present", expected));
    }
    check_memory(weights.dir(), shapes.iter().map(|(_, shape)| shape.as_slice()))?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in &shapes {
        tensors.insert(name.clone(), weights.read(name, shape)?);
    }
    let embeddings = &shapes[0];
    if config.tie_word_embeddings && weights.contains(HEAD) {
        let head = weights.read(HEAD, &embeddings.1)?;
        let differing = tensors[&embeddings.0].ne(&head)?.to_dtype(DType::F32)?.max_all()?.to_scalar::<f32>()?;
        if differing != 0.0 {
            let expected = "equal to the embeddings, or absent, since config.json says tie_word_embeddings";
            return Err(PolicyError::tensor(weights.file_of(HEAD), HEAD, "different from the embeddings", expected));
        }
    }
    Ok(tensors)
}

/// Writes a Hugging Face folder that transformers reads back: `config.json`, `generation_config.json`,
/// `model.safetensors`, `tokenizer.json`, `tokenizer_config.json` and the chat template. Both configurations name all
/// of the model's [`StopTokens`] and keep what else the model's own files said. Each file is written aside and then
/// renamed; the folder is made where it does not exist.
///
/// # Errors
/// When a tensor is missing, unexpected or not of the shape that the configuration says, or a file cannot be written.
pub fn save_checkpoint(
    dir: &Path,
    config: &ModelConfig,
    tensors: &BTreeMap<String, Tensor>,
    tokenizer: &Tokenizer,
) -> Result<(), PolicyError> {
    config.validate()?;
    let file = dir.join("model.safetensors");
    let shapes = config.parameter_shapes();
    for (name, shape) in &shapes {
        let found = tensors.get(name).map(Tensor::dims);
        if found != Some(shape) {
            let found = found.map_or("missing".into(), |found| format!("of shape {found:?}"));
            return Err(PolicyError::tensor(&file, name, found, format!("of shape {shape:?}")));
        }
    }
    if let Some(name) = tensors.keys().find(|name| !shapes.iter().any(|(listed, _)| listed == *name)) {
        return Err(PolicyError::tensor(&file, name, "given", "no parameter of this name in the configuration"));
    }
    fs::create_dir_all(dir).map_err(PolicyError::io(dir))?;
    safetensors::write(&file, tensors, Bound::Weight)?;
    save_config(dir, config, common_dtype(tensors.values().map(Tensor::dtype)), tokenizer)
}

/// As [`save_checkpoint`], of tensors of one type that are made one at a time, so that memory does not hold all of them
/// beside the model. `tensor` is given the place of each in [`ModelConfig::parameter_shapes`], in the order of the file.
///
/// # Errors
/// What `tensor` returns; else as [`save_checkpoint`].
///
/// ```no_run
/// use dapo_policy::{Decoder, PolicyError, Tokenizer, load, save_checkpoint_with};
/// # use candle_core::DType;
/// let (decoder, tokenizer) = load("path/to/model".as_ref())?;
/// save_checkpoint_with("copy".as_ref(), decoder.config(), &tokenizer, DType::F32, |place| decoder.tensor(place))?;
/// # Ok::<(), PolicyError>(())
/// ```
pub fn save_checkpoint_with<E: From<PolicyError>>(
    dir: &Path,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    dtype: DType,
    tensor: impl Fn(usize) -> Result<Tensor, E>,
) -> Result<(), E> {
    config.validate()?;
    fs::create_dir_all(dir).map_err(PolicyError::io(dir))?;
    let shapes = config.parameter_shapes().into_iter().map(|(name, shape)| (name, shape.into()));
    let shapes: Vec<(String, Shape)> = shapes.collect();
    let file = dir.join("model.safetensors");
    safetensors::write_with(&file, &shapes, dtype, Bound::Weight, &tensor)?;
    Ok(save_config(dir, config, common_dtype([dtype].into_iter()), tokenizer)?)
}

/// Writes the files beside the tensors.
fn save_config(
    dir: &Path,
    config: &ModelConfig,
    dtype: Option<&str>,
    tokenizer: &Tokenizer,
) -> Result<(), PolicyError> {
    let stop = StopTokens::of(config, tokenizer);
    let config = ModelConfig { eos_token_ids: stop.ids().to_vec(), ..config.clone() };
    let mut json = config.to_json();
    if let Some(name) = dtype {
        json["dtype"] = name.into();
        json["torch_dtype"] = name.into();
    }
    write_json(&dir.join("config.json"), &json)?;
    write_json(&dir.join("generation_config.json"), &config.generation_json())?;
    tokenizer.save(dir)
}

/// torch's name of the type that all tensors share, if they do.
fn common_dtype(mut dtypes: impl Iterator<Item = DType>) -> Option<&'static str> {
    let first = dtypes.next().filter(|first| dtypes.all(|dtype| dtype == *first))?;
    match first {
        DType::F32 => Some("float32"),
        DType::F16 => Some("float16"),
        DType::BF16 => Some("bfloat16"),
        _ => None,
    }
}
