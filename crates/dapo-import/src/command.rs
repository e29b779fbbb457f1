//! The command that starts a trainer, and its arguments as settings.

use std::{collections::HashSet, path::Path};

use super::{
    entry::{Entry, Value},
    error::ImportError,
    format::ConfigFormat,
    report::Skipped,
    shell::{self, Command, Doubt, Expanded, Item},
    text::public,
    yaml,
};

/// What a script or a list of arguments says.
#[derive(Default)]
pub(super) struct Invocation {
    pub(super) format: Option<ConfigFormat>,
    pub(super) entries: Vec<Entry>,
    pub(super) doubts: Vec<Doubt>,
    pub(super) skipped: Vec<Skipped>,
}

/// Where a trainer's arguments start.
struct Marker {
    format: Option<ConfigFormat>,
    /// Index of the first word that belongs to the trainer's name.
    program: usize,
    /// Index of its first argument.
    arguments: usize,
}

/// What becomes of a second trainer command.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Further {
    Refused,
    /// The first one counts; the keys of others are left out.
    LeftOut,
}

/// Reads a script, a list of overrides or a list of arguments.
pub(super) fn read(
    text: &str,
    file: &Path,
    format: Option<ConfigFormat>,
    further: Further,
) -> Result<Invocation, ImportError> {
    let script = shell::read(text, file)?;
    let mut found: Option<(Command, Marker)> = None;
    let mut in_blocks = Vec::new();
    let mut others = Vec::new();
    let mut skipped = Vec::new();
    for command in script.commands {
        match marker(&command.words, format).filter(|marker| agrees(marker.format, format)) {
            Some(marker) if command.block.is_some() => in_blocks.push((command, marker)),
            Some(marker) => match &found {
                Some((first, _)) if further == Further::Refused => {
                    let found = format!("a second trainer command beside that of line {}", first.line);
                    return Err(syntax(file, command.line, found, "one"));
                }
                Some(_) => others.push((command, marker)),
                None => found = Some((command, marker)),
            },
            None if command.block.is_none() => skipped.extend(other_command(&command)),
            None => {}
        }
    }
    let Some((command, marker)) = found else {
        return Err(match in_blocks.first() {
            Some((command, _)) => {
                let (keyword, line) = command.block.clone().unwrap_or_default();
                let found = format!("the trainer's command inside the `{keyword}` of line {line}");
                syntax(file, command.line, found, "it outside of any block, which are not followed")
            }
            None => no_command(file, format),
        });
    };
    skipped.extend(
        script
            .blocks
            .into_iter()
            .map(|(keyword, line)| left_out(keyword, "", line, "a block of the shell is not followed")),
    );
    skipped.extend(script.unused.iter().map(|(name, value)| {
        left_out(
            name,
            public(name, value.text.clone()),
            value.line,
            "a shell variable that the trainer's command does not use",
        )
    }));
    let environment = script.exports.iter().chain(&command.environment);
    let mut entries: Vec<Entry> = environment
        .map(|(name, value)| Entry::plain(name, &public(name, value.text.clone()), value.line).with(value))
        .collect();
    launcher(&command.words[..marker.program], &mut entries, &mut skipped);
    arguments(&command, &marker, &mut entries, &mut skipped);
    let given: HashSet<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
    let is_key = if marker.format == Some(ConfigFormat::Verl) { is_override } else { is_option };
    let unused =
        script.items.iter().filter(|Item { word, .. }| is_key(&word.text) && !given.contains(word.text.as_str()));
    entries.extend(unused.map(unused_item));
    for (command, marker) in in_blocks.into_iter().chain(others) {
        let why = match &command.block {
            Some((keyword, line)) => {
                format!("a trainer command in the `{keyword}` of line {line}, which is not followed")
            }
            None => "a further trainer command: the first one counts".to_owned(),
        };
        let mut own = Vec::new();
        arguments(&command, &marker, &mut own, &mut skipped);
        entries.extend(own.into_iter().map(|entry| entry.aside(&why, None)));
    }
    Ok(Invocation { format: marker.format, entries, doubts: script.doubts, skipped })
}

fn no_command(file: &Path, format: Option<ConfigFormat>) -> ImportError {
    let looked_for = match format {
        Some(ConfigFormat::Verl) => "`-m ….main_ppo` or `-m ….main_dapo` or `a.b=c`",
        Some(ConfigFormat::Trl) => "`trl grpo`, a Python file with options, or options",
        Some(ConfigFormat::Swift) => "`swift rlhf`, `megatron rlhf` or options",
        None => {
            "`-m ….main_ppo` or `-m ….main_dapo` or `a.b=c` (verl), `trl grpo`, `…grpo.py` or `ppo….py` (TRL), `swift rlhf` or \
             `megatron rlhf` (ms-swift); name the format instead"
        }
    };
    ImportError::Format {
        file: file.to_owned(),
        found: "no command that starts a trainer, and no overrides or arguments".into(),
        looked_for: looked_for.into(),
    }
}

fn agrees(seen: Option<ConfigFormat>, asked: Option<ConfigFormat>) -> bool {
    match (seen, asked) {
        (Some(seen), Some(asked)) => seen == asked,
        (None, Some(asked)) => asked != ConfigFormat::Verl,
        _ => true,
    }
}

fn marker(words: &[Expanded], asked: Option<ConfigFormat>) -> Option<Marker> {
    let first = words.first()?;
    if is_override(&first.text) {
        return Some(Marker { format: Some(ConfigFormat::Verl), program: 0, arguments: 0 });
    }
    if first.text.starts_with("--") {
        return Some(Marker { format: None, program: 0, arguments: 0 });
    }
    let has_options = words.iter().any(|word| word.text.starts_with("--"));
    let named = (0..words.len()).find_map(|i| {
        let next = words.get(i + 1).map_or("", |word| word.text.as_str());
        let stem = words[i].text.strip_suffix(".py").map(|path| path.rsplit('/').next().unwrap_or(path));
        let (format, length) = match (words[i].text.as_str(), stem) {
            ("-m", _) if is_main(next.rsplit('.').next().unwrap_or(next)) => (ConfigFormat::Verl, 2),
            (_, Some(stem)) if is_main(stem) => (ConfigFormat::Verl, 1),
            ("swift" | "megatron", _) if next == "rlhf" => (ConfigFormat::Swift, 2),
            (_, Some("rlhf")) => (ConfigFormat::Swift, 1),
            ("trl", _) if next == "grpo" => (ConfigFormat::Trl, 2),
            (_, Some(stem)) if stem.contains("grpo") || stem.starts_with("ppo") => (ConfigFormat::Trl, 1),
            _ => return None,
        };
        Some(Marker { format: Some(format), program: i, arguments: i + length })
    });
    // Where the format is named, any Python file with options may be its trainer.
    let python = || {
        let format = asked.filter(|&asked| asked != ConfigFormat::Verl && has_options)?;
        let is_python = |word: &Expanded| Path::new(&word.text).extension().is_some_and(|extension| extension == "py");
        let program = words.iter().position(is_python)?;
        Some(Marker { format: Some(format), program, arguments: program + 1 })
    };
    named.or_else(python)
}

fn is_main(name: &str) -> bool {
    name.starts_with("main_") || name.ends_with("_main")
}

/// Whether a word is a Hydra override of a dotted key.
pub(super) fn is_override(word: &str) -> bool {
    let Some((key, _)) = word.trim_start_matches('+').split_once('=') else { return false };
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_-./@:".contains(c);
    key.contains('.') && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && key.chars().all(is_key)
}

/// The trainer's arguments as settings.
fn arguments(command: &Command, marker: &Marker, entries: &mut Vec<Entry>, skipped: &mut Vec<Skipped>) {
    let words = &command.words[marker.arguments..];
    if marker.format == Some(ConfigFormat::Verl) {
        overrides(words, entries, skipped);
    } else {
        options(words, entries, skipped);
    }
}

fn is_option(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|key| key.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// A key in a value that the script assigns and the trainer does not get.
fn unused_item(Item { name, word, block, doubt }: &Item) -> Entry {
    let why = match block {
        Some((keyword, line)) => {
            format!("a part of {name} in the `{keyword}` of line {line} alone, which is not followed")
        }
        None => format!("a part of {name}, which the trainer's command does not get"),
    };
    let (key, value) = word.text.split_once('=').unwrap_or((&word.text, ""));
    let key = match key.strip_prefix("--") {
        Some(option) => option.replace('-', "_"),
        None => key.trim_start_matches('+').to_owned(),
    };
    Entry::plain(key, unquoted(value), word.line).aside(&why, *doubt)
}

fn overrides(words: &[Expanded], entries: &mut Vec<Entry>, skipped: &mut Vec<Skipped>) {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.text.as_str();
        if text.starts_with("--") {
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, value),
                None => (text, words.next().map_or("", |value| value.text.as_str())),
            };
            entries.push(Entry::new(key, Value::Text(value.to_owned()), word.line).with(word));
        } else if let Some((key, value)) = text.split_once('=') {
            push_value(key.trim_start_matches('+'), unquoted(value), word.line, word, entries);
        } else if text.starts_with('~') {
            skipped.push(left_out(text, "", word.line, "a key taken out of the Hydra config"));
        } else {
            skipped.push(untold(word));
        }
    }
}

/// A word that is no setting as far as the script tells.
fn untold(word: &Expanded) -> Skipped {
    if is_rest(word) {
        return left_out(&word.text, "", word.line, "the script's own arguments, which are not known");
    }
    let reason = if word.missing.is_empty() {
        "not an option; a file of settings is imported by itself"
    } else {
        "only running the script would tell what it stands for"
    };
    let changes_training = !word.missing.is_empty();
    Skipped { changes_training, ..left_out(&word.text, "", word.line, reason) }
}

fn options(words: &[Expanded], entries: &mut Vec<Entry>, skipped: &mut Vec<Skipped>) {
    let mut at = 0;
    while at < words.len() {
        let word = &words[at];
        at += 1;
        let Some(option) = word.text.strip_prefix("--") else {
            skipped.push(untold(word));
            continue;
        };
        let (key, attached) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        let key = key.replace('-', "_");
        if let Some(value) = attached {
            push_value(&key, value, word.line, word, entries);
            continue;
        }
        let count = words[at..].iter().take_while(|word| !word.text.starts_with("--") && !is_rest(word)).count();
        let values = &words[at..at + count];
        at += count;
        match values {
            [] => entries.push(Entry::new(key, Value::Text("true".into()), word.line)),
            [value] => push_value(&key, &value.text, word.line, value, entries),
            values => {
                let items = values.iter().map(|value| value.text.clone()).collect();
                let entry = Entry::new(key, Value::List(items), word.line);
                entries.push(values.iter().fold(entry, Entry::with));
            }
        }
    }
}

/// The script's own arguments, handed on.
fn is_rest(word: &Expanded) -> bool {
    matches!(word.text.as_str(), "$@" | "$*" | "${@}" | "${*}")
}

fn push_value(key: &str, text: &str, line: usize, word: &Expanded, entries: &mut Vec<Entry>) {
    match yaml::inline(key, text, line) {
        Some(inline) if !inline.is_empty() => entries.extend(inline.into_iter().map(|entry| entry.with(word))),
        _ => entries.push(Entry::plain(key, text, line).with(word)),
    }
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// What starts the trainer: its number of processes counts, the rest does not.
fn launcher(words: &[Expanded], entries: &mut Vec<Entry>, skipped: &mut Vec<Skipped>) {
    let mut rest = Vec::new();
    let mut words = words.iter();
    let line = words.as_slice().first().map_or(0, |word| word.line);
    while let Some(word) = words.next() {
        let (name, attached) = match word.text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.text.as_str(), None),
        };
        let name = name.trim_start_matches('-').replace('-', "_");
        if word.text.starts_with('-') && matches!(name.as_str(), "nproc_per_node" | "nnodes" | "num_processes") {
            let (value, told_by) = match attached {
                Some(value) => (value, word),
                None => words.next().map_or(("", word), |next| (next.text.as_str(), next)),
            };
            entries.push(Entry::plain(name, value, word.line).with(told_by));
        } else {
            rest.push(word.text.as_str());
        }
    }
    if !rest.is_empty() {
        let reason = "starts the trainer elsewhere or several times; this one is one process";
        skipped.push(left_out("launcher", rest.join(" "), line, reason));
    }
}

fn other_command(command: &Command) -> Option<Skipped> {
    let (first, rest) = command.words.split_first()?;
    let rest = rest.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    Some(left_out(&first.text, rest, command.line, "a command, but not the trainer's"))
}

/// What has no effect on training here.
fn left_out(key: impl Into<String>, value: impl Into<String>, line: usize, reason: &str) -> Skipped {
    Skipped { key: key.into(), value: value.into(), line, reason: reason.into(), changes_training: false }
}

fn syntax(file: &Path, line: usize, found: String, expected: &str) -> ImportError {
    ImportError::Syntax { file: file.to_owned(), line, found, expected: expected.into() }
}
