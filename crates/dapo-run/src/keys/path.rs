//! The names of settings: `optimizer.lr`.

/// The key that says which of several shapes a table has.
pub(crate) const NAME: &str = "name";

/// A path's table and its last name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

pub(crate) fn join(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}
