//! Text to token ids and back, with the model's special tokens, stop tokens and chat template.

mod charsmap;

use crate::chat::{ChatOptions, ChatTemplate, Message};
use crate::config::token_ids;
use crate::error::PolicyError;
use crate::folder::Folder;
use crate::guard::guarded;
use dapo_files::read_file;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The template's own file.
const JINJA: &str = "chat_template.jinja";

/// A model's tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The file it comes from, which errors name.
    file: PathBuf,
    /// The contents of `tokenizer_config.json`, kept whole so that saving loses nothing.
    config: Map<String, Value>,
    template: Option<ChatTemplate>,
    special_tokens: BTreeMap<String, String>,
    stop_token_ids: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where they exist, `tokenizer_config.json`, `special_tokens_map.json` (for special tokens
    /// that `tokenizer_config.json` does not name), the chat template and the stop tokens named by `config.json` and
    /// `generation_config.json`.
    ///
    /// The template comes from `chat_template.jinja`, else from `tokenizer_config.json` (a text, or the one named
    /// `default` of a list), else from `chat_template.json`: the order in which transformers prefers them. Truncation
    /// and padding that `tokenizer.json` may ask for are switched off.
    ///
    /// # Errors
    /// When `tokenizer.json` is missing or a file is malformed; each error names its file. A chat template that does not
    /// parse is an error only when it is applied.
    pub fn from_folder(dir: &Path) -> Result<Self, PolicyError> {
        Self::of_folder(Folder::Disk(dir))
    }

    pub(crate) fn of_folder(folder: Folder<'_>) -> Result<Self, PolicyError> {
        let file = folder.file("tokenizer.json");
        let bytes = folder.read("tokenizer.json").map_err(PolicyError::io(&file))?;
        refuse_lfs_pointer(&file, &bytes)?;
        let inner =
            parsed(&bytes).map_err(|message| PolicyError::file(&file, format!("not a tokenizer: {message}")))?;
        let config_file = folder.file("tokenizer_config.json");
        let config = read_object_if_exists(folder, "tokenizer_config.json")?.unwrap_or_default();
        let template = if folder.has(JINJA) {
            let file = folder.file(JINJA);
            let bytes = folder.read(JINJA).map_err(PolicyError::io(&file))?;
            let text = String::from_utf8(bytes.into_owned());
            let text = text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()));
            Some((text.map_err(PolicyError::io(&file))?, file))
        } else if let Some(found) = config.get("chat_template").filter(|found| !found.is_null()) {
            Some((default_template(found, &config_file)?, config_file))
        } else {
            let file = folder.file("chat_template.json");
            let json = read_json_if_exists(folder, "chat_template.json")?;
            let found = json.as_ref().and_then(|json| json.get("chat_template"));
            found.map(|found| default_template(found, &file)).transpose()?.map(|template| (template, file))
        };
        let template = template.map(|(source, file)| ChatTemplate::new(&source, Some(&file)));
        let mut tokenizer = Self::new(inner, config, template, &file)?;
        if let Some(map) = read_object_if_exists(folder, "special_tokens_map.json")? {
            tokenizer.add_special_tokens(&map);
        }
        tokenizer.add_stop_token_ids_of(folder)?;
        Ok(tokenizer)
    }

    /// Adds the end tokens that the files of a folder name: `eos_token`s by their text, `eos_token_id`s as they are.
    pub(crate) fn add_stop_tokens_of(&mut self, dir: &Path) -> Result<(), PolicyError> {
        let folder = Folder::Disk(dir);
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let json = read_object_if_exists(folder, name)?.unwrap_or_default();
            let eos = special_tokens(&json).get("eos_token").and_then(|token| self.token_id(token));
            self.add_stop_tokens(eos.as_slice());
        }
        self.add_stop_token_ids_of(folder)
    }

    fn add_stop_token_ids_of(&mut self, folder: Folder<'_>) -> Result<(), PolicyError> {
        for name in ["config.json", "generation_config.json"] {
            if let Some(json) = read_object_if_exists(folder, name)? {
                self.add_stop_tokens(&token_ids(&json.into(), "eos_token_id", &folder.file(name))?);
            }
        }
        Ok(())
    }

    /// A tokenizer of its parts; the stop token is `config`'s `eos_token`.
    pub(crate) fn new(
        mut inner: tokenizers::Tokenizer,
        config: Map<String, Value>,
        template: Option<ChatTemplate>,
        file: &Path,
    ) -> Result<Self, PolicyError> {
        check_growth(&inner, file)?;
        inner.with_padding(None).with_truncation(None).map_err(|error| PolicyError::Tokenizer(error.to_string()))?;
        let special_tokens = special_tokens(&config);
        let eos = special_tokens.get("eos_token").and_then(|token| inner.token_to_id(token));
        let stop_token_ids = eos.into_iter().collect();
        Ok(Self { inner, file: file.into(), config, template, special_tokens, stop_token_ids })
    }

    /// Runs the library, which may fail or panic where its file is damaged.
    fn call<T>(&self, what: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<T>) -> Result<T, PolicyError> {
        let outcome = guarded(|| what(&self.inner).map_err(|error| error.to_string()));
        let outcome = outcome.unwrap_or_else(|| Err("its parts do not fit together".into()));
        outcome.map_err(|message| PolicyError::Tokenizer(format!("{}: {message}", self.file.display())))
    }

    /// What `special_tokens_map.json` adds: special tokens that are not known yet, and its `eos_token` as a stop token even
    /// where `tokenizer_config.json` names another.
    fn add_special_tokens(&mut self, map: &Map<String, Value>) {
        for (role, token) in special_tokens(map) {
            if role == "eos_token"
                && let Some(id) = self.token_id(&token)
            {
                self.add_stop_tokens(&[id]);
            }
            self.special_tokens.entry(role).or_insert(token);
        }
    }

    pub(crate) fn add_stop_tokens(&mut self, ids: &[u32]) {
        for id in ids {
            if !self.stop_token_ids.contains(id) {
                self.stop_token_ids.push(*id);
            }
        }
    }

    /// The token ids of a text. Special tokens written in the text are recognised; `add_special_tokens` adds those
    /// that the tokenizer puts around every text (not wanted after a chat template, which writes its own).
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, PolicyError> {
        let encoding = self.call(|inner| inner.encode_fast(text, add_special_tokens))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The characters of a text, each once, for which the tokenizer has neither a token nor bytes: it leaves them out, or
    /// puts its unknown token in their place. White space and control characters are not among them.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn unknown_chars(&self, text: &str) -> Result<Vec<char>, PolicyError> {
        // A cuneiform sign and a code point for private use: what becomes of them becomes of any unknown character.
        const STRANGE: [char; 2] = ['\u{12031}', '\u{10fffd}'];
        let ids = |c: char| self.encode(c.encode_utf8(&mut [0; 4]), false);
        let unknown = [ids(STRANGE[0])?, ids(STRANGE[1])?];
        let (mut seen, mut found) = (HashSet::from(STRANGE), Vec::new());
        for c in text.chars().filter(|c| !c.is_whitespace() && !c.is_control()) {
            if seen.insert(c) && unknown.contains(&ids(c)?) {
                found.push(c);
            }
        }
        Ok(found)
    }

    /// The text of token ids; ids that the tokenizer does not know are left out.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, PolicyError> {
        self.call(|inner| inner.decode(ids, skip_special_tokens))
    }

    /// The id of a token, written as in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, written as in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether decoding without special tokens leaves a token out: it is special, or not known.
    pub(crate) fn is_silent(&self, id: u32) -> bool {
        let special = |token: String| self.inner.get_added_vocabulary().is_special_token(&token);
        self.token(id).is_none_or(special)
    }

    /// The tokens that end a completion as far as the tokenizer's folder tells: the tokenizer's own `eos_token` first, then
    /// those that `special_tokens_map.json`, `config.json` and `generation_config.json` name. For generation take
    /// [`StopTokens::of`](crate::StopTokens::of), which includes the model's.
    pub fn stop_token_ids(&self) -> &[u32] {
        &self.stop_token_ids
    }

    /// The special token of a role, such as `bos_token` or `pad_token`.
    pub fn special_token(&self, role: &str) -> Option<&str> {
        self.special_tokens.get(role).map(String::as_str)
    }

    /// The number of tokens the tokenizer knows, added ones included; a model may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether the model came with a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// The chat template's text.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_ref().map(ChatTemplate::source)
    }

    /// The prompt text of a conversation, as the model's chat template renders it. Encode it without adding special
    /// tokens.
    ///
    /// # Errors
    /// When there is no template, it does not parse, or it rejects the conversation.
    pub fn apply_chat_template(&self, messages: &[Message], options: &ChatOptions) -> Result<String, PolicyError> {
        let template = self.template.as_ref().ok_or_else(|| PolicyError::Template("this model has none".into()))?;
        template.render(messages, options, &self.special_tokens)
    }

    /// The tokenizer, its chat template and stop tokens as one JSON text, which differs where anything of them does.
    ///
    /// # Errors
    /// When the tokenizer has no form in JSON.
    pub fn to_json(&self) -> Result<String, PolicyError> {
        let json = self.call(|inner| inner.to_string(false))?;
        Ok(format!(
            "{json}\n{}\n{:?}\n{:?}",
            Value::Object(self.config.clone()),
            self.chat_template(),
            self.stop_token_ids()
        ))
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), PolicyError> {
        let json = self.call(|inner| inner.to_string(true))?;
        write_aside(&dir.join("tokenizer.json"), json.as_bytes())?;
        let template_file = dir.join("chat_template.jinja");
        let mut config = self.config.clone();
        if let Some(template) = self.chat_template() {
            config.insert("chat_template".into(), template.into());
            write_aside(&template_file, template.as_bytes())?;
        } else if template_file.exists() {
            fs::remove_file(&template_file).map_err(PolicyError::io(&template_file))?;
        }
        write_json(&dir.join("tokenizer_config.json"), &Value::Object(config))
    }
}

/// Builds a tokenizer from the contents of a `tokenizer.json`, or says what is wrong with them.
pub(crate) fn parsed(json: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    charsmap::check(json)?;
    let outcome = guarded(|| tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string()));
    outcome.unwrap_or_else(|| Err("a part of it is not of a known form".into()))
}

/// Refuses replacements that together make a text too many times longer: a few lines could fill all memory.
fn check_growth(inner: &tokenizers::Tokenizer, file: &Path) -> Result<(), PolicyError> {
    const MOST: f64 = 10_000.0;
    fn growth(part: &Value) -> f64 {
        let content = |name: &str| part.get(name).and_then(Value::as_str).map_or(0, str::len) as f64;
        let own = match part.get("type").and_then(Value::as_str) {
            Some("Replace") => content("content") + 1.0,
            // Written once before each text, which may be empty.
            Some("Prepend") => content("prepend") + 1.0,
            Some("Precompiled") => part
                .get(charsmap::FIELD)
                .and_then(Value::as_str)
                .map_or(1.0, |map| charsmap::longest(map).max(1) as f64),
            _ => 1.0,
        };
        let parts = ["normalizers", "decoders"].into_iter().filter_map(|name| part.get(name)?.as_array()).flatten();
        parts.map(growth).fold(own, |all, one| all * one)
    }
    let parts = [
        ("normalizer", serde_json::to_value(inner.get_normalizer())),
        ("decoder", serde_json::to_value(inner.get_decoder())),
    ];
    for (name, part) in parts {
        let times = growth(&part.map_err(PolicyError::json(file))?);
        if times > MOST {
            let found = format!("one that makes a text up to {times:.0} times longer");
            return Err(PolicyError::field(file, name, found, format!("at most {MOST} times")));
        }
    }
    Ok(())
}

/// The special tokens in the form of `tokenizer_config.json`: by role, each a text or an object with its `content`.
fn special_tokens(json: &Map<String, Value>) -> BTreeMap<String, String> {
    let content = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
    SPECIAL_TOKENS.into_iter().filter_map(|role| Some((role.to_owned(), content(json.get(role)?)?))).collect()
}

/// A template given as text, or the one named `default` in a list of named ones.
fn default_template(found: &Value, file: &Path) -> Result<String, PolicyError> {
    let named = |list: &Vec<Value>| {
        list.iter().find(|entry| entry.get("name").is_some_and(|name| name == "default"))?.get("template").cloned()
    };
    match found {
        Value::String(text) => Ok(text.clone()),
        Value::Array(list) => named(list).and_then(|template| template.as_str().map(str::to_owned)).ok_or_else(|| {
            PolicyError::field(file, "chat_template", "a list without one named default", "a template or such a list")
        }),
        _ => Err(PolicyError::field(file, "chat_template", found.to_string(), "a template or a list of named ones")),
    }
}

pub(crate) fn read_json(file: &Path) -> Result<Value, PolicyError> {
    parsed_json(file, &read_file(file).map_err(PolicyError::io(file))?)
}

pub(crate) fn read_json_of(folder: Folder<'_>, name: &str) -> Result<Value, PolicyError> {
    let file = folder.file(name);
    parsed_json(&file, &folder.read(name).map_err(PolicyError::io(&file))?)
}

fn parsed_json(file: &Path, bytes: &[u8]) -> Result<Value, PolicyError> {
    refuse_lfs_pointer(file, bytes)?;
    serde_json::from_slice(bytes).map_err(PolicyError::json(file))
}

/// An error where a file begins as the text does that Git LFS leaves in place of a large file. At least 8 bytes decide.
pub(crate) fn refuse_lfs_pointer(file: &Path, bytes: &[u8]) -> Result<(), PolicyError> {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
    if bytes.len() >= 8 && POINTER.starts_with(&bytes[..bytes.len().min(POINTER.len())]) {
        let message = "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`";
        return Err(PolicyError::file(file, message));
    }
    Ok(())
}

fn read_json_if_exists(folder: Folder<'_>, name: &str) -> Result<Option<Value>, PolicyError> {
    if folder.has(name) { read_json_of(folder, name).map(Some) } else { Ok(None) }
}

pub(crate) fn read_object_if_exists(folder: Folder<'_>, name: &str) -> Result<Option<Map<String, Value>>, PolicyError> {
    match read_json_if_exists(folder, name)? {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(PolicyError::file(&folder.file(name), "not a JSON object")),
    }
}

pub(crate) fn write_json(file: &Path, json: &Value) -> Result<(), PolicyError> {
    let text = serde_json::to_string_pretty(json).map_err(PolicyError::json(file))?;
    write_aside(file, format!("{text}\n").as_bytes())
}

/// Writes a file under another name and renames it, so that it is never seen half written.
fn write_aside(file: &Path, bytes: &[u8]) -> Result<(), PolicyError> {
    let aside = aside(file);
    fs::write(&aside, bytes).map_err(PolicyError::io(&aside))?;
    fs::rename(&aside, file).map_err(PolicyError::io(file))
}

/// The name a file has while it is being written.
pub(crate) fn aside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}
