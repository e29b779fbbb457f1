//! A completion's text, shown while it is generated.

use crate::interrupt::Interrupt;
use crate::terminal::{RawArgs, Stdout};
use anyhow::{Error, Result};
use dapo_policy::{Completion, Decoder, GenerationConfig, Request, Tokenizer};
use std::io::Write;
use std::ops::ControlFlow;

/// What was generated.
pub(crate) struct Streamed {
    /// All text that was shown.
    pub(crate) text: String,
    /// The completion; `None` where the user ended it.
    pub(crate) completion: Option<Completion>,
}

/// Generates one completion, writes its text to stdout as it grows, and a line feed at its end. An interrupt ends it.
///
/// # Errors
/// When a setting or token id is invalid, or stdout cannot be written.
pub(crate) fn stream(
    (policy, tokenizer): (&Decoder, &Tokenizer),
    request: &Request,
    generation: &GenerationConfig,
    raw: RawArgs,
    interrupt: &Interrupt,
) -> Result<Streamed> {
    let mut text = GrowingText::default();
    let mut failure: Option<Error> = None;
    let mut show = |tokens: &[u32]| {
        let shown = tokenizer.decode(tokens, true).map_err(Error::from).and_then(|whole| write(text.grow(whole), raw));
        if let Err(error) = shown {
            failure = Some(error);
        }
        if failure.is_some() || interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let completion = policy.generate_streamed(request, generation, &mut show)?;
    if let Some(error) = failure {
        return Err(error);
    }
    write(text.rest(), raw)?;
    write("\n", raw)?;
    Ok(Streamed { text: text.last, completion })
}

fn write(text: &str, raw: RawArgs) -> Result<()> {
    if !text.is_empty() {
        // Locked for this part alone: the caller may be another thread's.
        let mut stdout = Stdout::with(raw);
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
    }
    Ok(())
}

/// A text of which ever more is known.
#[derive(Default)]
struct GrowingText {
    last: String,
    /// Bytes of it that were shown.
    shown: usize,
}

impl GrowingText {
    /// Takes in the text as it is now; gives what can be shown of it. That is what two texts in a row agree on: the last token
    /// may be the first part of a character, and some decoders write the end of a text in its own way.
    fn grow(&mut self, whole: String) -> &str {
        let agreed = agreement(&self.last, &whole);
        self.last = whole;
        let known = self.last[..agreed].trim_end_matches(char::REPLACEMENT_CHARACTER).len();
        self.show(known)
    }

    /// What was not shown at the end.
    fn rest(&mut self) -> &str {
        self.show(self.last.len())
    }

    fn show(&mut self, end: usize) -> &str {
        let start = self.shown;
        self.shown = start.max(end);
        // A text that became another is shown from where it can be.
        self.last.get(start..self.shown).unwrap_or_default()
    }
}

/// Bytes that two texts begin with alike, in whole characters.
fn agreement(one: &str, other: &str) -> usize {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of texts that come one after another.
    fn shown(texts: &[&str]) -> Vec<String> {
        let mut growing = GrowingText::default();
        let mut parts: Vec<String> = texts.iter().map(|text| growing.grow((*text).to_owned()).to_owned()).collect();
        parts.push(growing.rest().to_owned());
        parts
    }

    #[test]
    fn text_is_shown_once_and_whole() {
        assert_eq!(shown(&["a", "ab", "abc"]), ["", "a", "b", "c"]);
        assert_eq!(shown(&["one"]), ["", "one"]);
        assert_eq!(shown(&[]), [""]);
    }

    #[test]
    fn parts_of_characters_wait_for_the_rest() {
        // 日 and é come in parts, which decode to replacement characters.
        let parts = shown(&["a\u{fffd}", "a\u{fffd}\u{fffd}", "a日", "a日\u{fffd}", "a日é", "a日é"]);
        assert_eq!(parts, ["", "a", "", "日", "", "é", ""]);
    }

    #[test]
    fn an_end_that_every_text_has_is_shown_at_the_end_alone() {
        assert_eq!(shown(&["x!", "xy!", "xyz!"]).concat(), "xyz!");
    }

    #[test]
    fn a_text_that_becomes_another_is_no_panic() {
        for texts in [["abc", "abc", "日"], ["日本", "日本", "a"], ["ab", "ab", ""]] {
            shown(&texts);
        }
    }
}
