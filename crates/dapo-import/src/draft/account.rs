//! What was left out, and why; and what is worth knowing.

use super::{Draft, Fate};
use crate::{
    entry::Entry,
    report::{Note, Skipped},
    text::public,
};

/// Most keys that a note names.
const SHOWN: usize = 4;

/// Keys of a source (`a.b`, `a.*` for all that start so, `*.b` for all that end so) that are left out, and why.
pub(crate) type Rules = &'static [(&'static [&'static str], &'static str)];

fn is_named(patterns: &[&str], key: &str) -> bool {
    patterns.iter().any(|pattern| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(start), _) => key.starts_with(start),
        (_, Some(end)) => key.ends_with(end),
        _ => key == *pattern,
    })
}

impl Draft<'_> {
    /// A difference worth knowing, about these entries.
    pub(crate) fn note(&mut self, from: &[usize], text: impl Into<String>) {
        let entry = from.first().map(|&i| &self.entries[i]);
        let key = entry.map(|entry| entry.key.clone()).unwrap_or_default();
        self.notes.push(Note { key, line: entry.map(|entry| entry.line), text: text.into() });
    }

    /// Leaves entries out that have no effect here, unless something else was made of them.
    pub(crate) fn leave(&mut self, from: &[usize], reason: &str) {
        self.leave_as(from, reason, false);
    }

    /// Leaves entries out although training differs without them, unless something else was made of them.
    pub(crate) fn give_up(&mut self, from: &[usize], reason: &str) {
        self.leave_as(from, reason, true);
    }

    fn leave_as(&mut self, from: &[usize], reason: &str, changes_training: bool) {
        for &i in from {
            if matches!(self.fates[i], Fate::Open | Fate::Read) {
                self.fates[i] = Fate::Skipped { reason: reason.into(), changes_training };
            }
        }
    }

    /// Leaves out whatever these keys name and nobody read, without an effect here.
    pub(crate) fn skip(&mut self, keys: &[&str], reason: &str) {
        self.skip_where(reason, false, |key| keys.contains(&key));
    }

    /// Leaves out whatever these rules name and nobody read, without an effect here.
    pub(crate) fn skip_by(&mut self, rules: &[(&[&str], &str)]) {
        for (patterns, reason) in rules {
            self.skip_where(reason, false, |key| is_named(patterns, key));
        }
    }

    /// Leaves out whatever these rules name and nobody read, although training differs without it.
    pub(crate) fn give_up_by(&mut self, rules: &[(&[&str], &str)]) {
        for (patterns, reason) in rules {
            self.skip_where(reason, true, |key| is_named(patterns, key));
        }
    }

    /// Leaves out the environment variables that nobody read.
    pub(crate) fn skip_environment(&mut self) {
        let is_variable = |key: &str| key.chars().all(|c| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit());
        self.skip_where("an environment variable of the other trainer's", false, is_variable);
    }

    fn skip_where(&mut self, reason: &str, changes: bool, matches: impl Fn(&str) -> bool) {
        for (entry, fate) in self.entries.iter().zip(&mut self.fates) {
            match fate {
                Fate::Open if matches(&entry.key) => {
                    let changes_training = changes && !entry.is_off();
                    *fate = Fate::Skipped { reason: reason.into(), changes_training };
                }
                Fate::Aside { changes_training: weight @ None, .. } if matches(&entry.key) => *weight = Some(changes),
                _ => {}
            }
        }
    }

    /// Leaves out a part of an entry, such as one item of a list, although training differs without it.
    pub(crate) fn skip_part(&mut self, from: &[usize], part: usize, value: &str, reason: &str) {
        let Some(&i) = from.first() else { return };
        let (key, line) = (format!("{}[{part}]", self.entries[i].key), self.entries[i].line);
        let (value, reason) = (value.into(), reason.into());
        self.skipped.push(Skipped { key, value, line, reason, changes_training: true });
    }

    /// Everything that was left out: first what changes training, each in the order of the file.
    pub(crate) fn all_skipped(&self) -> Vec<Skipped> {
        let left_out = (0..self.entries.len()).filter_map(|i| {
            let entry = &self.entries[i];
            let (reason, changes_training) = match &self.fates[i] {
                Fate::Carried => return None,
                Fate::Skipped { reason, changes_training } => (reason.clone(), *changes_training),
                Fate::Unknown(why) => (why.clone(), true),
                Fate::Aside { reason, changes_training } => (reason.clone(), changes_training.unwrap_or(true)),
                Fate::Read => match self.goes_with(i) {
                    Some(other) => (format!("goes with {}, whose value is not known", other.key), true),
                    None => ("has no effect on what was imported".into(), false),
                },
                Fate::Open => ("not known to this importer".into(), !entry.is_off()),
            };
            let value = public(&entry.key, entry.shown());
            Some(Skipped { key: entry.key.clone(), value, line: entry.line, reason, changes_training })
        });
        let mut all: Vec<Skipped> = left_out.chain(self.skipped.iter().cloned()).collect();
        all.sort_by_key(|skipped| (!skipped.changes_training, skipped.line));
        all
    }

    /// The entry without a known value that keeps what this one decides, too, open.
    fn goes_with(&self, i: usize) -> Option<&Entry> {
        let line = self.lines.iter().find(|line| line.value.is_none() && line.from.contains(&i))?;
        self.unknown(&line.from).map(|(other, _)| &self.entries[other])
    }

    /// What is worth knowing: first the settings to be filled in, then the blocks that may change one, then differences.
    pub(crate) fn all_notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        for (i, entry) in self.entries.iter().enumerate() {
            let Fate::Unknown(why) = &self.fates[i] else { continue };
            let open = self.lines.iter().filter(|line| line.value.is_none());
            let open = open.filter(|line| self.unknown(&line.from).is_some_and(|(first, _)| first == i));
            let keys: Vec<&str> = open.map(|line| &*line.key).collect();
            let text = if keys.is_empty() { why.clone() } else { format!("set {}: {why}", keys.join(", ")) };
            notes.push(Note { key: entry.key.clone(), line: Some(entry.line), text });
        }
        let mut affected = vec![Vec::new(); self.doubts.len()];
        for (_, entry) in self.entries.iter().enumerate().filter(|&(i, _)| self.matters(i)) {
            entry.doubts.iter().for_each(|&doubt| affected[doubt].push(entry.key.as_str()));
        }
        for (doubt, mut keys) in self.doubts.iter().zip(affected) {
            keys.dedup();
            if keys.is_empty() {
                continue;
            }
            let more = if keys.len() > SHOWN { ", …" } else { "" };
            keys.truncate(SHOWN);
            let text = format!(
                "the `{}` of line {} may change it, and is not followed; what holds without it counts: {}{more}",
                doubt.keyword,
                doubt.block,
                keys.join(", ")
            );
            notes.push(Note { key: doubt.name.clone(), line: Some(doubt.line), text });
        }
        notes.extend(self.notes.iter().cloned());
        notes
    }

    /// Whether training depends on this entry, or would.
    fn matters(&self, i: usize) -> bool {
        match &self.fates[i] {
            Fate::Carried | Fate::Unknown(_) => true,
            Fate::Aside { changes_training, .. } => changes_training.unwrap_or(true),
            Fate::Skipped { changes_training, .. } => *changes_training,
            Fate::Open | Fate::Read => false,
        }
    }
}
