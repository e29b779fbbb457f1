//! From TOML text to assignments, checked against the list of keys.

use crate::error::{KeyError, KeyFault, SettingsError};
use crate::keys::{
    IN_REWARD, Key, Kind, LAYOUT, NAME, OWN, canonical, in_place_of, inline, join, moved, nearest_key, nearest_of,
    split, zero,
};
use crate::settings::CODE;
use crate::source::Source;
use std::collections::HashSet;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error};

const POLICY_LOSS: &str = "loss.policy_loss";
const ENV: &str = "env";

/// A setting and its value as TOML; for a table that is present, `{}`; `None`: it is unset.
pub(super) struct Assignment {
    pub(super) path: String,
    pub(super) value: Option<String>,
    pub(super) source: Source,
    /// Whether it was set by a key that has moved.
    pub(super) moved: bool,
}

/// Reads one layer. Keys that are wrong go to `errors`.
pub(super) struct Reader<'a> {
    /// The source of what stands in a line.
    place: &'a dyn Fn(usize) -> Source,
    errors: &'a mut Vec<KeyError>,
    warnings: &'a mut Vec<String>,
    assignments: Vec<Assignment>,
    seen: HashSet<String>,
    /// Where the lines of the text begin.
    starts: Vec<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        place: &'a dyn Fn(usize) -> Source,
        errors: &'a mut Vec<KeyError>,
        warnings: &'a mut Vec<String>,
    ) -> Self {
        Self { place, errors, warnings, assignments: Vec::new(), seen: HashSet::new(), starts: Vec::new() }
    }

    /// The assignments of a TOML document.
    pub(super) fn document(mut self, text: &str) -> Result<Vec<Assignment>, SettingsError> {
        let table = DeTable::parse(text).map_err(|error| self.syntax(text, &error))?;
        self.starts = starts(text);
        self.table("", table.get_ref(), text);
        self.read_ppo_as_it_was();
        Ok(self.assignments)
    }

    /// The key that an override without a value removes.
    pub(super) fn removal(&mut self, word: &str) -> Result<Option<String>, SettingsError> {
        let (path, value) = split_override(word)?;
        if !value.is_empty() {
            return Ok(None);
        }
        let path = canonical(&path);
        if LAYOUT.key(&path).is_none() && LAYOUT.table(&path).is_none() && in_place_of(&path).is_none() {
            self.unknown(&path, (self.place)(1));
        }
        Ok(Some(path))
    }

    /// The assignments of an override with a value.
    pub(super) fn assignment(mut self, word: &str) -> Result<Vec<Assignment>, SettingsError> {
        let (path, value) = split_override(word)?;
        let kind = LAYOUT.target(&canonical(&path)).map(|key| &key.kind);
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
        self.starts = starts(&text);
        self.value(&path, &parsed, &text, (self.place)(1));
        Ok(self.assignments)
    }

    fn syntax(&self, text: &str, error: &Error) -> SettingsError {
        let start = error.span().map_or(text.len(), |span| span.start);
        let before = &text[..start.min(text.len())];
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        SettingsError::Syntax {
            place: (self.place)(line(&starts(text), start)),
            column: Some(column),
            message: error.message().to_owned(),
        }
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>, text: &str) {
        for (name, value) in table {
            let source = (self.place)(line(&self.starts, name.span().start));
            self.value(&join(path, name.get_ref()), value, text, source);
        }
    }

    fn value(&mut self, written: &str, value: &Spanned<DeValue<'_>>, text: &str, source: Source) {
        let path = canonical(written);
        if let Some(tables) = in_place_of(&path) {
            return self.old_table(&path, tables, value, text, source);
        }
        if path == IN_REWARD {
            return match value.get_ref().as_bool() {
                Some(in_reward) => {
                    self.warn(
                        &source,
                        &format!("{IN_REWARD} is deprecated, expected rewards.kl_coef for a KL in the reward"),
                    );
                    self.assign(path, Some(in_reward.to_string()), source, true);
                }
                None => self.refuse(path, value, text, source, Kind::Flag.to_string()),
            };
        }
        let (table, target) = (LAYOUT.table(&path), LAYOUT.target(&path));
        let is_own_table = table.is_some_and(|table| table.path == OWN) && split(&path).0 == split(OWN).0;
        let optional = table.map_or_else(|| target.is_some_and(is_optional), |table| table.optional);
        if optional && value.get_ref().as_str() == Some("none") {
            return self.assign(path, None, source, false);
        }
        if let (Some(table), DeValue::Table(entries)) = (table, value.get_ref()) {
            if table.optional {
                self.assign(path.clone(), Some("{}".into()), source, false);
            }
            self.table(&path, entries, text);
        } else if let Some(kind) = target.map(|key| &key.kind) {
            self.key((LAYOUT.target_path(&path).unwrap_or(path), kind), written, value, text, source);
        } else if table.is_some() && !is_own_table {
            self.refuse(written.to_owned(), value, text, source, "a table".into());
        } else {
            self.unknown(&path, source);
        }
    }

    /// A table that is gone: its keys say where they are now, and its presence is that of a table in its place.
    fn old_table(&mut self, path: &str, tables: &[&str], value: &Spanned<DeValue<'_>>, text: &str, source: Source) {
        let optional = tables.iter().filter(|table| LAYOUT.table(table).is_some_and(|table| table.optional));
        match value.get_ref() {
            DeValue::Table(entries) => {
                for table in optional {
                    self.warn(&source, &format!("{path} is now {table}"));
                    self.assign((*table).to_owned(), Some("{}".into()), source.clone(), true);
                }
                self.table(path, entries, text);
            }
            other if other.as_str() == Some("none") && optional.clone().next().is_some() => {
                self.assign(path.to_owned(), None, source, true);
            }
            _ => self.refuse(path.to_owned(), value, text, source, "a table".into()),
        }
    }

    fn key(
        &mut self,
        (path, kind): (String, &Kind),
        written: &str,
        value: &Spanned<DeValue<'_>>,
        text: &str,
        source: Source,
    ) {
        if !fits(kind, value.get_ref()) {
            return self.refuse(written.to_owned(), value, text, source, expected(kind, value.get_ref()));
        }
        if !self.seen.insert(path.clone()) {
            return self.errors.push(KeyError { place: source, key: path, fault: KeyFault::Twice });
        }
        let moved = moved(written).is_some();
        if moved {
            let why = if written == "train.epochs" { ": these are not passes over the data" } else { "" };
            self.warn(&source, &format!("{written} is now {path}{why}"));
        }
        let setting = &text[value.span()];
        if let Some((what, word)) = zero(&path, setting) {
            let advice =
                if word == "none" { format!("{what} = \"none\", or nothing") } else { format!("{path} = {word}") };
            self.warn(&source, &format!("{path} = {setting} is deprecated, expected {advice}"));
            return self.assign(what.to_owned(), Some(word.to_owned()).filter(|word| word != "none"), source, moved);
        }
        // A key makes its table present.
        let table = split(&path).0;
        if LAYOUT.table(table).is_some_and(|table| table.optional) {
            self.assign(table.to_owned(), Some("{}".into()), source.clone(), moved);
        }
        let one_of_a_list = matches!(kind, Kind::Texts | Kind::Choices(_)) && value.get_ref().is_str();
        let whole = if *kind == Kind::Table { inline(value).ok() } else { None };
        let setting = match whole {
            Some(table) => table,
            None if one_of_a_list => format!("[{setting}]"),
            None => setting.to_owned(),
        };
        let setting = self.anchored(&path, setting, &source);
        self.assign(path, Some(setting), source, moved);
    }

    /// The value of a key. The relative paths of a command or a Python function begin in the folder of their layer, as do
    /// the folder that is set for them and a schema's file.
    fn anchored(&mut self, path: &str, setting: String, source: &Source) -> String {
        let ((table, key), Some(base)) = (split(path), source.folder()) else { return setting };
        let is_own = LAYOUT.own(path).is_some() && split(table).1 != CODE;
        if !is_own && table != ENV {
            return setting;
        }
        let absolute = |dir: &str| quoted(&base.join(dir).to_string_lossy());
        let dir = join(table, "dir");
        match (key, DeValue::parse(&setting)) {
            ("command" | "python", _) if !self.seen.contains(&dir) => {
                self.assign(dir, Some(absolute("")), source.clone(), false);
            }
            ("dir" | "schema_file", Ok(value)) => return value.get_ref().as_str().map_or(setting.clone(), absolute),
            _ => {}
        }
        setting
    }

    /// Under the old keys of the loss, `ppo` meant `dapo`.
    fn read_ppo_as_it_was(&mut self) {
        let is_old = self.assignments.iter().any(|a| a.moved && a.path.starts_with(POLICY_LOSS));
        let name = join(POLICY_LOSS, NAME);
        let is_ppo = |a: &&mut Assignment| a.path == name && a.value.as_deref().is_some_and(|v| v.contains("ppo"));
        if let Some(ppo) = self.assignments.iter_mut().find(is_ppo).filter(|_| is_old) {
            ppo.value = Some("\"dapo\"".into());
            let warning =
                "loss.policy_loss = \"ppo\" is read as \"dapo\", which it means beside the old keys of the loss";
            self.warnings.push(format!("{}: {warning}", ppo.source));
        }
    }

    fn warn(&mut self, source: &Source, what: &str) {
        self.warnings.push(format!("{source}: {what}"));
    }

    fn assign(&mut self, path: String, value: Option<String>, source: Source, moved: bool) {
        self.assignments.push(Assignment { path, value, source, moved });
    }

    fn unknown(&mut self, path: &str, place: Source) {
        let nearest = nearest_key(path);
        self.errors.push(KeyError { place, key: path.to_owned(), fault: KeyFault::Unknown { nearest } });
    }

    fn refuse(&mut self, key: String, value: &Spanned<DeValue<'_>>, text: &str, place: Source, expected: String) {
        let found = shown(value, text);
        self.errors.push(KeyError { place, key, fault: KeyFault::Value { found, expected } });
    }
}

/// Whether `none` unsets a key; for a text it would be one.
fn is_optional(key: &Key) -> bool {
    key.optional && key.kind != Kind::Text
}

/// The key and the value of `key=value`.
fn split_override(word: &str) -> Result<(String, &str), SettingsError> {
    let message = || format!("{word:?} has no `=`, expected key=value");
    let syntax = || SettingsError::Syntax { place: Source::CommandLine, column: None, message: message() };
    let (key, value) = word.split_once('=').ok_or_else(syntax)?;
    Ok((key.trim().to_owned(), value.trim()))
}

/// On the command line, what stands for a string needs no quotes.
fn as_kind(text: &str, value: &DeValue<'_>, kind: Option<&Kind>) -> String {
    let structured = matches!(value, DeValue::Array(_) | DeValue::Table(_));
    match kind {
        Some(Kind::Text | Kind::Texts | Kind::Choice(_) | Kind::Choices(_)) if !structured && !value.is_str() => {
            quoted(text)
        }
        _ => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// What a key expects in place of a value; of names the one that was probably meant.
fn expected(kind: &Kind, value: &DeValue<'_>) -> String {
    let nearest = match (kind, value.as_str()) {
        (Kind::Choice(names), Some(word)) => nearest_of(word, names.iter().map(String::as_str)),
        _ => None,
    };
    nearest.map_or_else(|| kind.to_string(), |name| format!("{kind}; did you mean {name}?"))
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
        Kind::Choices(names) => {
            let known = |item: &str| names.iter().any(|name| name == item);
            let all_known = |list: &DeArray<'_>| list.iter().all(|item| item.get_ref().as_str().is_some_and(known));
            one_of(names) || value.as_array().is_some_and(all_known)
        }
        Kind::IntegerOr(names) => natural() || one_of(names),
        Kind::Table => value.is_table(),
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
fn line(starts: &[usize], offset: usize) -> usize {
    starts.partition_point(|start| *start <= offset)
}

/// Where the lines of a text begin.
fn starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect()
}
