//! Where a model's end tokens come from, and what generation does with them.
#![allow(clippy::unwrap_used)]

use dapo_policy::{
    GenerationConfig, Policy, PolicyError, Request, SamplingConfig, StopTokens, Tokenizer, load, load_checkpoint,
    save_checkpoint,
};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(path)
}

/// A copy of a model's folder; `change` is shown each JSON file that is not a tokenizer's own.
fn copy(model: &str, change: impl Fn(&str, &mut Value)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(testdata(model)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let to = dir.path().join(name);
        if name.ends_with("config.json") {
            let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(name, &mut json);
            fs::write(&to, json.to_string()).unwrap();
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
    dir
}

/// The tiny model with the end token of the two model configurations replaced: its tokenizer still says `<eos>`, id 1.
fn with_other_config_eos(id: u32) -> TempDir {
    copy("tiny-qwen3", |name, json| {
        if name != "tokenizer_config.json" {
            json["eos_token_id"] = id.into();
        }
    })
}

fn stop_tokens(dir: &Path) -> StopTokens {
    let (policy, tokenizer) = load(dir).unwrap();
    StopTokens::of(policy.config(), &tokenizer)
}

/// Greedy tokens after `12+7=`.
fn greedy(dir: &Path) -> Vec<u32> {
    let (policy, tokenizer) = load(dir).unwrap();
    let prompt_ids = tokenizer.encode("12+7=", false).unwrap();
    let config = GenerationConfig {
        max_new_tokens: 40,
        sampling: SamplingConfig::GREEDY,
        ..GenerationConfig::new(StopTokens::of(policy.config(), &tokenizer))
    };
    let requests = [Request { prompt_ids, samples: 1, first_sample: 0, draw: 0 }];
    policy.generate(&requests, &config).unwrap()[0][0].token_ids.clone()
}

#[test]
fn the_tokenizers_end_token_ends_a_completion_whatever_the_configuration_says() {
    let dir = with_other_config_eos(2);
    assert_eq!(stop_tokens(dir.path()).ids(), [2, 1]);
    let tokens = greedy(dir.path());
    assert_eq!(tokens, greedy(&testdata("tiny-qwen3")));
    assert_eq!(tokens.last(), Some(&1));
    assert!(tokens.len() < 40);
}

#[test]
fn an_end_token_that_only_special_tokens_map_names_counts() {
    for eos in [json!("<eos>"), json!({"content": "<eos>", "lstrip": false, "special": true})] {
        let dir = copy("tiny-qwen3", |name, json| {
            if name == "tokenizer_config.json" {
                json.as_object_mut().unwrap().remove("eos_token");
            } else {
                json["eos_token_id"] = Value::Null;
            }
        });
        assert!(stop_tokens(dir.path()).is_empty());
        fs::write(dir.path().join("special_tokens_map.json"), json!({"eos_token": eos}).to_string()).unwrap();
        assert_eq!(stop_tokens(dir.path()).ids(), [1]);
        let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
        assert_eq!(tokenizer.special_token("eos_token"), Some("<eos>"));
    }
}

#[test]
fn special_tokens_map_adds_to_what_the_tokenizer_says() {
    let dir = with_other_config_eos(2);
    fs::write(dir.path().join("special_tokens_map.json"), r#"{"eos_token": "9", "unk_token": "+"}"#).unwrap();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    let nine = tokenizer.token_id("9").unwrap();
    assert_eq!(stop_tokens(dir.path()).ids(), [2, 1, nine]);
    assert_eq!(tokenizer.special_token("unk_token"), Some("<unk>"), "tokenizer_config.json comes first");
}

#[test]
fn a_saved_model_names_all_of_its_end_tokens() {
    let dir = with_other_config_eos(2);
    let checkpoint = load_checkpoint(dir.path()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    save_checkpoint(saved.path(), &checkpoint.config, &checkpoint.tensors, &checkpoint.tokenizer).unwrap();
    for name in ["config.json", "generation_config.json"] {
        let json: Value = serde_json::from_slice(&fs::read(saved.path().join(name)).unwrap()).unwrap();
        assert_eq!(json["eos_token_id"], json!([2, 1]), "{name}");
    }
    assert_eq!(stop_tokens(saved.path()).ids(), [2, 1]);
}

#[test]
fn an_adapters_tokenizer_adds_its_end_token_to_those_of_the_base() {
    let base = with_other_config_eos(2);
    let (decoder, _) = load(base.path()).unwrap();
    let decoder = decoder.with_lora(&dapo_policy::LoraConfig::default(), 0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    dapo_policy::save_adapter(dir.path(), base.path().to_str().unwrap(), &decoder).unwrap();
    assert_eq!(stop_tokens(dir.path()).ids(), [2, 1]);
    // Without a tokenizer of its own, what its other files name counts all the same.
    let tokenizer = load(base.path()).unwrap().1;
    let (eight, five) = (tokenizer.token_id("8").unwrap(), tokenizer.token_id("5").unwrap());
    fs::write(dir.path().join("special_tokens_map.json"), r#"{"eos_token": {"content": "8"}}"#).unwrap();
    fs::write(dir.path().join("generation_config.json"), json!({"eos_token_id": five}).to_string()).unwrap();
    assert_eq!(stop_tokens(dir.path()).ids(), [2, 1, eight, five]);
    for name in ["special_tokens_map.json", "generation_config.json"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    fs::copy(base.path().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "9"}"#).unwrap();
    let nine = Tokenizer::from_folder(dir.path()).unwrap().token_id("9").unwrap();
    assert_eq!(stop_tokens(dir.path()).ids(), [2, nine, 1]);
}

#[test]
fn logits_that_are_not_finite_are_an_error_with_their_place() {
    let checkpoint = load_checkpoint(&testdata("tiny-qwen3")).unwrap();
    let (_, tokenizer) = load(&testdata("tiny-qwen3")).unwrap();
    let digit = tokenizer.token_id("9").unwrap();
    for (bad, sampling) in [(f32::NAN, SamplingConfig::GREEDY), (f32::INFINITY, SamplingConfig::default())] {
        let mut tensors = checkpoint.tensors.clone();
        let name = "model.embed_tokens.weight";
        let width = checkpoint.config.hidden_size;
        let mut rows = tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // The tied head makes one token's logit bad; the prompt does not contain it.
        rows[digit as usize * width] = bad;
        let weight = candle_core::Tensor::from_vec(rows, tensors[name].shape(), &candle_core::Device::Cpu).unwrap();
        tensors.insert(name.into(), weight);
        let decoder = dapo_policy::Decoder::new(checkpoint.config.clone(), tensors).unwrap();
        let prompt_ids = tokenizer.encode("12+7=", false).unwrap();
        let request = Request { prompt_ids, samples: 1, first_sample: 3, draw: 5 };
        let config = GenerationConfig { max_new_tokens: 4, sampling, ..GenerationConfig::new(StopTokens::none()) };
        let error = decoder.generate(&[request], &config).unwrap_err();
        assert!(matches!(error, PolicyError::Logits { draw: 5, sample: 3, position: 0 }), "{error}");
        let said = error.to_string();
        assert!(said.contains("NaN or infinite at token 0 of sample 3 of draw 5"), "{said}");
    }
}
