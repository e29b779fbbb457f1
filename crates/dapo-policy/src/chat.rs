//! Chat templates: conversations turned into prompt text as transformers does it.

mod budget;
mod date;
mod filters;
mod json;
mod program;
mod python;

use crate::error::PolicyError;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use program::Program;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

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

/// What a chat template gets besides the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
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
///
/// Templates come with models, and a hostile one must neither hang nor exhaust memory or the stack: its length and
/// nesting, its steps ([`STEPS`]), and the text and lists that it makes ([`budget`]) are bounded.
#[derive(Clone, Debug)]
pub(crate) struct ChatTemplate {
    source: String,
    /// The file that errors name, where there is one.
    file: Option<PathBuf>,
    /// The template ready to run, or why it cannot be: a model whose template is not understood can still be used
    /// with plain prompts.
    compiled: Result<Arc<Program>, String>,
}

/// Steps of the engine that a conversation may take; a message takes some hundreds.
const STEPS: u64 = 5_000_000;
/// Bytes of stack for the parser, whose recursion [`program::check_source`] bounds.
const PARSER_STACK: usize = 1 << 26;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

impl ChatTemplate {
    pub(crate) fn new(source: &str, file: Option<&Path>) -> Self {
        let compiled = compile(source).map(Arc::new).map_err(|message| named(file, &message));
        Self { source: source.to_owned(), file: file.map(Path::to_owned), compiled }
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
        let size: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let tool_size: usize = options.tools.iter().map(|tool| tool.to_string().len()).sum();
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
        let program = self.compiled.as_ref().map_err(|message| PolicyError::Template(message.clone()))?;
        budget::start(size + tool_size);
        let text = program.run(&ENVIRONMENT, json::map(context));
        text.map_err(|error| PolicyError::Template(named(self.file.as_deref(), &describe(&error))))
    }
}

/// Compiles a template on a thread with stack enough for all that the limits let through.
fn compile(source: &str) -> Result<Program, String> {
    let build = || {
        program::check_source(source)?;
        Program::compile(python::with_format_filters(&without_generation_tags(source)))
    };
    let compiled = std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, build);
        parser.map(|parser| parser.join().unwrap_or_else(|_| Err(budget::invalid("its parser failed".into()))))
    });
    compiled.map_err(|error| format!("no thread to parse it: {error}"))?.map_err(|error| describe(&error))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_debug(false);
    environment.set_fuel(Some(STEPS));
    filters::add(&mut environment);
    program::add_charges(&mut environment);
    environment.set_unknown_method_callback(filters::method);
    environment.add_test("iterable", python::is_iterable);
    environment.add_test("sequence", python::is_sequence);
    environment.set_formatter(format_like_python);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
}

/// What is wrong with a template, with its file where there is one.
fn named(file: Option<&Path>, message: &str) -> String {
    file.map_or_else(|| message.to_owned(), |file| format!("{}: {message}", file.display()))
}

fn describe(error: &Error) -> String {
    let place = error.line().map(|line| format!(" (line {line} of the template)")).unwrap_or_default();
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("it takes more than {STEPS} steps{place}");
    }
    format!("{}{place}", error.detail().map_or_else(|| error.to_string(), str::to_owned))
}

/// Prints values as Python's `str` does, where that differs from Rust.
fn format_like_python(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    budget::spend_whole(value, true)?;
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
