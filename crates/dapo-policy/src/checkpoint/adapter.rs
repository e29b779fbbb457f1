//! Low-rank adapters on disk, in the layout of PEFT: `adapter_config.json` beside `adapter_model.safetensors`.

use super::safetensors::{TensorFile, write_weights_with};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::PolicyError;
use crate::lora::{LoraConfig, LoraTarget};
use crate::tokenizer::{Tokenizer, read_json, write_json};
use candle_core::{Shape, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const BASE: &str = "base_model_name_or_path";
/// What PEFT's wrappers put before the model's own tensor names.
const PREFIX: &str = "base_model.model.";

/// Whether a path is a folder that holds an adapter.
pub(super) fn is_adapter(path: &Path) -> bool {
    path.join(CONFIG).exists()
}

/// Writes a decoder's adapters as PEFT does, for `PeftModel.from_pretrained` and vLLM to read: `adapter_config.json`
/// and `adapter_model.safetensors`. `base_model` is the base's folder or hub name, as loaders will look for it. Each
/// file is written aside and then renamed; the folder is made where it does not exist.
///
/// # Errors
/// When the decoder has no adapters, or a file cannot be written.
pub fn save_adapter(dir: &Path, base_model: &str, decoder: &Decoder) -> Result<(), PolicyError> {
    let Some(lora) = decoder.lora() else {
        let found = "a model without adapters".into();
        return Err(PolicyError::Setting { field: "decoder".into(), found, expected: "one with adapters".into() });
    };
    std::fs::create_dir_all(dir).map_err(PolicyError::io(dir))?;
    write_weights_with(&dir.join(WEIGHTS), &stored_shapes(decoder), |index| decoder.parameter(index))?;
    write_json(&dir.join(CONFIG), &to_json(lora, base_model))
}

/// Gives a decoder's adapters the values of a file that [`save_adapter`] wrote, bit for bit, one after another.
///
/// # Errors
/// Names the file and the tensor. If one is missing, unexpected or of another shape, nothing has changed. If one has a
/// value that is not finite or too large for a weight, those before it have changed.
pub fn read_adapter(file: &Path, decoder: &mut Decoder) -> Result<(), PolicyError> {
    let listed = stored_shapes(decoder);
    decoder.read_listed(file, &listed)
}

/// Names of a decoder's adapters in a file, and their shapes.
fn stored_shapes(decoder: &Decoder) -> Vec<(String, Shape)> {
    decoder.parameters().into_iter().map(|(name, shape)| (format!("{PREFIX}{name}"), shape.clone())).collect()
}

/// Puts the adapters of a folder that PEFT or [`save_adapter`] wrote on a decoder, which should be the model they were
/// trained on.
///
/// `lora_dropout` belongs to how they were trained and changes nothing here.
///
/// # Errors
/// Names the file, and the field or tensor: what is missing, unexpected, of another shape, or asks for something other
/// than plain LoRA on the projections of [`LoraTarget`].
pub fn load_adapter(dir: &Path, decoder: Decoder) -> Result<Decoder, PolicyError> {
    let adapter = Adapter::open(dir)?;
    let tensors = adapter.read(decoder.config())?;
    decoder.with_adapters(&adapter.lora, tensors)
}

/// An adapter whose tensors are still to be read.
pub(super) struct Adapter {
    dir: PathBuf,
    pub(super) lora: LoraConfig,
}

impl Adapter {
    pub(super) fn open(dir: &Path) -> Result<Self, PolicyError> {
        let file = dir.join(CONFIG);
        let lora = from_json(&read_json(&file)?, &file)?;
        Ok(Self { dir: dir.into(), lora })
    }

    /// The tensors by the names they have in a decoder.
    pub(super) fn read(&self, model: &ModelConfig) -> Result<BTreeMap<String, Tensor>, PolicyError> {
        let shapes = self.lora.parameter_shapes(model).map_err(|error| match error {
            PolicyError::Setting { found, expected, .. } => {
                PolicyError::field(&self.dir.join(CONFIG), "r", found, expected)
            }
            other => other,
        })?;
        let file = self.dir.join(WEIGHTS);
        let mut weights = TensorFile::open(&file)?;
        let names = stored_names(weights.names());
        for (name, stored) in &names {
            let expected = match stored.as_slice() {
                _ if !shapes.iter().any(|(own, _)| own == name) => {
                    "absent: adapter_config.json asks for no such tensor"
                }
                [_] => continue,
                _ => "absent: the tensor is there by another name, too",
            };
            return Err(PolicyError::tensor(&file, stored.last().unwrap_or(name), "present", expected));
        }
        let read = |(name, shape): (String, Vec<usize>)| {
            let whole = format!("{PREFIX}{name}");
            let stored = names.get(&name).and_then(|stored| stored.first()).unwrap_or(&whole);
            Ok((name, weights.weight(stored, &shape)?))
        };
        shapes.into_iter().map(read).collect()
    }
}

/// The names under which a file has each tensor, by the tensor's name in a decoder.
///
/// PEFT's prefix and the name of the adapter (`lora_A.default.weight`), which a state dictionary saved without PEFT's
/// help has in it, are left out. A name without the prefix stays as it is.
fn stored_names(names: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut stored: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        // No tensor of a decoder is called by a name that has no prefix here.
        let own = name.strip_prefix(PREFIX).map_or_else(
            || format!("{name} without {PREFIX}"),
            |own| own.strip_suffix(".default.weight").map_or_else(|| own.to_owned(), |own| format!("{own}.weight")),
        );
        stored.entry(own).or_default().push(name);
    }
    stored
}

/// The tokenizer of an adapter: that in its folder where there is one, else the base's. Either has the stop tokens of
/// both: a fine-tune may name its end token in `tokenizer_config.json`, `special_tokens_map.json` or
/// `generation_config.json` alone.
///
/// # Errors
/// When a file of the folder cannot be read; names the file.
pub fn adapter_tokenizer(dir: &Path, mut base: Tokenizer) -> Result<Tokenizer, PolicyError> {
    if !dir.join("tokenizer.json").exists() {
        base.add_stop_tokens_of(dir)?;
        return Ok(base);
    }
    let mut tokenizer = Tokenizer::from_folder(dir)?;
    tokenizer.add_stop_tokens(base.stop_token_ids());
    Ok(tokenizer)
}

/// The base model that an adapter's folder names: a path, or a name on the hub.
///
/// # Errors
/// Names the file, and what it has in place of a name.
pub fn adapter_base(dir: &Path) -> Result<String, PolicyError> {
    let file = dir.join(CONFIG);
    let found = read_json(&file)?[BASE].clone();
    let name = found.as_str().filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| PolicyError::field(&file, BASE, found.to_string(), "the path of a model"))
}

/// The path of the base model that an adapter's folder names; a relative one starts at the current folder.
pub(super) fn base_model(dir: &Path) -> Result<PathBuf, PolicyError> {
    let base = PathBuf::from(adapter_base(dir)?);
    let error = |expected: &str| PolicyError::field(&dir.join(CONFIG), BASE, format!("{:?}", base.display()), expected);
    if !base.exists() {
        return Err(error("a folder or GGUF file that exists, from the current folder if relative"));
    }
    if is_adapter(&base) {
        return Err(error("a model, not another adapter"));
    }
    Ok(base)
}

/// The fields that PEFT writes for a plain LoRA of a causal language model.
fn to_json(lora: &LoraConfig, base_model: &str) -> Value {
    let mut targets: Vec<&str> = lora.targets.iter().map(|target| target.name()).collect();
    targets.sort_unstable();
    let whole = lora.alpha.fract() == 0.0 && lora.alpha < 1e15;
    let alpha: Value = if whole { (lora.alpha as u64).into() } else { lora.alpha.into() };
    json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base_model,
        "bias": "none",
        "exclude_modules": null,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": null,
        "loftq_config": {},
        "lora_alpha": alpha,
        "lora_bias": false,
        "lora_dropout": 0.0,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": targets,
        "target_parameters": null,
        "task_type": "CAUSAL_LM",
        "trainable_token_indices": null,
        "use_dora": false,
        "use_rslora": lora.rslora,
    })
}

/// Fields that say nothing about what the adapter computes.
const HARMLESS: [&str; 9] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

fn from_json(json: &Value, file: &Path) -> Result<LoraConfig, PolicyError> {
    let Some(fields) = json.as_object() else { return Err(PolicyError::file(file, "not a JSON object")) };
    let error = |field: &str, expected: &str| {
        let found = fields.get(field).map_or("missing".to_owned(), Value::to_string);
        PolicyError::field(file, field, found, expected)
    };
    let off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    for (field, value) in fields {
        let allowed: &[&str] = match field.as_str() {
            "r" | "lora_alpha" | "target_modules" => continue,
            "use_rslora" if value.is_boolean() => continue,
            field if HARMLESS.contains(&field) => continue,
            "peft_type" => &["LORA"],
            "task_type" => &["CAUSAL_LM"],
            "bias" => &["none"],
            // Initialisations that leave the base model as it is.
            "init_lora_weights" if value == true => continue,
            "init_lora_weights" => &["gaussian", "orthogonal"],
            _ => &[],
        };
        if !off(value) && !allowed.iter().any(|allowed| value == allowed) {
            let supported = if allowed.is_empty() { "off" } else { &allowed.join(" or ") };
            return Err(error(field, &format!("{supported}: anything else is not supported")));
        }
    }
    if fields.get("peft_type").is_none_or(Value::is_null) {
        return Err(error("peft_type", "LORA"));
    }
    let rank = fields.get("r").and_then(Value::as_u64).filter(|rank| *rank > 0);
    let rank = rank.ok_or_else(|| error("r", "a whole number above 0"))? as usize;
    let alpha = fields.get("lora_alpha").and_then(Value::as_f64).filter(|alpha| alpha.is_finite() && *alpha > 0.0);
    let alpha = alpha.ok_or_else(|| error("lora_alpha", "a number above 0"))?;
    let names = LoraTarget::ALL.map(LoraTarget::name).join(", ");
    let targets = || error("target_modules", &format!("\"all-linear\", or a list of some of {names}, each once"));
    let modules = fields.get("target_modules");
    let parse = |name: &Value| name.as_str().and_then(|name| name.parse().ok()).ok_or_else(targets);
    let targeted = match modules.and_then(Value::as_array) {
        Some(list) => list.iter().map(parse).collect::<Result<_, _>>()?,
        None if modules.is_some_and(|modules| modules == "all-linear") => LoraTarget::ALL.to_vec(),
        None => return Err(targets()),
    };
    let rslora = fields.get("use_rslora").is_some_and(|value| value == true);
    let lora = LoraConfig { rank, alpha, rslora, targets: targeted };
    lora.validate().map_err(|_| targets())?;
    Ok(lora)
}
