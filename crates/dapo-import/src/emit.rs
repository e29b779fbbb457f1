//! The settings file, with comments.

use std::{collections::BTreeSet, fmt::Write, path::Path};

use super::{
    draft::Line,
    format::ConfigFormat,
    report::{Note, Skipped},
    text::{long, one_line, short, shown},
};
use dapo_run::{is_own_reward, tables};

/// A key's table and its last name.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// The file's text.
pub(super) fn toml(file: &Path, source: ConfigFormat, lines: &[Line], notes: &[Note], skipped: &[Skipped]) -> String {
    let mut out = format!(
        "# Imported from {} ({source}).\n# Each line ends with the key and the line it came from, or with whose default it is.\n",
        short(&file.display().to_string())
    );
    // Writing to a String cannot fail.
    let _ = write_notes(&mut out, notes);
    for (table, _) in std::iter::once(("", "")).chain(tables()) {
        let _ = write_table(&mut out, table, lines);
    }
    let own: BTreeSet<&str> =
        lines.iter().map(|line| split(&line.key).0).filter(|table| is_own_reward(table)).collect();
    for table in own {
        let _ = write_table(&mut out, table, lines);
    }
    let (changing, harmless): (Vec<&Skipped>, Vec<&Skipped>) =
        skipped.iter().partition(|skipped| skipped.changes_training);
    let _ = write_skipped(&mut out, "Left out, although training may differ:", &changing);
    let _ = write_skipped(&mut out, "Left out, without an effect here:", &harmless);
    out
}

fn write_table(out: &mut String, path: &str, lines: &[Line]) -> std::fmt::Result {
    let own: Vec<&Line> = lines.iter().filter(|line| split(&line.key).0 == path).collect();
    if own.is_empty() {
        return Ok(());
    }
    // A table of lines to be filled in alone must not be there until they are.
    let is_set = own.iter().any(|line| line.value.is_some());
    match (path, is_set) {
        ("", _) => writeln!(out)?,
        (path, true) => writeln!(out, "\n[{path}]")?,
        (path, false) => writeln!(out, "\n# [{path}]")?,
    }
    for Line { key, value, comment, .. } in own {
        let (name, comment) = (split(key).1, one_line(comment));
        match value {
            Some(value) => writeln!(out, "{name} = {} # {comment}", shown(value))?,
            None => writeln!(out, "# {name} = … # set this: {comment}")?,
        }
    }
    Ok(())
}

fn write_notes(out: &mut String, notes: &[Note]) -> std::fmt::Result {
    if !notes.is_empty() {
        writeln!(out, "#\n# Differences:")?;
    }
    for note in notes {
        writeln!(out, "# - {}", one_line(&note.to_string()))?;
    }
    Ok(())
}

fn write_skipped(out: &mut String, title: &str, skipped: &[&Skipped]) -> std::fmt::Result {
    if !skipped.is_empty() {
        writeln!(out, "\n# {title}")?;
    }
    for Skipped { key, value, line, reason, .. } in skipped {
        writeln!(out, "# - {} = {} (line {line}): {}", long(key), short(value), one_line(reason))?;
    }
    Ok(())
}
