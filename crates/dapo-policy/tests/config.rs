//! Configurations: what is read, what is refused, what is written.
#![allow(clippy::unwrap_used)]

use dapo_policy::{Architecture, Decoder, ModelConfig, PolicyError, RopeScaling, SourceFields};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn read(json: &Value) -> Result<ModelConfig, PolicyError> {
    ModelConfig::from_json(json, Path::new("some/config.json"))
}

/// Sizes that every model must state.
fn minimal(class: &str) -> Value {
    json!({
        "architectures": [class], "vocab_size": 64, "hidden_size": 48, "intermediate_size": 80,
        "num_hidden_layers": 3, "num_attention_heads": 4,
    })
}

fn with(class: &str, field: &str, value: Value) -> Value {
    let mut json = minimal(class);
    json[field] = value;
    json
}

const CLASSES: [&str; 3] = ["Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM"];

#[test]
fn reads_the_reference_models() {
    let read_tiny = |name: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/parity").join(name).join("config.json");
        let config =
            ModelConfig::from_json(&serde_json::from_slice(&fs::read(&file).unwrap()).unwrap(), &file).unwrap();
        ModelConfig { source: SourceFields::default(), ..config }
    };
    let qwen3 = ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 64,
        hidden_size: 128,
        intermediate_size: 160,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        rope_theta: 1e6,
        rope_scaling: None,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        qk_norm: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        max_position_embeddings: 256,
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
        pad_token_id: Some(0),
        source: SourceFields::default(),
    };
    assert_eq!(read_tiny("tiny-qwen3"), qwen3);
    let untied = ModelConfig { hidden_size: 96, num_hidden_layers: 2, tie_word_embeddings: false, ..qwen3.clone() };
    assert_eq!(read_tiny("tiny-qwen3-untied"), untied);
    let qwen2 = ModelConfig {
        architecture: Architecture::Qwen2,
        num_hidden_layers: 2,
        qk_norm: false,
        qkv_bias: true,
        ..qwen3.clone()
    };
    assert_eq!(read_tiny("tiny-qwen2"), qwen2);
    let llama = ModelConfig {
        architecture: Architecture::Llama,
        num_hidden_layers: 2,
        qk_norm: false,
        rope_theta: 1e5,
        rms_norm_eps: 1e-5,
        ..qwen3
    };
    assert_eq!(read_tiny("tiny-llama"), llama);
}

#[test]
fn what_is_absent_takes_the_usual_value() {
    for class in CLASSES {
        let config = read(&minimal(class)).unwrap();
        assert_eq!((config.head_dim, config.num_key_value_heads), (12, 4));
        assert_eq!((config.rope_theta, config.rms_norm_eps), (10_000.0, 1e-6));
        assert_eq!(config.qkv_bias, class == "Qwen2ForCausalLM");
        assert!(!config.tie_word_embeddings && !config.o_bias && !config.mlp_bias);
        assert_eq!((config.bos_token_id, config.pad_token_id, config.eos_token_ids), (None, None, vec![]));
    }
}

#[test]
fn the_model_type_serves_where_no_class_is_named() {
    let mut json = with(CLASSES[0], "model_type", json!("llama"));
    assert_eq!(read(&json).unwrap().architecture, Architecture::Qwen3);
    json["architectures"] = Value::Null;
    assert_eq!(read(&json).unwrap().architecture, Architecture::Llama);
}

#[test]
fn rope_theta_is_found_wherever_it_stands() {
    let plain = json!({"rope_type": "default", "rope_theta": 5e5});
    assert_eq!(read(&with(CLASSES[0], "rope_theta", json!(500_000))).unwrap().rope_theta, 5e5);
    assert_eq!(read(&with(CLASSES[0], "rope_parameters", plain.clone())).unwrap().rope_theta, 5e5);
    assert_eq!(read(&with(CLASSES[0], "rope_scaling", plain)).unwrap().rope_theta, 5e5);
    assert_eq!(read(&with(CLASSES[0], "rope_scaling", Value::Null)).unwrap().rope_theta, 1e4);
}

#[test]
fn scaled_rotary_embeddings_are_read_in_both_spellings() {
    let llama3 = json!({
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    });
    let yarn = json!({"factor": 4.0, "original_max_position_embeddings": 32_768});
    for (kind, entries) in [("linear", json!({"factor": 2.0})), ("llama3", llama3), ("yarn", yarn)] {
        let mut new = with(CLASSES[0], "rope_parameters", entries.clone());
        new["rope_parameters"]["rope_type"] = json!(kind);
        new["rope_parameters"]["rope_theta"] = json!(5e5);
        new["max_position_embeddings"] = json!(40_960);
        let mut old = with(CLASSES[0], "rope_scaling", entries);
        old["rope_scaling"]["type"] = json!(kind);
        old["rope_theta"] = json!(5e5);
        old["max_position_embeddings"] = json!(40_960);
        let config = read(&new).unwrap();
        assert!(config.rope_scaling.is_some());
        assert_eq!(read(&old).unwrap(), config);
        assert_eq!(config.max_position_embeddings, if kind == "yarn" { 131_072 } else { 40_960 });
        let written = config.to_json();
        assert_eq!(read(&written).unwrap(), config);
        assert_eq!(written["rope_scaling"]["rope_type"], kind);
    }
}

#[test]
fn yarn_takes_the_values_of_transformers_where_it_states_none() {
    let yarn = |entries: Value| {
        let mut json = with(CLASSES[1], "rope_scaling", entries);
        json["max_position_embeddings"] = json!(4096);
        read(&json).unwrap().rope_scaling.unwrap()
    };
    let RopeScaling::Yarn {
        beta_fast, beta_slow, attention_factor, truncate, original_max_position_embeddings, ..
    } = yarn(json!({"type": "yarn", "factor": 4.0}))
    else {
        panic!("another scaling");
    };
    assert_eq!((beta_fast, beta_slow, truncate, original_max_position_embeddings), (32.0, 1.0, true, 4096));
    assert!((attention_factor - (0.1 * 4.0_f64.ln() + 1.0)).abs() < 1e-15);
    let attention = |entries| match yarn(entries) {
        RopeScaling::Yarn { attention_factor, .. } => attention_factor,
        other => panic!("{other:?}"),
    };
    let (ln, kind) = (4.0_f64.ln(), "yarn");
    assert_eq!(attention(json!({"type": kind, "factor": 4.0, "attention_factor": 1.5})), 1.5);
    let ratio = (0.1 * 0.707 * ln + 1.0) / (0.1 * 0.5 * ln + 1.0);
    let found = attention(json!({"type": kind, "factor": 4.0, "mscale": 0.707, "mscale_all_dim": 0.5}));
    assert!((found - ratio).abs() < 1e-15);
}

#[test]
fn biases_follow_their_switches() {
    let llama = read(&with(CLASSES[2], "attention_bias", json!(true))).unwrap();
    assert!(llama.qkv_bias && llama.o_bias && !llama.mlp_bias);
    let llama = read(&with(CLASSES[2], "mlp_bias", json!(true))).unwrap();
    assert!(!llama.qkv_bias && !llama.o_bias && llama.mlp_bias);
    let qwen3 = read(&with(CLASSES[0], "attention_bias", json!(true))).unwrap();
    assert!(qwen3.qkv_bias && qwen3.o_bias);
    let qwen2 = read(&with(CLASSES[1], "attention_bias", json!(true))).unwrap();
    assert!(qwen2.qkv_bias && !qwen2.o_bias);
}

#[test]
fn token_ids_may_be_one_several_or_none() {
    let ids = |value: Value| read(&with(CLASSES[2], "eos_token_id", value)).map(|config| config.eos_token_ids);
    assert_eq!(ids(json!(7)).unwrap(), [7]);
    assert_eq!(ids(json!([7, 9])).unwrap(), [7, 9]);
    assert_eq!(ids(Value::Null).unwrap(), [0; 0]);
    assert_eq!(read(&with(CLASSES[2], "pad_token_id", json!(-1))).unwrap().pad_token_id, None);
    assert!(ids(json!("two")).is_err());
}

#[test]
fn an_unused_sliding_window_is_no_obstacle() {
    let mut json = with(CLASSES[1], "sliding_window", json!(32_768));
    assert!(read(&json).is_ok());
    json["use_sliding_window"] = json!(true);
    json["max_window_layers"] = json!(3);
    assert!(read(&json).is_ok());
    json["max_window_layers"] = json!(2);
    assert!(read(&json).unwrap_err().to_string().contains("sliding_window"));
}

#[test]
fn what_is_not_supported_is_named() {
    let scaled = |kind: &str| json!({"factor": 4.0, "rope_type": kind, "rope_theta": 1e6});
    let mut cases = vec![
        ("architectures", json!(["MistralForCausalLM"]), "MistralForCausalLM"),
        ("hidden_act", json!("gelu"), "gelu"),
        ("rope_scaling", json!({"factor": 2.0, "type": "dynamic"}), "dynamic"),
        ("rope_scaling", json!({"factor": 0.5, "type": "linear"}), "factor"),
        ("rope_scaling", json!({"type": "linear"}), "rope_scaling.factor"),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0, "beta_fast": 32}), "rope_scaling.beta_fast"),
        ("rope_scaling", json!({"type": "yarn", "factor": 2.0, "beta_fast": 1, "beta_slow": 1}), "beta_fast"),
        ("rope_scaling", json!({"type": "yarn", "factor": "2"}), "rope_scaling.factor"),
        ("rope_scaling", json!({"type": "yarn", "factor": 2.0, "truncate": 1}), "rope_scaling.truncate"),
        (
            "rope_parameters",
            json!({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 0}),
            "rope_parameters.original_max_position_embeddings",
        ),
        ("rope_parameters", json!({"rope_type": "llama3", "factor": 8.0}), "rope_parameters.low_freq_factor"),
        (
            "rope_parameters",
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}),
            "high_freq_factor",
        ),
        ("rope_scaling", json!({"factor": 2.0}), "rope_scaling.factor"),
        ("rope_parameters", json!({"full_attention": {"rope_theta": 1e4}}), "rope_parameters.full_attention"),
        ("rope_scaling", json!("yarn"), "rope_scaling"),
        ("partial_rotary_factor", json!(0.5), "0.5"),
        ("layer_types", json!(["full_attention", "sliding_attention", "full_attention"]), "sliding_attention"),
        ("quantization_config", json!({"quant_method": "awq"}), "awq"),
        ("attention_dropout", json!(0.1), "0.1"),
        ("vocab_size", Value::Null, "vocab_size"),
        ("hidden_size", json!(0), "hidden_size"),
        ("num_hidden_layers", json!("3"), "num_hidden_layers"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        ("head_dim", json!(7), "head_dim"),
        ("rope_theta", json!(-1.0), "rope_theta"),
        ("rms_norm_eps", json!("small"), "rms_norm_eps"),
        ("tie_word_embeddings", json!(1), "tie_word_embeddings"),
    ];
    for kind in ["dynamic", "longrope", "newest"] {
        cases.push(("rope_parameters", scaled(kind), "rope_parameters.rope_type"));
        cases.push(("rope_scaling", scaled(kind), kind));
    }
    for (field, value, named) in cases {
        let error = read(&with(CLASSES[0], field, value)).unwrap_err();
        assert!(matches!(error, PolicyError::Field { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("some/config.json") && text.contains(named), "{text}");
    }
}

#[test]
fn survives_being_written_and_read() {
    for class in CLASSES {
        let mut json = minimal(class);
        json["eos_token_id"] = json!([2, 3]);
        json["attention_bias"] = json!(true);
        json["mlp_bias"] = json!(true);
        json["rope_theta"] = json!(123_456.789);
        json["tie_word_embeddings"] = json!(true);
        json["head_dim"] = json!(20);
        assert_eq!(read(&json).unwrap().to_json()["rope_parameters"]["rope_type"], "default");
        let config = read(&json).unwrap();
        config.validate().unwrap();
        let written = config.to_json();
        assert_eq!(read(&written).unwrap(), config);
        assert_eq!(written["rope_theta"], written["rope_parameters"]["rope_theta"]);
    }
}

#[test]
fn lists_every_parameter_once() {
    let shapes = read(&minimal("Qwen2ForCausalLM")).unwrap().parameter_shapes();
    assert_eq!(shapes.len(), 1 + 3 * 12 + 2);
    assert_eq!(shapes[0], ("model.embed_tokens.weight".to_owned(), vec![64, 48]));
    assert_eq!(shapes[3], ("model.layers.0.self_attn.q_proj.bias".to_owned(), vec![48]));
    assert_eq!(shapes.last(), Some(&("lm_head.weight".to_owned(), vec![64, 48])));
    let names: std::collections::BTreeSet<_> = shapes.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), shapes.len());
}

#[test]
fn settings_that_no_file_could_say_are_refused() {
    let good = read(&minimal("LlamaForCausalLM")).unwrap();
    for (bad, field) in [
        (ModelConfig { qk_norm: true, ..good.clone() }, "qk_norm"),
        (ModelConfig { o_bias: true, ..good.clone() }, "o_bias"),
        (ModelConfig { head_dim: 1 << 40, ..good.clone() }, "head_dim"),
        (ModelConfig { architecture: Architecture::Qwen2, ..good }, "qkv_bias"),
    ] {
        assert!(bad.validate().unwrap_err().to_string().starts_with(field));
    }
}

#[test]
fn published_shapes_have_their_published_numbers_of_parameters() {
    let count = |config: ModelConfig| -> usize {
        config.validate().unwrap();
        config.parameter_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    };
    assert_eq!(count(ModelConfig::qwen3_0_6b()), 596_049_920);
    assert_eq!(count(ModelConfig::qwen3_4b()), 4_022_468_096);
}

#[test]
fn random_weights_have_the_spread_they_should_and_depend_on_the_seed_and_their_name() {
    let config = ModelConfig {
        num_hidden_layers: 2,
        hidden_size: 64,
        intermediate_size: 96,
        vocab_size: 300,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 32,
        architecture: Architecture::Qwen2,
        qk_norm: false,
        qkv_bias: true,
        ..ModelConfig::qwen3_0_6b()
    };
    let weights = |seed: u64| {
        let decoder = Decoder::random(config.clone(), seed).unwrap();
        let tensors = decoder.tensors().unwrap().into_iter();
        tensors.map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1::<f32>().unwrap())).collect::<BTreeMap<_, _>>()
    };
    let (first, same, other) = (weights(1), weights(1), weights(2));
    assert_eq!(first, same);
    for (name, values) in &first {
        let bias = name.contains("bias");
        if name.ends_with("norm.weight") || bias {
            let value = if bias { 0.0 } else { 1.0 };
            assert!(values.iter().all(|x| *x == value), "{name}");
            continue;
        }
        assert_ne!(values, &other[name], "{name}");
        let n = values.len() as f64;
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let deviation = (values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Five standard errors of a uniform distribution's mean and deviation.
        assert!(mean.abs() < 5.0 * 0.02 / n.sqrt(), "{name}: {mean}");
        assert!((deviation - 0.02).abs() < 5.0 * 0.02 * 0.45 / n.sqrt(), "{name}: {deviation}");
    }
    let layer = |i: usize| &first[&format!("model.layers.{i}.mlp.up_proj.weight")];
    assert_ne!(layer(0), layer(1));
}
