//! What a problem looks like in a data file.

use crate::choices::{Choices, refuse};
use crate::layout::{Found, Layout, Place, missing_in};
use crate::options::{Fields, Misfit, ReadOptions, Reason};
use crate::value::{get, lookup, scalar, shown};
use dapo_policy::Message;
use dapo_reward::{ExtractRule, Profile, extract_answer};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// A problem as a data file states it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Identifies the problem in logs: the file's `id`, `ID`, `idx`, `unique_id` or `extra_info.index`, else the number of
    /// its line, element or row (after the file's name where a folder was read).
    pub id: String,
    /// The conversation so far; one user message where the file has a plain question.
    pub messages: Vec<Message>,
    /// The gold answer, the first where several are accepted; empty where the problem has none.
    pub answer: String,
    /// Further gold answers: any one is enough.
    pub alternatives: Vec<String>,
    /// The whole entry as its file has it, for rewards; null for a problem that is from no file.
    pub columns: Arc<Value>,
}

impl Problem {
    /// A problem that is from no file.
    pub fn new(id: impl Into<String>, messages: Vec<Message>, answer: impl Into<String>) -> Self {
        Self { id: id.into(), messages, answer: answer.into(), ..Self::default() }
    }
}

/// Fields of text that belong before a question which does not hold it.
const BEFORE: [&str; 6] = ["body", "Body", "passage", "Passage", "context", "Context"];

const IDS: [&str; 5] = ["id", "ID", "idx", "unique_id", "extra_info.index"];

/// Words in the place of an answer, as in NuminaMath.
const PLACEHOLDERS: [&str; 2] = ["proof", "notfound"];

/// The problem that an entry states; `name` is its id if it has none.
pub(super) fn problem(
    value: Value,
    name: impl FnOnce() -> String,
    layout: &Layout<'_>,
    options: &ReadOptions,
) -> Result<Problem, Misfit> {
    let found = layout.find(&value)?;
    let fields = &options.fields;
    let mut messages = conversation(&value, &found, fields)?;
    let choices = match &fields.choices {
        Some(field) => named(&value, field, "choices")?.map(|choices| Choices::read(&choices)).transpose()?,
        None => None,
    };
    if let (None, Some(answer)) = (&fields.choices, &found.answer) {
        refuse(&value, answer)?;
    }
    if let Some(choices) = &choices {
        let misfit = || Misfit::new(Reason::Choices, "choices beside a conversation without a user", "a question");
        let question = messages.iter_mut().rfind(|message| message.role == "user").ok_or_else(misfit)?;
        question.content = question.content.trim_end().to_owned() + &choices.lines();
    }
    let mut golds = match (&found.answer, &choices) {
        (None, _) => Vec::new(),
        (Some(answer), Some(choices)) => vec![choices.gold(answer)?],
        (Some(answer), None) => golds(answer, &found, &value, options)?,
    };
    let answer = if golds.is_empty() { String::new() } else { golds.remove(0) };
    let id = IDS.iter().find_map(|field| get(&value, field).and_then(|found| scalar(&found))).unwrap_or_else(name);
    Ok(Problem { id, messages, answer, alternatives: golds, columns: Arc::new(value) })
}

/// A column that a setting names; `None` where it is null or empty.
fn named<'a>(value: &'a Value, field: &str, setting: &str) -> Result<Option<Cow<'a, Value>>, Misfit> {
    let Some(found) = lookup(value, field) else {
        return Err(missing_in(value, field, setting));
    };
    Ok(Some(found).filter(|found| !found.is_null() && found.as_str().is_none_or(|text| !text.trim().is_empty())))
}

/// The messages of an entry, with its system message and what belongs before its question.
fn conversation(value: &Value, found: &Found<'_, '_>, fields: &Fields) -> Result<Vec<Message>, Misfit> {
    let mut messages = match found.question.as_slice() {
        [question] => messages(question)?,
        parts => vec![Message::user(joined(parts)?)],
    };
    if found.names == ["messages"] && messages.last().is_some_and(|last| last.role == "assistant") {
        // The answer of a demonstration; the model is to give its own.
        messages.pop();
    }
    if let ([question], true) = (found.names, messages.len() == 1) {
        let belongs =
            |field: &&&str| !question.eq_ignore_ascii_case(field) && !found.answer_name.eq_ignore_ascii_case(field);
        for field in BEFORE.iter().rev().filter(belongs) {
            if let Some(text) = value.get(field).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
            {
                let space = if field.eq_ignore_ascii_case("body") { " " } else { "\n\n" };
                messages[0].content = format!("{text}{space}{}", messages[0].content.trim_start());
            }
        }
    }
    if messages.iter().all(|message| message.content.trim().is_empty()) {
        return Err(Misfit::new(Reason::Question, "an empty question", "a question"));
    }
    if let Some(field) = &fields.system
        && let Some(system) = named(value, field, "system")?
    {
        let unfit = |found| Misfit::new(Reason::Question, found, "one system message, a text");
        let text = system.as_str().ok_or_else(|| unfit(format!("the system message {}", shown(&system))))?;
        if messages[0].role == "system" {
            return Err(unfit(format!("{field} beside a system message in the question")));
        }
        messages.insert(0, Message::system(text));
    }
    Ok(messages)
}

/// The accepted answers; none only where the entry needs none.
fn golds(answer: &Value, found: &Found<'_, '_>, value: &Value, options: &ReadOptions) -> Result<Vec<String>, Misfit> {
    let expected = "a string, a number, or a list of these";
    let misfit = || Misfit::new(Reason::Answer, format!("the answer {}", shown(answer)), expected);
    let texts: Option<Vec<String>> = match answer {
        Value::Array(list) => list.iter().map(scalar).collect(),
        value => scalar(value).map(|text| vec![text]),
    };
    let mut texts: Vec<String> =
        texts.ok_or_else(misfit)?.iter().map(|text| gold(text, found.place).to_owned()).collect();
    // OlympiadBench: the list's answers are all asked for.
    if texts.len() > 1 && found.answer_name == "final_answer" && value.get("is_multiple_answer") == Some(&true.into()) {
        texts = vec![texts.join(", ")];
    }
    if !options.needs_answer {
        texts.retain(|text| !text.is_empty());
        return Ok(texts);
    }
    let is_placeholder = |text: &String| PLACEHOLDERS.iter().any(|word| text.eq_ignore_ascii_case(word));
    let first = texts.first().cloned().unwrap_or_default();
    texts.retain(|text| !(text.is_empty() || options.leave_out_placeholders && is_placeholder(text)));
    if texts.is_empty() {
        let found = if first.is_empty() { "an empty answer".into() } else { format!("the answer {first:?}") };
        return Err(Misfit::new(Reason::Placeholder, found, "a gold answer"));
    }
    Ok(texts)
}

/// The answer in the text of its field.
fn gold(text: &str, place: Place) -> &str {
    let boxed = match place {
        Place::Field => None,
        Place::Solution => extract_answer(text, &Profile::only(ExtractRule::Boxed)),
    };
    match boxed {
        Some(found) => found.text(text),
        None => text.rsplit("####").next().unwrap_or_default().trim(),
    }
}

fn joined(parts: &[Cow<'_, Value>]) -> Result<String, Misfit> {
    let text = |part: &Cow<'_, Value>| {
        let misfit = || Misfit::new(Reason::Question, format!("the question {}", shown(part)), "text");
        Ok(part.as_str().ok_or_else(misfit)?.trim().to_owned())
    };
    Ok(parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn messages(question: &Value) -> Result<Vec<Message>, Misfit> {
    let misfit = |found| Misfit::new(Reason::Question, found, "text, or chat messages with role and content");
    match question {
        Value::String(text) => match messages_of_text(text) {
            Some(list) => messages(&list),
            None => Ok(vec![Message::user(text)]),
        },
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|message| {
                let field = |name| message.get(name).and_then(Value::as_str);
                match (field("role"), field("content")) {
                    (Some(role), Some(content)) => Ok(Message::new(role, content)),
                    _ => Err(misfit(format!("the message {}", shown(message)))),
                }
            })
            .collect(),
        other => Err(misfit(format!("the prompt {}", shown(other)))),
    }
}

/// The chat messages that a text is the JSON of.
fn messages_of_text(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    let list: Value = serde_json::from_str(text).ok()?;
    let is_message = |message: &Value| message.get("role").is_some() && message.get("content").is_some();
    list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_message)).then_some(list)
}
