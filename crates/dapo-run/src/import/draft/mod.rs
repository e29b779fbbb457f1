//! Settings in the making: every key of the source is read at most once and accounted for.

mod read;

use crate::keys::zero;
use std::path::Path;

use super::{
    entry::Entry,
    error::ImportError,
    format::ConfigFormat,
    report::{Assumed, Carried, Note, Skipped},
    text::{public, short, shown},
};

/// What became of a key of the source.
#[derive(Clone, Debug)]
enum Fate {
    Open,
    /// Read, and not yet put anywhere.
    Read,
    Carried,
    Skipped(String),
}

/// A value that was read, and the entries it came from.
#[derive(Clone, Debug)]
pub(super) struct Got<T> {
    pub(super) value: T,
    pub(super) from: Vec<usize>,
}

impl<T> Got<T> {
    /// A value made of others.
    pub(super) fn of(value: T, from: &[&[usize]]) -> Self {
        Self { value, from: from.concat() }
    }

    /// The same place with another value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Got<U> {
        Got { value: change(self.value), from: self.from }
    }
}

/// A line of the settings file to be.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) key: &'static str,
    pub(super) value: toml::Value,
    pub(super) comment: String,
}

/// What is known so far.
pub(super) struct Draft<'a> {
    file: &'a Path,
    trainer: &'static str,
    entries: Vec<Entry>,
    fates: Vec<Fate>,
    pub(super) lines: Vec<Line>,
    pub(super) carried: Vec<Carried>,
    pub(super) assumed: Vec<Assumed>,
    pub(super) notes: Vec<Note>,
    /// Parts of keys, and what is no key, that were left out.
    pub(super) skipped: Vec<Skipped>,
}

/// A key and its value as we write them: other trainers have zeros where we have words.
fn written(key: &'static str, value: toml::Value) -> (&'static str, toml::Value) {
    match zero(key, &shown(&value)) {
        Some((_, "inf")) => (key, f64::INFINITY.into()),
        Some((what, word)) => (what, word.into()),
        None => (key, value),
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(file: &'a Path, format: ConfigFormat, entries: Vec<Entry>, skipped: Vec<Skipped>) -> Self {
        Self {
            file,
            trainer: format.title(),
            fates: vec![Fate::Open; entries.len()],
            entries,
            lines: Vec::new(),
            carried: Vec::new(),
            assumed: Vec::new(),
            notes: Vec::new(),
            skipped,
        }
    }

    /// Whether one of these keys is given, read or not.
    pub(super) fn has(&self, keys: &[&str]) -> bool {
        self.entries.iter().any(|entry| keys.contains(&entry.key.as_str()))
    }

    /// Whether the file tells the value of one of these keys, if it has one.
    pub(super) fn is_told(&self, keys: &[&str]) -> bool {
        self.entries.iter().all(|entry| !keys.contains(&entry.key.as_str()) || entry.missing.is_empty())
    }

    /// Whether a key that starts like this is given.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.entries.iter().any(|entry| entry.key.starts_with(prefix))
    }

    /// That the value of an entry cannot be taken.
    pub(super) fn wrong(&self, from: &[usize], expected: &str) -> ImportError {
        let entry = from.first().map(|&i| &self.entries[i]);
        let missing = entry.map(|entry| entry.missing.join(", ")).unwrap_or_default();
        ImportError::Value {
            file: self.file.to_owned(),
            line: entry.map_or(0, |entry| entry.line),
            key: entry.map(|entry| entry.key.clone()).unwrap_or_default(),
            found: entry.map(|entry| format!("`{}`", short(&entry.shown()))).unwrap_or_default(),
            expected: if missing.is_empty() {
                expected.to_owned()
            } else {
                format!("{expected}; the file does not say what {missing} is")
            },
        }
    }

    /// Gives a key of ours a value from the source.
    pub(super) fn put(&mut self, key: &'static str, got: Got<impl Into<toml::Value>>) {
        let (key, value) = written(key, got.value.into());
        let places = got.from.iter().map(|&i| format!("{}, line {}", self.entries[i].key, self.entries[i].line));
        let comment = places.collect::<Vec<_>>().join("; ");
        for i in got.from {
            self.fates[i] = Fate::Carried;
            let (source_key, line) = (self.entries[i].key.clone(), self.entries[i].line);
            self.carried.push(Carried { source_key, key: key.into(), value: shown(&value), line });
        }
        self.line(key, value, comment);
    }

    /// Gives a key of ours the value it has in the source, or the source's default.
    pub(super) fn put_or<T: Into<toml::Value>>(&mut self, key: &'static str, got: Option<Got<T>>, default: T) {
        match got {
            Some(got) if !got.from.is_empty() => self.put(key, got),
            Some(got) => self.assume(key, got.value, ""),
            None => self.assume(key, default, ""),
        }
    }

    /// Gives a key of ours the source's default, because the source does not set it.
    pub(super) fn assume(&mut self, key: &'static str, value: impl Into<toml::Value>, why: &str) {
        let (key, value) = written(key, value.into());
        let reason = if why.is_empty() { format!("{}'s default", self.trainer) } else { why.to_owned() };
        self.assumed.push(Assumed { key: key.into(), value: shown(&value), reason: reason.clone() });
        self.line(key, value, reason);
    }

    /// Gives what one key of ours got to another one, and says that these entries decided so.
    pub(super) fn redirect(&mut self, from: &[usize], key: &str, other: &'static str) {
        self.lines.iter_mut().filter(|line| line.key == key).for_each(|line| line.key = other);
        let carried = self.carried.iter_mut().filter(|carried| carried.key == key);
        carried.for_each(|carried| carried.key = other.into());
        let assumed = self.assumed.iter_mut().filter(|assumed| assumed.key == key);
        assumed.for_each(|assumed| assumed.key = other.into());
        let value = self.lines.iter().find(|line| line.key == other).map(|line| shown(&line.value)).unwrap_or_default();
        for &i in from {
            self.fates[i] = Fate::Carried;
            let (source_key, line) = (self.entries[i].key.clone(), self.entries[i].line);
            self.carried.push(Carried { source_key, key: other.into(), value: value.clone(), line });
        }
    }

    /// Gives a key of ours the value of another, because the source has one setting for both.
    pub(super) fn assume_same(&mut self, key: &'static str, other: &str, why: &str) {
        if let Some(value) = self.lines.iter().find(|line| line.key == other).map(|line| line.value.clone()) {
            self.assume(key, value, why);
        }
    }

    /// Leaves out the environment variables that nobody read.
    pub(super) fn skip_environment(&mut self) {
        let is_variable = |key: &str| key.chars().all(|c| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit());
        self.skip_where("an environment variable of the other trainer's", is_variable);
    }

    fn line(&mut self, key: &'static str, value: toml::Value, comment: String) {
        let line = Line { key, value, comment };
        match self.lines.iter_mut().find(|line| line.key == key) {
            Some(before) => *before = line,
            None => self.lines.push(line),
        }
    }

    /// A difference worth knowing, about these entries.
    pub(super) fn note(&mut self, from: &[usize], text: impl Into<String>) {
        let entry = from.first().map(|&i| &self.entries[i]);
        let key = entry.map(|entry| entry.key.clone()).unwrap_or_default();
        self.notes.push(Note { key, line: entry.map(|entry| entry.line), text: text.into() });
    }

    /// Leaves entries out, unless something else was made of them.
    pub(super) fn leave(&mut self, from: &[usize], reason: &str) {
        for &i in from {
            if !matches!(self.fates[i], Fate::Carried) {
                self.fates[i] = Fate::Skipped(reason.into());
            }
        }
    }

    /// Leaves out whatever these keys name and nobody read.
    pub(super) fn skip(&mut self, keys: &[&str], reason: &str) {
        self.skip_where(reason, |key| keys.contains(&key));
    }

    /// Leaves out whatever these rules name and nobody read: `a.b`, `a.*` for all that start so, `*.b` for all that end so.
    pub(super) fn skip_by(&mut self, rules: &[(&[&str], &str)]) {
        for (patterns, reason) in rules {
            self.skip_where(reason, |key| {
                patterns.iter().any(|pattern| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
                    (Some(start), _) => key.starts_with(start),
                    (_, Some(end)) => key.ends_with(end),
                    _ => key == *pattern,
                })
            });
        }
    }

    fn skip_where(&mut self, reason: &str, matches: impl Fn(&str) -> bool) {
        for (entry, fate) in self.entries.iter().zip(&mut self.fates) {
            if matches!(fate, Fate::Open) && matches(&entry.key) {
                *fate = Fate::Skipped(reason.into());
            }
        }
    }

    /// Leaves out a part of an entry, such as one item of a list.
    pub(super) fn skip_part(&mut self, from: &[usize], part: usize, value: &str, reason: &str) {
        let Some(&i) = from.first() else { return };
        let key = format!("{}[{part}]", self.entries[i].key);
        self.skipped.push(Skipped { key, value: value.into(), line: self.entries[i].line, reason: reason.into() });
    }

    /// Everything that was left out, in the order of the file.
    pub(super) fn all_skipped(&self) -> Vec<Skipped> {
        let left_out = self.entries.iter().zip(&self.fates).filter_map(|(entry, fate)| {
            let reason = match fate {
                Fate::Carried => return None,
                Fate::Skipped(reason) => reason.clone(),
                Fate::Read => "has no effect on what was imported".into(),
                Fate::Open => "not known to this importer".into(),
            };
            let value = public(&entry.key, entry.shown());
            Some(Skipped { key: entry.key.clone(), value, line: entry.line, reason })
        });
        let mut all: Vec<Skipped> = left_out.chain(self.skipped.iter().cloned()).collect();
        all.sort_by_key(|skipped| skipped.line);
        all
    }
}
