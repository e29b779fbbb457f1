//! What Python's strings and jinja2's tests do that minijinja leaves out or does otherwise.

use super::budget::{invalid, spend};
use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, State, Value};

/// Whether Python's `iter(value)` works. Unlike minijinja's test it refuses `none`.
#[expect(clippy::needless_pass_by_value, reason = "tests take their argument so")]
pub(super) fn is_iterable(value: Value) -> bool {
    !value.is_none() && (value.is_undefined() || value.try_iter().is_ok() || value.kind() == ValueKind::String)
}

/// Whether Python's `len(value)` and `value[i]` work: strings and maps, too.
#[expect(clippy::needless_pass_by_value, reason = "tests take their argument so")]
pub(super) fn is_sequence(value: Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// Methods of strings that minijinja's own imitation of Python lacks; the rest is left to it.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = string_method(text, name, args)?
    {
        return Ok(result);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let missing = missing(text, width)?;
            // Python's own rule for an odd number of characters around the text.
            let left = match name {
                "ljust" => 0,
                "rjust" => missing,
                _ => missing / 2 + (missing & width & 1),
            };
            let fill = fill.unwrap_or(" ");
            if fill.chars().count() != 1 {
                return Err(invalid(format!("{name}: the fill is {fill:?}, expected one character")));
            }
            format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)).into()
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let zeros = "0".repeat(missing(text, width)?);
            let sign = text.len() - text.strip_prefix(['+', '-']).unwrap_or(text).len();
            format!("{}{zeros}{}", &text[..sign], &text[sign..]).into()
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(invalid(format!("{name}: the separator is empty, expected a text")));
            }
            let from_left = name == "partition";
            let parts = if from_left { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match parts {
                Some((before, after)) => [before, separator, after],
                None if from_left => [text, "", ""],
                None => ["", "", text],
            };
            parts.into_iter().map(Value::from).collect()
        }
        "casefold" => text.to_lowercase().into(),
        "swapcase" => {
            let swapped = text.chars().flat_map(|c| -> Vec<char> {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
            });
            swapped.collect::<String>().into()
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

/// Characters that `text` lacks of `width`.
fn missing(text: &str, width: usize) -> Result<usize, Error> {
    /// Wider than any table in a prompt.
    const WIDEST: usize = 1 << 20;
    if width > WIDEST {
        return Err(invalid(format!("the width is {width}, expected at most {WIDEST}")));
    }
    let missing = width.saturating_sub(text.chars().count());
    spend(missing.saturating_mul(char::MAX.len_utf8()))?;
    Ok(missing)
}

/// Writes `'%s' % x` and `'%s, %s' % (x, y)`, which minijinja does not know, as `'%s'|format(x)`: within tags, for texts
/// that are written out.
pub(super) fn with_format_filters(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    let opening =
        |text: &str| text.match_indices('{').map(|(at, _)| at).find(|at| text[at + 1..].starts_with(['{', '%', '#']));
    while let Some(start) = opening(rest) {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        if tag.starts_with("{#") {
            let (comment, behind) = tag.split_at(tag.find("#}").map_or(tag.len(), |end| end + 2));
            text.push_str(comment);
            rest = behind;
            continue;
        }
        let length = tag_length(tag);
        text.push_str(&with_formats(&tag[..length]));
        rest = &tag[length..];
    }
    text + rest
}

/// Where a tag ends: behind its closing brackets outside of quotes, or with the source.
fn tag_length(tag: &str) -> usize {
    let close = if tag.starts_with("{{") { "}}" } else { "%}" };
    let mut at = 2;
    while at < tag.len() {
        if tag[at..].starts_with(close) {
            return at + 2;
        }
        at += literal_length(&tag[at..]).unwrap_or_else(|| tag[at..].chars().next().map_or(1, char::len_utf8));
    }
    tag.len()
}

/// The length of the quoted text that `code` begins with.
fn literal_length(code: &str) -> Option<usize> {
    let quote = code.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        if !escaped && c == quote {
            return Some(at + 1);
        }
        escaped = c == '\\' && !escaped;
    }
    Some(code.len())
}

fn with_formats(tag: &str) -> String {
    let mut text = String::with_capacity(tag.len());
    let mut at = 0;
    while at < tag.len() {
        let Some(length) = literal_length(&tag[at..]) else {
            let length = tag[at..].chars().next().map_or(1, char::len_utf8);
            text.push_str(&tag[at..at + length]);
            at += length;
            continue;
        };
        text.push_str(&tag[at..at + length]);
        at += length;
        let behind = tag[at..].trim_start();
        let Some(operand) = behind.strip_prefix('%').filter(|operand| !operand.starts_with('}')) else { continue };
        let operand = operand.trim_start();
        let length = operand_length(operand);
        if length == 0 {
            continue;
        }
        let arguments = with_formats(&operand[..length]);
        let is_list = arguments.starts_with('(') && bracket_length(&arguments) == arguments.len();
        let (open, close) = if is_list { ("", "") } else { ("(", ")") };
        text.extend(["|format", open, &arguments, close]);
        at = tag.len() - operand.len() + length;
    }
    text
}

/// The length of a name, number, quoted text or bracket with the subscripts, calls, attributes and filters behind it.
fn operand_length(code: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = match code.chars().next() {
        Some('\'' | '"') => literal_length(code).unwrap_or_default(),
        Some('(' | '[' | '{') => bracket_length(code),
        _ => code.find(|c| !is_word(c)).unwrap_or(code.len()),
    };
    while at > 0 && at < code.len() {
        let rest = &code[at..];
        if rest.starts_with(['(', '[']) {
            at += bracket_length(rest);
            continue;
        }
        let gap = rest.len() - rest.trim_start().len();
        let Some(name) = rest[gap..].strip_prefix('.').or_else(|| rest[gap..].strip_prefix('|')) else { break };
        let spaces = name.len() - name.trim_start().len();
        let word = name[spaces..].find(|c| !is_word(c)).unwrap_or(name.len() - spaces);
        if word == 0 {
            break;
        }
        at += gap + 1 + spaces + word;
    }
    at
}

/// The length of the bracket that `code` begins with, to its partner or the end.
fn bracket_length(code: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < code.len() {
        if let Some(length) = literal_length(&code[at..]) {
            at += length;
            continue;
        }
        let c = code[at..].chars().next().unwrap_or(' ');
        at += c.len_utf8();
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}
