//! What a problem looks like in a data file.

use dapo_policy::Message;
use dapo_reward::{ExtractRule, Profile, extract_answer};
use serde_json::Value;

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
    /// It is the last `\boxed{…}` of the field, or several that are joined by commas, "and" or "or".
    Box,
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

/// The known layouts; an entry is of the first that it has all fields of.
const FORMS: [Form; 8] = [
    form(&["question"], "answer"),
    form(&["problem"], "answer"),
    form(&["Problem"], "Answer"),
    form(&["Body", "Question"], "Answer"),
    form(&["input"], "target"),
    form(&["prompt"], "reward_model.ground_truth"),
    form(&["prompt"], "answer"),
    Form { question: &["problem"], answer: "solution", place: Place::Box },
];

const IDS: [&str; 5] = ["id", "ID", "idx", "unique_id", "extra_info.index"];

/// The layouts in words.
pub(super) fn forms() -> String {
    let describe = |form: &Form| {
        let boxed = if form.place == Place::Box { " with \\boxed{}" } else { "" };
        format!("{}/{}{boxed}", form.question.join("+"), form.answer)
    };
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
    fields.chain(&IDS).any(|field| column(field) == name)
}

#[cfg(feature = "parquet")]
fn column(field: &str) -> &str {
    field.split('.').next().unwrap_or(field)
}

fn get<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    field.split('.').try_fold(value, |value, name| value.get(name)).filter(|value| !value.is_null())
}

/// The problem that an entry states; `name` is its id if it has none.
pub(super) fn problem(value: &Value, name: impl FnOnce() -> String) -> Result<Problem, Misfit> {
    let fields = |form: &'static Form| {
        let question: Option<Vec<&Value>> = form.question.iter().map(|field| get(value, field)).collect();
        Some((form, question?, get(value, form.answer)?))
    };
    let Some((form, question, answer)) = FORMS.iter().find_map(fields) else {
        let keys = value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>().join(", "));
        let found = keys.map_or_else(|| shown(value), |keys| format!("an object with {keys}"));
        return Err(Misfit::new(found, forms()));
    };
    let messages = match question.as_slice() {
        [question] => messages(question)?,
        parts => vec![Message::user(joined(parts)?)],
    };
    if messages.iter().all(|message| message.content.trim().is_empty()) {
        return Err(Misfit::new("an empty question", "a question"));
    }
    let answer = gold(answer, form.place)?;
    let id = IDS.iter().find_map(|field| scalar(get(value, field)?));
    Ok(Problem { id: id.unwrap_or_else(name), messages, answer })
}

fn gold(value: &Value, place: Place) -> Result<String, Misfit> {
    let text =
        scalar(value).ok_or_else(|| Misfit::new(format!("the answer {}", shown(value)), "a string or a number"))?;
    let answer = match place {
        Place::Field => text.rsplit("####").next().unwrap_or_default().trim(),
        Place::Box => extract_answer(&text, &Profile::only(ExtractRule::Boxed))
            .map(|found| found.text(&text))
            .ok_or_else(|| Misfit::new("a solution without \\boxed{}", "a gold answer in one"))?,
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

fn joined(parts: &[&Value]) -> Result<String, Misfit> {
    let text = |part: &&Value| {
        let text = part.as_str().ok_or_else(|| Misfit::new(format!("the question {}", shown(part)), "text"))?;
        Ok(text.trim().to_owned())
    };
    Ok(parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn messages(question: &Value) -> Result<Vec<Message>, Misfit> {
    let expected = "text, or chat messages with role and content";
    match question {
        Value::String(text) => Ok(vec![Message::user(text)]),
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

/// A value for an error message, cut where it is long.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
