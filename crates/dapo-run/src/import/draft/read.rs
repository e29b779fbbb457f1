//! Reading keys of the source by type.

use super::{Draft, Fate, Got};
use crate::import::{
    entry::{Entry, Value},
    error::ImportError,
};

impl Draft<'_> {
    /// The entry that one of these keys names, if it has a value. The last one counts, as it does for the source.
    fn find(&mut self, keys: &[&str]) -> Option<usize> {
        let named = |entry: &Entry| keys.contains(&entry.key.as_str());
        let mut open =
            (0..self.entries.len()).filter(|&i| matches!(self.fates[i], Fate::Open) && named(&self.entries[i]));
        let mut last = open.next()?;
        let mut earlier = Vec::new();
        for i in open {
            earlier.push(std::mem::replace(&mut last, i));
        }
        let (key, line) = (self.entries[last].key.clone(), self.entries[last].line);
        for i in earlier {
            self.fates[i] = Fate::Skipped(format!("{key} of line {line} takes its place"));
        }
        let reason = match &self.entries[last].value {
            Value::Null => "no value".to_owned(),
            Value::Reference(to) => format!("refers to {to}, which the file does not set"),
            _ => {
                self.fates[last] = Fate::Read;
                return Some(last);
            }
        };
        self.fates[last] = Fate::Skipped(reason);
        None
    }

    fn text_of(&mut self, i: usize) -> Result<String, ImportError> {
        match &self.entries[i].value {
            Value::Text(text) => Ok(text.clone()),
            Value::List(items) if items.len() == 1 => Ok(items[0].clone()),
            _ => Err(self.wrong(&[i], "one value, not a list")),
        }
    }

    fn parsed<T>(
        &mut self,
        keys: &[&str],
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<Got<T>>, ImportError> {
        let Some(i) = self.find(keys) else { return Ok(None) };
        let text = self.text_of(i)?;
        match parse(text.trim()) {
            Some(value) => Ok(Some(Got { value, from: vec![i] })),
            None => Err(self.wrong(&[i], expected)),
        }
    }

    /// A number.
    pub(in crate::import) fn number(&mut self, keys: &[&str]) -> Result<Option<Got<f64>>, ImportError> {
        self.parsed(keys, "a number", |text| {
            text.replace('_', "").parse().ok().filter(|number: &f64| number.is_finite())
        })
    }

    /// A number that is not below 0.
    pub(in crate::import) fn amount(&mut self, keys: &[&str]) -> Result<Option<Got<f64>>, ImportError> {
        self.parsed(keys, "a number >= 0", |text| {
            text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
        })
    }

    /// A whole number of either sign.
    pub(in crate::import) fn integer(&mut self, keys: &[&str]) -> Result<Option<Got<i64>>, ImportError> {
        self.parsed(keys, "a whole number", whole)
    }

    /// A whole number from `least` on.
    pub(in crate::import) fn count(&mut self, keys: &[&str], least: i64) -> Result<Option<Got<i64>>, ImportError> {
        self.parsed(keys, &format!("a whole number >= {least}"), |text| whole(text).filter(|&number| number >= least))
    }

    /// A switch.
    pub(in crate::import) fn switch(&mut self, keys: &[&str]) -> Result<Option<Got<bool>>, ImportError> {
        self.parsed(keys, "true or false", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        })
    }

    /// A text.
    pub(in crate::import) fn text(&mut self, keys: &[&str]) -> Result<Option<Got<String>>, ImportError> {
        let Some(i) = self.find(keys) else { return Ok(None) };
        let value = self.text_of(i)?;
        self.note_missing(i);
        Ok(Some(Got { value, from: vec![i] }))
    }

    /// One or several texts.
    pub(in crate::import) fn texts(&mut self, keys: &[&str]) -> Option<Got<Vec<String>>> {
        let i = self.find(keys)?;
        let value = match &self.entries[i].value {
            Value::List(items) => items.clone(),
            Value::Text(text) => vec![text.clone()],
            Value::Null | Value::Reference(_) => Vec::new(),
        };
        self.note_missing(i);
        Some(Got { value, from: vec![i] })
    }

    /// One or several numbers.
    pub(in crate::import) fn numbers(&mut self, keys: &[&str]) -> Result<Option<Got<Vec<f64>>>, ImportError> {
        let Some(texts) = self.texts(keys) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = texts.value.iter().map(|text| text.trim().parse().ok()).collect();
        match numbers {
            Some(value) => Ok(Some(Got { value, from: texts.from })),
            None => Err(self.wrong(&texts.from, "numbers")),
        }
    }

    /// One of several words.
    pub(in crate::import) fn word<T: Copy>(
        &mut self,
        keys: &[&str],
        words: &[(&str, T)],
    ) -> Result<Option<Got<T>>, ImportError> {
        let mut names: Vec<&str> = words.iter().map(|&(name, _)| name).collect();
        names.dedup();
        self.parsed(keys, &format!("one of {}", names.join(", ")), |text| {
            words.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|&(_, value)| value)
        })
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
