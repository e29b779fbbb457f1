//! References between keys, as Hydra's `${data.train_batch_size}`.

use std::collections::HashMap;

use crate::entry::{Entry, Value};

/// Longest chain of references that is followed.
const MAX_CHAIN: usize = 8;
/// Longest text that filling in may make.
const MAX_TEXT: usize = 1 << 16;

/// The entries with their references filled in.
///
/// Read are `${a.b}`, `${.b}` beside the key itself, and the defaults of `${oc.select:a.b,default}` and
/// `${oc.env:NAME,default}`. A value that is nothing but a reference to a key that is not set becomes a
/// [`Value::Reference`].
pub(crate) fn resolve(entries: Vec<Entry>) -> Vec<Entry> {
    let values: HashMap<String, Value> = entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    let fill = |mut entry: Entry| {
        if let Value::Text(text) = &entry.value {
            let parent = entry.key.rsplit_once('.').map_or("", |(parent, _)| parent);
            entry.value = match text.as_str() {
                "???" => Value::Reference("a value that must be given (???)".into()),
                text => follow(text, parent, &values, MAX_CHAIN),
            };
        }
        entry
    };
    entries.into_iter().map(fill).collect()
}

fn follow(text: &str, parent: &str, values: &HashMap<String, Value>, chain: usize) -> Value {
    if chain == 0 || text.len() > MAX_TEXT || !text.contains("${") {
        return Value::Text(text.to_owned());
    }
    if let Some(inner) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
        && !inner.contains('{')
    {
        return target(inner, parent, values, chain).unwrap_or_else(|| Value::Reference(text.to_owned()));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}') else { break };
        out.push_str(&rest[..start]);
        let raw = &rest[start..=start + end];
        match target(&raw[2..raw.len() - 1], parent, values, chain) {
            Some(Value::Text(value)) => out.push_str(&value),
            _ => out.push_str(raw),
        }
        rest = &rest[start + end + 1..];
    }
    out.push_str(rest);
    Value::Text(out)
}

fn target(inner: &str, parent: &str, values: &HashMap<String, Value>, chain: usize) -> Option<Value> {
    let (key, default) = match inner.split_once(':') {
        Some(("oc.select", arguments)) => match arguments.split_once(',') {
            Some((key, default)) => (key.trim(), Some(default.trim())),
            None => (arguments.trim(), None),
        },
        Some(("oc.env", arguments)) => {
            let (_, default) = arguments.split_once(',')?;
            return Some(Entry::plain("", default.trim().trim_matches(['"', '\'']), 0).value);
        }
        Some(_) => return None,
        None => (inner.trim(), None),
    };
    let key = match key.strip_prefix('.') {
        Some(key) if parent.is_empty() => key.to_owned(),
        Some(key) => format!("{parent}.{key}"),
        None => key.to_owned(),
    };
    match (values.get(&key), default) {
        (Some(Value::Text(text)), _) => {
            let parent = key.rsplit_once('.').map_or("", |(parent, _)| parent);
            Some(follow(text, parent, values, chain - 1))
        }
        (Some(value), _) => Some(value.clone()),
        (None, Some(default)) => Some(Entry::plain("", default.trim_matches(['"', '\'']), 0).value),
        (None, None) => None,
    }
}
