//! From TOML text to assignments, checked against the list of keys.

use super::Source;
use crate::SettingsError;
use crate::error::{KeyError, KeyFault};
use crate::keys::{Kind, LAYOUT, canonical, join, nearest_key, split};
use std::collections::HashSet;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// A setting and its value as TOML; for a table that is present, `{}`.
pub(super) struct Assignment {
    pub(super) path: String,
    pub(super) value: String,
    pub(super) source: Source,
}

/// Reads one layer. Keys that are wrong go to `errors`.
pub(super) struct Reader<'a> {
    /// The source of what stands in a line.
    place: &'a dyn Fn(usize) -> Source,
    errors: &'a mut Vec<KeyError>,
    assignments: Vec<Assignment>,
    seen: HashSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(place: &'a dyn Fn(usize) -> Source, errors: &'a mut Vec<KeyError>) -> Self {
        Self { place, errors, assignments: Vec::new(), seen: HashSet::new() }
    }

    /// The assignments of a TOML document.
    pub(super) fn document(mut self, text: &str) -> Result<Vec<Assignment>, SettingsError> {
        let table = DeTable::parse(text).map_err(|error| self.syntax(text, &error))?;
        self.table("", table.get_ref(), text);
        Ok(self.assignments)
    }

    /// The key that an override without a value removes.
    pub(super) fn removal(&mut self, word: &str) -> Result<Option<String>, SettingsError> {
        let (path, value) = split_override(word)?;
        if !value.is_empty() {
            return Ok(None);
        }
        if LAYOUT.key(&path).is_none() && LAYOUT.table(&path).is_none() {
            self.unknown(&path, (self.place)(1));
        }
        Ok(Some(path))
    }

    /// The assignments of an override with a value.
    pub(super) fn assignment(mut self, word: &str) -> Result<Vec<Assignment>, SettingsError> {
        let (path, value) = split_override(word)?;
        let kind = LAYOUT.key(&path).map(|key| &key.kind);
        let text = match DeValue::parse(value) {
            Ok(parsed) => as_kind(value, parsed.get_ref(), kind),
            Err(error) if value.starts_with(['"', '\'', '[', '{']) => {
                let message = format!("{word}: {}", error.message());
                return Err(SettingsError::Syntax { place: (self.place)(1), column: None, message });
            }
            // A bare word.
            Err(_) => as_kind(&quoted(value), &DeValue::String(value.into()), kind),
        };
        let parsed = DeValue::parse(&text).map_err(|error| self.syntax(&text, &error))?;
        self.value(path, &parsed, &text, (self.place)(1));
        Ok(self.assignments)
    }

    fn syntax(&self, text: &str, error: &Error) -> SettingsError {
        let start = error.span().map_or(text.len(), |span| span.start);
        let before = &text[..start.min(text.len())];
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        SettingsError::Syntax {
            place: (self.place)(line(text, start)),
            column: Some(column),
            message: error.message().to_owned(),
        }
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>, text: &str) {
        for (name, value) in table {
            let source = (self.place)(line(text, name.span().start));
            self.value(canonical(&join(path, name.get_ref())), value, text, source);
        }
    }

    fn value(&mut self, path: String, value: &Spanned<DeValue<'_>>, text: &str, source: Source) {
        if let Some(table) = LAYOUT.table(&path) {
            let DeValue::Table(entries) = value.get_ref() else {
                return self.refuse(path, value, text, source, "a table".into());
            };
            if table.optional {
                self.assign(path.clone(), "{}".into(), source);
            }
            self.table(&path, entries, text);
        } else if let Some(key) = LAYOUT.key(&path) {
            if !fits(&key.kind, value.get_ref()) {
                return self.refuse(path, value, text, source, key.kind.to_string());
            }
            if !self.seen.insert(path.clone()) {
                return self.errors.push(KeyError { place: source, key: path, fault: KeyFault::Twice });
            }
            // A key makes its table present.
            let table = split(&path).0;
            if LAYOUT.table(table).is_some_and(|table| table.optional) {
                self.assign(table.to_owned(), "{}".into(), source.clone());
            }
            let written = &text[value.span()];
            let one_of_a_list = key.kind == Kind::Texts && value.get_ref().is_str();
            self.assign(path, if one_of_a_list { format!("[{written}]") } else { written.to_owned() }, source);
        } else {
            self.unknown(&path, source);
        }
    }

    fn assign(&mut self, path: String, value: String, source: Source) {
        self.assignments.push(Assignment { path, value, source });
    }

    fn unknown(&mut self, path: &str, place: Source) {
        let nearest = nearest_key(path).map(str::to_owned);
        self.errors.push(KeyError { place, key: path.to_owned(), fault: KeyFault::Unknown { nearest } });
    }

    fn refuse(&mut self, key: String, value: &Spanned<DeValue<'_>>, text: &str, place: Source, expected: String) {
        let found = shown(value, text);
        self.errors.push(KeyError { place, key, fault: KeyFault::Value { found, expected } });
    }
}

/// The key, with second names replaced, and the value of `key=value`.
fn split_override(word: &str) -> Result<(String, &str), SettingsError> {
    let message = || format!("{word:?} has no `=`, expected key=value");
    let syntax = || SettingsError::Syntax { place: Source::CommandLine, column: None, message: message() };
    let (key, value) = word.split_once('=').ok_or_else(syntax)?;
    Ok((canonical(key.trim()), value.trim()))
}

/// On the command line, what stands for a string needs no quotes.
fn as_kind(text: &str, value: &DeValue<'_>, kind: Option<&Kind>) -> String {
    let structured = matches!(value, DeValue::Array(_) | DeValue::Table(_));
    match kind {
        Some(Kind::Text | Kind::Texts | Kind::Choice(_)) if !structured && !value.is_str() => quoted(text),
        _ => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn fits(kind: &Kind, value: &DeValue<'_>) -> bool {
    let natural = || value.as_integer().is_some_and(|number| !number.as_str().starts_with('-'));
    let one_of = |names: &[String]| value.as_str().is_some_and(|text| names.iter().any(|name| name == text));
    match kind {
        Kind::Flag => value.is_bool(),
        Kind::Integer => natural(),
        Kind::Number => value.is_integer() || value.is_float(),
        Kind::Text => value.is_str(),
        Kind::Texts => {
            value.is_str() || value.as_array().is_some_and(|list| list.iter().all(|item| item.get_ref().is_str()))
        }
        Kind::Choice(names) => one_of(names),
        Kind::IntegerOr(names) => natural() || one_of(names),
    }
}

/// A value as it is written, cut short, and what it is.
fn shown(value: &Spanned<DeValue<'_>>, text: &str) -> String {
    const LONGEST: usize = 40;
    let what = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(list) if list.iter().any(|item| item.get_ref().is_table()) => return "a list of tables".into(),
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => return "a table".into(),
    };
    let written = &text[value.span()];
    let short: String = written.chars().map(|c| if c == '\n' { ' ' } else { c }).take(LONGEST).collect();
    let dots = if written.chars().count() > LONGEST { "…" } else { "" };
    format!("{short}{dots} ({what})")
}

/// The line, from 1 on, of a place in a text.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
