//! The character maps of SentencePiece in `tokenizer.json`: the length of a trie, the trie, and the texts that it leads to,
//! each ended by a NUL; in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The field's name.
pub(super) const FIELD: &str = "precompiled_charsmap";

/// Refuses maps that say that their trie is longer than they are: for one the library would reserve up to 8 GiB.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    // Reading a whole tokenizer twice takes time. A field's name may be written with escapes.
    let may_have = |text: &[u8]| json.windows(text.len()).any(|window| window == text);
    if !(may_have(FIELD.as_bytes()) || may_have(br"\u00")) {
        return Ok(());
    }
    // What is wrong elsewhere is for the library to say.
    serde_json::from_slice::<Value>(json).map_or(Ok(()), |json| check_within(&json))
}

fn check_within(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(list) => list.iter().try_for_each(check_within),
        Value::Object(fields) => {
            if let Some(map) = fields.get(FIELD).and_then(Value::as_str).and_then(decoded) {
                let (found, most) = (trie_length(&map), map.len().saturating_sub(4));
                if found > most {
                    return Err(format!("{FIELD} has a trie of {found} bytes, expected at most {most}"));
                }
            }
            fields.values().try_for_each(check_within)
        }
        _ => Ok(()),
    }
}

/// The longest text, in bytes, that a map puts in place of a character.
pub(super) fn longest(map: &str) -> usize {
    let map = decoded(map).unwrap_or_default();
    let texts = map.get(4 + trie_length(&map)..).unwrap_or_default();
    texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0)
}

fn decoded(map: &str) -> Option<Vec<u8>> {
    STANDARD.decode(map).ok()
}

fn trie_length(map: &[u8]) -> usize {
    map.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize)
}
