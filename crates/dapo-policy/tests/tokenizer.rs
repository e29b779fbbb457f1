//! Encoding, decoding and chat templates. What templates should render was found with Python's jinja2, set up as
//! transformers sets it up.
#![allow(clippy::unwrap_used)]

use dapo_policy::{ChatOptions, Message, PolicyError, Tokenizer};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

fn tiny() -> Tokenizer {
    Tokenizer::from_folder(&testdata("parity/tiny-qwen3")).unwrap()
}

/// A folder with the tiny model's tokenizer and another template.
fn with_template(template: &str) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(testdata("parity/tiny-qwen3/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let config = json!({"bos_token": {"content": "<s>"}, "eos_token": "<eos>", "chat_template": template});
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::from_folder(dir.path()).unwrap()
}

fn conversation(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

fn no_answer() -> ChatOptions {
    ChatOptions { add_generation_prompt: false, ..ChatOptions::default() }
}

fn tool() -> Value {
    serde_json::from_str(TOOL).unwrap()
}

const TOOL: &str = r#"{
    "function": {
        "description": "Adds <two> numbers & says 'done' – né", "name": "add",
        "parameters": {
            "big": -3, "empty": {}, "list": [], "none": null,
            "properties": {"a": {"type": "number"}, "b": {"default": 1.0, "type": "number"}},
            "required": ["a", "b"], "tiny": 1e-6, "yes": true
        }
    },
    "type": "function"
}"#;

const SUMS: [(&str, &str); 5] = [
    ("system", "Be brief."),
    ("user", "1+1?"),
    ("assistant", "<think>\nEasy.\n</think>\n\n2"),
    ("user", "And 2+2?"),
    ("assistant", "<think>\nSum.\n</think>\n\n4"),
];

#[test]
fn reproduces_the_reference_cases() {
    let tokenizer = tiny();
    let cases: Value = serde_json::from_slice(&fs::read(testdata("tokenizer_cases.json")).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    for case in cases {
        if let Some(text) = case["text"].as_str() {
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(text, false).unwrap(), ids, "{text}");
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), case["decoded"].as_str().unwrap());
        } else {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
            let rendered = tokenizer.apply_chat_template(&messages, &ChatOptions::default()).unwrap();
            assert_eq!(rendered, case["rendered"].as_str().unwrap());
        }
    }
    assert_eq!(cases.len(), 5);
}

#[test]
fn knows_its_special_tokens() {
    let tokenizer = tiny();
    assert_eq!(
        (tokenizer.token_id("<eos>"), tokenizer.token_id("Q"), tokenizer.token_id("none")),
        (Some(2), Some(59), None)
    );
    assert_eq!(tokenizer.token(2).as_deref(), Some("<eos>"));
    assert_eq!(tokenizer.stop_token_ids(), [2]);
    assert_eq!((tokenizer.special_token("pad_token"), tokenizer.special_token("cls_token")), (Some("<pad>"), None));
    assert_eq!(tokenizer.vocab_size(), 64);
    assert_eq!(tokenizer.decode(&[59, 2], true).unwrap(), "Q");
    assert_eq!(tokenizer.decode(&[59, 2], false).unwrap(), "Q<eos>");
}

#[test]
fn stops_at_every_token_that_a_configuration_names() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(testdata("parity/tiny-qwen3/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "<eos>"}"#).unwrap();
    fs::write(dir.path().join("config.json"), r#"{"eos_token_id": 1}"#).unwrap();
    fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [2, 3]}"#).unwrap();
    assert_eq!(Tokenizer::from_folder(dir.path()).unwrap().stop_token_ids(), [2, 1, 3]);
}

#[test]
fn never_truncates_or_pads() {
    let dir = tempfile::tempdir().unwrap();
    let mut json: Value =
        serde_json::from_slice(&fs::read(testdata("parity/tiny-qwen3/tokenizer.json")).unwrap()).unwrap();
    json["truncation"] = json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"});
    fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("12+34", false).unwrap(), [5, 6, 41, 7, 8]);
    assert!(!tokenizer.has_chat_template());
}

#[test]
fn finds_templates_where_transformers_does() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::copy(testdata("parity/tiny-qwen3/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let found = || Tokenizer::from_folder(dir.path()).map(|t| t.chat_template().map(str::to_owned));
    write("chat_template.json", r#"{"chat_template": "json"}"#);
    assert_eq!(found().unwrap().as_deref(), Some("json"));
    let list = r#"{"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "list"}]}"#;
    write("tokenizer_config.json", list);
    assert_eq!(found().unwrap().as_deref(), Some("list"));
    write("chat_template.jinja", "jinja");
    assert_eq!(found().unwrap().as_deref(), Some("jinja"));
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    write("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#);
    let error = found().unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("chat_template"), "{error}");
}

#[test]
fn bad_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_folder(dir.path()).unwrap_err();
    assert!(matches!(&error, PolicyError::Io { file, .. } if file.ends_with("tokenizer.json")), "{error}");
    fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
    let error = Tokenizer::from_folder(dir.path()).unwrap_err();
    assert!(matches!(&error, PolicyError::File { file, .. } if file.ends_with("tokenizer.json")), "{error}");
    fs::copy(testdata("parity/tiny-qwen3/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), "{\"a\": }").unwrap();
    let error = Tokenizer::from_folder(dir.path()).unwrap_err();
    assert!(matches!(&error, PolicyError::Json { file, .. } if file.ends_with("tokenizer_config.json")), "{error}");
}

#[test]
fn templates_can_refuse_and_fail() {
    let messages = [Message::user("Hi")];
    let refused = |template: &str| {
        let error = with_template(template).apply_chat_template(&messages, &ChatOptions::default()).unwrap_err();
        assert!(matches!(error, PolicyError::Template(_)));
        error.to_string()
    };
    assert!(refused("{{ raise_exception('only two turns') }}").contains("only two turns"));
    assert!(refused("a\n{% if %}").contains("line 2"));
    assert!(refused("{{ messages[0].content | nonsense }}").contains("nonsense"));
    let error = Tokenizer::apply_chat_template(
        &{
            let dir = tempfile::tempdir().unwrap();
            fs::copy(testdata("parity/tiny-qwen3/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
            Tokenizer::from_folder(dir.path()).unwrap()
        },
        &messages,
        &ChatOptions::default(),
    );
    assert!(error.unwrap_err().to_string().contains("none"));
}

#[test]
fn templates_tell_the_given_day() {
    let tokenizer = with_template("{{ strftime_now('%d %b %Y') }}");
    let options = ChatOptions { unix_seconds: Some(1_709_164_800), ..ChatOptions::default() };
    assert_eq!(tokenizer.apply_chat_template(&[], &options).unwrap(), "29 Feb 2024");
}

/// Loops, namespaces, slices, white-space control, string methods, `tojson`, `generation` blocks.
const MANY_CONSTRUCTS: &str = r"{#- A template of many constructs. #}
{{- bos_token }}
{%- set ns = namespace(last=-1, count=0) %}
{%- for m in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last < 0 and m.role == 'user' and not (m.content.startswith('<tool>') and m.content.endswith('</tool>')) %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system = 'None given' %}
    {%- set turns = messages %}
{%- endif %}
system: {{ system }}
{% for m in turns %}
    {% if loop.first %}
[first]
    {% endif %}
    {%- if m.role == 'assistant' and '</think>' in m.content %}
        {%- set answer = m.content.split('</think>')[-1].lstrip('\n') %}
        {%- set thought = m.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].strip('\n') %}
        {%- generation %}
{{ m.role | upper }} ({{ thought }}): {{ answer ~ '!' }}
        {% endgeneration %}
    {%- elif m.role in ['user', 'assistant'] %}
{{ m.role.capitalize() }}: {{ m['content'].strip() }}{{ ' *' if loop.index0 + (messages|length - turns|length) == ns.last else '' }}
    {% else %}
        {{- raise_exception('no role ' + m.role) }}
    {%- endif %}
    {%- set ns.count = ns.count + 1 %}
{% endfor %}
turns {{ ns.count }}, half {{ ns.count / 2 }}, flag {{ add_generation_prompt }}, nothing {{ tools if tools is none else tools | length }}
{% if tools %}
{{ tools | tojson }}
{{ tools[0].function.parameters | tojson(indent=2) }}
{{ {'b': 1, 'a': [1.5, 'é']} | tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }}
{% endif %}
{%- if add_generation_prompt %}
    {%- if enable_thinking is defined and enable_thinking is false %}
quick
    {%- else %}
think
    {%- endif %}
{%- endif %}
";

#[test]
fn renders_a_template_of_many_constructs() {
    let tokenizer = with_template(MANY_CONSTRUCTS);
    let rendered = tokenizer.apply_chat_template(&conversation(&SUMS), &ChatOptions::default()).unwrap();
    assert_eq!(
        rendered,
        "<s>system: Be brief.\n[first]\nUser: 1+1?\nASSISTANT (Easy.): 2!\nUser: And 2+2? *\nASSISTANT (Sum.): 4!\nturns 4, half 2.0, flag True, nothing None\nthink"
    );
    let options = ChatOptions { enable_thinking: Some(false), tools: vec![tool()], ..no_answer() };
    let rendered = tokenizer.apply_chat_template(&[Message::user("  Hi  ")], &options).unwrap();
    assert_eq!(
        rendered,
        r#"<s>system: None given
[first]
User: Hi *
turns 1, half 0.5, flag False, nothing 1
[{"function": {"description": "Adds <two> numbers & says 'done' – né", "name": "add", "parameters": {"big": -3, "empty": {}, "list": [], "none": null, "properties": {"a": {"type": "number"}, "b": {"default": 1.0, "type": "number"}}, "required": ["a", "b"], "tiny": 1e-06, "yes": true}}, "type": "function"}]
{
  "big": -3,
  "empty": {},
  "list": [],
  "none": null,
  "properties": {
    "a": {
      "type": "number"
    },
    "b": {
      "default": 1.0,
      "type": "number"
    }
  },
  "required": [
    "a",
    "b"
  ],
  "tiny": 1e-06,
  "yes": true
}
{"a":[1.5,"\u00e9"],"b":1}
"#
    );
    let error = tokenizer.apply_chat_template(&[Message::new("judge", "No")], &no_answer()).unwrap_err();
    assert!(error.to_string().contains("no role judge"), "{error}");
}

#[test]
#[ignore = "needs DAPO_QWEN3_TOKENIZER, the folder that scripts/fetch-qwen3-tokenizer.sh makes"]
fn renders_the_real_qwen3_template() {
    let tokenizer = Tokenizer::from_folder(Path::new(&std::env::var("DAPO_QWEN3_TOKENIZER").unwrap())).unwrap();
    let ask = [("user", "What is 2+2?")];
    let thinking = |thinking| ChatOptions { enable_thinking: thinking, ..ChatOptions::default() };
    let join = |a: &[(&'static str, &'static str)], b: &[(&'static str, &'static str)]| [a, b].concat();
    let calls = [("assistant", "<think>\nCall.\n</think>\n\nCalling"), ("tool", "4"), ("tool", "5")];
    let answered = [("assistant", "<think>\nDone.\n</think>\n\n9")];
    let cases = [
        (ask.to_vec(), thinking(Some(true)), "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"),
        (ask.to_vec(), thinking(None), "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"),
        (
            ask.to_vec(),
            thinking(Some(false)),
            "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            join(&[("system", "You solve sums.")], &ask),
            thinking(None),
            "<|im_start|>system\nYou solve sums.<|im_end|>\n<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            SUMS.to_vec(),
            no_answer(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\nAnd 2+2?<|im_end|>\n<|im_start|>assistant\n<think>\nSum.\n</think>\n\n4<|im_end|>\n",
        ),
        (
            join(&SUMS, &[("user", "Thanks")]),
            thinking(None),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\nAnd 2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            join(&[("system", "Use tools.")], &ask),
            ChatOptions { tools: vec![tool()], ..ChatOptions::default() },
            r#"<|im_start|>system
Use tools.

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"function": {"description": "Adds <two> numbers & says 'done' – né", "name": "add", "parameters": {"big": -3, "empty": {}, "list": [], "none": null, "properties": {"a": {"type": "number"}, "b": {"default": 1.0, "type": "number"}}, "required": ["a", "b"], "tiny": 1e-06, "yes": true}}, "type": "function"}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
<|im_start|>user
What is 2+2?<|im_end|>
<|im_start|>assistant
"#,
        ),
        (
            join(&ask, &calls),
            thinking(None),
            "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n<think>\nCall.\n</think>\n\nCalling<|im_end|>\n<|im_start|>user\n<tool_response>\n4\n</tool_response>\n<tool_response>\n5\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            join(&SUMS, &[("user", "Thanks")]),
            thinking(Some(false)),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\nAnd 2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            [&[("system", "S")][..], &ask, &calls, &answered, &[("user", "And 3+3?")]].concat(),
            thinking(Some(false)),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\nCalling<|im_end|>\n<|im_start|>user\n<tool_response>\n4\n</tool_response>\n<tool_response>\n5\n</tool_response><|im_end|>\n<|im_start|>assistant\n9<|im_end|>\n<|im_start|>user\nAnd 3+3?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            [&ask[..], &calls, &answered].concat(),
            no_answer(),
            "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n<think>\nCall.\n</think>\n\nCalling<|im_end|>\n<|im_start|>user\n<tool_response>\n4\n</tool_response>\n<tool_response>\n5\n</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\nDone.\n</think>\n\n9<|im_end|>\n",
        ),
        (
            join(&ask, &[("assistant", "4")]),
            no_answer(),
            "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n4<|im_end|>\n",
        ),
    ];
    for (turns, options, expected) in cases {
        let rendered = tokenizer.apply_chat_template(&conversation(&turns), &options).unwrap();
        assert_eq!(rendered, expected, "{turns:?} {options:?}");
    }
    assert_eq!(tokenizer.stop_token_ids(), [151_645]);
    assert_eq!(
        tokenizer.encode("<|im_start|>user\n1234<think>", false).unwrap(),
        [151_644, 872, 198, 16, 17, 18, 19, 151_667]
    );
}

/// A tokenizer of a vocabulary of single characters.
fn of_characters(model: &Value, pre_tokenizer: &Value, decoder: &Value) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model,
    });
    fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    Tokenizer::from_folder(dir.path()).unwrap()
}

#[test]
fn tells_which_characters_it_does_not_know() {
    let unknown = |tokenizer: &Tokenizer, text: &str| tokenizer.unknown_chars(text).unwrap().iter().collect::<String>();
    let vocabulary = json!({"<unk>": 0, "a": 1, "b": 2, "1": 3});
    let bpe = |unk: Value| json!({"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": unk});
    // Unknown characters have a token of their own, or none.
    for unk in [json!("<unk>"), Value::Null] {
        let tokenizer = of_characters(&bpe(unk), &Value::Null, &json!({"type": "Fuse"}));
        assert_eq!(unknown(&tokenizer, "abca 1é\n2\u{7}c"), "cé2");
        assert_eq!(unknown(&tokenizer, "ab1 \n"), "");
    }
    // Bytes make up every character.
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let bytes: serde_json::Map<String, Value> = (0u32..256)
        .map(|byte| match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => byte,
            // The other bytes follow one another from U+0100 on.
            ..0x21 => 0x100 + byte,
            0x7f..=0xa0 => 0x100 + byte - 0x7f + 0x21,
            _ => 0x143,
        })
        .enumerate()
        .map(|(id, c)| (char::from_u32(c).unwrap().to_string(), id.into()))
        .collect();
    let model = json!({"type": "BPE", "vocab": bytes, "merges": []});
    let tokenizer = of_characters(&model, &level, &level);
    assert_eq!(unknown(&tokenizer, "abc é 日本 🙂 \u{12031}"), "");
}
