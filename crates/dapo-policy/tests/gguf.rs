//! GGUF files, made here from the reference models, and the real SmolLM2 where it is at hand.
#![allow(clippy::unwrap_used)]

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use dapo_policy::{
    Architecture, ChatOptions, Checkpoint, Message, RopeScaling, SourceFields, Tokenizer, load_checkpoint,
    save_checkpoint,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

fn tiny(name: &str) -> Checkpoint {
    load_checkpoint(&testdata("parity").join(name)).unwrap()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn texts(list: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::Array(list.into_iter().map(|text| Value::String(text.into())).collect())
}

/// Bytes as byte-level BPE writes them: printable ones as they are, the others as letters from U+0100 on.
fn byte_letters() -> Vec<char> {
    let mut next = 0x100;
    (0..=255u32)
        .map(|byte| match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from_u32(byte).unwrap(),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
        })
        .collect()
}

type Metadata = BTreeMap<String, Value>;

/// A byte-level tokenizer with `tokens` after the 256 bytes, each the merge of two earlier ones, then special ones.
fn tokenizer_metadata(pre: &str) -> Metadata {
    let merges = ["Ġ a", "1 2", "12 3", "a b", "Ġa b"];
    let mut tokens: Vec<String> = byte_letters().into_iter().map(String::from).collect();
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let plain = tokens.len();
    tokens.extend(["<bos>", "<eos>", "<tag>", "[PAD0]"].map(String::from));
    let mut types = vec![Value::I32(1); plain];
    types.extend([3, 3, 4, 5].map(Value::I32));
    BTreeMap::from([
        ("tokenizer.ggml.model".into(), text("gpt2")),
        ("tokenizer.ggml.pre".into(), text(pre)),
        ("tokenizer.ggml.tokens".into(), texts(tokens)),
        ("tokenizer.ggml.token_type".into(), Value::Array(types)),
        ("tokenizer.ggml.merges".into(), texts(merges)),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(261)),
        ("tokenizer.ggml.eos_token_id".into(), Value::U32(262)),
        ("tokenizer.chat_template".into(), text("{{ bos_token }}{{ messages[0].content }}")),
    ])
}

fn model_metadata(checkpoint: &Checkpoint) -> Metadata {
    let (config, name) = (&checkpoint.config, checkpoint.config.architecture.model_type());
    let mut metadata = tokenizer_metadata("qwen2");
    let number = |n: usize| Value::U32(n as u32);
    metadata.extend([
        ("general.architecture".into(), text(name)),
        (format!("{name}.block_count"), number(config.num_hidden_layers)),
        (format!("{name}.context_length"), number(config.max_position_embeddings)),
        (format!("{name}.embedding_length"), number(config.hidden_size)),
        (format!("{name}.feed_forward_length"), number(config.intermediate_size)),
        (format!("{name}.attention.head_count"), number(config.num_attention_heads)),
        (format!("{name}.attention.head_count_kv"), number(config.num_key_value_heads)),
        (format!("{name}.attention.key_length"), number(config.head_dim)),
        (format!("{name}.attention.layer_norm_rms_epsilon"), Value::F32(config.rms_norm_eps as f32)),
        (format!("{name}.rope.freq_base"), Value::F32(config.rope_theta as f32)),
    ]);
    metadata
}

/// A tensor's name in GGUF files.
fn gguf_name(name: &str) -> String {
    let pairs = [
        ("model.layers.", "blk."),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ];
    pairs.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// Rows in the order of interleaved rotary embeddings: row j of a head's first half, then row j of its second half.
fn interleaved(tensor: &Tensor, heads: usize) -> Tensor {
    let (rows, half) = (tensor.dim(0).unwrap(), tensor.dim(0).unwrap() / heads / 2);
    let order: Vec<u32> = (0..rows)
        .map(|row| {
            let (head, within) = (row / (2 * half), row % (2 * half));
            (head * 2 * half + within % 2 * half + within / 2) as u32
        })
        .collect();
    tensor.index_select(&Tensor::from_vec(order, rows, &Device::Cpu).unwrap(), 0).unwrap()
}

/// The tensors of a model as a GGUF file has them, with those that the quantisation fits quantised, and what they
/// dequantise to.
fn quantised(checkpoint: &Checkpoint, dtype: GgmlDType) -> (BTreeMap<String, QTensor>, BTreeMap<String, Tensor>) {
    let config = &checkpoint.config;
    let (mut stored, mut expected) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in &checkpoint.tensors {
        let fits = tensor.rank() == 2 && tensor.dims()[1].is_multiple_of(dtype.block_size());
        let dtype = if fits { dtype } else { GgmlDType::F32 };
        let back = QTensor::quantize(tensor, dtype).unwrap().dequantize(&Device::Cpu).unwrap();
        expected.insert(name.clone(), back);
        let heads = match (config.architecture, name) {
            (Architecture::Llama, name) if name.contains("q_proj") => Some(config.num_attention_heads),
            (Architecture::Llama, name) if name.contains("k_proj") => Some(config.num_key_value_heads),
            _ => None,
        };
        let tensor = heads.map_or_else(|| tensor.clone(), |heads| interleaved(tensor, heads));
        stored.insert(gguf_name(name), QTensor::quantize(&tensor, dtype).unwrap());
    }
    (stored, expected)
}

fn write(file: &Path, metadata: &Metadata, tensors: &BTreeMap<String, QTensor>) {
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(file).unwrap(), &metadata, &tensors).unwrap();
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn reads_back_every_quantisation() {
    use GgmlDType as Q;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    for name in ["tiny-qwen3", "tiny-qwen3-untied", "tiny-qwen2", "tiny-llama"] {
        let source = tiny(name);
        for dtype in [Q::F32, Q::F16, Q::BF16, Q::Q4_0, Q::Q4_1, Q::Q5_0, Q::Q5_1, Q::Q8_0, Q::Q8_1] {
            let (stored, expected) = quantised(&source, dtype);
            write(&file, &model_metadata(&source), &stored);
            let found = load_checkpoint(&file).unwrap();
            let mut config = source.config.clone();
            (config.bos_token_id, config.eos_token_ids, config.pad_token_id) = (Some(261), vec![262], None);
            config.source = SourceFields::default();
            assert_eq!(found.config, config);
            assert_eq!(found.tensors.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (name, tensor) in &expected {
                assert_eq!(found.tensors[name].dtype(), DType::F32);
                assert_eq!(values(&found.tensors[name]), values(tensor), "{name} {dtype:?}");
            }
        }
    }
}

#[test]
fn reads_back_k_quants() {
    use GgmlDType as Q;
    // Their blocks are 256 wide, so the embeddings get such rows here.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    let mut source = tiny("tiny-qwen3");
    let config = &mut source.config;
    (config.hidden_size, config.intermediate_size, config.num_hidden_layers) = (256, 256, 1);
    source.tensors = config
        .parameter_shapes()
        .into_iter()
        .map(|(name, shape)| (name, Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()))
        .collect();
    for dtype in [Q::Q2K, Q::Q3K, Q::Q4K, Q::Q5K, Q::Q6K, Q::Q8K] {
        let (stored, expected) = quantised(&source, dtype);
        write(&file, &model_metadata(&source), &stored);
        let found = load_checkpoint(&file).unwrap();
        assert!(stored["token_embd.weight"].dtype() == dtype);
        for (name, tensor) in &expected {
            assert_eq!(values(&found.tensors[name]), values(tensor), "{name} {dtype:?}");
        }
    }
}

#[test]
fn biases_are_found_and_reordered() {
    let mut source = tiny("tiny-llama");
    (source.config.qkv_bias, source.config.o_bias, source.config.mlp_bias) = (true, true, true);
    for (name, shape) in source.config.parameter_shapes() {
        source.tensors.entry(name).or_insert_with(|| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap());
    }
    let (stored, expected) = quantised(&source, GgmlDType::F32);
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("m.gguf"), &model_metadata(&source), &stored);
    let found = load_checkpoint(&dir.path().join("m.gguf")).unwrap();
    assert!(found.config.qkv_bias && found.config.o_bias && found.config.mlp_bias);
    for (name, tensor) in &expected {
        assert_eq!(values(&found.tensors[name]), values(tensor), "{name}");
    }
}

#[test]
fn becomes_a_folder() {
    let source = tiny("tiny-qwen3");
    let (stored, expected) = quantised(&source, GgmlDType::Q8_0);
    let dir = tempfile::tempdir().unwrap();
    let mut metadata = model_metadata(&source);
    // An end token that the model has a row for.
    metadata.insert("tokenizer.ggml.eos_token_id".into(), Value::U32(33));
    write(&dir.path().join("m.gguf"), &metadata, &stored);
    let first = load_checkpoint(&dir.path().join("m.gguf")).unwrap();
    let folder = dir.path().join("folder");
    save_checkpoint(&folder, &first.config, &first.tensors, &first.tokenizer).unwrap();
    let second = load_checkpoint(&folder).unwrap();
    assert_eq!(second.config, first.config);
    assert!(expected.iter().all(|(name, tensor)| values(&second.tensors[name]) == values(tensor)));
    let sample = " ab 123<tag>é\n<eos>";
    assert_eq!(second.tokenizer.encode(sample, true).unwrap(), first.tokenizer.encode(sample, true).unwrap());
    let hello = [Message::user("hello")];
    let rendered = second.tokenizer.apply_chat_template(&hello, &ChatOptions::default()).unwrap();
    assert_eq!(rendered, "<bos>hello");
    assert_eq!(second.tokenizer.stop_token_ids(), [33]);
}

/// A tokenizer from a GGUF file with the given changes to its metadata.
fn tokenizer(pre: &str, change: impl FnOnce(&mut Metadata)) -> Result<Tokenizer, String> {
    let source = tiny("tiny-qwen3");
    let mut metadata = model_metadata(&source);
    metadata.extend(tokenizer_metadata(pre));
    change(&mut metadata);
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("m.gguf"), &metadata, &quantised(&source, GgmlDType::F32).0);
    load_checkpoint(&dir.path().join("m.gguf")).map(|c| c.tokenizer).map_err(|error| error.to_string())
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.encode(text, true).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect()
}

#[test]
fn each_family_splits_text_in_its_way() {
    let text = "x ab 1234";
    let split = |pre: &str| tokens(&tokenizer(pre, |_| {}).unwrap(), text).join("|");
    assert_eq!(split("qwen2"), "x|Ġab|Ġ|1|2|3|4");
    assert_eq!(split("smollm"), "x|Ġab|Ġ|1|2|3|4");
    assert_eq!(split("gpt-2"), "x|Ġab|Ġ|123|4");
    assert_eq!(split("llama-bpe"), "<bos>|x|Ġab|Ġ|123|4");
    assert_eq!(split("default"), "x|Ġab|Ġ|123|4");
    // Where they part: contractions in capitals, a digit after a space, a mark before a word, decomposed letters.
    let shown = |pre: &str, text: &str| tokens(&tokenizer(pre, |_| {}).unwrap(), text).join("|");
    assert_eq!(shown("qwen2", "e\u{301}"), "Ã|©");
    assert_eq!(shown("smollm", "e\u{301}"), "e|Ì|ģ");
    assert_eq!(shown("default", "123123"), "123|123");
    assert_eq!(shown("gpt-2", "(ab"), "(|ab");
}

#[test]
fn special_tokens_keep_their_kinds() {
    let tokenizer = tokenizer("qwen2", |_| {}).unwrap();
    let ids = tokenizer.encode("ab<eos><tag>[PAD0]", false).unwrap();
    assert_eq!(ids[..3], [259, 262, 263]);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "ab<tag>[PAD0]");
    assert_eq!(tokenizer.token_id("[PAD0]"), None);
    assert_eq!(tokenizer.special_token("bos_token"), Some("<bos>"));
    let every = "naïve 日本語 🙂\t\r\n  end ";
    assert_eq!(tokenizer.decode(&tokenizer.encode(every, false).unwrap(), true).unwrap(), every);
}

#[test]
fn special_tokens_are_added_as_the_file_says() {
    let switch = |key: &'static str, on: bool| move |m: &mut Metadata| drop(m.insert(key.into(), Value::Bool(on)));
    let with_bos = tokenizer("qwen2", switch("tokenizer.ggml.add_bos_token", true)).unwrap();
    assert_eq!(tokens(&with_bos, "ab"), ["<bos>", "ab"]);
    assert_eq!(with_bos.encode("ab", false).unwrap(), [259]);
    let without = tokenizer("llama-bpe", switch("tokenizer.ggml.add_bos_token", false)).unwrap();
    assert_eq!(tokens(&without, "ab"), ["ab"]);
    let with_eos = tokenizer("llama-bpe", switch("tokenizer.ggml.add_eos_token", true)).unwrap();
    assert_eq!(tokens(&with_eos, "ab"), ["<bos>", "ab", "<eos>"]);
    let turns = tokenizer("qwen2", |m| drop(m.insert("tokenizer.ggml.eot_token_id".into(), Value::U32(263)))).unwrap();
    assert_eq!(turns.stop_token_ids(), [262, 263]);
}

#[test]
fn scaled_rotary_embeddings_are_read() {
    let source = tiny("tiny-qwen3");
    let scaling = |entries: &[(&str, Value)]| {
        let mut metadata = model_metadata(&source);
        metadata.extend(entries.iter().map(|(name, value)| (format!("qwen3.rope.{name}"), value.clone())));
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("m.gguf"), &metadata, &quantised(&source, GgmlDType::F32).0);
        load_checkpoint(&dir.path().join("m.gguf")).unwrap().config.rope_scaling
    };
    let (linear, four) = (RopeScaling::Linear { factor: 4.0 }, || Value::F32(4.0));
    assert_eq!(scaling(&[]), None);
    assert_eq!(scaling(&[("scaling.type", text("none")), ("scaling.factor", four())]), None);
    assert_eq!(scaling(&[("scaling.type", text("linear")), ("scaling.factor", four())]), Some(linear));
    // Written before there were several kinds.
    assert_eq!(scaling(&[("scale_linear", four())]), Some(linear));
    let yarn = [
        ("scaling.type", text("yarn")),
        ("scaling.factor", four()),
        ("scaling.original_context_length", Value::U32(64)),
    ];
    assert_eq!(scaling(&yarn), Some(RopeScaling::yarn(4.0, 64)));
}

#[test]
fn what_is_not_supported_is_named() {
    let says = |words: &[&str], change: &dyn Fn(&mut Metadata)| {
        let error = tokenizer("qwen2", change).unwrap_err();
        assert!(error.contains("m.gguf"), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let set = |key: &'static str, value: Value| move |m: &mut Metadata| drop(m.insert(key.into(), value.clone()));
    let unset = |key: &'static str| move |m: &mut Metadata| drop(m.remove(key));
    says(&["tokenizer.ggml.model", "llama", "gpt2"], &set("tokenizer.ggml.model", text("llama")));
    says(&["tokenizer.ggml.pre", "tekken", "smollm"], &set("tokenizer.ggml.pre", text("tekken")));
    says(&["tokenizer.ggml.pre", "missing"], &unset("tokenizer.ggml.pre"));
    says(&["tokenizer.ggml.merges"], &set("tokenizer.ggml.merges", texts(["ab"])));
    says(&["tokenizer.ggml.merges", "missing"], &unset("tokenizer.ggml.merges"));
    says(
        &["tokenizer.ggml.token_type", "array of 2"],
        &set("tokenizer.ggml.token_type", Value::Array(vec![Value::I32(1); 2])),
    );
    says(&["tokenizer.ggml.eos_token_id", "999"], &set("tokenizer.ggml.eos_token_id", Value::U32(999)));
    let beyond = ["tokenizer.ggml.eot_token_id is 4294967295, expected below "];
    says(&beyond, &set("tokenizer.ggml.eot_token_id", Value::U32(u32::MAX)));
    says(&["general.architecture", "gemma2"], &set("general.architecture", text("gemma2")));
    says(&["qwen3.rope.scaling.type", "longrope"], &set("qwen3.rope.scaling.type", text("longrope")));
    says(&["rope_parameters.factor", "0.5"], &set("qwen3.rope.scaling.factor", Value::F32(0.5)));
    says(&["qwen3.rope.dimension_count", "16"], &set("qwen3.rope.dimension_count", Value::U32(16)));
    says(&["qwen3.expert_count", "8"], &set("qwen3.expert_count", Value::U32(8)));
    says(&["qwen3.block_count", "missing"], &unset("qwen3.block_count"));
    says(&["qwen3.block_count", "Bool"], &set("qwen3.block_count", Value::Bool(true)));
    says(&["blk.4.", "missing"], &set("qwen3.block_count", Value::U32(5)));
    says(&["blk.3.", "absent"], &set("qwen3.block_count", Value::U32(3)));
    says(&["[160, 128]", "[161, 128]"], &set("qwen3.feed_forward_length", Value::U32(161)));
}

#[test]
fn damaged_files_are_refused() {
    let source = tiny("tiny-qwen3");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.gguf");
    let (mut stored, _) = quantised(&source, GgmlDType::Q4_0);
    write(&file, &model_metadata(&source), &stored);
    let whole = fs::read(&file).unwrap();
    for length in [0, 3, 100, 5000, whole.len() / 2] {
        fs::write(&file, &whole[..length]).unwrap();
        let error = load_checkpoint(&file).unwrap_err().to_string();
        assert!(error.contains("m.gguf"), "{error}");
    }
    fs::write(&file, "not a model").unwrap();
    assert!(load_checkpoint(&file).unwrap_err().to_string().contains("not a whole GGUF file"));
    let scaled = QTensor::quantize(&Tensor::ones(16, DType::F32, &Device::Cpu).unwrap(), GgmlDType::F32).unwrap();
    stored.insert("rope_freqs.weight".into(), scaled);
    write(&file, &model_metadata(&source), &stored);
    assert!(load_checkpoint(&file).unwrap_err().to_string().contains("rope_freqs.weight"));
}

/// A file's tokenizer must be the folder's: the real one of Qwen3, turned into metadata and back.
#[test]
#[ignore = "needs DAPO_QWEN3_TOKENIZER, the folder that scripts/fetch-qwen3-tokenizer.sh makes"]
fn rebuilds_the_real_qwen3_tokenizer() {
    let folder = PathBuf::from(std::env::var("DAPO_QWEN3_TOKENIZER").unwrap());
    let expected = Tokenizer::from_folder(&folder).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    let added = json["added_tokens"].as_array().unwrap();
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let mut list = vec![(String::new(), 5); 151_936];
    vocabulary.iter().for_each(|(token, id)| list[id.as_u64().unwrap() as usize] = (token.clone(), 1));
    for token in added {
        let kind = if token["special"] == true { 3 } else { 4 };
        list[token["id"].as_u64().unwrap() as usize] = (token["content"].as_str().unwrap().to_owned(), kind);
    }
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merges = texts(merges.map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap())));
    let found = tokenizer("qwen2", |m| {
        m.insert("tokenizer.ggml.tokens".into(), texts(list.iter().map(|(token, _)| token.as_str())));
        m.insert("tokenizer.ggml.token_type".into(), Value::Array(list.iter().map(|(_, k)| Value::I32(*k)).collect()));
        m.insert("tokenizer.ggml.merges".into(), merges);
        m.insert("tokenizer.ggml.eos_token_id".into(), Value::U32(151_645));
    });
    let found = found.unwrap();
    assert_eq!(found.vocab_size(), expected.vocab_size());
    for text in [
        "The capital of France is Paris, and they'LL say so 1234567 times.",
        "def f(x):\n\n\treturn x**2  # \u{fb01}ne e\u{301} \u{1F642}\r\n   \n",
        "<|im_start|>user\nTwo<think>\n\n</think>日本語 العربية हिन्दी<|im_end|>",
    ] {
        let ids = expected.encode(text, true).unwrap();
        assert_eq!(found.encode(text, true).unwrap(), ids);
        for skip in [true, false] {
            assert_eq!(found.decode(&ids, skip).unwrap(), expected.decode(&ids, skip).unwrap());
        }
    }
}

#[test]
#[ignore = "needs DAPO_SMOLLM2_GGUF, the file that scripts/fetch-smollm2.sh makes"]
fn real_smollm2_tokenizes_as_transformers_does() {
    let checkpoint = load_checkpoint(Path::new(&std::env::var("DAPO_SMOLLM2_GGUF").unwrap())).unwrap();
    let bytes = fs::read(testdata("smollm2-135m.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let said = metadata.metadata().as_ref().unwrap();
    let reference = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    let ids = |name: &str| -> Vec<u32> {
        let ids = reference[name].to_vec1::<i64>().unwrap();
        ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect()
    };
    let tokenizer = &checkpoint.tokenizer;
    for i in 0..4 {
        let text = &said[&format!("text.{i}")];
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids(&format!("text.{i}.input_ids")), "{text}");
        assert_eq!(&tokenizer.decode(&ids(&format!("text.{i}.input_ids")), true).unwrap(), text);
    }
    let questions = [
        "What is the capital of France? Answer in one sentence.",
        "What is 23 + 45?",
        "Write one sentence about the sea.",
    ];
    for (i, question) in questions.into_iter().enumerate() {
        let prompt = tokenizer.apply_chat_template(&[Message::user(question)], &ChatOptions::default()).unwrap();
        assert_eq!(prompt, said[&format!("chat.{i}.prompt")]);
        assert_eq!(tokenizer.encode(&prompt, false).unwrap(), ids(&format!("chat.{i}.prompt_ids")));
        let answer = tokenizer.decode(&ids(&format!("chat.{i}.greedy_ids")), false).unwrap();
        assert_eq!(answer, said[&format!("chat.{i}.greedy")]);
    }
    assert_eq!(tokenizer.stop_token_ids(), [2]);
    let config = &checkpoint.config;
    assert_eq!((config.num_hidden_layers, config.hidden_size, config.head_dim), (30, 576, 64));
    assert_eq!((config.rope_theta, config.rms_norm_eps, config.tie_word_embeddings), (1e5, 1e-5, true));
    assert_eq!(checkpoint.tensors.values().map(Tensor::elem_count).sum::<usize>(), 134_515_008);
}
