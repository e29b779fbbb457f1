//! GGUF files: configuration, tokenizer and dequantised weights.

mod metadata;
mod tokenizer;

use crate::check::{Bound, check_memory, check_values};
use crate::config::{Architecture, ModelConfig, RopeScaling, SourceFields};
use crate::error::{PolicyError, reason};
use crate::guard::guarded;
use crate::tokenizer::{Tokenizer, refuse_lfs_pointer};
use candle_core::quantized::gguf_file::{Content, TensorInfo};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use dapo_files::open_file;
use metadata::Metadata;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What is said where the library panics.
const PANIC: &str = "its parts do not fit together";

/// Loads configuration, weights and tokenizer of a GGUF file: every part of a checkpoint.
pub(crate) fn load(file: &Path) -> Result<(ModelConfig, BTreeMap<String, Tensor>, Tokenizer), PolicyError> {
    let mut reader = BufReader::new(open_file(file).map_err(PolicyError::io(file))?);
    refuse_lfs_pointer(file, reader.fill_buf().map_err(PolicyError::io(file))?)?;
    let damaged =
        |reason: String| PolicyError::file(file, format!("not a whole GGUF file, nor a model folder: {reason}"));
    let content = guarded(|| Content::read(&mut reader)).ok_or_else(|| damaged(PANIC.into()))?;
    let content = content.map_err(|error| damaged(reason(&error)))?;
    let metadata = Metadata { file, entries: &content.metadata };
    let config = config(&metadata, &content)?;
    let tokenizer = tokenizer::tokenizer(&metadata)?;
    let tensors = tensors(&mut reader, &content, &config, file)?;
    Ok((config, tensors, tokenizer))
}

fn config(metadata: &Metadata<'_>, content: &Content) -> Result<ModelConfig, PolicyError> {
    let file = metadata.file;
    let architecture = match metadata.text("general.architecture")?.unwrap_or_default() {
        "qwen3" => Architecture::Qwen3,
        "qwen2" => Architecture::Qwen2,
        "llama" => Architecture::Llama,
        other => {
            let found = format!("{other:?}");
            return Err(PolicyError::field(file, "general.architecture", found, "one of qwen3, qwen2, llama"));
        }
    };
    let key = |name: &str| format!("{}.{name}", architecture.model_type());
    let size = |name: &str| metadata.required_size(&key(name));
    let hidden_size = size("embedding_length")?;
    let num_attention_heads = size("attention.head_count")?;
    let head_dim = metadata.size(&key("attention.key_length"))?.unwrap_or(hidden_size / num_attention_heads.max(1));
    check_supported(metadata, content, &key, head_dim)?;
    let has = |name: &str| content.tensor_infos.contains_key(name);
    let embeddings = content.tensor_infos.get("token_embd.weight");
    let vocab_size = embeddings.and_then(|info| info.shape.dims().first().copied());
    let missing = || PolicyError::tensor(file, "token_embd.weight", "missing", "the embeddings");
    let config = ModelConfig {
        architecture,
        vocab_size: vocab_size.ok_or_else(missing)?,
        hidden_size,
        intermediate_size: size("feed_forward_length")?,
        num_hidden_layers: size("block_count")?,
        num_attention_heads,
        num_key_value_heads: metadata.size(&key("attention.head_count_kv"))?.unwrap_or(num_attention_heads),
        head_dim,
        rope_theta: metadata.number(&key("rope.freq_base"))?.unwrap_or(10_000.0),
        rope_scaling: rope_scaling(metadata, &key, size("context_length")?)?,
        rms_norm_eps: metadata.required_number(&key("attention.layer_norm_rms_epsilon"))?,
        tie_word_embeddings: !has("output.weight"),
        qk_norm: architecture == Architecture::Qwen3,
        qkv_bias: has("blk.0.attn_q.bias"),
        o_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_down.bias"),
        max_position_embeddings: size("context_length")?,
        bos_token_id: metadata.token_id("tokenizer.ggml.bos_token_id")?,
        eos_token_ids: tokenizer::stop_token_ids(metadata)?,
        pad_token_id: metadata.token_id("tokenizer.ggml.padding_token_id")?,
        source: SourceFields::default(),
    };
    config.validate().map_err(|error| PolicyError::file(file, error.to_string()))?;
    Ok(config)
}

/// The scaling of the rotary embeddings.
fn rope_scaling(
    metadata: &Metadata<'_>,
    key: &dyn Fn(&str) -> String,
    longest: usize,
) -> Result<Option<RopeScaling>, PolicyError> {
    let name = key("rope.scaling.type");
    let kind = metadata.text(&name)?.unwrap_or("linear");
    let mut factor = metadata.number(&key("rope.scaling.factor"))?.filter(|factor| *factor != 0.0);
    if factor.is_none() {
        factor = metadata.number(&key("rope.scale_linear"))?.filter(|factor| *factor != 0.0);
    }
    let factor = factor.unwrap_or(1.0);
    match kind {
        "none" => Ok(None),
        "linear" if factor == 1.0 => Ok(None),
        "linear" => Ok(Some(RopeScaling::Linear { factor })),
        "yarn" => {
            let original = metadata.size(&key("rope.scaling.original_context_length"))?.unwrap_or(longest);
            Ok(Some(RopeScaling::yarn(factor, original)))
        }
        _ => Err(PolicyError::field(metadata.file, name, kind.to_owned(), "none, linear or yarn")),
    }
}

/// Refuses what would change the mathematics.
fn check_supported(
    metadata: &Metadata<'_>,
    content: &Content,
    key: &dyn Fn(&str) -> String,
    head_dim: usize,
) -> Result<(), PolicyError> {
    let unsupported = |name: String, found: String, expected: &str| {
        Err(PolicyError::field(metadata.file, name, found, expected.to_owned()))
    };
    if content.tensor_infos.contains_key("rope_freqs.weight") {
        let expected =
            "absent: it does not say how Llama 3.1 scales rotary embeddings; load the model's safetensors folder";
        return unsupported("rope_freqs.weight".into(), "present".into(), expected);
    }
    for (name, allowed) in [
        (key("rope.dimension_count"), head_dim),
        (key("attention.value_length"), head_dim),
        (key("attention.sliding_window"), 0),
        (key("expert_count"), 0),
    ] {
        if let Some(found) = metadata.size(&name)?.filter(|found| *found != allowed) {
            return unsupported(name, found.to_string(), &allowed.to_string());
        }
    }
    Ok(())
}

/// A parameter's name in GGUF files.
fn gguf_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{kind}"))
}

fn tensors(
    reader: &mut BufReader<File>,
    content: &Content,
    config: &ModelConfig,
    file: &Path,
) -> Result<BTreeMap<String, Tensor>, PolicyError> {
    let shapes = config.parameter_shapes();
    check_memory(file, shapes.iter().map(|(_, shape)| shape.as_slice()))?;
    let mut extra: BTreeSet<&str> = content.tensor_infos.keys().map(String::as_str).collect();
    let mut tensors = BTreeMap::new();
    for (name, shape) in shapes {
        let stored = gguf_name(&name).ok_or_else(|| PolicyError::Internal(format!("{name} has no GGUF name")))?;
        let expected = format!("of shape {shape:?}");
        let missing = || PolicyError::tensor(file, &stored, "missing", &expected);
        let info = content.tensor_infos.get(&stored).ok_or_else(missing)?;
        if info.shape.dims() != shape {
            return Err(PolicyError::tensor(file, stored, format!("of shape {:?}", info.shape.dims()), expected));
        }
        let unreadable = |reason: &str| PolicyError::tensor(file, &stored, format!("unreadable ({reason})"), &expected);
        let tensor = guarded(|| dequantised(reader, content, info)).ok_or_else(|| unreadable(PANIC))?;
        let tensor = tensor.map_err(|error| unreadable(&reason(&error)))?;
        check_values(file, &stored, &tensor, Bound::Weight)?;
        extra.remove(stored.as_str());
        let tensor = match rotary_heads(config, &name) {
            Some(heads) => pair_halves(&tensor, heads)?,
            None => tensor,
        };
        tensors.insert(name, tensor);
    }
    if let Some(name) = extra.first() {
        let expected = format!("absent: a {} of this form has no such parameter", config.architecture.class_name());
        return Err(PolicyError::tensor(file, *name, "present", expected));
    }
    Ok(tensors)
}

/// A tensor in f32.
fn dequantised(
    reader: &mut BufReader<File>,
    content: &Content,
    info: &TensorInfo,
) -> Result<Tensor, candle_core::Error> {
    let dtype = info.ggml_dtype;
    let quantised = match dtype {
        // Mostly met as intermediate results; candle dequantises them but does not read them from files.
        GgmlDType::Q8_1 | GgmlDType::Q8K => {
            let size = info.shape.elem_count() / dtype.block_size() * dtype.type_size();
            let mut bytes = Vec::new();
            reader.seek(SeekFrom::Start(content.tensor_data_offset.saturating_add(info.offset)))?;
            if reader.take(size as u64).read_to_end(&mut bytes)? < size {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            QTensor::new(QStorage::from_data(bytes.into(), &Device::Cpu, dtype)?, info.shape.clone())?
        }
        _ => info.read(reader, content.tensor_data_offset, &Device::Cpu)?,
    };
    quantised.dequantize(&Device::Cpu)
}

/// The heads of a tensor whose rows the GGUF form of Llama models has in another order.
fn rotary_heads(config: &ModelConfig, name: &str) -> Option<usize> {
    match config.architecture {
        Architecture::Llama if name.contains("self_attn.q_proj") => Some(config.num_attention_heads),
        Architecture::Llama if name.contains("self_attn.k_proj") => Some(config.num_key_value_heads),
        _ => None,
    }
}

/// Undoes the order of rows of interleaved rotary embeddings.
///
/// There, rows 2j and 2j+1 of a head turn together; in the Hugging Face form rows j and j + D/2 do.
fn pair_halves(tensor: &Tensor, heads: usize) -> Result<Tensor, PolicyError> {
    let (rows, columns) = (tensor.dim(0)?, tensor.elem_count() / tensor.dim(0)?);
    let pairs = tensor.reshape((heads, rows / heads / 2, 2, columns))?;
    Ok(pairs.transpose(1, 2)?.contiguous()?.reshape(tensor.shape())?)
}
