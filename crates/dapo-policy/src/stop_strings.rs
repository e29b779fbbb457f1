//! Which texts end a completion.

use crate::error::PolicyError;
use crate::tokenizer::Tokenizer;
use std::fmt;
use std::sync::Arc;

/// Texts that end a completion, and belong to it.
///
/// A completion ends with the first token with which its decoded text, without special tokens, contains one of the
/// strings. The text may run on behind the string within that token. A string that is a special token ends a completion
/// as a stop token does.
///
/// ```no_run
/// use dapo_policy::{StopStrings, load};
///
/// let (_, tokenizer) = load("path/to/model".as_ref())?;
/// let stops = StopStrings::new(["</answer>", "\n\n"], &tokenizer)?;
/// assert_eq!(stops.strings(), ["</answer>", "\n\n"]);
/// # Ok::<(), dapo_policy::PolicyError>(())
/// ```
#[derive(Clone, Default)]
pub struct StopStrings {
    /// Absent where there are no strings.
    search: Option<Arc<Search>>,
}

struct Search {
    strings: Vec<String>,
    /// The strings that are special tokens, which no decoded text shows.
    tokens: Vec<u32>,
    /// The other strings.
    texts: Vec<String>,
    /// Tokens that a match may reach back, and one more: some decoders treat the first token of a text in its own way.
    window: usize,
    tokenizer: Tokenizer,
}

/// The last tokens of a sequence that show in its text, as far as a match may reach back.
#[derive(Debug, Default)]
pub(crate) struct Tail(Vec<u32>);

impl StopStrings {
    /// These strings, looked for in the texts that a tokenizer decodes.
    ///
    /// # Errors
    /// [`PolicyError::Setting`] names a string that is empty, or that no decoded text can contain: because it has a special
    /// token among other text, or the replacement character.
    pub fn new<S: Into<String>>(
        strings: impl IntoIterator<Item = S>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, PolicyError> {
        let strings: Vec<String> = strings.into_iter().map(Into::into).collect();
        let (mut tokens, mut texts) = (Vec::new(), Vec::new());
        for (i, string) in strings.iter().enumerate() {
            let bad = |expected: String| {
                let (field, found) = (format!("stop[{i}]"), format!("{string:?}"));
                Err(PolicyError::Setting { field, found, expected })
            };
            if string.is_empty() {
                return bad("a text of at least one character".into());
            }
            if string.contains(char::REPLACEMENT_CHARACTER) {
                return bad("a text without the replacement character, which stands for parts of others".into());
            }
            if let Some(id) = tokenizer.token_id(string).filter(|id| tokenizer.is_silent(*id)) {
                tokens.push(id);
                continue;
            }
            let ids = tokenizer.encode(string, false)?;
            if let Some(special) = ids
                .into_iter()
                .filter(|id| tokenizer.is_silent(*id))
                .find_map(|id| tokenizer.token(id).filter(|token| string.contains(token.as_str())))
            {
                return bad(format!("a text without the special token {special:?}, or that token alone"));
            }
            texts.push(string.clone());
        }
        if strings.is_empty() {
            return Ok(Self::default());
        }
        // Every token in a window adds at least a byte.
        let window = texts.iter().map(String::len).max().unwrap_or(0) + 1;
        Ok(Self { search: Some(Arc::new(Search { strings, tokens, texts, window, tokenizer: tokenizer.clone() })) })
    }

    /// The strings.
    pub fn strings(&self) -> &[String] {
        self.search.as_ref().map_or(&[], |search| &search.strings)
    }

    /// Whether no text ends a completion.
    pub fn is_empty(&self) -> bool {
        self.search.is_none()
    }

    /// Takes in the next token of a sequence, which has contained none of the strings before; says whether it does now. The
    /// work is that of decoding as many tokens as the longest string has bytes, however long the sequence is.
    pub(crate) fn completes(&self, tail: &mut Tail, token: u32) -> Result<bool, PolicyError> {
        let Some(search) = &self.search else { return Ok(false) };
        if search.tokens.contains(&token) {
            return Ok(true);
        }
        if search.texts.is_empty() || search.tokenizer.is_silent(token) {
            return Ok(false);
        }
        if tail.0.len() == search.window {
            tail.0.remove(0);
        }
        tail.0.push(token);
        let text = search.tokenizer.decode(&tail.0, true)?;
        let mut found = search.texts.iter().filter(|string| text.contains(string.as_str())).peekable();
        if found.peek().is_none() {
            return Ok(false);
        }
        // What was there before the token was no match then: a decoder may read bytes otherwise behind what has left the tail.
        let before = search.tokenizer.decode(&tail.0[..tail.0.len() - 1], true)?;
        Ok(found.any(|string| occurrences(&text, string) > occurrences(&before, string)))
    }
}

/// How often a string occurs in a text, also across itself.
fn occurrences(text: &str, string: &str) -> usize {
    text.as_bytes().windows(string.len()).filter(|window| *window == string.as_bytes()).count()
}

impl PartialEq for StopStrings {
    fn eq(&self, other: &Self) -> bool {
        self.strings() == other.strings()
    }
}

impl fmt::Debug for StopStrings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopStrings").field(&self.strings()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn tokenizer(tokens: &[String], decoder: &Value) -> Tokenizer {
        let vocab: Map<String, Value> =
            tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        let flags = json!({"single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
        let mut special = json!({"id": 0, "content": tokens[0], "special": true});
        special.as_object_mut().unwrap().extend(flags.as_object().unwrap().clone());
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": tokens[0]},
        });
        Tokenizer::new(
            tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap(),
            Map::new(),
            None,
            "tokenizer.json".as_ref(),
        )
        .unwrap()
    }

    /// As GPT-2 writes bytes: those that print as they are, the others from U+0100 on.
    fn byte_level(bytes: &[u8]) -> String {
        let prints = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let char_of = |b: u8| {
            let others = (0..b).filter(|b| !prints(*b)).count() as u32;
            if prints(b) { char::from(b) } else { char::from_u32(256 + others).unwrap() }
        };
        bytes.iter().map(|b| char_of(*b)).collect()
    }

    /// Tokens of one byte, of several, and of parts of characters with what stands beside them.
    fn bytes() -> Tokenizer {
        let pieces: [&[u8]; 16] = [
            b"a",
            b"b",
            b" ",
            b"ab",
            b" a",
            b"\n",
            b"</ans",
            b"wer>",
            b"er>x",
            b"<",
            b"/",
            "–".as_bytes(),
            b"\xe2",
            b"\x80\x93",
            b"\x93a",
            b"b\xe2\x80",
        ];
        let tokens = std::iter::once("<eos>".to_owned()).chain(pieces.map(byte_level)).collect::<Vec<_>>();
        let decoder = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        tokenizer(&tokens, &decoder)
    }

    /// As Llama 2's, which leaves out the space that every text begins with.
    fn pieces() -> Tokenizer {
        let tokens = [
            "<eos>", "a", "b", "▁", "ab", "▁a", "\n", "</ans", "wer>", "er>x", "<", "/", "–", "<0xE2>", "<0x80>",
            "<0x93>", "b▁a",
        ];
        let decoder = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]});
        tokenizer(&tokens.map(str::to_owned), &decoder)
    }

    /// The number of tokens with which a text first contains a string, by decoding it whole each time.
    fn reference(tokenizer: &Tokenizer, strings: &[&str], ids: &[u32]) -> Option<usize> {
        (1..=ids.len()).find(|n| {
            let text = tokenizer.decode(&ids[..*n], true).unwrap();
            strings.iter().any(|string| text.contains(string))
        })
    }

    fn found(stops: &StopStrings, ids: &[u32]) -> Option<usize> {
        let mut tail = Tail::default();
        (1..=ids.len()).find(|n| stops.completes(&mut tail, ids[n - 1]).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_string_is_found_with_the_token_that_completes_it(
            ids in prop::collection::vec(prop_oneof![8 => 1..17u32, 1 => Just(0), 1 => Just(99)], 0..60),
            strings in prop::sample::subsequence(
                vec!["ab a", " a", "–", "–a", "b–a", "</answer>", "a\n", "  ", "aabb", "\n\n", "er>x<"], 1..4),
        ) {
            for tokenizer in [bytes(), pieces()] {
                let stops = StopStrings::new(strings.clone(), &tokenizer).unwrap();
                prop_assert_eq!(found(&stops, &ids), reference(&tokenizer, &strings, &ids));
            }
        }
    }

    #[test]
    fn a_string_is_found_behind_bytes_that_look_like_it_without_those_before_them() {
        // The bytes E2 E2 80 93 are no text; the last three of them are an en dash. Then comes one.
        let ids = [13, 13, 14, 15, 12];
        let stops = StopStrings::new(["–"], &pieces()).unwrap();
        assert_eq!((found(&stops, &ids), reference(&pieces(), &["–"], &ids)), (Some(5), Some(5)));
    }

    #[test]
    fn work_does_not_grow_with_the_length_of_a_text() {
        let tokenizer = bytes();
        let stops = StopStrings::new(["</answer>"], &tokenizer).unwrap();
        let mut tail = Tail::default();
        for _ in 0..100_000 {
            assert!(!stops.completes(&mut tail, 4).unwrap());
        }
        assert_eq!(tail.0.len(), "</answer>".len() + 1);
    }

    #[test]
    fn a_special_token_ends_a_completion_by_its_id() {
        let stops = StopStrings::new(["<eos>", "ab"], &bytes()).unwrap();
        assert_eq!(found(&stops, &[1, 1, 0, 4]), Some(3));
        assert_eq!(found(&stops, &[1, 1, 2, 0]), Some(3));
        assert_eq!(found(&StopStrings::new(["<eos>"], &bytes()).unwrap(), &[1, 2, 3]), None);
    }

    #[test]
    fn strings_that_no_text_contains_are_refused() {
        let error = |string: &str| StopStrings::new(["ab", string], &bytes()).unwrap_err().to_string();
        assert_eq!(error(""), "stop[1] is \"\", expected a text of at least one character");
        assert!(error("\u{fffd}").contains("expected a text without the replacement character"));
        assert!(error("a<eos>").contains("expected a text without the special token \"<eos>\", or that token alone"));
        let none = StopStrings::new(Vec::<String>::new(), &bytes()).unwrap();
        assert!(none.is_empty() && none == StopStrings::default() && none.strings().is_empty());
    }
}
