//! Chat templates: conversations turned into prompt text as transformers does it.

mod date;
mod json;
mod python;

use crate::error::PolicyError;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use std::collections::BTreeMap;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// Who speaks, in the template's words: mostly `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of the given role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// A `system` turn.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A `user` turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// An `assistant` turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// What a chat template is told besides the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// Whether the text ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// For templates that know it: whether the model is to think first. `None` leaves it undefined.
    pub enable_thinking: Option<bool>,
    /// Function descriptions for templates that know tools; none by default. Their keys are rendered in the order
    /// of the given map.
    pub tools: Vec<serde_json::Value>,
    /// The moment `strftime_now` tells, in seconds since 1970 (UTC); `None` is now. Set it where prompts must not
    /// depend on the day.
    pub unix_seconds: Option<u64>,
}

impl Default for ChatOptions {
    /// An answer is asked for, and nothing else is said.
    fn default() -> Self {
        Self { add_generation_prompt: true, enable_thinking: None, tools: vec![], unix_seconds: None }
    }
}

/// A compiled chat template.
#[derive(Clone, Debug)]
pub(crate) struct ChatTemplate {
    source: String,
    /// The template ready to run, or why it cannot be: a model whose template is not understood can still be used
    /// with plain prompts.
    compiled: Result<Environment<'static>, String>,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    pub(crate) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), compiled: compile(source).map_err(|error| describe(&error)) }
    }

    /// The template's text, as it was given.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn render(
        &self,
        messages: &[Message],
        options: &ChatOptions,
        special_tokens: &BTreeMap<String, String>,
    ) -> Result<String, PolicyError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|m| json::map([("role", m.role.as_str().into()), ("content", m.content.as_str().into())]))
            .collect();
        let tools = match options.tools.as_slice() {
            [] => Value::from(()),
            tools => tools.iter().map(json::value).collect(),
        };
        let moment = options.unix_seconds;
        let mut context: Vec<(&str, Value)> =
            special_tokens.iter().map(|(name, token)| (name.as_str(), token.as_str().into())).collect();
        context.extend([
            ("messages", messages.into()),
            ("tools", tools),
            ("documents", Value::from(())),
            ("add_generation_prompt", options.add_generation_prompt.into()),
            ("strftime_now", Value::from_function(move |format: String| date::strftime(&format, moment))),
        ]);
        context.extend(options.enable_thinking.map(|thinking| ("enable_thinking", thinking.into())));
        let environment = self.compiled.as_ref().map_err(|message| PolicyError::Template(message.clone()))?;
        let template = environment.get_template(NAME);
        let text = template.and_then(|template| template.render(json::map(context)));
        text.map_err(|error| PolicyError::Template(describe(&error)))
    }
}

fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_unknown_method_callback(python::method);
    environment.add_test("iterable", python::is_iterable);
    environment.add_test("sequence", python::is_sequence);
    environment.set_formatter(format_like_python);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template_owned(NAME, python::with_format_filters(&without_generation_tags(source)))?;
    Ok(environment)
}

fn describe(error: &Error) -> String {
    let place = error.line().map(|line| format!(" (line {line} of the template)")).unwrap_or_default();
    format!("{}{place}", error.detail().map_or_else(|| error.to_string(), str::to_owned))
}

/// Prints values as Python's `str` does, where that differs from Rust.
fn format_like_python(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool if value.is_true() => "True".to_owned(),
        ValueKind::Bool => "False".to_owned(),
        ValueKind::Number if !value.is_integer() => json::float(f64::try_from(value.clone())?),
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(&text).map_err(Error::from)
}

/// `{% generation %}` blocks mark the assistant's words for training masks and print what they hold: they become
/// blocks that are always taken.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(end) = tag.find("%}") else { break };
        let (tag, after) = tag.split_at(end);
        let sign = |c: char| c == '-' || c == '+';
        let replacement = match tag[2..].trim_matches(|c: char| sign(c) || c.is_whitespace()) {
            "generation" => tag.replacen("generation", "if true", 1),
            "endgeneration" => tag.replacen("endgeneration", "endif", 1),
            _ => tag.to_owned(),
        };
        text.extend([before, &replacement]);
        rest = after;
    }
    text + rest
}

/// A keyword argument that may be absent or `None`.
fn keyword<'a, T: minijinja::value::ArgType<'a, Output = T>>(
    kwargs: &'a Kwargs,
    name: &'a str,
) -> Result<Option<T>, Error> {
    if kwargs.has(name) && !kwargs.peek::<Value>(name)?.is_none() { kwargs.get(name).map(Some) } else { Ok(None) }
}
