//! Checkpoints as Hugging Face folders: loading, refusing and saving.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use dapo_policy::{Checkpoint, PolicyError, load_checkpoint, save_checkpoint};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

const MODELS: [&str; 4] = ["tiny-qwen3", "tiny-qwen3-untied", "tiny-qwen2", "tiny-llama"];
const FIRST: &str = "model.embed_tokens.weight";
const NORM: &str = "model.norm.weight";

fn parity(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/parity").join(name)
}

fn load(name: &str) -> Checkpoint {
    load_checkpoint(&parity(name)).unwrap()
}

/// A copy of a model's folder without its weights.
fn folder(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(parity(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn write(file: &Path, tensors: &BTreeMap<String, Tensor>) {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), file).unwrap();
}

/// The folder of a model whose tensors were changed.
fn changed(name: &str, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> tempfile::TempDir {
    let (dir, mut tensors) = (folder(name), load(name).tensors);
    change(&mut tensors);
    write(&dir.path().join("model.safetensors"), &tensors);
    dir
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_equal(left: &BTreeMap<String, Tensor>, right: &BTreeMap<String, Tensor>) {
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (name, tensor) in left {
        assert_eq!(tensor.dims(), right[name].dims(), "{name}");
        assert_eq!(values(tensor), values(&right[name]), "{name}");
    }
}

/// The error of loading a folder; it must name a file of that folder and all the given words.
fn refused(dir: &Path, words: &[&str]) -> PolicyError {
    let error = load_checkpoint(dir).unwrap_err();
    let text = error.to_string();
    for word in words.iter().chain(&[dir.to_str().unwrap()]) {
        assert!(text.contains(word), "{text} should say {word}");
    }
    error
}

#[test]
fn loads_every_parameter_of_every_reference_model() {
    for name in MODELS {
        let checkpoint = load(name);
        let expected: BTreeMap<String, Vec<usize>> = checkpoint.config.parameter_shapes().into_iter().collect();
        let found = checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
        assert!(checkpoint.tensors.values().all(|tensor| tensor.dtype() == DType::F32));
        let raw = candle_core::safetensors::load(parity(name).join("model.safetensors"), &Device::Cpu).unwrap();
        assert_equal(&checkpoint.tensors, &raw.into_iter().filter(|(name, _)| expected.contains_key(name)).collect());
        assert_eq!(checkpoint.tokenizer.stop_token_ids(), [2]);
    }
}

#[test]
fn saving_and_loading_changes_nothing() {
    for name in MODELS {
        let first = load(name);
        let dir = tempfile::tempdir().unwrap();
        let saved = dir.path().join("new/model");
        for _ in 0..2 {
            save_checkpoint(&saved, &first.config, &first.tensors, &first.tokenizer).unwrap();
        }
        let second = load_checkpoint(&saved).unwrap();
        assert_eq!(second.config, first.config);
        assert_equal(&second.tensors, &first.tensors);
        assert_eq!(second.tokenizer.chat_template(), first.tokenizer.chat_template());
        let text = "12+34=?\nabc<eos>";
        assert_eq!(second.tokenizer.encode(text, true).unwrap(), first.tokenizer.encode(text, true).unwrap());
        let mut files: Vec<_> = fs::read_dir(&saved).unwrap().map(|f| f.unwrap().file_name()).collect();
        files.sort();
        let expected = [
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(files, expected);
        let permissions = |file: &str| fs::metadata(saved.join(file)).unwrap().permissions();
        assert_eq!(permissions("model.safetensors"), permissions("config.json"));
        let config: Value = serde_json::from_slice(&fs::read(saved.join("tokenizer_config.json")).unwrap()).unwrap();
        assert_eq!(config["chat_template"].as_str(), first.tokenizer.chat_template());
        assert_eq!(config["model_max_length"], 256);
    }
}

#[test]
fn saved_weights_are_marked_for_torch_and_always_the_same_bytes() {
    let checkpoint = load("tiny-qwen3");
    let dir = tempfile::tempdir().unwrap();
    let bytes = |name: &str| {
        let dir = dir.path().join(name);
        save_checkpoint(&dir, &checkpoint.config, &checkpoint.tensors, &checkpoint.tokenizer).unwrap();
        fs::read(dir.join("model.safetensors")).unwrap()
    };
    let (a, b) = (bytes("a"), bytes("b"));
    assert_eq!(a, b);
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&a).unwrap();
    assert_eq!(metadata.metadata(), &Some(HashMap::from([("format".to_owned(), "pt".to_owned())])));
}

#[test]
fn narrow_weights_are_widened_exactly_and_saved_as_they_are() {
    for (dtype, name) in [(DType::F16, "float16"), (DType::BF16, "bfloat16")] {
        let checkpoint = load("tiny-qwen2");
        let narrow: BTreeMap<String, Tensor> =
            checkpoint.tensors.iter().map(|(n, t)| (n.clone(), t.to_dtype(dtype).unwrap())).collect();
        let wide = narrow.iter().map(|(n, t)| (n.clone(), t.to_dtype(DType::F32).unwrap())).collect();
        let dir = tempfile::tempdir().unwrap();
        save_checkpoint(dir.path(), &checkpoint.config, &narrow, &checkpoint.tokenizer).unwrap();
        assert_equal(&load_checkpoint(dir.path()).unwrap().tensors, &wide);
        let config: Value = serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
        assert_eq!((&config["dtype"], &config["torch_dtype"]), (&json!(name), &json!(name)));
    }
}

#[test]
fn widens_tensors_larger_than_one_chunk() {
    let dir = folder("tiny-qwen3");
    let mut config: Value = serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    config["vocab_size"] = json!(9001);
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let mut tensors = load("tiny-qwen3").tensors;
    let large = Tensor::arange(0f32, (9001 * 128) as f32, &Device::Cpu).unwrap().reshape((9001, 128)).unwrap();
    tensors.insert(FIRST.into(), large.clone());
    write(&dir.path().join("model.safetensors"), &tensors);
    assert_eq!(values(&load_checkpoint(dir.path()).unwrap().tensors[FIRST]), values(&large));
}

/// A model in two shards, and its weight map.
fn sharded() -> (tempfile::TempDir, serde_json::Map<String, Value>) {
    let (dir, tensors) = (folder("tiny-llama"), load("tiny-llama").tensors);
    let mut shards = [BTreeMap::new(), BTreeMap::new()];
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        map.insert(name.clone(), format!("model-{}.safetensors", i % 2).into());
        shards[i % 2].insert(name, tensor);
    }
    for (i, shard) in shards.iter().enumerate() {
        write(&dir.path().join(format!("model-{i}.safetensors")), shard);
    }
    write_index(dir.path(), &map);
    (dir, map)
}

fn write_index(dir: &Path, map: &serde_json::Map<String, Value>) {
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn loads_shards() {
    let (dir, _) = sharded();
    assert_equal(&load_checkpoint(dir.path()).unwrap().tensors, &load("tiny-llama").tensors);
}

#[test]
fn bad_indices_are_refused() {
    let (dir, map) = sharded();
    let with = |name: &str, shard: Value| {
        let mut map = map.clone();
        map.insert(name.into(), shard);
        write_index(dir.path(), &map);
    };
    with(NORM, json!("../model-1.safetensors"));
    refused(dir.path(), &["model.safetensors.index.json", "weight_map.model.norm.weight", "../model-1"]);
    with(NORM, json!("model-2.safetensors"));
    refused(dir.path(), &["model-2.safetensors"]);
    with("model.layers.9.weight", json!("model-1.safetensors"));
    refused(dir.path(), &["model-1.safetensors", "model.layers.9.weight", "missing"]);
    let other = if map[NORM] == "model-0.safetensors" { "model-1.safetensors" } else { "model-0.safetensors" };
    with(NORM, json!(other));
    refused(dir.path(), &[other, NORM, "missing"]);
    fs::write(dir.path().join("model.safetensors.index.json"), "{}").unwrap();
    refused(dir.path(), &["weight_map"]);
    write_index(dir.path(), &map);
    fs::copy(dir.path().join("model-0.safetensors"), dir.path().join("model-1.safetensors")).unwrap();
    refused(dir.path(), &["model-1.safetensors", "also in", "model-0.safetensors"]);
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    refused(&dir.path().join("nowhere"), &["nowhere"]);
    refused(dir.path(), &["config.json"]);
    let dir = folder("tiny-qwen3");
    refused(dir.path(), &["model.safetensors", "index.json"]);
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    refused(dir.path(), &["tokenizer.json"]);
}

#[test]
fn wrong_tensors_are_named_with_what_was_found() {
    let device = &Device::Cpu;
    let absent = "model.layers.1.mlp.up_proj.weight";
    refused(changed("tiny-qwen3", |t| drop(t.remove(absent))).path(), &[absent, "missing", "[160, 128]"]);
    let extra = changed("tiny-qwen3", |t| {
        t.insert("model.layers.0.self_attn.q_proj.bias".into(), Tensor::zeros(128, DType::F32, device).unwrap());
    });
    refused(extra.path(), &["model.safetensors", "self_attn.q_proj.bias", "Qwen3ForCausalLM", "absent"]);
    let shape = changed("tiny-qwen3", |t| {
        t.insert(NORM.into(), Tensor::zeros(127, DType::F32, device).unwrap());
    });
    refused(shape.path(), &["model.safetensors", NORM, "[127]", "[128]"]);
    let dtype = changed("tiny-qwen3", |t| {
        t.insert(NORM.into(), Tensor::zeros(128, DType::F64, device).unwrap());
    });
    refused(dtype.path(), &[NORM, "F64", "BF16"]);
}

#[test]
fn harmless_extras_are_passed_over() {
    let dir = changed("tiny-llama", |t| {
        let frequencies = Tensor::zeros(16, DType::F32, &Device::Cpu).unwrap();
        t.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), frequencies);
    });
    assert_equal(&load_checkpoint(dir.path()).unwrap().tensors, &load("tiny-llama").tensors);
}

#[test]
fn a_tied_head_may_only_repeat_the_embeddings() {
    let same = changed("tiny-qwen3", |t| drop(t.insert("lm_head.weight".into(), t[FIRST].clone())));
    assert_equal(&load_checkpoint(same.path()).unwrap().tensors, &load("tiny-qwen3").tensors);
    let other = changed("tiny-qwen3", |t| {
        let mut values = values(&t[FIRST]);
        values[4000] += 1e-3;
        t.insert("lm_head.weight".into(), Tensor::from_vec(values, (64, 128), &Device::Cpu).unwrap());
    });
    refused(other.path(), &["lm_head.weight", "different from the embeddings", "tie_word_embeddings"]);
}

#[test]
fn damaged_weights_are_refused_before_anything_is_read() {
    let dir = folder("tiny-qwen3");
    let file = dir.path().join("model.safetensors");
    let whole = fs::read(parity("tiny-qwen3").join("model.safetensors")).unwrap();
    let cut = |length: usize| {
        fs::write(&file, &whole[..length]).unwrap();
        refused(dir.path(), &["model.safetensors", "not a whole safetensors file"])
    };
    for length in [0, 5, 8, 100, whole.len() - 1] {
        assert!(matches!(cut(length), PolicyError::File { .. }));
    }
    fs::write(&file, [&whole[..], &[0]].concat()).unwrap();
    refused(dir.path(), &["not a whole safetensors file"]);
    fs::write(&file, [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat()).unwrap();
    refused(dir.path(), &["not a whole safetensors file"]);
}

#[test]
fn unsupported_configurations_are_refused() {
    let change = |field: &str, value: Value| {
        let dir = folder("tiny-qwen3");
        let file = dir.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config[field] = value;
        fs::write(&file, config.to_string()).unwrap();
        dir
    };
    refused(change("architectures", json!(["GemmaForCausalLM"])).path(), &["config.json", "GemmaForCausalLM"]);
    let dynamic = json!({"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e6});
    refused(change("rope_parameters", dynamic).path(), &["config.json", "rope_parameters.rope_type", "dynamic"]);
    let dir = change("vocab_size", json!(64));
    fs::write(dir.path().join("config.json"), "{\"vocab_size\": 6").unwrap();
    assert!(matches!(refused(dir.path(), &["config.json"]), PolicyError::Json { .. }));
}

#[test]
fn stop_tokens_of_both_configurations_count() {
    let dir = changed("tiny-qwen3", |_| {});
    fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [3, 2]}"#).unwrap();
    let checkpoint = load_checkpoint(dir.path()).unwrap();
    assert_eq!(checkpoint.config.eos_token_ids, [2, 3]);
    let saved = tempfile::tempdir().unwrap();
    save_checkpoint(saved.path(), &checkpoint.config, &checkpoint.tensors, &checkpoint.tokenizer).unwrap();
    assert_eq!(load_checkpoint(saved.path()).unwrap().config.eos_token_ids, [2, 3]);
}

#[test]
fn git_lfs_pointers_are_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n";
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        let dir = changed("tiny-qwen3", |_| {});
        fs::write(dir.path().join(name), pointer).unwrap();
        refused(dir.path(), &[name, "Git LFS pointer", "git lfs pull"]);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.gguf"), pointer).unwrap();
    refused(&dir.path().join("m.gguf"), &["m.gguf", "Git LFS pointer"]);
}

#[test]
fn what_is_not_understood_is_passed_on() {
    let dir = changed("tiny-qwen2", |_| {});
    let edit = |name: &str, fields: Value| {
        let file = dir.path().join(name);
        let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        fs::write(&file, json.to_string()).unwrap();
    };
    let sampling =
        json!({"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05});
    edit("generation_config.json", sampling.clone());
    let own = json!({"initializer_range": 0.5, "use_cache": false, "max_window_layers": 21, "_of_mine": {"a": [1]}});
    edit("config.json", own.clone());
    edit("config.json", json!({"torch_dtype": "bfloat16", "rope_parameters": null, "rope_theta": 12345.0}));
    let checkpoint = load_checkpoint(dir.path()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    save_checkpoint(saved.path(), &checkpoint.config, &checkpoint.tensors, &checkpoint.tokenizer).unwrap();
    let written = |name: &str| serde_json::from_slice::<Value>(&fs::read(saved.path().join(name)).unwrap()).unwrap();
    for (file, fields) in [("generation_config.json", sampling), ("config.json", own)] {
        let written = written(file);
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(&written[name], value, "{file}: {name}");
        }
    }
    // What the weights and their reading decide is ours.
    assert_eq!(written("config.json")["torch_dtype"], "float32");
    assert_eq!(written("config.json")["rope_parameters"]["rope_theta"], 12345.0);
    assert!(written("generation_config.json").get("_from_model_config").is_none());
    assert_eq!(load_checkpoint(saved.path()).unwrap().config, checkpoint.config);
}

#[test]
fn only_whole_models_are_saved() {
    let checkpoint = load("tiny-qwen3");
    let dir = tempfile::tempdir().unwrap();
    let save = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors = checkpoint.tensors.clone();
        change(&mut tensors);
        save_checkpoint(dir.path(), &checkpoint.config, &tensors, &checkpoint.tokenizer).unwrap_err().to_string()
    };
    assert!(save(&|t| drop(t.remove(NORM))).contains(NORM));
    assert!(save(&|t| drop(t.insert("other".into(), t[NORM].clone()))).contains("other"));
    assert!(save(&|t| drop(t.insert(NORM.into(), t[FIRST].clone()))).contains("[64, 128]"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
