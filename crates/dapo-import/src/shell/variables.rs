//! Filling in a script's variables.

use std::collections::HashMap;

use super::{
    Doubt, Problem,
    arithmetic::evaluate,
    script::{Assigned, Assignment, Block},
    word::{Part, Word},
};

/// Longest text and most words that a value may have.
const MAX_TEXT: usize = 1 << 16;
const MAX_WORDS: usize = 1 << 14;
/// Longest text that all values of a script may have together.
const MAX_TOTAL: usize = 1 << 24;

/// A word with its variables filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Expanded {
    /// The text; what could not be filled in stands as the script spells it.
    pub(crate) text: String,
    /// The line the word stands on.
    pub(crate) line: usize,
    /// What could not be filled in.
    pub(crate) missing: Vec<String>,
    /// Variables in it that a block may change: indices of the script's doubts.
    pub(crate) doubts: Vec<usize>,
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
    /// Blocks that may change it, which are not followed.
    doubts: Vec<usize>,
}

impl Variable {
    /// Its value as one text.
    pub(super) fn value(&self) -> Expanded {
        match &self.shape {
            Shape::Text(text) => text.clone(),
            Shape::Array(items) => {
                let text = items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>().join(" ");
                Expanded { text: format!("({text})"), line: self.line, ..Expanded::default() }
            }
            Shape::Unknown(line) => Expanded { text: String::new(), line: *line, ..Expanded::default() },
        }
    }
}

/// The script's variables so far.
#[derive(Debug, Default)]
pub(super) struct Variables {
    by_name: HashMap<String, usize>,
    pub(super) all: Vec<Variable>,
    pub(super) doubts: Vec<Doubt>,
    /// Characters that were made so far.
    total: usize,
}

impl Variables {
    /// Carries out an assignment. In a block, which may not be reached, a variable keeps the value that it has; one without
    /// a value is unknown from then on. Returns the doubt that the block casts.
    pub(super) fn assign(
        &mut self,
        assignment: &Assignment,
        values: &[Expanded],
        block: Option<&Block>,
    ) -> Result<Option<usize>, Problem> {
        let (name, line) = (&assignment.name, assignment.line);
        let known = self.shape(name).filter(|shape| !matches!(shape, Shape::Text(text) if text.text.is_empty()));
        if let (Some(block), Some(_), false) = (block, known, matches!(assignment.value, Assigned::Unknown)) {
            let doubt = Doubt { name: name.clone(), line, keyword: block.keyword.clone(), block: block.line };
            self.doubts.push(doubt);
            let doubt = self.doubts.len() - 1;
            if let Some(&index) = self.by_name.get(name) {
                self.all[index].doubts.push(doubt);
            }
            return Ok(Some(doubt));
        }
        let shape = match &assignment.value {
            _ if block.is_some() => Shape::Unknown(line),
            Assigned::Unknown => Shape::Unknown(line),
            Assigned::Word(_) => Shape::Text(values.first().cloned().unwrap_or_default()),
            Assigned::Array(_) => Shape::Array(values.to_vec()),
        };
        let shape = match (assignment.append, self.shape(name), shape) {
            (true, Some(Shape::Text(before)), Shape::Text(added)) => {
                let mut text = before.clone();
                text.text.push_str(&added.text);
                text.missing.extend(added.missing);
                text.doubts.extend(added.doubts);
                Shape::Text(text)
            }
            (true, Some(Shape::Array(before)), Shape::Array(added)) => Shape::Array([before.clone(), added].concat()),
            (true, Some(_), _) => Shape::Unknown(line),
            (_, _, shape) => shape,
        };
        self.total += check_size(&shape, line)?;
        if self.total > MAX_TOTAL {
            return Err(too_long(line));
        }
        if let Some(&index) = self.by_name.get(name) {
            self.all[index].shape = shape;
            if !assignment.append {
                self.all[index].doubts.clear();
            }
        } else {
            self.by_name.insert(name.clone(), self.all.len());
            let (name, doubts) = (name.clone(), Vec::new());
            self.all.push(Variable { name, line, used: false, shape, doubts });
        }
        Ok(None)
    }

    /// The words of a value that is assigned.
    pub(super) fn values(&mut self, value: &Assigned) -> Result<Vec<Expanded>, Problem> {
        match value {
            Assigned::Word(word) => Ok(vec![self.text(word)?]),
            Assigned::Array(words) => {
                let mut items = Vec::new();
                for word in words {
                    items.extend(self.words(word)?);
                }
                Ok(items)
            }
            Assigned::Unknown => Ok(Vec::new()),
        }
    }

    fn shape(&self, name: &str) -> Option<&Shape> {
        self.by_name.get(name).map(|&index| &self.all[index].shape)
    }

    fn use_of(&mut self, name: &str) -> Option<&Variable> {
        let variable = &mut self.all[*self.by_name.get(name)?];
        variable.used = true;
        Some(variable)
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
            joined.doubts.extend(word.doubts);
        }
        Ok(joined)
    }

    /// A word as the words it becomes: unquoted variables are split at blanks, arrays at their elements.
    pub(super) fn words(&mut self, word: &Word) -> Result<Vec<Expanded>, Problem> {
        self.expand(word, true)
    }

    fn expand(&mut self, word: &Word, split: bool) -> Result<Vec<Expanded>, Problem> {
        let mut out = Output { line: word.line, words: Vec::new(), open: false, length: 0 };
        for part in &word.parts {
            match part {
                Part::Text { text, .. } => out.push(text, &[], &[]),
                Part::Other { raw } => out.push(raw, std::slice::from_ref(raw), &[]),
                Part::Arithmetic { text, raw } => {
                    let mut doubts = Vec::new();
                    match evaluate(text, &mut |name| self.number(name, &mut doubts)) {
                        Some(number) => out.push(&number.to_string(), &[], &doubts),
                        None => out.push(raw, std::slice::from_ref(raw), &[]),
                    }
                }
                Part::Elements { name, raw } => match self.use_of(name).map(|variable| &variable.shape) {
                    Some(Shape::Array(items)) => out.extend(items),
                    Some(Shape::Text(text)) => out.extend(std::slice::from_ref(text)),
                    _ => out.push(raw, std::slice::from_ref(raw), &[]),
                },
                Part::Variable { name, default, quoted, raw } => {
                    let value = self.variable(name, default.as_ref(), raw, word.line)?;
                    if *quoted || !split {
                        out.push(&value.text, &value.missing, &value.doubts);
                    } else {
                        out.push_split(&value);
                    }
                }
            }
            out.check()?;
        }
        self.total += out.length;
        if self.total > MAX_TOTAL {
            return Err(too_long(word.line));
        }
        Ok(out.words)
    }

    fn variable(&mut self, name: &str, default: Option<&Word>, raw: &str, line: usize) -> Result<Expanded, Problem> {
        let variable = self.use_of(name).map(|variable| (&variable.shape, &variable.doubts));
        let (value, doubts) = match variable {
            Some((Shape::Text(text), doubts)) if !text.text.is_empty() || default.is_none() => (text.clone(), doubts),
            Some((Shape::Array(items), doubts)) => (items.first().cloned().unwrap_or_default(), doubts),
            Some((Shape::Unknown(set), doubts)) => {
                let missing = vec![format!("${name}, set in a block at line {set}")];
                (Expanded { text: raw.to_owned(), line, missing, ..Expanded::default() }, doubts)
            }
            _ => {
                return match default {
                    Some(default) => self.text(default),
                    None => Ok(Expanded { text: raw.into(), line, missing: vec![raw.into()], ..Expanded::default() }),
                };
            }
        };
        let doubts = [value.doubts.as_slice(), doubts].concat();
        Ok(Expanded { doubts, ..value })
    }

    fn number(&mut self, name: &str, doubts: &mut Vec<usize>) -> Option<i64> {
        let variable = self.use_of(name)?;
        let Shape::Text(text) = &variable.shape else { return None };
        doubts.extend(variable.doubts.iter().chain(&text.doubts));
        text.text.trim().parse().ok()
    }
}

/// The words made so far.
struct Output {
    line: usize,
    words: Vec<Expanded>,
    /// Whether the last word continues.
    open: bool,
    /// Characters of all words.
    length: usize,
}

impl Output {
    fn push(&mut self, text: &str, missing: &[String], doubts: &[usize]) {
        if !self.open {
            self.words.push(Expanded { line: self.line, ..Expanded::default() });
            self.open = true;
        }
        self.length += text.len();
        if let Some(word) = self.words.last_mut() {
            word.text.push_str(text);
            word.missing.extend_from_slice(missing);
            word.doubts.extend_from_slice(doubts);
        }
    }

    fn push_split(&mut self, value: &Expanded) {
        if !value.missing.is_empty() {
            return self.push(&value.text, &value.missing, &value.doubts);
        }
        if value.text.starts_with(char::is_whitespace) {
            self.open = false;
        }
        for (i, piece) in value.text.split_whitespace().enumerate() {
            self.open &= i == 0;
            self.push(piece, &[], &value.doubts);
        }
        self.open &= !value.text.ends_with(char::is_whitespace);
    }

    fn extend(&mut self, items: &[Expanded]) {
        for (i, item) in items.iter().enumerate() {
            self.open &= i == 0;
            // Where nothing but quotes stands before it, the word is the item with its line.
            let is_new = !self.open || self.words.last().is_some_and(|word| word.text.is_empty());
            if self.open && is_new {
                self.words.pop();
            }
            if is_new {
                self.words.push(Expanded { line: item.line, ..Expanded::default() });
                self.open = true;
            }
            self.push(&item.text, &item.missing, &item.doubts);
        }
    }

    fn check(&self) -> Result<(), Problem> {
        if self.length > MAX_TEXT || self.words.len() > MAX_WORDS {
            return Err(too_long(self.line));
        }
        Ok(())
    }
}

/// The length of a value.
fn check_size(shape: &Shape, line: usize) -> Result<usize, Problem> {
    let (length, words) = match shape {
        Shape::Text(text) => (text.text.len(), 1),
        Shape::Array(items) => (items.iter().map(|item| item.text.len()).sum(), items.len()),
        Shape::Unknown(_) => (0, 0),
    };
    if length > MAX_TEXT || words > MAX_WORDS { Err(too_long(line)) } else { Ok(length) }
}

fn too_long(line: usize) -> Problem {
    Problem::new(line, "values that grow beyond measure", "at most 65536 characters in each")
}
