//! The settings file, with comments.

use std::{fmt::Write, path::Path};

use super::{
    draft::Line,
    format::ConfigFormat,
    report::{Note, Skipped},
    text::{one_line, short, shown},
};

/// The sections in the order of the settings.
const SECTIONS: [&str; 26] = [
    "",
    "model",
    "lora",
    "data",
    "rollout",
    "sampler",
    "rewards",
    "rewards.accuracy",
    "rewards.accuracy.grader",
    "rewards.format",
    "rewards.tag_count",
    "rewards.soft_overlong",
    "rewards.repetition",
    "rewards.length",
    "overlong",
    "advantage",
    "loss",
    "loss.policy_loss",
    "loss.policy_loss.clip",
    "loss.aggregation",
    "loss.kl",
    "reference_sync",
    "optimizer",
    "train",
    "eval",
    "output",
];

/// The file's text.
pub(super) fn toml(file: &Path, source: ConfigFormat, lines: &[Line], notes: &[Note], skipped: &[Skipped]) -> String {
    let mut out = format!(
        "# Imported from {} ({source}).\n# Each line ends with the key and the line it came from, or with whose default it is.\n",
        short(&file.display().to_string())
    );
    // Writing to a String cannot fail.
    let _ = write_notes(&mut out, notes);
    for section in SECTIONS {
        let mut lines = lines.iter().filter(|line| split(line.key).0 == section).peekable();
        if lines.peek().is_none() {
            continue;
        }
        let _ = if section.is_empty() { writeln!(out) } else { writeln!(out, "\n[{section}]") };
        for line in lines {
            let _ = writeln!(out, "{} = {} # {}", split(line.key).1, shown(&line.value), one_line(&line.comment));
        }
    }
    let _ = write_skipped(&mut out, skipped);
    out
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

fn write_notes(out: &mut String, notes: &[Note]) -> std::fmt::Result {
    if !notes.is_empty() {
        writeln!(out, "#\n# Differences:")?;
    }
    for Note { key, line, text } in notes {
        match line {
            Some(line) => writeln!(out, "# - {}, line {line}: {}", one_line(key), one_line(text))?,
            None => writeln!(out, "# - {}", one_line(text))?,
        }
    }
    Ok(())
}

fn write_skipped(out: &mut String, skipped: &[Skipped]) -> std::fmt::Result {
    if !skipped.is_empty() {
        writeln!(out, "\n# Left out:")?;
    }
    for Skipped { key, value, line, reason } in skipped {
        writeln!(out, "# - {} = {} (line {line}): {}", short(key), short(value), one_line(reason))?;
    }
    Ok(())
}
