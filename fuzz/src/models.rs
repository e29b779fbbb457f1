//! Targets for parsers of crates that bring tensors along: settings, imports, data, models, checkpoints, logs.

use crate::input::{Folder, Target, bounded, parts, text};
use dapo_data::{Fields, OnBadLine, ReadOptions, read};
use dapo_import::{ConfigFormat, import};
use dapo_policy::{
    Architecture, ChatOptions, LoraConfig, Message, ModelConfig, SourceFields, Tokenizer, load, load_checkpoint,
    read_tensors, save_checkpoint, write_tensors,
};
use dapo_run::{Layer, Resolved, SettingsError, resolve, resolve_text, settings_of};
use dapo_trainer::Manifest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Every target of this file.
pub const TARGETS: &[(&str, Target)] = &[
    ("settings", settings),
    ("overrides", overrides),
    ("run_settings", run_settings),
    ("config_import", config_import),
    ("data_lines", data_lines),
    ("data_array", data_array),
    ("data_csv", data_csv),
    ("tensors", tensors),
    ("gguf", gguf),
    ("model_config", model_config),
    ("model_folder", model_folder),
    ("tokenizer", tokenizer),
    ("chat_template", chat_template),
    ("adapter", adapter),
    ("manifest", manifest),
    ("trainer_state", trainer_state),
    ("log_lines", log_lines),
];

fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

fn of_text(text: &str) -> Result<Resolved, SettingsError> {
    resolve_text(text, Path::new("settings.toml"))
}

/// A settings file: what is read is written and read again, with the same values.
pub fn settings(data: &[u8]) {
    let Ok(resolved) = bounded(|| of_text(&text(data))) else { return };
    let Ok(written) = resolved.to_toml() else { return };
    // As texts: ranges are not checked here, and no NaN equals another.
    assert_eq!(must(must(of_text(&written)).to_toml()), written);
    let _ = bounded(|| resolved.config.validate().is_ok());
}

/// Words of a command line, one a line: likewise.
pub fn overrides(data: &[u8]) {
    let words = text(data);
    let layers: Vec<Layer> = words.lines().filter_map(|word| Layer::parse(word).ok()).collect();
    let inner = layers.into_iter().filter(|layer| !matches!(layer, Layer::File(_))).collect::<Vec<_>>();
    let Ok(resolved) = bounded(|| resolve(&inner)) else { return };
    let Ok(written) = resolved.to_toml() else { return };
    assert_eq!(must(must(of_text(&written)).to_toml()), written);
}

/// The settings of a run folder.
pub fn run_settings(data: &[u8]) {
    let folder = Folder::new();
    folder.write("config.resolved.toml", data);
    let _ = bounded(|| settings_of(folder.path(), &["train.steps=3".to_owned()]).is_ok());
}

/// Another trainer's settings, of any kind of file and any format: what comes of them are settings that are valid.
pub fn config_import(data: &[u8]) {
    let source = text(data);
    let formats = [None, Some(ConfigFormat::Verl), Some(ConfigFormat::Trl), Some(ConfigFormat::Swift)];
    for name in ["run.sh", "config.yaml", "train.py", "args.json"] {
        for format in formats {
            let Ok(imported) = bounded(|| import(&source, Path::new(name), format)) else { continue };
            must(imported.config.validate());
            assert_eq!(must(of_text(&imported.toml)).config, imported.config);
        }
    }
}

fn data_file(name: &str, data: &[u8]) {
    let folder = Folder::new();
    let file = folder.write(name, data);
    let named = Fields { prompt: Some("a.b".into()), answer: Some("c".into()), ..Fields::default() };
    for fields in [Fields::default(), named] {
        let strict = ReadOptions { fields, ..ReadOptions::default() };
        let lenient = ReadOptions {
            on_bad_line: OnBadLine::Skip,
            leave_out_placeholders: true,
            deduplicate: true,
            ..strict.clone()
        };
        let strict = bounded(|| read(&file, &strict));
        let lenient = bounded(|| read(&file, &lenient));
        match strict {
            // What no line is too bad for is read either way.
            Ok(reading) => {
                assert_eq!(reading.left_out.total(), 0);
                if let Ok(lenient) = lenient {
                    let found = lenient.problems.len() + lenient.duplicates.dropped + lenient.left_out.placeholder;
                    assert_eq!(found, reading.problems.len());
                }
            }
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
    }
}

/// Problems, one a line.
pub fn data_lines(data: &[u8]) {
    data_file("data.jsonl", data);
}

/// Problems in one array.
pub fn data_array(data: &[u8]) {
    data_file("data.json", data);
}

/// Problems in a table.
pub fn data_csv(data: &[u8]) {
    data_file("data.csv", data);
}

/// A file of tensors: what is read is written and read again, to the bit.
pub fn tensors(data: &[u8]) {
    let folder = Folder::new();
    let file = folder.write("model.safetensors", data);
    let Ok(tensors) = bounded(|| read_tensors(&file)) else { return };
    must(write_tensors(&file, &tensors));
    let again = must(read_tensors(&file));
    assert_eq!(tensors.len(), again.len());
    for (name, tensor) in &tensors {
        let values = |tensor: &candle_core::Tensor| must(tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()));
        assert_eq!(tensor.dims(), again[name].dims(), "{name}");
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(values(tensor)), bits(values(&again[name])), "{name}");
    }
}

/// A GGUF file.
pub fn gguf(data: &[u8]) {
    let folder = Folder::new();
    let file = folder.write("model.gguf", data);
    if let Ok(checkpoint) = bounded(|| load_checkpoint(&file)) {
        must(checkpoint.config.validate());
    }
}

/// `config.json`: what is read is valid, and is written and read again.
pub fn model_config(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return };
    let file = Path::new("config.json");
    let Ok(config) = bounded(|| ModelConfig::from_json(&json, file)) else { return };
    must(config.validate());
    let again = must(ModelConfig::from_json(&config.to_json(), file));
    assert_eq!(
        ModelConfig { source: SourceFields::default(), ..again },
        ModelConfig { source: SourceFields::default(), ..config }
    );
}

/// A model of a few hundred parameters with a tokenizer of few words.
fn smallest() -> (ModelConfig, BTreeMap<String, candle_core::Tensor>) {
    let config = ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 6,
        hidden_size: 4,
        intermediate_size: 4,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        num_key_value_heads: 1,
        head_dim: 4,
        rope_theta: 1e4,
        rope_scaling: None,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        qk_norm: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        max_position_embeddings: 16,
        bos_token_id: None,
        eos_token_ids: vec![1],
        pad_token_id: None,
        source: SourceFields::default(),
    };
    let tensor =
        |shape: Vec<usize>| must(candle_core::Tensor::ones(shape, candle_core::DType::F32, &candle_core::Device::Cpu));
    let tensors = config.parameter_shapes().into_iter().map(|(name, shape)| (name, tensor(shape))).collect();
    (config, tensors)
}

const WORDS: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":1,"content":"<eos>",
"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":null,
"pre_tokenizer":null,"post_processor":null,"decoder":{"type":"Fuse"},"model":{"type":"BPE","dropout":null,
"unk_token":"a","continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,
"ignore_merges":false,"vocab":{"a":0,"<eos>":1,"b":2,"ab":3},"merges":["a b"]}}"#;

/// Writes [`smallest`] into a folder.
fn write_smallest(folder: &Folder, below: &str) {
    let dir = folder.path().join(below);
    folder.write(&format!("{below}/tokenizer.json"), WORDS.as_bytes());
    let (config, tensors) = smallest();
    must(save_checkpoint(&dir, &config, &tensors, &must(Tokenizer::from_folder(&dir))));
}

/// The name of a file of a model's folder, and what it holds: what loads is saved and loads again, the same.
pub fn model_folder(data: &[u8]) {
    const FILES: [&str; 9] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.json",
        "chat_template.jinja",
        "model.safetensors",
        "model.safetensors.index.json",
    ];
    let [name, content] = parts(data);
    let Some(name) = FILES.into_iter().find(|file| file.as_bytes() == name) else { return };
    let folder = Folder::new();
    write_smallest(&folder, "model");
    folder.write(&format!("model/{name}"), content);
    if name == "model.safetensors.index.json" {
        let weights = folder.path().join("model/model.safetensors");
        must(std::fs::rename(&weights, weights.with_file_name("part.safetensors")));
    }
    let Ok(loaded) = bounded(|| load_checkpoint(&folder.path().join("model"))) else { return };
    let again = folder.path().join("again");
    must(save_checkpoint(&again, &loaded.config, &loaded.tensors, &loaded.tokenizer));
    let saved = must(load_checkpoint(&again));
    assert_eq!(saved.tokenizer.stop_token_ids(), saved.config.eos_token_ids);
    assert_eq!(saved.tensors.len(), loaded.tensors.len());
    assert_eq!(saved.tokenizer.chat_template(), loaded.tokenizer.chat_template());
}

/// `tokenizer.json`, and a text: encoding and decoding end.
pub fn tokenizer(data: &[u8]) {
    let [json, words] = parts(data);
    let folder = Folder::new();
    folder.write("tokenizer.json", json);
    let Ok(tokenizer) = bounded(|| Tokenizer::from_folder(folder.path())) else { return };
    let words = text(words);
    for special in [false, true] {
        if let Ok(ids) = bounded(|| tokenizer.encode(&words, special)) {
            let _ = bounded(|| tokenizer.decode(&ids, special).is_ok());
        }
    }
    let _ = (tokenizer.vocab_size(), tokenizer.token(0), tokenizer.token(u32::MAX));
    let _ = bounded(|| tokenizer.decode(&[0, 1, u32::MAX], false).is_ok());
}

/// A chat template: what it makes is the same twice, and of bounded length.
pub fn chat_template(data: &[u8]) {
    let template = text(data);
    let messages = [Message::system("Be brief."), Message::user("What is 1 + 1?"), Message::assistant("2")];
    let tools = vec![json!({"type": "function", "function": {"name": "add", "parameters": {}}})];
    for options in [ChatOptions::default(), ChatOptions { enable_thinking: Some(false), tools, ..Default::default() }] {
        let render = || dapo_policy::fuzzing::rendered(&template, &messages, &options);
        let first = bounded(render).map_err(|error| error.to_string());
        assert!(first.as_ref().is_ok_and(|text| text.len() < 1 << 26) || first.is_err());
        assert_eq!(first, render().map_err(|error| error.to_string()));
    }
}

/// `adapter_config.json`, in which `BASE` stands for a model's folder, and the adapter's weights; without them those of an
/// adapter of rank 2.
pub fn adapter(data: &[u8]) {
    let [config, weights] = parts(data);
    let folder = Folder::new();
    write_smallest(&folder, "model");
    let base = folder.path().join("model");
    folder.write("adapter/adapter_config.json", text(config).replace("BASE", &base.to_string_lossy()).as_bytes());
    if weights.is_empty() {
        let lora = LoraConfig { rank: 2, ..LoraConfig::default() };
        let shapes = must(lora.parameter_shapes(&smallest().0));
        let named = shapes.into_iter().map(|(name, shape)| {
            let ones = candle_core::Tensor::ones(shape, candle_core::DType::F32, &candle_core::Device::Cpu);
            (format!("base_model.model.{name}"), must(ones))
        });
        must(write_tensors(&folder.path().join("adapter/adapter_model.safetensors"), &named.collect()));
    } else {
        folder.write("adapter/adapter_model.safetensors", weights);
    }
    let dir = folder.path().join("adapter");
    let loaded = bounded(|| load(&dir)).is_ok();
    assert_eq!(loaded, bounded(|| load_checkpoint(&dir)).is_ok());
}

/// `manifest.json`: what is read is written and read again.
pub fn manifest(data: &[u8]) {
    let folder = Folder::new();
    folder.write(Manifest::FILE, data);
    let Ok(Some(manifest)) = bounded(|| Manifest::read(folder.path())) else { return };
    let _ = bounded(|| manifest.check_files(folder.path(), |_| true).is_ok());
    must(manifest.write(folder.path()));
    assert_eq!(must(Manifest::read(folder.path())), Some(manifest));
}

/// `trainer.json` and `groups.safetensors`: what is read is written and read again.
pub fn trainer_state(data: &[u8]) {
    let [state, groups] = parts(data);
    let folder = Folder::new();
    folder.write("a/trainer.json", state);
    folder.write("a/groups.safetensors", groups);
    let rewrite = |from: &str, to: &str| {
        let to = folder.path().join(to);
        must(std::fs::create_dir_all(&to));
        dapo_trainer::fuzzing::rewrite_state(&folder.path().join(from), &to)
    };
    let Ok(first) = bounded(|| rewrite("a", "b")) else { return };
    folder.write("b/trainer.json", first.to_string().as_bytes());
    assert_eq!(must(rewrite("b", "c")), first);
    let bytes = |part: &str| std::fs::read(folder.path().join(part).join("groups.safetensors")).ok();
    assert_eq!(bytes("b"), bytes("c"));
}

/// A log: the lines up to a step are its beginning, and more with more steps.
pub fn log_lines(data: &[u8]) {
    let mut last = 0;
    for steps in [0, 1, 2, 7, u64::MAX] {
        let Ok(bytes) = bounded(|| dapo_run::fuzzing::log_prefix(data, steps)) else { break };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        assert!(last <= bytes && bytes <= data.len());
        assert!(bytes == 0 || data[bytes - 1] == b'\n');
        last = bytes;
    }
}
