//! Commands in the text at the head of a Python file, which say how it is started.

use std::path::Path;

/// The text with everything but the commands left blank, so that lines keep their numbers: those lines, with their
/// continuations, that start a Python file or `trl` with options.
pub(super) fn commands(text: &str) -> String {
    let mut out = String::new();
    let mut command: Vec<&str> = Vec::new();
    for line in text.lines() {
        command.push(line);
        if line.trim_end().ends_with('\\') {
            continue;
        }
        let is_command = is_command(&command.join("\n"));
        for line in command.drain(..) {
            out.push_str(if is_command { line.trim().trim_start_matches("# ") } else { "" });
            out.push('\n');
        }
    }
    out
}

fn is_command(text: &str) -> bool {
    const STARTS: [&str; 6] = ["python", "accelerate", "torchrun", "trl", "uv", "deepspeed"];
    let words: Vec<&str> =
        text.split_whitespace().skip_while(|&word| word == "#" || word == "$" || is_assignment(word)).collect();
    let starts = words.first().is_some_and(|first| STARTS.iter().any(|start| first.starts_with(start)));
    let is_program =
        |word: &&str| *word == "grpo" || Path::new(word).extension().is_some_and(|extension| extension == "py");
    starts && words.iter().any(|word| word.starts_with("--")) && words.iter().any(is_program)
}

/// `NAME=value` before a command.
fn is_assignment(word: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit());
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}
