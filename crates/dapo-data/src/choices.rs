//! Multiple-choice problems.

use crate::options::{Misfit, Reason};
use crate::value::{parsed, scalar, shown};
use serde_json::Value;
use std::fmt::Write;

/// Columns of a multiple-choice problem's choices, as published data sets name them.
const CHOICES: [&str; 4] = ["choices", "options", "Choices", "Options"];

/// Most choices: a letter for each.
const MOST: usize = 26;

fn unfit(found: impl Into<String>, expected: impl Into<String>) -> Misfit {
    Misfit::new(Reason::Choices, found, expected)
}

/// Refuses a problem that cannot be understood without its choices: the answer is the number or letter of one.
pub(super) fn refuse(value: &Value, answer: &Value) -> Result<(), Misfit> {
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
    Err(unfit(found, "a question that holds its choices, or data.fields.choices"))
}

/// A choice: what the file calls it, and its text.
struct Choice {
    label: Option<String>,
    text: String,
}

/// The choices of a problem, in order.
pub(super) struct Choices(Vec<Choice>);

impl Choices {
    /// Reads a list of texts, an object of labels and texts, or the two lists `label` and `text`; also as JSON text.
    pub(super) fn read(value: &Value) -> Result<Self, Misfit> {
        let expected = "a list of choices, or an object of labels and choices";
        let misfit = || unfit(format!("the choices {}", shown(value)), expected);
        let of_text = value.as_str().and_then(parsed);
        let value = of_text.as_ref().unwrap_or(value);
        let choice = |label: Option<&str>, text: &Value| {
            Some(Choice { label: label.map(|label| label.trim().to_owned()), text: scalar(text)?.trim().to_owned() })
        };
        let lists = value.get("label").and_then(Value::as_array).zip(value.get("text").and_then(Value::as_array));
        let choices: Option<Vec<Choice>> = match value {
            Value::Array(list) => list.iter().map(|text| choice(None, text)).collect(),
            Value::Object(_) if let Some((labels, texts)) = lists => {
                if labels.len() != texts.len() {
                    return Err(misfit());
                }
                labels.iter().zip(texts).map(|(label, text)| choice(Some(&scalar(label)?), text)).collect()
            }
            Value::Object(entries) => entries.iter().map(|(label, text)| choice(Some(label), text)).collect(),
            _ => None,
        };
        let mut choices = choices.filter(|choices| (2..=MOST).contains(&choices.len())).ok_or_else(misfit)?;
        strip_letters(&mut choices);
        Ok(Self(choices))
    }

    /// The choices as lines to be appended to a question.
    pub(super) fn lines(&self) -> String {
        let mut lines = String::new();
        for (letter, choice) in ('A'..).zip(&self.0) {
            // Writing to a string cannot fail.
            let _ = write!(lines, "\n{letter}. {}", choice.text);
        }
        lines
    }

    /// The letter of the choice that an answer stands for: by its text, its label or letter, or its number from 0. An answer
    /// that stands for two choices is refused.
    pub(super) fn gold(&self, answer: &Value) -> Result<String, Misfit> {
        let is_number = answer.is_number();
        let Some(text) = scalar(answer).map(|text| text.trim().to_owned()) else {
            return Err(unfit(format!("the answer {}", shown(answer)), "a choice, its letter or its number"));
        };
        let mut places: Vec<usize> = Vec::new();
        places.extend(self.0.iter().position(|choice| choice.text == text));
        if self.0.iter().any(|choice| choice.label.is_some()) {
            let is_label = |label: &String| label.eq_ignore_ascii_case(&text);
            places.extend(self.0.iter().position(|choice| choice.label.as_ref().is_some_and(is_label)));
        } else {
            let letter = text.trim_matches(['(', ')', '.']);
            places.extend((0..self.0.len()).find(|place| letter.eq_ignore_ascii_case(&letter_of(*place))));
        }
        if is_number || places.is_empty() {
            places.extend(text.parse().ok().filter(|place: &usize| *place < self.0.len()));
        }
        places.dedup();
        match places[..] {
            [place] => Ok(letter_of(place)),
            [] => {
                let expected = format!("one of the {} choices, its letter, or its number from 0", self.0.len());
                Err(unfit(format!("the answer {}", shown(answer)), expected))
            }
            _ => {
                let letters: Vec<String> = places.iter().map(|place| letter_of(*place)).collect();
                let found = format!("the answer {}, which stands for {}", shown(answer), letters.join(" and "));
                Err(unfit(found, "an answer that stands for one choice"))
            }
        }
    }
}

fn letter_of(place: usize) -> String {
    char::from(b'A' + place as u8).to_string()
}

/// Takes away the letters that choices begin with, where each begins with its own: `A) 21`, `(B) 22`.
fn strip_letters(choices: &mut [Choice]) {
    let stripped: Option<Vec<String>> = (0..)
        .zip(choices.iter())
        .map(|(place, choice)| {
            let rest = choice.text.trim_start_matches('(').strip_prefix(&letter_of(place))?;
            Some(rest.strip_prefix([')', '.', ':'])?.trim().to_owned())
        })
        .collect();
    for (choice, text) in choices.iter_mut().zip(stripped.into_iter().flatten()) {
        choice.text = text;
    }
}
