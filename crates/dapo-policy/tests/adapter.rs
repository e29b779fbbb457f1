//! Adapters on disk in PEFT's layout, and files of tensors.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Shape, Tensor};
use dapo_policy::{
    Decoder, LoraConfig, LoraTarget, PolicyError, Segments, load, load_adapter, load_checkpoint, read_adapter,
    read_tensors, save_adapter, save_checkpoint, write_tensors, write_tensors_with, write_weights_with,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const NORM: &str = "model.norm.weight";

type Change<'a> = &'a dyn Fn(&mut BTreeMap<String, Tensor>);

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tiny-qwen3")
}

/// A decoder whose adapters are not zero.
fn trained() -> Decoder {
    let targets = vec![LoraTarget::Down, LoraTarget::Query];
    let lora = LoraConfig { rank: 4, alpha: 6.0, targets, rslora: false };
    let mut decoder = load(&base()).unwrap().0.with_lora(&lora, 5).unwrap();
    decoder
        .update(|index, _, values| {
            for (i, value) in values.iter_mut().enumerate() {
                *value += 0.05 * ((i * 7 + index) as f32).sin();
            }
            Ok(())
        })
        .unwrap();
    decoder
}

fn saved() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    save_adapter(dir.path(), base().to_str().unwrap(), &trained()).unwrap();
    dir
}

fn flat(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn assert_same(left: &BTreeMap<String, Tensor>, right: &BTreeMap<String, Tensor>) {
    assert!(left.keys().eq(right.keys()));
    for (name, tensor) in left {
        assert_eq!((tensor.dims(), flat(tensor)), (right[name].dims(), flat(&right[name])), "{name}");
    }
}

fn change(dir: &Path, change: impl FnOnce(&mut Value)) {
    let file = dir.join(CONFIG);
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    fs::write(&file, config.to_string()).unwrap();
}

fn refused(dir: &Path) -> String {
    load_adapter(dir, load(&base()).unwrap().0).unwrap_err().to_string()
}

#[test]
fn an_adapter_is_written_as_peft_does() {
    let dir = saved();
    let config: Value = serde_json::from_slice(&fs::read(dir.path().join(CONFIG)).unwrap()).unwrap();
    for (field, expected) in [
        ("peft_type", json!("LORA")),
        ("task_type", json!("CAUSAL_LM")),
        ("r", json!(4)),
        ("lora_alpha", json!(6)),
        ("target_modules", json!(["down_proj", "q_proj"])),
        ("base_model_name_or_path", json!(base().to_str().unwrap())),
        ("bias", json!("none")),
        ("lora_dropout", json!(0.0)),
        ("fan_in_fan_out", json!(false)),
        ("inference_mode", json!(true)),
        ("modules_to_save", Value::Null),
        ("use_rslora", json!(false)),
        ("use_dora", json!(false)),
        ("rank_pattern", json!({})),
        ("alpha_pattern", json!({})),
    ] {
        assert_eq!(config[field], expected, "{field}");
    }
    let bytes = fs::read(dir.path().join(WEIGHTS)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap(), &[("format".to_owned(), "pt".to_owned())].into());
    let decoder = trained();
    assert_eq!(file.len(), 3 * 2 * 2);
    for layer in 0..3 {
        for (module, out, width) in [("self_attn.q_proj", 128, 128), ("mlp.down_proj", 128, 320)] {
            for (factor, shape) in [("lora_A", [4, width]), ("lora_B", [out, 4])] {
                let name = format!("model.layers.{layer}.{module}.{factor}.weight");
                let view = file.tensor(&format!("base_model.model.{name}")).unwrap();
                assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::F32, &shape[..]));
                let bits: Vec<u32> =
                    view.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
                assert_eq!(bits, flat(&decoder.trainable_tensors().unwrap()[&name]), "{name}");
            }
        }
    }
}

#[test]
fn saving_is_deterministic_and_loading_brings_every_bit_back() {
    let (first, second) = (saved(), saved());
    for file in [CONFIG, WEIGHTS] {
        assert_eq!(fs::read(first.path().join(file)).unwrap(), fs::read(second.path().join(file)).unwrap());
    }
    let names = fs::read_dir(first.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<std::collections::BTreeSet<_>>(), [CONFIG.into(), WEIGHTS.into()].into());
    let permissions = |file: &str| fs::metadata(first.path().join(file)).unwrap().permissions();
    assert_eq!(permissions(WEIGHTS), permissions(CONFIG));
    let expected = trained();
    let (direct, _) = load(first.path()).unwrap();
    for loaded in [load_adapter(first.path(), load(&base()).unwrap().0).unwrap(), direct] {
        let lora = loaded.lora().unwrap();
        assert_eq!((lora.rank, lora.alpha), (4, 6.0));
        assert_eq!(lora.targets, [LoraTarget::Down, LoraTarget::Query]);
        assert_same(&loaded.trainable_tensors().unwrap(), &expected.trainable_tensors().unwrap());
        assert_same(&loaded.tensors().unwrap(), &expected.tensors().unwrap());
        let segments = Arc::new(Segments::new([(6, None)]).unwrap());
        let logits = |decoder: &Decoder| flat(&decoder.logits(&[3, 1, 4, 1, 5, 9], &segments).unwrap());
        assert_eq!(logits(&loaded), logits(&expected));
        save_adapter(second.path(), base().to_str().unwrap(), &loaded).unwrap();
        assert_eq!(fs::read(first.path().join(WEIGHTS)).unwrap(), fs::read(second.path().join(WEIGHTS)).unwrap());
    }
}

#[test]
fn an_adapters_checkpoint_is_the_merged_model() {
    let dir = saved();
    let checkpoint = load_checkpoint(dir.path()).unwrap();
    assert_same(&checkpoint.tensors, &trained().tensors().unwrap());
    let original = load_checkpoint(&base()).unwrap();
    assert_eq!(checkpoint.config, original.config);
    assert_eq!(checkpoint.tokenizer.stop_token_ids(), original.tokenizer.stop_token_ids());
    assert_ne!(
        flat(&checkpoint.tensors["model.layers.2.mlp.down_proj.weight"]),
        flat(&original.tensors["model.layers.2.mlp.down_proj.weight"])
    );
    let merged = tempfile::tempdir().unwrap();
    save_checkpoint(merged.path(), &checkpoint.config, &checkpoint.tensors, &checkpoint.tokenizer).unwrap();
    assert_same(&load_checkpoint(merged.path()).unwrap().tensors, &checkpoint.tensors);
}

#[test]
fn an_adapters_own_tokenizer_comes_before_the_bases() {
    let dir = saved();
    fs::copy(base().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), "own template").unwrap();
    let (_, tokenizer) = load(dir.path()).unwrap();
    assert_eq!(tokenizer.chat_template(), Some("own template"));
    assert_eq!(tokenizer.stop_token_ids(), load(&base()).unwrap().1.stop_token_ids());
}

/// All fields that PEFT 0.21 writes for `LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, …)`.
const PEFT: &str = r#"{
  "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
  "base_model_name_or_path": "base", "bias": "none", "corda_config": null, "ensure_weight_tying": false,
  "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
  "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": null,
  "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 6, "lora_bias": false, "lora_dropout": 0.05,
  "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
  "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4,
  "rank_pattern": {}, "revision": null, "target_modules": ["q_proj", "down_proj"], "target_parameters": null,
  "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_bdlora": null, "use_dora": false,
  "use_qalora": false, "use_rslora": false, "velora_config": null
}"#;

#[test]
fn a_configuration_that_peft_wrote_is_read() {
    let dir = saved();
    fs::write(dir.path().join(CONFIG), PEFT).unwrap();
    let loaded = load_adapter(dir.path(), load(&base()).unwrap().0).unwrap();
    assert_same(&loaded.tensors().unwrap(), &trained().tensors().unwrap());
}

#[test]
fn rslora_is_written_and_read() {
    let dir = saved();
    change(dir.path(), |config| config["use_rslora"] = json!(true));
    let loaded = load_adapter(dir.path(), load(&base()).unwrap().0).unwrap();
    assert!(loaded.lora().unwrap().rslora);
    // Rank 4: α / √r is that of an α twice as large.
    let twice = saved();
    change(twice.path(), |config| config["lora_alpha"] = json!(12));
    assert_same(&loaded.tensors().unwrap(), &load_checkpoint(twice.path()).unwrap().tensors);
    let again = tempfile::tempdir().unwrap();
    save_adapter(again.path(), base().to_str().unwrap(), &loaded).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(again.path().join(CONFIG)).unwrap()).unwrap();
    assert_eq!((&config["use_rslora"], &config["lora_alpha"]), (&json!(true), &json!(6)));
}

#[test]
fn the_adapters_name_in_tensor_names_is_left_out() {
    let dir = saved();
    let file = dir.path().join(WEIGHTS);
    let plain = read_tensors(&file).unwrap();
    let with_name =
        |name: &str| name.replace("_A.weight", "_A.default.weight").replace("_B.weight", "_B.default.weight");
    let mut named: BTreeMap<String, Tensor> =
        plain.iter().map(|(name, tensor)| (with_name(name), tensor.clone())).collect();
    write_tensors(&file, &named).unwrap();
    let loaded = load_adapter(dir.path(), load(&base()).unwrap().0).unwrap();
    assert_same(&loaded.trainable_tensors().unwrap(), &trained().trainable_tensors().unwrap());
    let (name, tensor) = plain.first_key_value().unwrap();
    named.insert(name.clone(), tensor.clone());
    write_tensors(&file, &named).unwrap();
    let error = refused(dir.path());
    assert!(
        error.contains(name) && error.ends_with("expected absent: the tensor is there by another name, too"),
        "{error}"
    );
}

#[test]
fn all_linear_means_every_projection() {
    let dir = saved();
    let config = PEFT.replace(r#"["q_proj", "down_proj"]"#, r#""all-linear""#);
    fs::write(dir.path().join(CONFIG), config).unwrap();
    // The folder has the tensors of two projections only.
    let error = refused(dir.path());
    assert!(error.contains("k_proj.lora_A.weight") && error.contains("missing"), "{error}");
}

#[test]
fn what_is_not_plain_lora_is_refused_with_file_and_field() {
    for (field, value) in [
        ("use_rslora", json!("yes")),
        ("use_dora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("rank_pattern", json!({"q_proj": 2})),
        ("alpha_pattern", json!({"q_proj": 2})),
        ("layers_to_transform", json!([0])),
        ("init_lora_weights", json!("pissa")),
        ("peft_type", json!("IA3")),
        ("peft_type", Value::Null),
        ("task_type", json!("SEQ_CLS")),
        ("r", json!(0)),
        ("r", json!(4.5)),
        ("r", json!(129)),
        ("lora_alpha", json!(-1)),
        ("lora_alpha", json!("8")),
        ("target_modules", json!(".*_proj")),
        ("target_modules", json!(["q_proj", "lm_head"])),
        ("target_modules", json!(["q_proj", "q_proj"])),
        ("target_modules", json!([])),
        ("some_later_invention", json!(3)),
    ] {
        let dir = saved();
        change(dir.path(), |config| config[field] = value.clone());
        let (text, found) = (refused(dir.path()), value.to_string());
        let start = format!("{}: {field} is {found}, expected ", dir.path().join(CONFIG).display());
        assert!(text.starts_with(&start), "{text} should start with {start}");
    }
    let dir = saved();
    change(dir.path(), |config| config["use_dora"] = json!(true));
    assert!(refused(dir.path()).ends_with("use_dora is true, expected off: anything else is not supported"));
    fs::write(dir.path().join(CONFIG), "[]").unwrap();
    assert!(refused(dir.path()).contains("not a JSON object"));
    fs::remove_file(dir.path().join(CONFIG)).unwrap();
    assert!(refused(dir.path()).contains(CONFIG));
}

#[test]
fn wrong_tensors_are_named_with_what_was_found() {
    let dir = saved();
    let file = dir.path().join(WEIGHTS);
    let name = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight";
    let with = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors = read_tensors(saved().path().join(WEIGHTS).as_path()).unwrap();
        change(&mut tensors);
        write_tensors(&file, &tensors).unwrap();
        refused(dir.path())
    };
    let says = |text: &str, words: &[&str]| {
        for word in words.iter().chain(&[file.to_str().unwrap()]) {
            assert!(text.contains(word), "{text} should say {word}");
        }
    };
    says(&with(&|t| drop(t.remove(name))), &[name, "missing"]);
    let zeros = Tensor::zeros((128, 3), DType::F32, &Device::Cpu).unwrap();
    says(&with(&|t| drop(t.insert(name.into(), zeros.clone()))), &[name, "[128, 3]", "[128, 4]"]);
    let extra = "base_model.model.lm_head.lora_A.weight";
    says(&with(&|t| drop(t.insert(extra.into(), zeros.clone()))), &[extra, "present", "absent"]);
    fs::remove_file(&file).unwrap();
    says(&refused(dir.path()), &[WEIGHTS]);
    let second = load_adapter(saved().path(), trained()).unwrap_err().to_string();
    assert!(second.contains("expected a model without adapters"), "{second}");
    let plain = load(&base()).unwrap().0;
    let error = save_adapter(&dir.path().join("none"), "base", &plain).unwrap_err().to_string();
    assert!(error.contains("without adapters") && !dir.path().join("none").exists(), "{error}");
}

#[test]
fn a_base_model_that_is_not_there_is_named() {
    let dir = saved();
    let error = |value: Value| {
        change(dir.path(), |config| config["base_model_name_or_path"] = value);
        let (one, two) =
            (load(dir.path()).unwrap_err().to_string(), load_checkpoint(dir.path()).unwrap_err().to_string());
        assert_eq!(one, two);
        assert!(one.contains(dir.path().join(CONFIG).to_str().unwrap()), "{one}");
        one
    };
    let hub = error(json!("Qwen/Qwen3-0.6B"));
    assert!(hub.contains("base_model_name_or_path is \"Qwen/Qwen3-0.6B\", expected a folder or GGUF file"), "{hub}");
    assert!(error(Value::Null).contains("base_model_name_or_path is null, expected the path of a model"));
    assert!(error(json!(dir.path())).contains("expected a model, not another adapter"));
}

#[test]
fn files_of_tensors_hold_every_bit_and_always_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (file, again) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
    let odd = [0.1f32, -0.0, f32::MIN_POSITIVE / 4.0, f32::MAX, f32::from_bits(0x8000_0001)];
    let tensor = |shape: &[usize], values: &[f32]| Tensor::from_vec(values.to_vec(), shape, &Device::Cpu).unwrap();
    let wide = tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let tensors: BTreeMap<String, Tensor> = [
        ("z".into(), tensor(&[5], &odd)),
        ("empty".into(), tensor(&[0, 4], &[])),
        ("scalar".into(), tensor(&[], &[7.5])),
        ("turned".into(), wide.t().unwrap()),
    ]
    .into();
    write_tensors(&file, &tensors).unwrap();
    write_tensors(&again, &tensors).unwrap();
    assert_eq!(fs::read(&file).unwrap(), fs::read(&again).unwrap());
    assert_same(&read_tensors(&file).unwrap(), &tensors);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    let narrow = BTreeMap::from([("half".to_owned(), wide.to_dtype(DType::F16).unwrap())]);
    let error = write_tensors(&file, &narrow).unwrap_err().to_string();
    assert!(error.contains("a.safetensors: tensor half is of type F16, expected of type F32"), "{error}");
    for bad in [f32::INFINITY, f32::from_bits(0x7fc0_1234)] {
        let error =
            write_tensors(&file, &[("m".to_owned(), tensor(&[3], &[1.0, bad, bad]))].into()).unwrap_err().to_string();
        assert!(error.contains(&format!("a.safetensors: tensor m is {bad} at index 1, expected finite")), "{error}");
    }
    assert_same(&read_tensors(&file).unwrap(), &tensors);
    write_tensors(&file, &BTreeMap::new()).unwrap();
    assert!(read_tensors(&file).unwrap().is_empty());
}

#[test]
fn adapters_that_were_saved_are_read_into_a_decoder_that_has_others() {
    let (dir, expected) = (saved(), trained().trainable_tensors().unwrap());
    let mut decoder = trained();
    decoder
        .update(|_, _, values| {
            values.fill(0.25);
            Ok(())
        })
        .unwrap();
    read_adapter(&dir.path().join(WEIGHTS), &mut decoder).unwrap();
    assert_same(&decoder.trainable_tensors().unwrap(), &expected);
}

#[test]
fn tensors_made_one_at_a_time_give_the_same_file_and_a_failure_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, single) = (dir.path().join("whole.safetensors"), dir.path().join("single.safetensors"));
    let tensors: BTreeMap<String, Tensor> = trained().trainable_tensors().unwrap();
    write_tensors(&whole, &tensors).unwrap();
    // In another order: that of the file follows from the names.
    let shapes: Vec<(String, Shape)> =
        tensors.iter().rev().map(|(name, tensor)| (name.clone(), tensor.shape().clone())).collect();
    write_tensors_with(&single, &shapes, |place| Ok::<_, PolicyError>(tensors[&shapes[place].0].clone())).unwrap();
    assert_eq!(fs::read(&whole).unwrap(), fs::read(&single).unwrap());
    fs::remove_file(&single).unwrap();
    let second = |instead: &dyn Fn(&Tensor) -> Result<Tensor, PolicyError>| {
        let tensor = |place: usize| match &tensors[&shapes[place].0] {
            tensor if place == 1 => instead(tensor),
            tensor => Ok(tensor.clone()),
        };
        let error = write_weights_with(&single, &shapes, tensor).unwrap_err().to_string();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{error}");
        error
    };
    let name = &shapes[1].0;
    let own = PolicyError::Setting { field: "x".into(), found: "y".into(), expected: "z".into() };
    let text = own.to_string();
    let own = std::cell::RefCell::new(Some(own));
    assert_eq!(second(&|_| Err(own.take().unwrap())), text);
    let error = second(&|tensor| Ok(tensor.flatten_all()?));
    assert!(error.contains(&format!("single.safetensors: tensor {name} is F32 of shape [")), "{error}");
    let error = second(&|tensor| Ok((tensor * 1e30)?));
    assert!(error.contains(&format!("single.safetensors: tensor {name} is ")), "{error}");
}

#[test]
fn a_decoder_reads_its_weights_from_a_file_or_says_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let (mut decoder, expected) = (load(&base()).unwrap().0, trained().tensors().unwrap());
    let begin = decoder.tensors().unwrap();
    let mut read = |change: Change<'_>| {
        let mut tensors = expected.clone();
        change(&mut tensors);
        write_tensors(&file, &tensors).unwrap();
        let error = decoder.read_trainable(&file).err().map(|error| error.to_string());
        (error.unwrap_or_default(), decoder.tensors().unwrap())
    };
    let faults: [(Change<'_>, &str); 3] = [
        (&|t| drop(t.remove(NORM)), "tensor model.norm.weight is missing, expected of shape ["),
        (&|t| drop(t.insert(NORM.into(), t[NORM].unsqueeze(0).unwrap())), "tensor model.norm.weight is of shape [1, "),
        (&|t| drop(t.insert("more".into(), t[NORM].clone())), "tensor more is present, expected absent"),
    ];
    for (fault, text) in faults {
        let (error, after) = read(fault);
        assert!(error.contains(&format!("model.safetensors: {text}")), "{error}");
        assert_same(&after, &begin);
    }
    let (error, after) = read(&|_| ());
    assert_eq!(error, "");
    assert_same(&after, &expected);
}

#[test]
fn damaged_files_of_tensors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.safetensors");
    let tensors = BTreeMap::from([("m".to_owned(), Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap())]);
    write_tensors(&file, &tensors).unwrap();
    let whole = fs::read(&file).unwrap();
    let error = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let text = read_tensors(&file).unwrap_err().to_string();
        assert!(text.contains("state.safetensors"), "{text}");
        text
    };
    for length in [0, 7, 8, 40, whole.len() - 1] {
        assert!(error(&whole[..length]).contains("not a whole safetensors file"));
    }
    let text = String::from_utf8_lossy(&whole[8..]).into_owned();
    for (from, to) in [("[3,5]", "[9,5]"), ("[0,60]", "[4,64]"), ("F32", "F3Z")] {
        assert!(text.contains(from), "{text}");
        let damaged = whole.clone();
        let at = 8 + text.find(from).unwrap();
        let damaged = [&damaged[..at], to.as_bytes(), &damaged[at + from.len()..]].concat();
        assert!(error(&damaged).contains("not a whole safetensors file"), "{from}");
    }
    fs::remove_file(&file).unwrap();
    assert!(read_tensors(&file).unwrap_err().to_string().contains("state.safetensors"));
}
