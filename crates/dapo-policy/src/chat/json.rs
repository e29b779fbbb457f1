//! JSON in chat templates, written as Python's `json.dumps(ensure_ascii=False)` writes it.

use super::budget::{invalid, spend, spend_whole};
use super::keyword;
use minijinja::value::{Enumerator, Kwargs, Object, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use std::sync::Arc;

/// The widest indentation, in spaces.
const WIDEST: usize = 1000;

/// A map that keeps its order.
#[derive(Debug)]
struct OrderedMap(Vec<(Value, Value)>);

impl Object for OrderedMap {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(key, _)| key.clone()).collect())
    }
}

/// A template value with the given entries in their order.
pub(super) fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    ordered(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// A template value with the given entries in their order; each key occurs once.
pub(super) fn ordered(entries: Vec<(Value, Value)>) -> Value {
    Value::from_object(OrderedMap(entries))
}

/// A JSON value as a template value.
pub(super) fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(b) => (*b).into(),
        serde_json::Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => n.into(),
            (_, Some(n)) => n.into(),
            _ => n.as_f64().unwrap_or(f64::NAN).into(),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(list) => list.iter().map(value).collect(),
        serde_json::Value::Object(entries) => map(entries.iter().map(|(key, entry)| (key.as_str(), value(entry)))),
    }
}

/// The `tojson` filter. Unlike Jinja's own it escapes nothing for HTML and leaves text beyond ASCII as it is.
#[expect(clippy::needless_pass_by_value, reason = "filters take their keyword arguments so")]
pub(super) fn tojson(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    spend_whole(value, true)?;
    let indent: Option<usize> = keyword(&kwargs, "indent")?;
    if let Some(indent) = indent.filter(|indent| *indent > WIDEST) {
        return Err(invalid(format!("tojson: the indent is {indent}, expected at most {WIDEST}")));
    }
    let (item, key) = match keyword::<Vec<String>>(&kwargs, "separators")?.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be a pair")),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer {
        out: String::new(),
        indent,
        item,
        key,
        ensure_ascii: keyword(&kwargs, "ensure_ascii")?.unwrap_or(false),
        sort_keys: keyword(&kwargs, "sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    writer.write(value, 0)?;
    Ok(writer.out)
}

/// A float as Python's `repr` writes it.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if x == 0.0 || (1e-4..1e16).contains(&x.abs()) {
        return if x.fract() == 0.0 { format!("{x:.1}") } else { x.to_string() };
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

struct Writer {
    out: String,
    indent: Option<usize>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Writer {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container(('[', ']'), &items, depth, |writer, item| writer.write(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.container(('{', '}'), &keys, depth, |writer, key| {
                    writer.text(&key.to_string());
                    let separator = writer.key.clone();
                    writer.out.push_str(&separator);
                    writer.write(&value.get_item(key)?, depth + 1)
                })?;
            }
            kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: a value is {kind}"))),
        }
        Ok(())
    }

    fn container(
        &mut self,
        (open, close): (char, char),
        items: &[Value],
        depth: usize,
        mut write: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            spend(self.item.len() + self.key.len())?;
            if i > 0 {
                let separator = self.item.clone();
                self.out.push_str(&separator);
            }
            self.line(depth + 1)?;
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) -> Result<(), Error> {
        if let Some(indent) = self.indent {
            spend(indent * depth)?;
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || self.ensure_ascii && c > '~' => {
                    let mut units = [0; 2];
                    let escapes = c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
                    self.out.extend(escapes);
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
