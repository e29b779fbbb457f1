//! Reading keys of the source by type.
//!
//! Each gives `None` where the source does not set the key. Where it does, and the value is not known or is not one of the
//! type, the value is a placeholder and the entry is marked: see [`Draft::knows`].

use super::{Draft, Fate, Got};
use crate::entry::{Entry, Value};

impl Draft<'_> {
    /// The entry that one of these keys names, if it has a value. The last one counts, as it does for the source.
    fn find(&mut self, keys: &[&str]) -> Option<usize> {
        let named = |entry: &Entry| keys.contains(&entry.key.as_str());
        for (entry, fate) in self.entries.iter().zip(&mut self.fates) {
            if let Fate::Aside { changes_training: weight @ None, .. } = fate
                && named(entry)
            {
                *weight = Some(true);
            }
        }
        let mut open =
            (0..self.entries.len()).filter(|&i| matches!(self.fates[i], Fate::Open) && named(&self.entries[i]));
        let mut last = open.next()?;
        let mut earlier = Vec::new();
        for i in open {
            earlier.push(std::mem::replace(&mut last, i));
        }
        let (key, line) = (self.entries[last].key.clone(), self.entries[last].line);
        for i in earlier {
            let reason = format!("{key} of line {line} takes its place");
            self.fates[i] = Fate::Skipped { reason, changes_training: false };
        }
        match &self.entries[last].value {
            Value::Null => {
                self.fates[last] = Fate::Skipped { reason: "no value".into(), changes_training: false };
                return None;
            }
            Value::Reference(to) => {
                self.fates[last] = Fate::Unknown(format!("refers to {to}, which the file does not set"));
            }
            _ => self.fates[last] = Fate::Read,
        }
        Some(last)
    }

    /// The one text of an entry whose value is known.
    fn text_of(&mut self, i: usize) -> Option<String> {
        if !self.knows(&[i]) {
            return None;
        }
        match &self.entries[i].value {
            Value::Text(text) => Some(text.clone()),
            Value::List(items) if items.len() == 1 => Some(items[0].clone()),
            _ => {
                self.refuse(&[i], "one value, not a list");
                None
            }
        }
    }

    fn parsed<T>(
        &mut self,
        keys: &[&str],
        expected: &str,
        placeholder: T,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Got<T>> {
        let i = self.find(keys)?;
        let text = self.text_of(i);
        let value = text.as_ref().and_then(|text| parse(text.trim()));
        if text.is_some() && value.is_none() {
            self.refuse(&[i], expected);
        }
        Some(Got { value: value.unwrap_or(placeholder), from: vec![i] })
    }

    /// A number.
    pub(crate) fn number(&mut self, keys: &[&str]) -> Option<Got<f64>> {
        self.parsed(keys, "a number", f64::NAN, |text| {
            text.replace('_', "").parse().ok().filter(|number: &f64| number.is_finite())
        })
    }

    /// A number that is not below 0.
    pub(crate) fn amount(&mut self, keys: &[&str]) -> Option<Got<f64>> {
        self.parsed(keys, "a number >= 0", f64::NAN, |text| {
            text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
        })
    }

    /// A number above 0, or a lower and an upper bound as `0.5_2`.
    pub(crate) fn bounds(&mut self, keys: &[&str]) -> Option<Got<(Option<f64>, f64)>> {
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
        self.parsed(keys, "a number > 0, or two of them as 0.5_2", (None, f64::NAN), |text| {
            match text.split_once('_') {
                Some((low, high)) => Some((Some(number(low)?), number(high)?)),
                None => Some((None, number(text)?)),
            }
        })
    }

    /// A whole number of either sign.
    pub(crate) fn integer(&mut self, keys: &[&str]) -> Option<Got<i64>> {
        self.parsed(keys, "a whole number", 0, whole)
    }

    /// A whole number from `least` on.
    pub(crate) fn count(&mut self, keys: &[&str], least: i64) -> Option<Got<i64>> {
        let expected = format!("a whole number >= {least}");
        self.parsed(keys, &expected, least.max(1), |text| whole(text).filter(|&number| number >= least))
    }

    /// A switch.
    pub(crate) fn switch(&mut self, keys: &[&str]) -> Option<Got<bool>> {
        self.parsed(keys, "true or false", false, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        })
    }

    /// A text. What the file does not explain in it is kept as it is written there, with a note.
    pub(crate) fn text(&mut self, keys: &[&str]) -> Option<Got<String>> {
        let i = self.find(keys)?;
        let value = self.text_of(i).unwrap_or_default();
        self.note_missing(i);
        Some(Got { value, from: vec![i] })
    }

    /// One or several texts, as [`Self::text`].
    pub(crate) fn texts(&mut self, keys: &[&str]) -> Option<Got<Vec<String>>> {
        let i = self.find(keys)?;
        self.note_missing(i);
        Some(Got { value: self.items(i), from: vec![i] })
    }

    /// One or several names; commas may stand between them.
    pub(crate) fn names(&mut self, keys: &[&str]) -> Option<Got<Vec<String>>> {
        let i = self.find(keys)?;
        if !self.entries[i].missing.is_empty() {
            self.refuse(&[i], "names");
        }
        let items = self.items(i);
        let names = items.iter().flat_map(|item| item.split(',')).map(str::trim).filter(|name| !name.is_empty());
        Some(Got { value: names.map(str::to_owned).collect(), from: vec![i] })
    }

    fn items(&self, i: usize) -> Vec<String> {
        match &self.entries[i].value {
            Value::List(items) => items.clone(),
            Value::Text(text) => vec![text.clone()],
            Value::Null | Value::Reference(_) => Vec::new(),
        }
    }

    /// One or several numbers.
    pub(crate) fn numbers(&mut self, keys: &[&str]) -> Option<Got<Vec<f64>>> {
        let i = self.find(keys)?;
        let numbers: Option<Vec<f64>> = self.items(i).iter().map(|text| text.trim().parse().ok()).collect();
        if numbers.is_none() {
            self.refuse(&[i], "numbers");
        }
        Some(Got { value: numbers.unwrap_or_default(), from: vec![i] })
    }

    /// One of several words; the first of them is the placeholder.
    pub(crate) fn word<T: Copy>(&mut self, keys: &[&str], words: &[(&str, T)]) -> Option<Got<T>> {
        let mut names: Vec<&str> = words.iter().map(|&(name, _)| name).collect();
        names.dedup();
        let placeholder = words.first()?.1;
        self.parsed(keys, &format!("one of {}", names.join(", ")), placeholder, |text| {
            words.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|&(_, value)| value)
        })
    }

    /// The keys that the trainer gets below this one, each once.
    pub(crate) fn keys_below(&self, key: &str) -> Vec<String> {
        let below = format!("{key}.");
        let mut keys: Vec<String> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.aside.is_none() && entry.key.starts_with(&below)) {
            if !keys.contains(&entry.key) {
                keys.push(entry.key.clone());
            }
        }
        keys
    }

    /// A whole number of a key that is read elsewhere.
    pub(crate) fn peek_count(&self, key: &str) -> Option<i64> {
        self.spelled(key).and_then(|text| whole(text.trim())).filter(|&count| count > 0)
    }

    /// The value of a key as the file spells it, read or not.
    pub(crate) fn spelled(&self, key: &str) -> Option<String> {
        self.entries.iter().rev().find(|entry| entry.aside.is_none() && entry.key == key).map(Entry::shown)
    }

    fn note_missing(&mut self, i: usize) {
        let names = self.entries[i].missing.join(", ");
        if !names.is_empty() {
            self.note(&[i], format!("the file does not say what {names} is: write its value"));
        }
    }
}

fn whole(text: &str) -> Option<i64> {
    let text = text.replace('_', "");
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    })
}
