//! Settings in the making: every key of the source is read at most once and accounted for.
//!
//! A value that was read knows the entries it came from. Where the value of one of them is not known, what is made of it
//! stays open: the settings file gets a line to be filled in, and no default.

mod account;
mod read;

pub(super) use account::Rules;

use dapo_run::zero;
use std::borrow::Cow;
use std::path::Path;

use super::{
    entry::Entry,
    error::ImportError,
    format::ConfigFormat,
    report::{Assumed, Carried, Note, Skipped},
    shell::Doubt,
    text::{short, shown},
};

/// The outcome for a key of the source.
#[derive(Clone, Debug)]
enum Fate {
    Open,
    /// Read, and not yet put anywhere.
    Read,
    Carried,
    /// Left out.
    Skipped {
        reason: String,
        changes_training: bool,
    },
    /// Its value is not known, for this reason.
    Unknown(String),
    /// The file has it, but not the trainer; whether that would matter is known once a rule names it.
    Aside {
        reason: String,
        changes_training: Option<bool>,
    },
}

/// A value that was read, and the entries it came from. If one of them is unknown, the value is a placeholder.
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

    /// A value that the source does not set.
    pub(super) fn default(value: T) -> Self {
        Self { value, from: Vec::new() }
    }

    /// The same place with another value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Got<U> {
        Got { value: change(self.value), from: self.from }
    }
}

/// The entries that a value came from; none if the source does not set it.
pub(super) fn places<T>(got: Option<&Got<T>>) -> Vec<usize> {
    got.map(|got| got.from.clone()).unwrap_or_default()
}

/// A line of the settings file to be.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) key: Cow<'static, str>,
    /// `None`: to be filled in.
    pub(super) value: Option<toml::Value>,
    pub(super) comment: String,
    /// The entries it was made of.
    from: Vec<usize>,
}

/// What is known so far.
pub(super) struct Draft<'a> {
    file: &'a Path,
    trainer: &'static str,
    entries: Vec<Entry>,
    fates: Vec<Fate>,
    doubts: Vec<Doubt>,
    pub(super) lines: Vec<Line>,
    pub(super) carried: Vec<Carried>,
    pub(super) assumed: Vec<Assumed>,
    /// Values that cannot be carried over.
    pub(super) refused: Vec<ImportError>,
    notes: Vec<Note>,
    /// Parts of keys, and what is no key, that were left out.
    skipped: Vec<Skipped>,
}

/// A key and its value as we write them: other trainers have zeros where we have words.
fn written(key: Cow<'static, str>, value: toml::Value) -> (Cow<'static, str>, toml::Value) {
    match zero(&key, &shown(&value)) {
        Some((_, "inf")) => (key, f64::INFINITY.into()),
        Some((what, word)) => (what.into(), word.into()),
        None => (key, value),
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        file: &'a Path,
        format: ConfigFormat,
        entries: Vec<Entry>,
        doubts: Vec<Doubt>,
        skipped: Vec<Skipped>,
    ) -> Self {
        let fate = |entry: &Entry| match &entry.aside {
            Some(reason) => Fate::Aside { reason: reason.clone(), changes_training: None },
            None => Fate::Open,
        };
        Self {
            file,
            trainer: format.title(),
            fates: entries.iter().map(fate).collect(),
            entries,
            doubts,
            lines: Vec::new(),
            carried: Vec::new(),
            assumed: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            skipped,
        }
    }

    /// Whether the trainer gets one of these keys, read or not.
    pub(super) fn has(&self, keys: &[&str]) -> bool {
        self.entries.iter().any(|entry| entry.aside.is_none() && keys.contains(&entry.key.as_str()))
    }

    /// Whether the file tells the value of one of these keys, if it has one.
    pub(super) fn is_told(&self, keys: &[&str]) -> bool {
        self.entries.iter().all(|entry| !keys.contains(&entry.key.as_str()) || entry.missing.is_empty())
    }

    /// Whether the trainer gets a key that starts like this.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.entries.iter().any(|entry| entry.aside.is_none() && entry.key.starts_with(prefix))
    }

    /// Whether the values of all these entries are known.
    pub(super) fn knows(&self, from: &[usize]) -> bool {
        self.unknown(from).is_none()
    }

    /// The first of these entries whose value is not known, and why.
    fn unknown(&self, from: &[usize]) -> Option<(usize, &str)> {
        from.iter().find_map(|&i| match &self.fates[i] {
            Fate::Unknown(why) => Some((i, why.as_str())),
            _ => None,
        })
    }

    /// That the value of an entry cannot be carried over: what is made of it stays open, and the import is not whole.
    pub(super) fn refuse(&mut self, from: &[usize], expected: &str) {
        let Some(&i) = from.first() else { return };
        let Entry { key, line, missing, .. } = &self.entries[i];
        if missing.is_empty() {
            let found = format!("`{}`", short(&self.entries[i].shown()));
            let why = format!("it is {found}, expected {expected}");
            let (file, line, key, expected) = (self.file.to_owned(), *line, key.clone(), expected.to_owned());
            self.refused.push(ImportError::Value { file, line, key, found, expected });
            self.fates[i] = Fate::Unknown(why);
        } else {
            self.fates[i] = Fate::Unknown(format!("the file does not say what {} is", missing.join(", ")));
        }
    }

    /// Gives a key of ours a value from the source.
    pub(super) fn put(&mut self, key: impl Into<Cow<'static, str>>, got: Got<impl Into<toml::Value>>) {
        let key = key.into();
        if !self.knows(&got.from) {
            return self.leave_open(key, got.from);
        }
        let (key, value) = written(key, got.value.into());
        let comment = self.origin(&got.from);
        for &i in &got.from {
            self.fates[i] = Fate::Carried;
            let (source_key, line) = (self.entries[i].key.clone(), self.entries[i].line);
            self.carried.push(Carried { source_key, key: key.to_string(), value: shown(&value), line });
        }
        self.line(Line { key, value: Some(value), comment, from: got.from });
    }

    fn origin(&self, from: &[usize]) -> String {
        let places = from.iter().map(|&i| format!("{}, line {}", self.entries[i].key, self.entries[i].line));
        places.collect::<Vec<_>>().join("; ")
    }

    /// Leaves a key of ours to be filled in, because what decides it is not known.
    pub(super) fn leave_open(&mut self, key: impl Into<Cow<'static, str>>, from: Vec<usize>) {
        let why = self.unknown(&from).map(|(_, why)| why.to_owned()).unwrap_or_default();
        let comment = format!("{}: {why}", self.origin(&from));
        self.line(Line { key: key.into(), value: None, comment, from });
    }

    /// Leaves a key of ours to be filled in: the source's default is not one that it can have.
    pub(super) fn leave_unset(&mut self, key: &'static str, why: &str) {
        self.line(Line { key: key.into(), value: None, comment: why.to_owned(), from: Vec::new() });
    }

    /// Gives a key of ours the value it has in the source, or the source's default.
    pub(super) fn put_or<T: Into<toml::Value>>(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        got: Option<Got<T>>,
        default: T,
    ) {
        match got {
            Some(got) if !got.from.is_empty() => self.put(key, got),
            Some(got) => self.assume(key, got.value, ""),
            None => self.assume(key, default, ""),
        }
    }

    /// Gives a key of ours the source's default, because the source does not set it.
    pub(super) fn assume(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<toml::Value>, why: &str) {
        let (key, value) = written(key.into(), value.into());
        let reason = if why.is_empty() { format!("{}'s default", self.trainer) } else { why.to_owned() };
        self.assumed.push(Assumed { key: key.to_string(), value: shown(&value), reason: reason.clone() });
        self.line(Line { key, value: Some(value), comment: reason, from: Vec::new() });
    }

    /// Gives what one key of ours got to another one, and says that these entries decided so.
    pub(super) fn redirect(&mut self, from: &[usize], key: &str, other: &'static str) {
        self.lines.iter_mut().filter(|line| line.key == key).for_each(|line| line.key = other.into());
        let carried = self.carried.iter_mut().filter(|carried| carried.key == key);
        carried.for_each(|carried| carried.key = other.into());
        let assumed = self.assumed.iter_mut().filter(|assumed| assumed.key == key);
        assumed.for_each(|assumed| assumed.key = other.into());
        let Some(value) = self.value(other).map(shown) else { return };
        let origin = self.origin(from);
        for line in self.lines.iter_mut().filter(|line| line.key == other && !from.is_empty()) {
            line.comment = format!("{}; {origin}", line.comment);
        }
        for &i in from {
            self.fates[i] = Fate::Carried;
            let (source_key, line) = (self.entries[i].key.clone(), self.entries[i].line);
            self.carried.push(Carried { source_key, key: other.into(), value: value.clone(), line });
        }
    }

    /// Gives a key of ours the value of another, because the source has one setting for both.
    pub(super) fn assume_same(&mut self, key: &'static str, other: &str, why: &str) {
        match self.lines.iter().find(|line| line.key == other).cloned() {
            Some(Line { value: Some(value), .. }) => self.assume(key, value, why),
            Some(line) => self.line(Line { key: key.into(), ..line }),
            None => {}
        }
    }

    /// The value that a key of ours has so far.
    pub(super) fn value(&self, key: &str) -> Option<&toml::Value> {
        self.lines.iter().find(|line| line.key == key)?.value.as_ref()
    }

    /// Takes the value of a key of ours back, or those below a table: it is not one that the settings can have. Returns
    /// whether there was one.
    pub(super) fn take_back(&mut self, key: &str, expected: &str) -> bool {
        let below = format!("{key}.");
        let is_named = |line: &Line| line.value.is_some() && (line.key == key || line.key.starts_with(&below));
        let lines: Vec<usize> = (0..self.lines.len()).filter(|&at| is_named(&self.lines[at])).collect();
        for &at in &lines {
            let Line { key, value, from, .. } = self.lines[at].clone();
            let why = format!("it came to {}, expected {expected}", value.as_ref().map(shown).unwrap_or_default());
            self.carried.retain(|carried| carried.key != key);
            self.assumed.retain(|assumed| assumed.key != key);
            let is_carried =
                |entry: &Entry| self.carried.iter().any(|c| c.source_key == entry.key && c.line == entry.line);
            let elsewhere: Vec<bool> = from.iter().map(|&i| is_carried(&self.entries[i])).collect();
            if let Some(&first) = from.first() {
                let fate = self.fates[first].clone();
                self.refuse(&from, expected);
                if elsewhere[0] {
                    // Another key of ours has its value.
                    self.fates[first] = fate;
                }
            }
            for (&i, elsewhere) in from.iter().zip(&elsewhere).skip(1) {
                if !elsewhere && matches!(self.fates[i], Fate::Carried) {
                    self.fates[i] = Fate::Read;
                }
            }
            if elsewhere.first().is_none_or(|&elsewhere| elsewhere) {
                self.note(&from, format!("set {key}: {why}"));
            }
            let line = &mut self.lines[at];
            (line.value, line.comment) = (None, format!("{}: {why}", line.comment));
        }
        !lines.is_empty()
    }

    fn line(&mut self, line: Line) {
        match self.lines.iter_mut().find(|before| before.key == line.key) {
            Some(before) => *before = line,
            None => self.lines.push(line),
        }
    }
}
