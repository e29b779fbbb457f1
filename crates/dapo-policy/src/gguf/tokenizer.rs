//! The tokenizer of a GGUF file, rebuilt as a `tokenizer.json`.
//!
//! Only byte-level BPE is known (`tokenizer.ggml.model` = `gpt2`), with the ways of splitting text before it that the
//! supported families use. A wrong split gives wrong tokens without any error, so an unknown one is refused.

use super::metadata::Metadata;
use crate::chat::ChatTemplate;
use crate::error::PolicyError;
use crate::tokenizer::{Tokenizer, parsed};
use serde_json::{Map, Value, json};

/// The numbers of `tokenizer.ggml.token_type`.
mod token_type {
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
    pub(super) const UNUSED: i64 = 5;
}

/// Words with one character before them, digits one by one or in threes, punctuation, line ends, other white space.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What a file gets that names no family: punctuation apart, then words as GPT-2, then digits in threes.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

/// How text is prepared for byte-level BPE.
struct Preparation {
    normalizer: Value,
    pre_tokenizers: Vec<Value>,
    ignore_merges: bool,
    add_bos: bool,
}

fn preparation(metadata: &Metadata<'_>) -> Result<Preparation, PolicyError> {
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let plain =
        |pre_tokenizers| Preparation { normalizer: Value::Null, pre_tokenizers, ignore_merges: false, add_bos: false };
    let key = "tokenizer.ggml.pre";
    Ok(match metadata.required_text(key)? {
        "qwen2" | "deepseek-r1-qwen" => {
            Preparation { normalizer: json!({"type": "NFC"}), ..plain(vec![split(QWEN2), bytes(false)]) }
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            Preparation { ignore_merges: true, add_bos: true, ..plain(vec![split(LLAMA3), bytes(false)]) }
        }
        "smollm" => plain(vec![json!({"type": "Digits", "individual_digits": true}), bytes(true)]),
        "gpt-2" | "gpt2" => plain(vec![bytes(true)]),
        "default" => plain(DEFAULT.into_iter().map(split).chain([bytes(false)]).collect()),
        other => {
            let expected = "one of qwen2, deepseek-r1-qwen, llama-bpe, smollm, gpt-2, default";
            return Err(PolicyError::field(metadata.file, key, other, expected));
        }
    })
}

/// The tokens that end a text or a turn.
pub(super) fn stop_token_ids(metadata: &Metadata<'_>) -> Result<Vec<u32>, PolicyError> {
    let mut ids: Vec<u32> = Vec::new();
    for role in ["eos", "eot", "eom"] {
        let id = metadata.token_id(&format!("tokenizer.ggml.{role}_token_id"))?;
        ids.extend(id.filter(|id| !ids.contains(id)));
    }
    Ok(ids)
}

/// Rebuilds the tokenizer with its special tokens and chat template.
pub(super) fn tokenizer(metadata: &Metadata<'_>) -> Result<Tokenizer, PolicyError> {
    let model = metadata.required_text("tokenizer.ggml.model")?;
    if model != "gpt2" {
        let expected = "gpt2 (byte-level BPE); convert other models to a Hugging Face folder";
        return Err(PolicyError::field(metadata.file, "tokenizer.ggml.model", model, expected));
    }
    let preparation = preparation(metadata)?;
    let tokens = metadata.required_texts("tokenizer.ggml.tokens")?;
    let types = metadata.integers("tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![1; tokens.len()]);
    if types.len() != tokens.len() {
        let expected = format!("{} entries, one for each token", tokens.len());
        let found = format!("an array of {}", types.len());
        return Err(PolicyError::field(metadata.file, "tokenizer.ggml.token_type", found, expected));
    }
    let mut vocabulary = Map::new();
    let mut added = Vec::new();
    for (id, (token, kind)) in tokens.iter().zip(&types).enumerate() {
        // Unused entries fill the embeddings up to a round number; no text has them.
        if *kind == token_type::UNUSED {
            continue;
        }
        vocabulary.insert((*token).to_owned(), id.into());
        if matches!(*kind, token_type::UNKNOWN | token_type::CONTROL | token_type::USER_DEFINED) {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind != token_type::USER_DEFINED,
            }));
        }
    }
    let special = |role: &str| -> Result<Option<(u32, &str)>, PolicyError> {
        let key = format!("tokenizer.ggml.{role}_token_id");
        let Some(id) = metadata.token_id(&key)? else { return Ok(None) };
        let beyond = || PolicyError::field(metadata.file, key, id.to_string(), format!("below {}", tokens.len()));
        Ok(Some((id, tokens.get(id as usize).ok_or_else(beyond)?)))
    };
    for role in ["eot", "eom"] {
        special(role)?;
    }
    let add_bos = metadata.switch("tokenizer.ggml.add_bos_token")?.unwrap_or(preparation.add_bos);
    let add_eos = metadata.switch("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let around = Around { bos: special("bos")?.filter(|_| add_bos), eos: special("eos")?.filter(|_| add_eos) };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": preparation.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": preparation.pre_tokenizers},
        "post_processor": around.post_processor().unwrap_or_else(|| byte_level.clone()),
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": preparation.ignore_merges, "vocab": vocabulary, "merges": merges(metadata)?,
        },
    });
    let inner = parsed(document.to_string().as_bytes())
        .map_err(|message| PolicyError::file(metadata.file, format!("its tokenizer cannot be built: {message}")))?;
    let mut config = Map::from_iter([
        ("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast")),
        ("clean_up_tokenization_spaces".to_owned(), json!(false)),
    ]);
    for (name, role) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
        if let Some((_, token)) = special(role)? {
            config.insert(format!("{name}_token"), token.into());
        }
    }
    let template = metadata.text("tokenizer.chat_template")?;
    let template = template.map(|source| ChatTemplate::new(source, Some(metadata.file)));
    let mut tokenizer = Tokenizer::new(inner, config, template, metadata.file)?;
    tokenizer.add_stop_tokens(&stop_token_ids(metadata)?);
    Ok(tokenizer)
}

fn merges(metadata: &Metadata<'_>) -> Result<Vec<Value>, PolicyError> {
    let key = "tokenizer.ggml.merges";
    let pair = |merge: &str| match merge.split_once(' ') {
        Some((left, right)) => Ok(json!([left, right])),
        None => Err(PolicyError::field(metadata.file, key, format!("{merge:?}"), "two tokens and a space between")),
    };
    metadata.required_texts(key)?.into_iter().map(pair).collect()
}

/// The special tokens put around every text.
struct Around<'a> {
    bos: Option<(u32, &'a str)>,
    eos: Option<(u32, &'a str)>,
}

impl Around<'_> {
    fn post_processor(&self) -> Option<Value> {
        let piece = |(_, token): (u32, &str), segment: u32| json!({"SpecialToken": {"id": token, "type_id": segment}});
        let wrap = |sequence: &str, segment: u32| -> Vec<Value> {
            let text = json!({"Sequence": {"id": sequence, "type_id": segment}});
            let (bos, eos) = (self.bos.map(|t| piece(t, segment)), self.eos.map(|t| piece(t, segment)));
            bos.into_iter().chain([text]).chain(eos).collect()
        };
        let tokens: Map<String, Value> = self
            .bos
            .into_iter()
            .chain(self.eos)
            .map(|(id, token)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})))
            .collect();
        let pair: Vec<Value> = wrap("A", 0).into_iter().chain(wrap("B", 1)).collect();
        let template =
            json!({"type": "TemplateProcessing", "single": wrap("A", 0), "pair": pair, "special_tokens": tokens});
        (!tokens.is_empty()).then_some(template)
    }
}
