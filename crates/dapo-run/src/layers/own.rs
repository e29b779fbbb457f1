//! Rewards under names of one's own: which tables they are, and of what kind.

use crate::error::KeyFault;
use crate::keys::{LAYOUT, OWN, nearest_key, split};
use crate::settings::{CODE, SELECTORS};
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// The tables of such rewards among some paths.
pub(super) fn own_tables<'a>(paths: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    let table = |path: &String| match LAYOUT.own(path)? {
        own if own == OWN => Some(path.clone()),
        _ => Some(split(path).0.to_owned()),
    };
    paths.filter_map(table).collect()
}

/// The kind of a table with these keys, or what is wrong and with which key; the empty one is the table.
pub(super) fn kind_of(table: &str, keys: &BTreeMap<String, (String, Source)>) -> Result<String, (String, KeyFault)> {
    let name = split(table).1;
    if name == CODE {
        return Ok(name.to_owned());
    }
    let value = |key: &str| keys.get(key).map(|(value, _)| value.clone()).unwrap_or_default();
    match SELECTORS.into_iter().filter(|key| keys.contains_key(*key)).collect::<Vec<_>>()[..] {
        [] => {
            // A key of a built-in reward says which one was meant.
            let nearest = nearest_key(table).filter(|nearest| split(nearest).0 == split(table).0);
            let expected = format!("one of {} in it, or one of the built-in rewards", SELECTORS.join(", "));
            let value = KeyFault::Value { found: "no reward".into(), expected };
            let unknown = |nearest| KeyFault::Unknown { nearest: Some(nearest) };
            Err((String::new(), nearest.map_or(value, unknown)))
        }
        ["kind"] => Ok(value("kind").trim_matches(['"', '\'']).to_owned()),
        [one] => Ok(one.to_owned()),
        [one, other, ..] => {
            let expected = format!("unset beside {table}.{one}");
            Err((other.to_owned(), KeyFault::Value { found: value(other), expected }))
        }
    }
}
