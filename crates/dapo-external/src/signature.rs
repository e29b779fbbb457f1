//! What a Python function takes, as its file has it.

use std::fs;
use std::path::Path;

use crate::config::PythonReward;

impl PythonReward {
    /// Names of the function's parameters, read from its file without Python; relative paths are those of `base_dir`. Empty
    /// where they cannot be found, as those of classes and of functions of other files.
    pub fn parameters(&self, base_dir: &Path) -> Vec<String> {
        let Some((file, function)) = self.target() else { return Vec::new() };
        fs::read_to_string(base_dir.join(file)).map_or(Vec::new(), |text| parameters_of(&text, function))
    }
}

/// The parameters of the first function of this name.
fn parameters_of(text: &str, function: &str) -> Vec<String> {
    let list_of = |(at, def): (usize, &str)| {
        let is_word = text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let rest = text[at + def.len()..].trim_start().strip_prefix(function)?.trim_start();
        rest.strip_prefix('(').filter(|_| !is_word)
    };
    let Some(list) = text.match_indices("def ").find_map(list_of) else { return Vec::new() };
    let (mut names, mut name, mut depth, mut is_comment) = (Vec::new(), String::new(), 0, false);
    for letter in list.chars() {
        match letter {
            '\n' => is_comment = false,
            _ if is_comment => {}
            '#' => is_comment = true,
            ')' if depth == 0 => break,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ if depth == 0 => name.push(letter),
            _ => {}
        }
    }
    names.push(name);
    let plain = |name: String| name.split([':', '=']).next().unwrap_or_default().trim().trim_matches('*').to_owned();
    names.into_iter().map(plain).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_the_text() {
        let text = "def other(a): ...\n\nasync def score(\n    solution_str: str,  # the (text\n    \
                    ground_truth: dict[str, int] = {1: (2, 3)}, *, extra_info=None, **kwargs):\n    return f(x, y)\n";
        assert_eq!(parameters_of(text, "score"), ["solution_str", "ground_truth", "extra_info", "kwargs"]);
        assert_eq!(parameters_of(text, "other"), ["a"]);
        assert!(parameters_of(text, "sco").is_empty() && parameters_of("score = 1", "score").is_empty());
        assert!(parameters_of("def score(): pass", "score").is_empty());
    }
}
