//! Values and texts as they are shown.

/// A value that may be shown, unless its name says that it is nobody's business.
pub(super) fn public(key: &str, value: String) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let is_variable = !name.contains(|c: char| c.is_ascii_lowercase());
    let is_secret = if is_variable {
        ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|word| name.contains(word))
    } else {
        ["api_key", "token", "secret", "password"].iter().any(|word| name.ends_with(word))
    };
    if is_secret { "…".into() } else { value }
}

/// A value cut to a length that fits a line, on one line.
pub(super) fn short(text: &str) -> String {
    cut(text, 60)
}

/// A key, on one line; whole, unless it is absurd.
pub(super) fn long(key: &str) -> String {
    cut(key, 300)
}

fn cut(text: &str, longest: usize) -> String {
    let line: String = text
        .chars()
        .take(longest)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(longest).is_some() { format!("{line}…") } else { line }
}

/// The text without line breaks and other control characters, which a comment cannot hold.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A value as TOML, small numbers with an exponent.
pub(super) fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        value => value.to_string(),
    }
}
