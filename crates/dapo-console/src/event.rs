//! Events as JSON lines.

use crate::screen::print;
use crate::visible::is_control;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes an event: its time in seconds since 1970, its name, and its fields.
pub(crate) fn write(name: &str, fields: Value) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let mut event = Map::new();
    event.insert("time".into(), ((time * 1000.0).round() / 1000.0).into());
    event.insert("event".into(), name.into());
    if let Value::Object(fields) = fields {
        event.extend(fields);
    }
    print(&(line(&Value::Object(event)) + "\n"));
}

/// JSON on one line, in which characters that control a terminal are escaped as JSON does.
fn line(value: &Value) -> String {
    let mut escaped = String::new();
    for c in value.to_string().chars() {
        // JSON has escaped C0; all others that matter have four digits.
        if is_control(c) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::line;
    use serde_json::{Value, json};

    #[test]
    fn events_are_single_lines_that_control_no_terminal_and_say_the_same() {
        let event = json!({ "message": "a\n\x1b[2J\u{9b}31m\u{7f}\u{202e}é日" });
        let line = line(&event);
        assert_eq!(line, r#"{"message":"a\n\u001b[2J\u009b31m\u007f\u202eé日"}"#);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), event);
    }
}
