//! Filling in a script's variables.

use std::collections::HashMap;

use super::{
    Problem,
    arithmetic::evaluate,
    script::{Assigned, Assignment},
    word::{Part, Word},
};

/// Longest text and most words that expansion may make of a script.
const MAX_TEXT: usize = 1 << 16;
const MAX_WORDS: usize = 1 << 14;

/// A word with its variables filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::import) struct Expanded {
    /// The text; what could not be filled in stands as the script spells it.
    pub(in crate::import) text: String,
    /// The line the word stands on.
    pub(in crate::import) line: usize,
    /// What could not be filled in.
    pub(in crate::import) missing: Vec<String>,
}

/// A variable's value.
#[derive(Clone, Debug)]
enum Shape {
    Text(Expanded),
    Array(Vec<Expanded>),
    /// Set where only running the script would tell to what.
    Unknown(usize),
}

/// A variable of the script.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) used: bool,
    shape: Shape,
}

impl Variable {
    /// Its value as one text.
    pub(super) fn value(&self) -> Expanded {
        match &self.shape {
            Shape::Text(text) => text.clone(),
            Shape::Array(items) => {
                let text = items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>().join(" ");
                Expanded { text: format!("({text})"), line: self.line, missing: Vec::new() }
            }
            Shape::Unknown(line) => Expanded { text: String::new(), line: *line, missing: Vec::new() },
        }
    }
}

/// The script's variables so far.
#[derive(Debug, Default)]
pub(super) struct Variables {
    by_name: HashMap<String, usize>,
    pub(super) all: Vec<Variable>,
}

impl Variables {
    /// Carries out an assignment.
    pub(super) fn assign(&mut self, assignment: &Assignment, is_certain: bool) -> Result<(), Problem> {
        let line = assignment.line;
        let shape = match &assignment.value {
            _ if !is_certain => Shape::Unknown(line),
            Assigned::Unknown => Shape::Unknown(line),
            Assigned::Word(word) => Shape::Text(self.text(word)?),
            Assigned::Array(words) => {
                let mut items = Vec::new();
                for word in words {
                    items.extend(self.words(word)?);
                }
                Shape::Array(items)
            }
        };
        let shape = match (assignment.append, self.shape(&assignment.name), shape) {
            (true, Some(Shape::Text(before)), Shape::Text(added)) => {
                let mut text = before.clone();
                text.text.push_str(&added.text);
                text.missing.extend(added.missing);
                Shape::Text(text)
            }
            (true, Some(Shape::Array(before)), Shape::Array(added)) => Shape::Array([before.clone(), added].concat()),
            (true, Some(_), _) => Shape::Unknown(line),
            (_, _, shape) => shape,
        };
        check_size(&shape, line)?;
        if let Some(&index) = self.by_name.get(&assignment.name) {
            self.all[index].shape = shape;
        } else {
            self.by_name.insert(assignment.name.clone(), self.all.len());
            self.all.push(Variable { name: assignment.name.clone(), line, used: false, shape });
        }
        Ok(())
    }

    fn shape(&self, name: &str) -> Option<&Shape> {
        self.by_name.get(name).map(|&index| &self.all[index].shape)
    }

    fn use_of(&mut self, name: &str) -> Option<&Shape> {
        let variable = &mut self.all[*self.by_name.get(name)?];
        variable.used = true;
        Some(&variable.shape)
    }

    /// A word as one text, never split.
    pub(super) fn text(&mut self, word: &Word) -> Result<Expanded, Problem> {
        let words = self.expand(word, false)?;
        let mut joined = Expanded { line: word.line, ..Expanded::default() };
        for (i, word) in words.into_iter().enumerate() {
            if i > 0 {
                joined.text.push(' ');
            }
            joined.text.push_str(&word.text);
            joined.missing.extend(word.missing);
        }
        Ok(joined)
    }

    /// A word as the words it becomes: unquoted variables are split at blanks, arrays at their elements.
    pub(super) fn words(&mut self, word: &Word) -> Result<Vec<Expanded>, Problem> {
        self.expand(word, true)
    }

    fn expand(&mut self, word: &Word, split: bool) -> Result<Vec<Expanded>, Problem> {
        let mut out = Output { line: word.line, words: Vec::new(), open: false };
        for part in &word.parts {
            match part {
                Part::Text { text, .. } => out.push(text, &[]),
                Part::Other { raw } => out.push(raw, std::slice::from_ref(raw)),
                Part::Arithmetic { text, raw } => match evaluate(text, &mut |name| self.number(name)) {
                    Some(number) => out.push(&number.to_string(), &[]),
                    None => out.push(raw, std::slice::from_ref(raw)),
                },
                Part::Elements { name, raw } => match self.use_of(name) {
                    Some(Shape::Array(items)) => out.extend(items),
                    Some(Shape::Text(text)) => out.extend(std::slice::from_ref(text)),
                    _ => out.push(raw, std::slice::from_ref(raw)),
                },
                Part::Variable { name, default, quoted, raw } => {
                    let value = match (self.use_of(name).cloned(), default) {
                        (Some(Shape::Text(text)), _) if !text.text.is_empty() || default.is_none() => text,
                        (Some(Shape::Array(items)), _) => items.into_iter().next().unwrap_or_default(),
                        (Some(Shape::Unknown(line)), _) => {
                            let missing = vec![format!("${name}, set in a block at line {line}")];
                            Expanded { text: raw.clone(), line: word.line, missing }
                        }
                        (_, Some(default)) => self.text(default)?,
                        _ => Expanded { text: raw.clone(), line: word.line, missing: vec![raw.clone()] },
                    };
                    if *quoted || !split {
                        out.push(&value.text, &value.missing);
                    } else {
                        out.push_split(&value);
                    }
                }
            }
            out.check()?;
        }
        Ok(out.words)
    }

    fn number(&mut self, name: &str) -> Option<i64> {
        match self.use_of(name)? {
            Shape::Text(text) => text.text.trim().parse().ok(),
            _ => None,
        }
    }
}

/// The words made so far.
struct Output {
    line: usize,
    words: Vec<Expanded>,
    /// Whether the last word goes on.
    open: bool,
}

impl Output {
    fn push(&mut self, text: &str, missing: &[String]) {
        if !self.open {
            self.words.push(Expanded { line: self.line, ..Expanded::default() });
            self.open = true;
        }
        if let Some(word) = self.words.last_mut() {
            word.text.push_str(text);
            word.missing.extend_from_slice(missing);
        }
    }

    fn push_split(&mut self, value: &Expanded) {
        if !value.missing.is_empty() {
            return self.push(&value.text, &value.missing);
        }
        if value.text.starts_with(char::is_whitespace) {
            self.open = false;
        }
        for (i, piece) in value.text.split_whitespace().enumerate() {
            self.open &= i == 0;
            self.push(piece, &[]);
        }
        self.open &= !value.text.ends_with(char::is_whitespace);
    }

    fn extend(&mut self, items: &[Expanded]) {
        for (i, item) in items.iter().enumerate() {
            self.open &= i == 0;
            if !self.open {
                self.words.push(Expanded { line: item.line, ..Expanded::default() });
                self.open = true;
            }
            self.push(&item.text, &item.missing);
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let length: usize = self.words.iter().map(|word| word.text.len()).sum();
        if length > MAX_TEXT || self.words.len() > MAX_WORDS {
            return Err(too_long(self.line));
        }
        Ok(())
    }
}

fn check_size(shape: &Shape, line: usize) -> Result<(), Problem> {
    let (length, words) = match shape {
        Shape::Text(text) => (text.text.len(), 1),
        Shape::Array(items) => (items.iter().map(|item| item.text.len()).sum(), items.len()),
        Shape::Unknown(_) => (0, 0),
    };
    if length > MAX_TEXT || words > MAX_WORDS { Err(too_long(line)) } else { Ok(()) }
}

fn too_long(line: usize) -> Problem {
    Problem::new(line, "a value that grows beyond measure", "at most 65536 characters")
}
