//! YAML, and with it JSON, as a flat list of settings with their lines.

use std::{borrow::Cow, path::Path};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{
    entry::{Entry, Value},
    error::ImportError,
    text::short,
};

/// Deepest nesting and longest key that are read.
const MAX_DEPTH: usize = 64;
const MAX_PATH: usize = 4096;

/// The settings of a YAML or JSON file.
///
/// A list of plain values is one setting; one that holds mappings or lists is counted through, `key[0].name`.
pub(super) fn read(text: &str, file: &Path) -> Result<Vec<Entry>, ImportError> {
    flatten(text, "").map_err(|Problem { line, found, expected }| ImportError::Syntax {
        file: file.to_owned(),
        line,
        found,
        expected: expected.into(),
    })
}

/// The settings within a value written inline, such as `["a", "b"]` or `{"min_lr": 1e-6}`; `None` if it is not.
pub(super) fn inline(key: &str, text: &str, line: usize) -> Option<Vec<Entry>> {
    if !text.starts_with(['[', '{']) {
        return None;
    }
    let mut entries = flatten(text, key).ok()?;
    for entry in &mut entries {
        entry.line = line;
    }
    Some(entries)
}

struct Problem {
    line: usize,
    found: String,
    expected: &'static str,
}

/// A mapping or list that is being read.
enum Frame {
    Mapping { path: String, line: usize, key: Option<(String, usize)>, empty: bool },
    List { path: String, line: usize, next: usize, plain: Vec<(usize, String, usize)>, nested: bool },
}

#[derive(Default)]
struct Flattener {
    frames: Vec<Frame>,
    entries: Vec<Entry>,
}

fn flatten(text: &str, prefix: &str) -> Result<Vec<Entry>, Problem> {
    let mut flattener = Flattener::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Problem {
            line: error.marker().line(),
            found: error.info().to_owned(),
            expected: "YAML or JSON",
        })?;
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                let found = "a second document".into();
                return Err(Problem { line: span.start.line(), found, expected: "one document" });
            }
        }
        flattener.take(event, span, prefix)?;
    }
    Ok(flattener.entries)
}

impl Flattener {
    fn take(&mut self, event: Event<'_>, span: Span, prefix: &str) -> Result<(), Problem> {
        let line = span.start.line();
        match event {
            Event::Alias(_) => {
                let found = "an alias".into();
                return Err(Problem { line, found, expected: "the value itself: aliases are not read" });
            }
            Event::Scalar(text, style, ..) => self.scalar(text, style, line)?,
            Event::MappingStart(..) => {
                let (path, line) = self.place(prefix, line)?;
                self.frames.push(Frame::Mapping { path, line, key: None, empty: true });
            }
            Event::SequenceStart(..) => {
                if self.frames.is_empty() && prefix.is_empty() {
                    let found = "a list".into();
                    return Err(Problem { line, found, expected: "settings as `key: value`" });
                }
                let (path, line) = self.place(prefix, line)?;
                self.frames.push(Frame::List { path, line, next: 0, plain: Vec::new(), nested: false });
            }
            Event::MappingEnd | Event::SequenceEnd => self.close(),
            _ => {}
        }
        Ok(())
    }

    /// The path and line of the mapping or list that starts here.
    fn place(&mut self, prefix: &str, line: usize) -> Result<(String, usize), Problem> {
        if self.frames.len() >= MAX_DEPTH {
            let found = format!("more than {MAX_DEPTH} levels");
            return Err(Problem { line, found, expected: "fewer" });
        }
        match self.frames.last_mut() {
            None => Ok((prefix.to_owned(), line)),
            Some(Frame::Mapping { path, key, .. }) => match key.take() {
                Some((key, line)) if path.len() + key.len() > MAX_PATH => Err(too_long(line)),
                Some((key, line)) => Ok((join(path, &key), line)),
                None => Err(Problem { line, found: "a mapping or list as key".into(), expected: "a word" }),
            },
            Some(Frame::List { path, next, nested, .. }) => {
                *nested = true;
                *next += 1;
                Ok((format!("{path}[{}]", *next - 1), line))
            }
        }
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, line: usize) -> Result<(), Problem> {
        match self.frames.last_mut() {
            None if text.is_empty() => Ok(()),
            None => {
                let found = format!("`{}`", short(&text));
                Err(Problem { line, found, expected: "settings as `key: value`" })
            }
            Some(Frame::Mapping { path, key, empty, .. }) => {
                *empty = false;
                match key.take() {
                    None => *key = Some((text.into_owned(), line)),
                    Some((key, line)) if path.len() + key.len() > MAX_PATH => return Err(too_long(line)),
                    Some((key, line)) => {
                        let path = join(path, &key);
                        self.entries.push(if style == ScalarStyle::Plain {
                            Entry::plain(path, &text, line)
                        } else {
                            Entry::new(path, Value::Text(text.into_owned()), line)
                        });
                    }
                }
                Ok(())
            }
            Some(Frame::List { next, plain, .. }) => {
                plain.push((*next, text.into_owned(), line));
                *next += 1;
                Ok(())
            }
        }
    }

    fn close(&mut self) {
        match self.frames.pop() {
            Some(Frame::Mapping { path, line, empty: true, .. }) if !path.is_empty() => {
                self.entries.push(Entry::new(path, Value::Text("{}".into()), line));
            }
            Some(Frame::List { path, line, plain, nested: false, .. }) => {
                let items = plain.into_iter().map(|(_, text, _)| text).collect();
                self.entries.push(Entry::new(path, Value::List(items), line));
            }
            Some(Frame::List { path, plain, .. }) => {
                for (index, text, line) in plain {
                    self.entries.push(Entry::plain(format!("{path}[{index}]"), &text, line));
                }
            }
            _ => {}
        }
    }
}

fn too_long(line: usize) -> Problem {
    let found = format!("a key of more than {MAX_PATH} bytes");
    Problem { line, found, expected: "a shorter one" }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
