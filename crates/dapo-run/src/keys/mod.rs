//! The list of all settings: their names, what values they take, their defaults and what they mean.

mod generated;
mod inline;
mod layout;
mod leaves;
mod moved;
mod nearest;
mod own;
mod path;
mod schema;
mod variants;

pub(crate) use inline::inline;
pub use layout::{Key, Kind};
pub(crate) use layout::{LAYOUT, Layout, OWN_LAYOUT};
pub use moved::zero;
pub(crate) use moved::{EITHER, IN_REWARD, canonical, in_place_of, moved};
pub(crate) use nearest::{nearest_key, nearest_keys, nearest_of};
pub(crate) use own::OWN;
pub use own::own_kinds;
pub(crate) use path::{NAME, join, split};
pub use schema::schema;
pub use variants::Variant;

use std::fmt::Write;

/// All settings, in the order of their declaration, but those of [`own_keys`].
pub fn keys() -> &'static [Key] {
    &LAYOUT.keys
}

/// The settings of rewards under names of one's own, with `NAME` for that name.
pub fn own_keys() -> &'static [Key] {
    &OWN_LAYOUT.keys
}

/// The tables of settings, and what they are about.
pub fn tables() -> impl Iterator<Item = (&'static str, &'static str)> {
    let named = LAYOUT.tables.iter().filter(|table| !table.path.is_empty());
    named.map(|table| (table.path.as_str(), table.description.as_str()))
}

/// Whether a table, or a key in one, is that of a reward under a name of the user's own, such as `rewards.mine`.
pub fn is_own_reward(path: &str) -> bool {
    LAYOUT.own(path).is_some()
}

/// All settings as a table for people: a line for each, under its table.
pub fn key_table() -> String {
    table_of(&|_| true)
}

/// The settings of a table, and of those in it; for a reward table of the user's own, those of all such.
pub(crate) fn key_table_of(path: &str) -> String {
    let path = LAYOUT.own(path).unwrap_or_else(|| path.to_owned());
    let is_in = |table: &str| table == path || table.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.'));
    table_of(&is_in).trim_start().to_owned()
}

fn table_of(shows: &dyn Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let of = |layout: &'static Layout| layout.tables.iter().map(move |table| (layout, table));
    for (layout, table) in of(&LAYOUT).chain(of(&OWN_LAYOUT)).filter(|(_, table)| shows(&table.path)) {
        let keys: Vec<&Key> = layout.keys_of(&table.path).collect();
        if keys.is_empty() {
            continue;
        }
        if !table.path.is_empty() {
            let optional = if table.optional { " Not set by default." } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n[{}]  {}{optional}", table.path, table.description);
        }
        for key in keys {
            let _ = writeln!(text, "  {} = {}  ({})", split(&key.path).1, key.shown_default(), key.kind);
            let _ = writeln!(text, "      {}", key.description);
        }
    }
    text
}
