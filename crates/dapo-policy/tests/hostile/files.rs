//! Pipes, devices, headers that claim too much, and parsers that panic.

use crate::{copy, edit, tiny};
use dapo_files::read_file;
use dapo_policy::{Tokenizer, load, load_checkpoint, read_tensors};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

fn error(dir: &Path) -> String {
    load_checkpoint(dir).unwrap_err().to_string()
}

/// A model whose file `name` is something else.
#[cfg(unix)]
fn replaced(name: &str, place: impl Fn(&Path)) -> String {
    let dir = copy();
    let file = dir.path().join(name);
    if file.exists() {
        fs::remove_file(&file).unwrap();
    }
    place(&file);
    error(dir.path())
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_by_name() {
    let link = |target: &'static str| move |file: &Path| std::os::unix::fs::symlink(target, file).unwrap();
    let pipe = |file: &Path| assert!(std::process::Command::new("mkfifo").arg(file).status().unwrap().success());
    for name in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "model.safetensors",
    ] {
        let device = format!("{name}: a pipe, socket or device, expected a file");
        assert!(replaced(name, link("/dev/zero")).contains(&device));
        assert!(replaced(name, pipe).contains(&device));
        let folder = replaced(name, |file| fs::create_dir(file).unwrap());
        assert!(folder.contains(&format!("{name}: a folder, expected a file")), "{folder}");
    }
    let error = load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert_eq!(error, "/dev/zero: a pipe, socket or device, expected a file");
}

#[test]
fn claims_of_more_than_there_is_memory_are_refused() {
    let dir = copy();
    let file = dir.path().join("model.safetensors");
    let sparse = |header: &[u8], prefix: u64, length: u64| {
        let mut new = File::create(&file).unwrap();
        new.write_all(&prefix.to_le_bytes()).unwrap();
        new.write_all(header).unwrap();
        new.set_len(length).unwrap();
    };
    // A header of 64 GiB, as long as the file says.
    sparse(b"{", (64 << 30) - 8, 64 << 30);
    let found = error(dir.path());
    assert!(found.contains("model.safetensors: not a whole safetensors file: its header has 68719476728 bytes, expected at most 100000000"), "{found}");
    // A tensor of 4 TiB, as long as the file says.
    let bytes: u64 = 1 << 42;
    let header = json!({"m": {"dtype": "F32", "shape": [bytes / 4], "data_offsets": [0, bytes]}}).to_string();
    let aligned = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let length = aligned.len() as u64;
    sparse(aligned.as_bytes(), length, 8 + length + bytes);
    let found = read_tensors(&file).unwrap_err().to_string();
    assert!(found.contains("model.safetensors: its weights do not fit: 4096.0 GiB of memory are needed"), "{found}");
    // A whole file of 4 TiB.
    let found = read_file(&file).unwrap_err().to_string();
    assert!(found.starts_with("4096.0 GiB of memory are needed"), "{found}");
    fs::rename(&file, dir.path().join("tokenizer.json")).unwrap();
    let found = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
    assert!(found.contains("tokenizer.json: 4096.0 GiB of memory are needed"), "{found}");
}

#[test]
fn parsers_that_panic_are_errors() {
    // A decoder that is no object: the library expects one.
    for decoder in [json!(7), json!([]), json!("ByteLevel"), json!({"type": 7})] {
        let dir = copy();
        edit(dir.path(), "tokenizer.json", |json| json["decoder"] = decoder.clone());
        let found = error(dir.path());
        assert!(found.contains("tokenizer.json: not a tokenizer: "), "{decoder}: {found}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.gguf");
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(17_u64.to_le_bytes());
    bytes.extend(b"general.alignment");
    bytes.extend(4_u32.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    fs::write(&file, &bytes).unwrap();
    let found = error(&file);
    assert!(
        found.contains("m.gguf: not a whole GGUF file, nor a model folder: its parts do not fit together"),
        "{found}"
    );
}

#[test]
fn tokenizers_do_not_make_texts_grow_without_end() {
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(40)});
    for (field, parts) in [("normalizer", "normalizers"), ("decoder", "decoders")] {
        let dir = copy();
        let sequence = json!({"type": "Sequence", parts: vec![replace.clone(); 6]});
        edit(dir.path(), "tokenizer.json", |json| json[field] = sequence);
        let found = error(dir.path());
        let expected = format!("tokenizer.json: {field} is one that makes a text up to 4750104241 times longer");
        assert!(found.contains(&expected), "{found}");
        let sequence = json!({"type": "Sequence", parts: [replace.clone(), replace.clone()]});
        edit(dir.path(), "tokenizer.json", |json| json[field] = sequence);
        load_checkpoint(dir.path()).unwrap();
    }
    load_checkpoint(&tiny()).unwrap();
}

#[test]
fn character_maps_claim_no_more_than_they_hold() {
    let with = |map: &str| {
        let dir = copy();
        let normalizer = json!({"type": "Precompiled", "precompiled_charsmap": map});
        edit(dir.path(), "tokenizer.json", |json| json["normalizer"] = normalizer);
        dir
    };
    // A trie of 4 GiB: eight bytes would be reserved for each four.
    let dir = with("/////w==");
    let said = "precompiled_charsmap has a trie of 4294967295 bytes, expected at most 0";
    let found = error(dir.path());
    assert!(found.contains("tokenizer.json: not a tokenizer: ") && found.contains(said), "{found}");
    let file = dir.path().join("tokenizer.json");
    let escaped = fs::read_to_string(&file).unwrap().replace("precompiled_c", r"\u0070recompiled_c");
    fs::write(&file, escaped).unwrap();
    assert!(error(dir.path()).contains(said));
    // An empty trie, and a text of 30,000 letters for a character.
    let long = with(&format!("AAAAAAAA{}", "YWFh".repeat(10_000)));
    let found = error(long.path());
    assert!(found.contains("normalizer is one that makes a text up to "), "{found}");
}

#[test]
fn an_index_of_very_many_shards_is_refused_in_time() {
    let dir = copy();
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let shards: serde_json::Map<_, _> = (0..200_000).map(|n| (format!("t{n}"), format!("s{n}").into())).collect();
    let index = json!({"weight_map": shards});
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let start = Instant::now();
    let found = error(dir.path());
    assert!(found.contains("s0: "), "{found}");
    // Each pair of names would take minutes.
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn absurd_configurations_are_refused_by_name() {
    let found = |file: &str, field: &str, value: serde_json::Value| {
        let dir = copy();
        edit(dir.path(), file, |json| json[field] = value);
        error(dir.path())
    };
    for eos in [json!(u32::MAX), json!([1, 1_000_000])] {
        for file in ["config.json", "generation_config.json"] {
            let text = found(file, "eos_token_id", eos.clone());
            assert!(text.contains(&format!("{file}: eos_token_id is ")), "{text}");
            assert!(text.contains("expected below the vocabulary size"), "{text}");
        }
    }
    for value in [1e300, 1e-300, 1.0, 0.0, -1.0] {
        let text = found("config.json", "rms_norm_eps", json!(value));
        assert!(text.contains("config.json: rms_norm_eps is ") && text.contains("from 1e-12 to 1e-1"), "{text}");
    }
    let dir = copy();
    edit(dir.path(), "config.json", |json| {
        json["rope_theta"] = json!(1e300);
        json.as_object_mut().unwrap().remove("rope_parameters");
    });
    let text = error(dir.path());
    assert!(text.contains("config.json: rope_theta is 1e300, expected a number from 1e1 to 1e12"), "{text}");
    for file in ["generation_config.json", "tokenizer_config.json"] {
        for content in ["[]", "7", "\"a\"", "null"] {
            let dir = copy();
            fs::write(dir.path().join(file), content).unwrap();
            let text = error(dir.path());
            assert!(text.contains(&format!("{file}: not a JSON object")), "{text}");
        }
    }
}
