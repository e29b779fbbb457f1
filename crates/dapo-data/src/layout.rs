//! Which columns of an entry are its question and its answer.

use crate::options::{Misfit, ReadOptions, Reason};
use crate::value::{column, get, shown};
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
        Self { forms, needs_answer: options.needs_answer }
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

    /// Whether a table with these columns can hold problems.
    pub(super) fn fits(&self, columns: &[&str]) -> bool {
        let has = |field: &str| columns.contains(&column(field));
        let answered = |form: &Form<'_>| !self.needs_answer || has(form.answer);
        self.forms.iter().any(|form| form.question.iter().all(|field| has(field)) && answered(form))
    }

    pub(super) fn find<'v, 'f>(&'f self, value: &'v Value) -> Result<Found<'v, 'f>, Misfit> {
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
                format!("no question and answer in the fields {keys}"),
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
