//! What a problem looks like in a data file.

use super::exact::Exact;
use dapo_policy::Message;
use dapo_reward::{ExtractRule, Profile, extract_answer};
use serde_json::Value;
use std::borrow::Cow;

/// A problem as a data file states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Identifies the problem in logs: the file's `id`, `ID`, `idx`, `unique_id` or `extra_info.index`, else the number of
    /// its line, element or row (after the file's name where a folder was read).
    pub id: String,
    /// The conversation so far; one user message where the file has a plain question.
    pub messages: Vec<Message>,
    /// The gold answer.
    pub answer: String,
}

/// What is wrong with an entry of a file.
pub(super) struct Misfit {
    pub(super) found: String,
    pub(super) expected: String,
}

impl Misfit {
    pub(super) fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { found: found.into(), expected: expected.into() }
    }
}

/// Where an answer stands in its field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is the field, or what follows `####` in it (GSM8K).
    Field,
    /// It is the last `\boxed{…}` of the field, or several that are joined by commas, "and" or "or"; without one, as
    /// [`Place::Field`] has it.
    Solution,
}

/// A layout: the fields of the question, in order, and the one of the answer. Dots lead into objects.
struct Form {
    question: &'static [&'static str],
    answer: &'static str,
    place: Place,
}

const fn form(question: &'static [&'static str], answer: &'static str) -> Form {
    Form { question, answer, place: Place::Field }
}

const fn solution(question: &'static [&'static str]) -> Form {
    Form { question, answer: "solution", place: Place::Solution }
}

/// The known layouts; an entry is of the first that it has all fields of.
const FORMS: [Form; 18] = [
    form(&["question"], "answer"),
    form(&["problem"], "answer"),
    form(&["Problem"], "Answer"),
    form(&["Body", "Question"], "Answer"),
    form(&["question"], "Answer"),
    form(&["input"], "target"),
    form(&["prompt"], "reward_model.ground_truth"),
    form(&["prompt"], "answer"),
    form(&["prompt"], "ground_truth"),
    form(&["prompt"], "label"),
    form(&["messages"], "answer"),
    form(&["question"], "final_answer"),
    form(&["problem"], "final_answer"),
    solution(&["problem"]),
    solution(&["prompt"]),
    solution(&["messages"]),
    solution(&["question"]),
    solution(&["query"]),
];

/// Fields of text that belong before a question which does not hold it.
const BEFORE: [&str; 6] = ["body", "Body", "passage", "Passage", "context", "Context"];

/// Fields of a multiple-choice problem's choices.
const CHOICES: [&str; 4] = ["choices", "options", "Choices", "Options"];

const IDS: [&str; 5] = ["id", "ID", "idx", "unique_id", "extra_info.index"];

/// The layouts in words.
pub(super) fn forms() -> String {
    let describe = |form: &Form| format!("{}/{}", form.question.join("+"), form.answer);
    let forms: Vec<_> = FORMS.iter().map(describe).collect();
    format!("{} or {}", forms[..forms.len() - 1].join(", "), forms[forms.len() - 1])
}

/// Whether a table with these columns can hold problems.
#[cfg(feature = "parquet")]
pub(super) fn has_form(columns: &[&str]) -> bool {
    let has = |field: &str| columns.contains(&column(field));
    FORMS.iter().any(|form| form.question.iter().all(|field| has(field)) && has(form.answer))
}

/// Whether a column of a table says anything about a problem.
#[cfg(feature = "parquet")]
pub(super) fn is_known(name: &str) -> bool {
    let fields = FORMS.iter().flat_map(|form| form.question.iter().chain([&form.answer]));
    fields.chain(&IDS).chain(&BEFORE).chain(&CHOICES).any(|field| column(field) == name)
}

#[cfg(feature = "parquet")]
fn column(field: &str) -> &str {
    field.split('.').next().unwrap_or(field)
}

/// A field of an entry. Objects on the way may be given as JSON text, as they are where tables are flattened.
fn get<'a>(value: &'a Value, field: &str) -> Option<Cow<'a, Value>> {
    let mut found = Cow::Borrowed(value);
    for name in field.split('.') {
        found = match found {
            Cow::Borrowed(Value::String(text)) => Cow::Owned(object(text)?.get(name)?.clone()),
            Cow::Borrowed(value) => Cow::Borrowed(value.get(name)?),
            Cow::Owned(Value::String(text)) => Cow::Owned(object(&text)?.get(name)?.clone()),
            Cow::Owned(value) => Cow::Owned(value.get(name)?.clone()),
        };
    }
    Some(found).filter(|found| !found.is_null())
}

/// The object that a text is the JSON of.
fn object(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(text).ok().map(|Exact(value)| value).filter(Value::is_object)
}

/// The problem that an entry states; `name` is its id if it has none.
pub(super) fn problem(value: &Value, name: impl FnOnce() -> String) -> Result<Problem, Misfit> {
    let fields = |form: &'static Form| {
        let question: Option<Vec<Cow<'_, Value>>> = form.question.iter().map(|field| get(value, field)).collect();
        Some((form, question?, get(value, form.answer)?))
    };
    let Some((form, question, answer)) = FORMS.iter().find_map(fields) else { return Err(unknown(value)) };
    refuse_choices(value, &answer)?;
    let mut messages = match question.as_slice() {
        [question] => messages(question)?,
        parts => vec![Message::user(joined(parts)?)],
    };
    if form.question == ["messages"] && messages.last().is_some_and(|last| last.role == "assistant") {
        // The answer of a demonstration; the model is to give its own.
        messages.pop();
    }
    if let ([question], true) = (form.question, messages.len() == 1) {
        let belongs = |field: &&&str| !question.eq_ignore_ascii_case(field) && !form.answer.eq_ignore_ascii_case(field);
        for field in BEFORE.iter().rev().filter(belongs) {
            if let Some(text) = value.get(field).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
            {
                let space = if field.eq_ignore_ascii_case("body") { " " } else { "\n\n" };
                messages[0].content = format!("{text}{space}{}", messages[0].content.trim_start());
            }
        }
    }
    if messages.iter().all(|message| message.content.trim().is_empty()) {
        return Err(Misfit::new("an empty question", "a question"));
    }
    let answer = gold(&answer, form.place)?;
    let id = IDS.iter().find_map(|field| get(value, field).and_then(|found| scalar(&found)));
    Ok(Problem { id: id.unwrap_or_else(name), messages, answer })
}

/// What is wrong with an entry of none of the layouts.
fn unknown(value: &Value) -> Misfit {
    let Some(entries) = value.as_object() else { return Misfit::new(shown(value), forms()) };
    let has = |field: &&&str| value.get(field.split('.').next().unwrap_or(field)).is_some();
    let whole = FORMS.iter().find(|form| form.question.iter().chain([&form.answer]).all(|field| has(&field)));
    let missing =
        whole.and_then(|form| form.question.iter().chain([&form.answer]).find(|field| get(value, field).is_none()));
    if let Some(field) = missing {
        let top = field.split('.').next().unwrap_or(field);
        let found = match entries.get(top) {
            Some(Value::Null) => format!("{top}, which is null"),
            Some(entry) if entry.get(field[top.len()..].trim_start_matches('.')).is_some_and(Value::is_null) => {
                format!("{field}, which is null")
            }
            _ => format!("{top} without {field}"),
        };
        return Misfit::new(found, "a value: a problem has a question and an answer");
    }
    let keys = entries.keys().cloned().collect::<Vec<_>>().join(", ");
    Misfit::new(format!("an object with {keys}"), forms())
}

/// Refuses a problem that cannot be understood without its choices: the answer is the number or letter of one.
fn refuse_choices(value: &Value, answer: &Value) -> Result<(), Misfit> {
    let is_list = |field: &&&str| value.get(field).is_some_and(|list| list.is_array() || list.is_object());
    let Some(field) = CHOICES.iter().find(is_list) else { return Ok(()) };
    let is_place = match answer {
        Value::Number(number) => number.is_u64(),
        Value::String(text) => {
            let text = text.trim();
            let is_letter =
                text.len() == 1 && text.bytes().all(|byte| matches!(byte.to_ascii_uppercase(), b'A'..=b'J'));
            is_letter || !text.is_empty() && text.len() < 3 && text.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    };
    if !is_place {
        return Ok(());
    }
    let found = format!("{field} whose number or letter is the answer ({})", shown(answer));
    Err(Misfit::new(found, "a question that holds its choices, and no such field"))
}

fn gold(value: &Value, place: Place) -> Result<String, Misfit> {
    let misfit = || Misfit::new(format!("the answer {}", shown(value)), "a string or a number");
    let text = match value {
        Value::Array(list) if list.len() == 1 => scalar(&list[0]),
        value => scalar(value),
    };
    let text = text.ok_or_else(misfit)?;
    let boxed = match place {
        Place::Field => None,
        Place::Solution => extract_answer(&text, &Profile::only(ExtractRule::Boxed)),
    };
    let answer = match boxed {
        Some(found) => found.text(&text),
        None => text.rsplit("####").next().unwrap_or_default().trim(),
    };
    if answer.is_empty() {
        return Err(Misfit::new("an empty answer", "a gold answer"));
    }
    Ok(answer.to_owned())
}

/// A text or a number as text; 43.0 in a file is the integer 43.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(match number.as_f64() {
            Some(x) if x.fract() == 0.0 && x.abs() < 1e15 => format!("{x:.0}"),
            _ => number.to_string(),
        }),
        _ => None,
    }
}

fn joined(parts: &[Cow<'_, Value>]) -> Result<String, Misfit> {
    let text = |part: &Cow<'_, Value>| {
        let text = part.as_str().ok_or_else(|| Misfit::new(format!("the question {}", shown(part)), "text"))?;
        Ok(text.trim().to_owned())
    };
    Ok(parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn messages(question: &Value) -> Result<Vec<Message>, Misfit> {
    let expected = "text, or chat messages with role and content";
    match question {
        Value::String(text) => match conversation(text) {
            Some(list) => messages(&list),
            None => Ok(vec![Message::user(text)]),
        },
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|message| {
                let field = |name| message.get(name).and_then(Value::as_str);
                match (field("role"), field("content")) {
                    (Some(role), Some(content)) => Ok(Message::new(role, content)),
                    _ => Err(Misfit::new(format!("the message {}", shown(message)), expected)),
                }
            })
            .collect(),
        other => Err(Misfit::new(format!("the prompt {}", shown(other)), expected)),
    }
}

/// The chat messages that a text is the JSON of.
fn conversation(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    let list: Value = serde_json::from_str(text).ok()?;
    let is_message = |message: &Value| message.get("role").is_some() && message.get("content").is_some();
    list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_message)).then_some(list)
}

/// A value for an error message, cut where it is long.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
