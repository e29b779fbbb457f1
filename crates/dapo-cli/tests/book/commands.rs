//! The help of every command, and the exit codes.

use crate::{cell, stdout};
use std::fmt::Write;

const WIDTH: usize = 100;
/// The heading of the flags that every command has.
const COMMON: &str = "\nMessages:\n";

const INTRODUCTION: &str = "\
# Command line

<!-- Generated from the program by scripts/book-reference. -->

Results go to stdout, everything else to stderr. Every command also has the flags of [Messages](#messages).

";

const EXIT_CODES: &str = "\
# Exit codes

<!-- Generated from the program by scripts/book-reference. -->

`dapo --help` prints this list. Scripts that start runs can tell the cases apart by it: a run that ended with 129, 130
or 143 is continued by `dapo train --resume`.

| code | meaning |
|---|---|
";

pub(crate) fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    let top = stdout(&["--help"]);
    let (own, common) = top.split_once(COMMON).unwrap();
    let common = common.split("\n\n").next().unwrap();
    let _ = write!(text, "{}", fenced("dapo", own, 2));
    let _ = write!(text, "### Messages\n\n```text\n{}\n```\n\n", wrap(common));
    add(&mut text, &[], &top);
    text.trim_end().to_owned() + "\n"
}

/// Adds the help of the commands that a help names.
fn add(text: &mut String, path: &[&str], help: &str) {
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return };
    let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| *name != "help") {
        let path: Vec<&str> = path.iter().copied().chain([name]).collect();
        let args: Vec<&str> = path.iter().copied().chain(["--help"]).collect();
        let help = stdout(&args);
        // Examples come after the common flags.
        let (own, rest) = help.split_once(COMMON).unwrap();
        let examples = rest.find("\nExample").map_or("", |at| &rest[at..]);
        text.push_str(&fenced(&format!("dapo {}", path.join(" ")), &format!("{}\n{examples}", own.trim_end()), 2));
        add(text, &path, &help);
    }
}

fn fenced(name: &str, help: &str, level: usize) -> String {
    format!("{} {name}\n\n```text\n{}\n```\n\n", "#".repeat(level), wrap(help.trim_end()))
}

/// Breaks lines between words, but for examples. What follows a flag or a command in a list stays in its column.
fn wrap(text: &str) -> String {
    text.lines().map(|line| wrap_line(line.trim_end())).collect::<Vec<_>>().join("\n")
}

fn wrap_line(line: &str) -> String {
    if line.chars().count() <= WIDTH || line.starts_with("  dapo ") {
        return line.to_owned();
    }
    let indent = line.len() - line.trim_start().len();
    let gap = line[indent..].find("  ").map(|at| indent + at);
    let start = gap.map_or(indent, |at| line.len() - line[at..].trim_start().len());
    let column = line[..start].chars().count();
    let mut lines = vec![line[..start].to_owned()];
    let mut is_empty = true;
    for word in line[start..].split(' ') {
        let last = lines.last_mut().unwrap();
        if is_empty || last.chars().count() + 1 + word.chars().count() <= WIDTH {
            if !is_empty {
                last.push(' ');
            }
            last.push_str(word);
        } else {
            lines.push(" ".repeat(column) + word);
        }
        is_empty = false;
    }
    lines.join("\n")
}

/// The exit codes as a table.
pub(crate) fn exit_codes_page() -> String {
    let help = stdout(&["--help"]);
    let (_, codes) = help.split_once("\nExit codes:\n").unwrap();
    let mut text = EXIT_CODES.to_owned();
    for line in codes.lines().take_while(|line| !line.is_empty()) {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        let _ = writeln!(text, "| {code} | {} |", cell(meaning.trim()));
    }
    text
}
