//! JSON values, equal up to the order of keys and the writing of numbers.

use std::collections::BTreeMap;

/// Deepest nesting that is read.
const DEEPEST: usize = 64;

/// A JSON value; numbers are digits and an exponent, so that none is rounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number { negative: bool, digits: String, exponent: i64 },
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// The object or array that a text is, and nothing else.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let (value, length) = Self::at(text).ok()?;
        (length == text.len()).then_some(value)
    }

    /// The object or array that a text begins with, and its length.
    ///
    /// # Errors
    /// How far the text was read where it is no such value.
    fn at(text: &str) -> Result<(Self, usize), usize> {
        if !text.starts_with(['{', '[']) {
            return Err(0);
        }
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0);
        value.map(|value| (value, reader.at)).ok_or(reader.at)
    }

    /// Whether both are objects, or both arrays.
    fn is_like(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Object(_), Self::Object(_)) | (Self::List(_), Self::List(_)))
    }

    /// The value in a completion that is to be compared with this one: in the last fenced block that holds one, else
    /// the last in the text.
    pub(crate) fn last_like(&self, completion: &str) -> Option<(Self, std::ops::Range<usize>)> {
        last(completion, |found| found.is_like(self))
    }
}

/// The last object of a completion, whatever it holds.
pub(crate) fn last_object(completion: &str) -> Option<(Json, std::ops::Range<usize>)> {
    last(completion, |found| matches!(found, Json::Object(_)))
}

fn last(completion: &str, wanted: impl Fn(&Json) -> bool) -> Option<(Json, std::ops::Range<usize>)> {
    /// Bytes read in vain before the search is given up.
    const MOST: usize = 1_000_000;
    if let Some(found) = last_fenced(completion, &wanted) {
        return Some(found);
    }
    let mut found = None;
    let (mut at, mut in_vain) = (0, 0);
    while let Some(open) = completion[at..].find(['{', '[']).map(|open| at + open) {
        match Json::at(&completion[open..]) {
            Ok((value, length)) => {
                at = open + length;
                if wanted(&value) {
                    found = Some((value, open..at));
                }
            }
            Err(read) => {
                at = open + 1;
                in_vain += read;
                if in_vain > MOST {
                    break;
                }
            }
        }
    }
    found
}

fn last_fenced(completion: &str, wanted: impl Fn(&Json) -> bool) -> Option<(Json, std::ops::Range<usize>)> {
    /// Fences looked at from the end.
    const MOST: usize = 16;
    let mut end = completion.len();
    for _ in 0..MOST {
        let close = completion[..end].rfind("```")?;
        let open = completion[..close].rfind("```").map(|open| open + 3);
        if let Some(open) = open {
            let block = &completion[open..close];
            let name = block.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(block.len());
            if let Some(value) = Json::of_text(&block[name..]).filter(|value| wanted(value)) {
                return Some((value, open + name..close));
            }
        }
        end = close;
    }
    None
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes a byte after space.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            return None;
        }
        self.skip_space();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Json::Text),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut fields = BTreeMap::new();
        if self.take(b'}') {
            return Some(Json::Object(fields));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return None;
            }
            let key = self.string()?;
            if !self.take(b':') {
                return None;
            }
            let value = self.value(depth + 1)?;
            // A key given twice has no one meaning.
            if fields.insert(key, value).is_some() {
                return None;
            }
            if self.take(b'}') {
                return Some(Json::Object(fields));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Some(Json::List(items));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let c = self.text[self.at..].chars().next()?;
            self.at += c.len_utf8();
            match c {
                '"' => return Some(out),
                '\\' => out.push(self.escape()?),
                c if c < ' ' => return None,
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex()?;
                if (0xD800..0xDC00).contains(&high) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    let low = self.hex().filter(|low| (0xDC00..0xE000).contains(low))?;
                    char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))?
                } else {
                    char::from_u32(high)?
                }
            }
            _ => {
                // Back to a character boundary.
                self.at -= 1;
                return None;
            }
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn digits(&mut self) -> &str {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn number(&mut self) -> Option<Json> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let whole = self.digits().to_owned();
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let mut fraction = String::new();
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits().clone_into(&mut fraction);
            if fraction.is_empty() {
                return None;
            }
        }
        let mut exponent = 0_i64;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let below = self.peek() == Some(b'-');
            self.at += usize::from(matches!(self.peek(), Some(b'-' | b'+')));
            let size: i64 = self.digits().parse().ok().filter(|size| *size < 1 << 40)?;
            exponent = if below { -size } else { size };
        }
        let all = whole + &fraction;
        let digits = all.trim_start_matches('0');
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Json::Number { negative: false, digits: String::new(), exponent: 0 });
        }
        let shift = i64::try_from(digits.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        Some(Json::Number { negative, digits: significant.to_owned(), exponent: exponent + shift })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(one: &str, other: &str) -> bool {
        Json::of_text(one).is_some_and(|one| Json::of_text(other) == Some(one))
    }

    #[test]
    fn order_of_keys_and_writing_do_not_count() {
        assert!(equal(r#"{"a": 1, "b": [true, null]}"#, r#"{ "b":[true,null],"a":1.0 }"#));
        assert!(equal("[1e2, 0.50, -0]", "[100, 0.5, 0]"));
        assert!(equal(r#"["\u00e9\n", "\ud83d\ude00"]"#, "[\"é\\n\", \"😀\"]"));
    }

    #[test]
    fn every_value_counts() {
        for (one, other) in [
            (r#"{"a": 1}"#, r#"{"a": 2}"#),
            (r#"{"a": 1}"#, r#"{"a": -1}"#),
            (r#"{"a": 1}"#, r#"{"a": "1"}"#),
            (r#"{"a": 1}"#, r#"{"A": 1}"#),
            ("[1, 2]", "[2, 1]"),
            ("[1]", "[1, 1]"),
            ("[100000000000000000001]", "[100000000000000000002]"),
            (r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#),
            ("[0.1]", "[1]"),
        ] {
            assert!(!equal(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "{",
            "[1,]",
            "{a: 1}",
            "[01]",
            "1",
            "\"a\"",
            "[1] 2",
            "{\"a\":1,\"a\":1}",
            "[\"\\é\"]",
            "[1.]",
            "",
            "[\"\n\"]",
            "[-]",
        ] {
            assert_eq!(Json::of_text(text), None, "{text}");
        }
        assert_eq!(Json::of_text(&"[".repeat(100_000)), None);
    }

    #[test]
    fn the_last_block_or_object_is_found() {
        let gold = Json::of_text(r#"{"a": 1}"#).unwrap();
        let found = |text: &'static str| gold.last_like(text).map(|(_, span)| text[span].trim());
        assert_eq!(found("```json\n{\"a\": 2}\n```\nor {\"a\": 3}"), Some("{\"a\": 2}"));
        assert_eq!(found("first {\"a\": 2}, then {\"a\": [{}]} as in [1]"), Some("{\"a\": [{}]}"));
        assert_eq!(found("[{\"a\": 1}]"), None, "part of an array is no object");
        assert_eq!(found("nothing"), None);
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        let gold = Json::of_text("{}").unwrap();
        for piece in ["[", "{\"a\":", "[\"", "{", "[1,", "```", "{\"\\", "[[[[1,1,", "\"[{"] {
            assert!(gold.last_like(&piece.repeat(100_000 / piece.len())).is_none(), "{piece}");
        }
    }
}
