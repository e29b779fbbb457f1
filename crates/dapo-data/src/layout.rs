//! Which columns of an entry are its question and its answer.

use crate::options::{Fields, Misfit, ReadOptions, Reason};
use crate::value::{column, get, lookup, shown};
use serde_json::Value;
use std::borrow::Cow;

/// Where an answer stands in its field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the field, or what follows `####` in it (GSM8K).
    Field,
    /// It is the last `\boxed{…}` of the field, or several that are joined by commas, "and" or "or"; without one, as
    /// [`Place::Field`] has it.
    Solution,
}

/// A layout: the fields of the question, in order, and the one of the answer. Dots lead into objects.
struct Form<'a, Q = Vec<&'a str>> {
    question: Q,
    answer: &'a str,
    place: Place,
}

type Known = Form<'static, &'static [&'static str]>;

const fn form(question: &'static [&'static str], answer: &'static str) -> Known {
    Form { question, answer, place: Place::Field }
}

const fn solution(question: &'static [&'static str]) -> Known {
    Form { question, answer: "solution", place: Place::Solution }
}

/// The known layouts; an entry is of the first that it has all fields of.
const FORMS: [Known; 18] = [
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

/// The layouts that a file's entries may have.
pub(super) struct Layout<'a> {
    forms: Vec<Form<'a>>,
    fields: &'a Fields,
    needs_answer: bool,
}

/// Question and answer of an entry.
pub(super) struct Found<'v, 'f> {
    pub(super) names: &'f [&'f str],
    pub(super) question: Vec<Cow<'v, Value>>,
    pub(super) answer_name: &'f str,
    /// `None` where the entry has none, and needs none.
    pub(super) answer: Option<Cow<'v, Value>>,
    pub(super) place: Place,
}

impl<'a> Layout<'a> {
    pub(super) fn new(options: &'a ReadOptions) -> Self {
        let mut forms: Vec<Form<'a>> = Vec::new();
        for Form { question, answer, place } in FORMS {
            let (answer, place) = match &options.fields.answer {
                Some(name) if name.to_ascii_lowercase().ends_with("solution") => (&name[..], Place::Solution),
                Some(name) => (&name[..], Place::Field),
                None => (answer, place),
            };
            let question = match &options.fields.prompt {
                Some(name) => vec![&name[..]],
                None => question.to_vec(),
            };
            if !forms.iter().any(|known| known.answer == answer && known.question == question) {
                forms.push(Form { question, answer, place });
            }
        }
        Self { forms, fields: &options.fields, needs_answer: options.needs_answer }
    }

    /// The layouts in words.
    pub(super) fn describe(&self) -> String {
        let describe = |form: &Form<'_>| format!("{}/{}", form.question.join("+"), form.answer);
        let forms: Vec<_> = self.forms.iter().map(describe).collect();
        let (last, others) =
            forms.split_last().map_or((String::new(), &[][..]), |(last, others)| (last.clone(), others));
        let all = if others.is_empty() { last } else { format!("{} or {last}", others.join(", ")) };
        if self.needs_answer { all } else { all + ", with or without the answer" }
    }

    /// Refuses a table whose columns can hold no problems.
    pub(super) fn check_columns(&self, columns: &[&str]) -> Result<(), Misfit> {
        let has = |field: &str| columns.contains(&column(field));
        let table = format!("a table with the columns {}", columns.join(", "));
        if let Some((field, setting)) = self.named().find(|(field, _)| !has(field)) {
            return Err(missing(table, columns, field, setting));
        }
        let answered = |form: &Form<'_>| !self.needs_answer || has(form.answer);
        if self.forms.iter().any(|form| form.question.iter().all(|field| has(field)) && answered(form)) {
            return Ok(());
        }
        Err(Misfit::new(Reason::Layout, table + &self.remedy(), self.describe()))
    }

    /// The columns of question and answer that settings name, with the settings.
    fn named(&self) -> impl Iterator<Item = (&'a str, &'static str)> {
        let fields = [(&self.fields.prompt, "prompt"), (&self.fields.answer, "answer")];
        fields.into_iter().filter_map(|(field, setting)| Some((field.as_deref()?, setting)))
    }

    /// The settings that name columns of other names.
    fn remedy(&self) -> String {
        let fields = [(&self.fields.prompt, "data.fields.prompt"), (&self.fields.answer, "data.fields.answer")];
        let unset: Vec<_> = fields.into_iter().filter(|(field, _)| field.is_none()).map(|(_, key)| key).collect();
        if unset.is_empty() { String::new() } else { format!(" (to train on others, set {})", unset.join(" and ")) }
    }

    /// # Errors
    /// For an entry of none of the layouts, and for one without a column that a setting names.
    pub(super) fn find<'v, 'f>(&'f self, value: &'v Value) -> Result<Found<'v, 'f>, Misfit> {
        // Where an answer is needed, a column without the named part of it is a missing answer.
        let lacks =
            |field: &str| value.get(column(field)).is_none() || !self.needs_answer && lookup(value, field).is_none();
        if let (true, Some((field, setting))) = (value.is_object(), self.named().find(|(field, _)| lacks(field))) {
            return Err(missing_in(value, field, setting));
        }
        let found = |form: &'f Form<'a>, needs_answer: bool| {
            let question = form.question.iter().map(|field| get(value, field)).collect::<Option<Vec<_>>>()?;
            let answer = get(value, form.answer);
            let Form { question: names, answer: answer_name, place } = form;
            (!needs_answer || answer.is_some()).then_some(Found { names, question, answer_name, answer, place: *place })
        };
        let whole = self.forms.iter().find_map(|form| found(form, true));
        let bare = || self.forms.iter().find_map(|form| found(form, false)).filter(|_| !self.needs_answer);
        whole.or_else(bare).ok_or_else(|| self.misfit(value))
    }

    /// What is wrong with an entry of none of the layouts.
    fn misfit(&self, value: &Value) -> Misfit {
        let Some(entries) = value.as_object() else {
            return Misfit::new(Reason::Layout, shown(value), self.describe());
        };
        let fields = |form: &'_ Form<'a>| form.question.iter().copied().chain([form.answer]).collect::<Vec<&'a str>>();
        let has = |field: &&str| value.get(column(field)).is_some();
        let whole = self.forms.iter().map(fields).find(|fields| fields.iter().all(has));
        let Some(field) = whole.and_then(|fields| fields.into_iter().find(|field| get(value, field).is_none())) else {
            let keys = entries.keys().cloned().collect::<Vec<_>>().join(", ");
            return Misfit::new(
                Reason::Layout,
                format!("no question and answer in the fields {keys}{}", self.remedy()),
                self.describe(),
            );
        };
        let top = column(field);
        let found = match entries.get(top) {
            Some(Value::Null) => format!("{top}, which is null"),
            Some(entry) if entry.get(field[top.len()..].trim_start_matches('.')).is_some_and(Value::is_null) => {
                format!("{field}, which is null")
            }
            _ => format!("{top} without {field}"),
        };
        let is_answer = self.forms.iter().any(|form| form.answer == field);
        let reason = if is_answer { Reason::Placeholder } else { Reason::Question };
        Misfit::new(reason, found, "a value: a problem has a question and an answer")
    }
}

/// What is wrong with an entry without a column that a setting names.
pub(super) fn missing_in(value: &Value, field: &str, setting: &str) -> Misfit {
    let keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    missing(format!("an object with {}", keys.join(", ")), &keys, field, setting)
}

/// What is wrong with what has these columns, but not one that a setting names; with the most similar one.
fn missing(found: String, columns: &[&str], field: &str, setting: &str) -> Misfit {
    const ALIKE: f64 = 0.8;
    let top = column(field);
    let others = columns.iter().filter(|_| !columns.contains(&top));
    let scored = others.map(|name| (strsim::jaro_winkler(top, name), name));
    let nearest = scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map_or(String::new(), |(_, name)| format!("; did you mean {name}?"));
    Misfit::new(Reason::Layout, found, format!("{field}, which data.fields.{setting} names{hint}"))
}
