//! The shape of a decoder: read from `config.json`, written back, and turned into the list of its parameters.

mod fields;
mod presets;
mod rope;
mod source;

use crate::error::PolicyError;
use dapo_kernels::RotaryTable;
use fields::Fields;
pub(crate) use fields::token_ids;
pub use rope::RopeScaling;
use serde_json::{Map, Value, json};
pub use source::SourceFields;
use std::path::Path;

/// The families of decoders this crate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `Qwen3ForCausalLM`: a norm over each head of queries and keys, no biases unless asked for.
    Qwen3,
    /// `Qwen2ForCausalLM`, which is Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
    /// `LlamaForCausalLM`: Llama 2 and 3 (3.1 to 3.3 too), `SmolLM2` and others of the same form.
    Llama,
}

impl Architecture {
    const ALL: [Self; 3] = [Self::Qwen3, Self::Qwen2, Self::Llama];

    /// The name in `config.json`'s `architectures`.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Llama => "LlamaForCausalLM",
        }
    }

    /// The name in `config.json`'s `model_type` and in GGUF's `general.architecture`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3 => "qwen3",
            Self::Qwen2 => "qwen2",
            Self::Llama => "llama",
        }
    }
}

/// A decoder's sizes and switches.
///
/// Dimensions: V `vocab_size`, H `hidden_size`, I `intermediate_size`, A `num_attention_heads`, K
/// `num_key_value_heads`, D `head_dim` (A·D need not equal H).
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they mirror the switches of config.json")]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// V, the rows of the embeddings; the tokenizer may know fewer tokens.
    pub vocab_size: usize,
    /// H, the width of the residual stream.
    pub hidden_size: usize,
    /// I, the width inside the feed-forward block.
    pub intermediate_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// A, the number of query heads.
    pub num_attention_heads: usize,
    /// K, the number of key and value heads; a divisor of A.
    pub num_key_value_heads: usize,
    /// D, the width of a head; even.
    pub head_dim: usize,
    /// The base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are scaled, where they are.
    pub rope_scaling: Option<RopeScaling>,
    /// What is added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// Whether the head is the embeddings.
    pub tie_word_embeddings: bool,
    /// Whether each head of queries and keys is normalised (Qwen3).
    pub qk_norm: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether attention's output has a bias.
    pub o_bias: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// The token a text begins with, where the model has one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a completion, the main one first.
    pub eos_token_ids: Vec<u32>,
    /// The padding token, where the model has one.
    pub pad_token_id: Option<u32>,
    /// What the model's files say beyond that; written back as it was.
    pub source: SourceFields,
}

impl ModelConfig {
    /// Reads the parsed contents of a `config.json`; `file` is named in errors.
    ///
    /// What may be absent takes the value transformers gives it: `head_dim` = H/A, K = A, `rope_theta` = 10000,
    /// `rms_norm_eps` = 1e-6, `hidden_act` = silu, biases off, head not tied. `rope_theta` may stand at top level or
    /// inside `rope_parameters` or `rope_scaling`.
    ///
    /// # Errors
    /// When a field is missing or malformed, or asks for what is not supported: another architecture or activation,
    /// partial rotary embeddings or an unknown scaling of them, a sliding window, quantised weights.
    pub fn from_json(json: &Value, file: &Path) -> Result<Self, PolicyError> {
        let fields = Fields { json, file };
        let architecture = fields.architecture()?;
        fields.check_supported()?;
        let hidden_size = fields.size("hidden_size")?;
        let num_hidden_layers = fields.size("num_hidden_layers")?;
        let num_attention_heads = fields.size("num_attention_heads")?;
        fields.check_full_attention(architecture, num_hidden_layers)?;
        let attention_bias = fields.switch("attention_bias")?;
        let longest = if architecture == Architecture::Llama { 2048 } else { 32_768 };
        let longest = fields.optional_size("max_position_embeddings")?.unwrap_or(longest);
        let (rope_theta, rope_scaling) = rope::read(&fields, longest)?;
        let config = Self {
            architecture,
            vocab_size: fields.size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: fields.optional_size("num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: fields.optional_size("head_dim")?.unwrap_or(hidden_size / num_attention_heads),
            rope_theta,
            rope_scaling,
            rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
            tie_word_embeddings: fields.switch("tie_word_embeddings")?,
            qk_norm: architecture == Architecture::Qwen3,
            qkv_bias: architecture == Architecture::Qwen2 || attention_bias,
            o_bias: architecture != Architecture::Qwen2 && attention_bias,
            mlp_bias: architecture == Architecture::Llama && fields.switch("mlp_bias")?,
            // Qwen describes YaRN as an addition to a configuration that still states the shorter length.
            max_position_embeddings: rope_scaling.and_then(|scaling| scaling.longest()).unwrap_or(0).max(longest),
            bos_token_id: token_ids(json, "bos_token_id", file)?.first().copied(),
            eos_token_ids: token_ids(json, "eos_token_id", file)?,
            pad_token_id: token_ids(json, "pad_token_id", file)?.first().copied(),
            source: SourceFields::default(),
        };
        let config = Self { source: SourceFields::of_config(json, &config.own_fields()), ..config };
        config.check().map_err(|(field, found, expected)| PolicyError::field(file, field, found, expected))?;
        config.check_stop_tokens(&config.eos_token_ids, file)?;
        Ok(config)
    }

    /// Refuses end tokens of a file that the model cannot produce.
    pub(crate) fn check_stop_tokens(&self, ids: &[u32], file: &Path) -> Result<(), PolicyError> {
        match ids.iter().find(|id| **id as usize >= self.vocab_size) {
            None => Ok(()),
            Some(id) => {
                let expected = format!("below the vocabulary size, {}", self.vocab_size);
                Err(PolicyError::field(file, "eos_token_id", id.to_string(), expected))
            }
        }
    }

    /// The `config.json` that transformers, vLLM and llama.cpp's converter read back: fields of the model's own file that
    /// this type does not know stay as they were.
    pub fn to_json(&self) -> Value {
        let mut fields = self.source.config.clone();
        fields.extend(self.own_fields());
        for name in ["dtype", "torch_dtype"] {
            fields.insert(name.into(), "float32".into());
        }
        Value::Object(fields)
    }

    /// The fields that follow from this type.
    fn own_fields(&self) -> Map<String, Value> {
        let mut rope = self.rope_scaling.map(RopeScaling::to_json).unwrap_or_default();
        // Programs that read configurations of transformers 4 look here.
        let old_rope = if rope.is_empty() { Value::Null } else { rope.clone().into() };
        rope.entry("rope_type").or_insert("default".into());
        rope.insert("rope_theta".into(), self.rope_theta.into());
        let json = json!({
            "architectures": [self.architecture.class_name()],
            "model_type": self.architecture.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rope_theta": self.rope_theta,
            "rope_scaling": old_rope,
            "rope_parameters": rope,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": self.max_position_embeddings,
        });
        let mut fields = match json {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        match self.architecture {
            Architecture::Qwen2 => {}
            Architecture::Qwen3 => drop(fields.insert("attention_bias".into(), self.qkv_bias.into())),
            Architecture::Llama => {
                fields.insert("attention_bias".into(), self.qkv_bias.into());
                fields.insert("mlp_bias".into(), self.mlp_bias.into());
            }
        }
        if self.architecture != Architecture::Llama {
            fields.insert("sliding_window".into(), Value::Null);
            fields.insert("use_sliding_window".into(), false.into());
        }
        fields.extend(self.special_token_fields());
        fields
    }

    /// The `generation_config.json` that goes with [`to_json`](Self::to_json): sampling defaults of the model's own file
    /// stay as they were.
    pub(crate) fn generation_json(&self) -> Value {
        let mut fields = self.source.generation.clone();
        if fields.is_empty() {
            fields.insert("_from_model_config".into(), true.into());
        }
        fields.extend(self.special_token_fields());
        Value::Object(fields)
    }

    fn special_token_fields(&self) -> Map<String, Value> {
        let eos = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => (*one).into(),
            several => several.into(),
        };
        [("bos_token_id", self.bos_token_id.into()), ("eos_token_id", eos), ("pad_token_id", self.pad_token_id.into())]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Checks the sizes against one another.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.check().map_err(|(field, found, expected)| PolicyError::Setting { field: field.into(), found, expected })
    }

    fn check(&self) -> Result<(), (&'static str, String, String)> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        // Nothing real comes near these bounds; beyond them, products of sizes or lists of names could overflow.
        if let Some((name, size)) = sizes.into_iter().find(|(_, size)| *size == 0 || *size >= 1 << 31) {
            return Err((name, size.to_string(), "at least 1 and below 2^31".into()));
        }
        if self.num_hidden_layers > 10_000 {
            return Err(("num_hidden_layers", self.num_hidden_layers.to_string(), "at most 10000".into()));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = format!("a divisor of num_attention_heads = {}", self.num_attention_heads);
            return Err(("num_key_value_heads", self.num_key_value_heads.to_string(), expected));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(("head_dim", self.head_dim.to_string(), "an even number".into()));
        }
        for (name, value, least, most) in
            [("rope_theta", self.rope_theta, 10.0, 1e12), ("rms_norm_eps", self.rms_norm_eps, 1e-12, 0.1)]
        {
            if !(least..=most).contains(&value) {
                return Err((name, format!("{value:e}"), format!("a number from {least:e} to {most:e}")));
            }
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.check()?;
        }
        let name = self.architecture.class_name();
        let switches = match self.architecture {
            Architecture::Qwen3 => [(self.qk_norm, true), (self.o_bias, self.qkv_bias), (self.mlp_bias, false)],
            Architecture::Qwen2 => [(self.qk_norm, false), (self.o_bias, false), (self.mlp_bias, false)],
            Architecture::Llama => [(self.qk_norm, false), (self.o_bias, self.qkv_bias), (false, false)],
        };
        for (field, (found, expected)) in ["qk_norm", "o_bias", "mlp_bias"].into_iter().zip(switches) {
            if found != expected {
                return Err((field, found.to_string(), format!("{expected} in a {name} with these settings")));
            }
        }
        if self.architecture == Architecture::Qwen2 && !self.qkv_bias {
            return Err(("qkv_bias", "false".into(), format!("true in a {name}")));
        }
        Ok(())
    }

    /// Cosines and sines for the positions of a batch, in their order.
    pub(crate) fn rotary_table(&self, positions: &[u32]) -> RotaryTable {
        let scaling = self.rope_scaling.as_ref();
        let (frequencies, scale) = RopeScaling::apply(scaling, self.head_dim, self.rope_theta);
        RotaryTable::with_frequencies(positions, frequencies, scale)
    }

    /// Every parameter's Hugging Face name and shape, in a fixed order: embeddings, layers, final norm, and the head
    /// where it is not tied.
    ///
    /// # Shapes
    /// `[out, in]` for projections, `[V, H]` for embeddings and head, one dimension for norms and biases.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (h, d, i) = (self.hidden_size, self.head_dim, self.intermediate_size);
        let (queries, keys) = (self.num_attention_heads * d, self.num_key_value_heads * d);
        let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, h])];
        for layer in 0..self.num_hidden_layers {
            let mut add = |name: &str, shape: Vec<usize>| shapes.push((format!("model.layers.{layer}.{name}"), shape));
            add("input_layernorm.weight", vec![h]);
            for (name, rows, columns, bias) in [
                ("q_proj", queries, h, self.qkv_bias),
                ("k_proj", keys, h, self.qkv_bias),
                ("v_proj", keys, h, self.qkv_bias),
                ("o_proj", h, queries, self.o_bias),
            ] {
                add(&format!("self_attn.{name}.weight"), vec![rows, columns]);
                if bias {
                    add(&format!("self_attn.{name}.bias"), vec![rows]);
                }
            }
            if self.qk_norm {
                add("self_attn.q_norm.weight", vec![d]);
                add("self_attn.k_norm.weight", vec![d]);
            }
            add("post_attention_layernorm.weight", vec![h]);
            for (name, rows, columns) in [("gate_proj", i, h), ("up_proj", i, h), ("down_proj", h, i)] {
                add(&format!("mlp.{name}.weight"), vec![rows, columns]);
                if self.mlp_bias {
                    add(&format!("mlp.{name}.bias"), vec![rows]);
                }
            }
        }
        shapes.push(("model.norm.weight".into(), vec![h]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".into(), vec![self.vocab_size, h]));
        }
        shapes
    }
}
