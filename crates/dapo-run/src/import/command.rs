//! The command that starts a trainer, and its arguments as settings.

use std::path::Path;

use super::{
    entry::{Entry, Value},
    error::ImportError,
    format::ConfigFormat,
    report::Skipped,
    shell::{self, Command, Expanded},
    text::public,
    yaml,
};

/// What a script or a list of arguments says.
pub(super) struct Invocation {
    pub(super) format: Option<ConfigFormat>,
    pub(super) entries: Vec<Entry>,
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

/// Reads a script, a list of overrides or a list of arguments.
pub(super) fn read(text: &str, file: &Path, format: Option<ConfigFormat>) -> Result<Invocation, ImportError> {
    let script = shell::read(text, file)?;
    let mut found: Option<(Command, Marker)> = None;
    let mut skipped = Vec::new();
    for command in script.commands {
        match marker(&command.words).filter(|marker| agrees(marker.format, format)) {
            Some(marker) => {
                if let Some((keyword, line)) = &command.block {
                    let found = format!("the trainer's command inside the `{keyword}` of line {line}");
                    return Err(syntax(file, command.line, found, "it outside of any block, which are not followed"));
                }
                if let Some((first, _)) = &found {
                    let found = format!("a second trainer command beside that of line {}", first.line);
                    return Err(syntax(file, command.line, found, "one"));
                }
                found = Some((command, marker));
            }
            None if command.block.is_none() => skipped.extend(other_command(&command)),
            None => {}
        }
    }
    let Some((command, marker)) = found else {
        return Err(ImportError::Format {
            file: file.to_owned(),
            found: "no command that starts a trainer, and no overrides or arguments".into(),
            looked_for: "`-m ….main_ppo` or `-m ….main_dapo` or `a.b=c` (verl), `trl grpo` or `…grpo.py` (TRL), \
                         `swift rlhf` or `megatron rlhf` (ms-swift)"
                .into(),
        });
    };
    skipped.extend(script.blocks.into_iter().map(|(keyword, line)| Skipped {
        key: keyword,
        value: String::new(),
        line,
        reason: "a block of the shell is not followed; what it sets counts as unknown".into(),
    }));
    skipped.extend(script.unused.iter().map(|(name, value)| Skipped {
        key: name.clone(),
        value: public(name, value.text.clone()),
        line: value.line,
        reason: "a shell variable that the trainer's command does not use".into(),
    }));
    let environment = script.exports.iter().chain(&command.environment);
    let mut entries: Vec<Entry> = environment
        .map(|(name, value)| Entry::plain(name, &public(name, value.text.clone()), value.line).missing(&value.missing))
        .collect();
    launcher(&command.words[..marker.program], &mut entries, &mut skipped);
    let arguments = &command.words[marker.arguments..];
    if marker.format == Some(ConfigFormat::Verl) {
        overrides(arguments, &mut entries, &mut skipped);
    } else {
        options(arguments, &mut entries, &mut skipped);
    }
    Ok(Invocation { format: marker.format, entries, skipped })
}

fn agrees(seen: Option<ConfigFormat>, asked: Option<ConfigFormat>) -> bool {
    match (seen, asked) {
        (Some(seen), Some(asked)) => seen == asked,
        (None, Some(asked)) => asked != ConfigFormat::Verl,
        _ => true,
    }
}

fn marker(words: &[Expanded]) -> Option<Marker> {
    let first = words.first()?;
    if is_override(&first.text) {
        return Some(Marker { format: Some(ConfigFormat::Verl), program: 0, arguments: 0 });
    }
    if first.text.starts_with("--") {
        return Some(Marker { format: None, program: 0, arguments: 0 });
    }
    (0..words.len()).find_map(|i| {
        let next = words.get(i + 1).map_or("", |word| word.text.as_str());
        let stem = words[i].text.strip_suffix(".py").map(|path| path.rsplit('/').next().unwrap_or(path));
        let (format, length) = match (words[i].text.as_str(), stem) {
            ("-m", _) if is_main(next.rsplit('.').next().unwrap_or(next)) => (ConfigFormat::Verl, 2),
            (_, Some(stem)) if is_main(stem) => (ConfigFormat::Verl, 1),
            ("swift" | "megatron", _) if next == "rlhf" => (ConfigFormat::Swift, 2),
            (_, Some("rlhf")) => (ConfigFormat::Swift, 1),
            ("trl", _) if next == "grpo" => (ConfigFormat::Trl, 2),
            (_, Some(stem)) if stem.contains("grpo") => (ConfigFormat::Trl, 1),
            _ => return None,
        };
        Some(Marker { format: Some(format), program: i, arguments: i + length })
    })
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

fn overrides(words: &[Expanded], entries: &mut Vec<Entry>, skipped: &mut Vec<Skipped>) {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.text.as_str();
        if text.starts_with("--") {
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, value),
                None => (text, words.next().map_or("", |value| value.text.as_str())),
            };
            entries.push(Entry::new(key, Value::Text(value.to_owned()), word.line));
        } else if let Some((key, value)) = text.split_once('=') {
            let key = key.trim_start_matches('+');
            push_value(key, unquoted(value), word.line, &word.missing, entries);
        } else {
            let is_removal = text.starts_with('~');
            skipped.push(Skipped {
                key: text.to_owned(),
                value: String::new(),
                line: word.line,
                reason: if is_removal { "a key taken out of the Hydra config" } else { UNTOLD }.into(),
            });
        }
    }
}

const UNTOLD: &str = "only running the script would tell what it stands for";

fn options(words: &[Expanded], entries: &mut Vec<Entry>, skipped: &mut Vec<Skipped>) {
    let mut at = 0;
    while at < words.len() {
        let word = &words[at];
        at += 1;
        let Some(option) = word.text.strip_prefix("--") else {
            let reason = if word.missing.is_empty() {
                "not an option; a file of settings is imported by itself"
            } else {
                UNTOLD
            };
            let (key, line) = (word.text.clone(), word.line);
            skipped.push(Skipped { key, value: String::new(), line, reason: reason.into() });
            continue;
        };
        let (key, attached) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        let key = key.replace('-', "_");
        if let Some(value) = attached {
            push_value(&key, value, word.line, &word.missing, entries);
            continue;
        }
        let count = words[at..].iter().take_while(|word| !word.text.starts_with("--") && !is_rest(word)).count();
        let values = &words[at..at + count];
        at += count;
        match values {
            [] => entries.push(Entry::new(key, Value::Text("true".into()), word.line)),
            [value] => push_value(&key, &value.text, word.line, &value.missing, entries),
            values => {
                let items = values.iter().map(|value| value.text.clone()).collect();
                let missing: Vec<_> = values.iter().flat_map(|value| value.missing.clone()).collect();
                entries.push(Entry::new(key, Value::List(items), word.line).missing(&missing));
            }
        }
    }
}

/// The script's own arguments, handed on.
fn is_rest(word: &Expanded) -> bool {
    matches!(word.text.as_str(), "$@" | "$*" | "${@}" | "${*}")
}

fn push_value(key: &str, text: &str, line: usize, missing: &[String], entries: &mut Vec<Entry>) {
    match yaml::inline(key, text, line) {
        Some(inline) if !inline.is_empty() => entries.extend(inline.into_iter().map(|entry| entry.missing(missing))),
        _ => entries.push(Entry::plain(key, text, line).missing(missing)),
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
            let value = attached.or_else(|| words.next().map(|value| value.text.as_str())).unwrap_or_default();
            entries.push(Entry::plain(name, value, word.line).missing(&word.missing));
        } else {
            rest.push(word.text.as_str());
        }
    }
    if !rest.is_empty() {
        skipped.push(Skipped {
            key: "launcher".into(),
            value: rest.join(" "),
            line,
            reason: "starts the trainer elsewhere or several times; this one is one process".into(),
        });
    }
}

fn other_command(command: &Command) -> Option<Skipped> {
    let (first, rest) = command.words.split_first()?;
    Some(Skipped {
        key: first.text.clone(),
        value: rest.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "),
        line: command.line,
        reason: "a command, but not the trainer's".into(),
    })
}

fn syntax(file: &Path, line: usize, found: String, expected: &str) -> ImportError {
    ImportError::Syntax { file: file.to_owned(), line, found, expected: expected.into() }
}
