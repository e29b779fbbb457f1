//! What of a text counts.

use serde::{Deserialize, Serialize};

/// What does not count when two texts are compared. All is on by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(clippy::struct_excessive_bools, reason = "four independent switches")]
pub struct TextOptions {
    /// Capital and small letters are alike.
    pub ignore_case: bool,
    /// Runs of white space are one space; none counts at the ends.
    pub ignore_whitespace: bool,
    /// Punctuation marks, quotes and brackets do not count, except within numbers. Signs such as `+`, `#`, `%` and `/` count.
    pub ignore_punctuation: bool,
    /// The words "a", "an" and "the" before another word do not count.
    pub ignore_articles: bool,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { ignore_case: true, ignore_whitespace: true, ignore_punctuation: true, ignore_articles: true }
    }
}

impl TextOptions {
    /// The text without what does not count; empty only where there is no text.
    pub(crate) fn normalise(self, text: &str) -> String {
        let text = text.trim();
        let bare = if text.len() <= 4_096 { crate::parse::unwrap(text) } else { text };
        let mut out = if self.ignore_punctuation { without_punctuation(bare) } else { bare.to_owned() };
        if self.ignore_articles {
            out = without_articles(&out);
        }
        if self.ignore_case {
            out = out.to_lowercase();
        }
        if self.ignore_whitespace {
            out = out.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        // Of a text of nothing but punctuation, the punctuation counts.
        if out.trim().is_empty() { text.to_owned() } else { out }
    }
}

fn without_punctuation(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let after = chars.peek().copied().unwrap_or(' ');
        let in_number = before.is_ascii_digit() && after.is_ascii_digit();
        let kept = match c {
            '.' | ',' | ':' => in_number || (c == '.' && after.is_ascii_digit()),
            // A sign before a number counts, a hyphen between words is a space.
            '-' | '−' => !before.is_alphanumeric() && (after.is_ascii_digit() || after == '.'),
            _ => !is_punctuation(c),
        };
        if kept {
            out.push(c);
        } else if !matches!(c, '\'' | '’' | '.' | '`') {
            out.push(' ');
        }
        before = c;
    }
    out
}

fn is_punctuation(c: char) -> bool {
    matches!(
        c,
        ';' | '!'
            | '?'
            | '"'
            | '\''
            | '`'
            | '('
            | ')'
            | '['
            | ']'
            | '{'
            | '}'
            | '*'
            | '_'
            | '~'
            | '…'
            | '“'
            | '”'
            | '‘'
            | '’'
            | '«'
            | '»'
            | '–'
            | '—'
            | '。'
            | '，'
            | '！'
            | '？'
            | '；'
            | '：'
            | '、'
            | '（'
            | '）'
            | '「'
            | '」'
            | '\\'
    )
}

fn without_articles(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    // Whether a word of more than one letter comes next, told from the end.
    let mut word_next = vec![false; words.len()];
    let mut next = false;
    for (at, word) in words.iter().enumerate().rev() {
        word_next[at] = next;
        if !word.is_empty() {
            next = word.chars().nth(1).is_some();
        }
    }
    let mut kept: Vec<&str> = Vec::with_capacity(words.len());
    let mut is_first = true;
    for (word, word_next) in words.into_iter().zip(word_next) {
        let is_article = ["a", "an", "the"].iter().any(|article| word.eq_ignore_ascii_case(article));
        // "Vitamin A", "A" and "A B" name letters.
        let is_name = word == "A" && !is_first;
        is_first &= word.is_empty();
        if !(is_article && word_next && !is_name) {
            kept.push(word);
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> bool {
        let options = TextOptions::default();
        options.normalise(one) == options.normalise(other)
    }

    #[test]
    fn case_space_punctuation_and_articles_do_not_count() {
        for (one, other) in [
            ("The Eiffel Tower", "eiffel tower."),
            ("\"billing\"", "Billing"),
            ("well-known", "well known"),
            ("U.S.", "US"),
            ("don’t  know", "Don't know!"),
            ("\\text{no}", "No"),
            ("**sales**", "sales"),
            ("a dog", "dog"),
        ] {
            assert!(alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn numbers_signs_and_letters_count() {
        for (one, other) in [
            ("1.5", "15"),
            ("-5", "5"),
            ("C++", "C"),
            ("C#", "C"),
            ("5%", "5"),
            ("vitamin A", "vitamin"),
            ("10:30", "1030"),
            ("not billing", "billing"),
            ("A", "The"),
            ("?", "!"),
            ("1,5", "15"),
            (".5", "5"),
            ("hepatitis A", "hepatitis"),
            ("A B", "B"),
            ("now here", "nowhere"),
            ("and/or", "and or"),
        ] {
            assert!(!alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn each_switch_stands_alone() {
        let none = TextOptions {
            ignore_case: false,
            ignore_whitespace: false,
            ignore_punctuation: false,
            ignore_articles: false,
        };
        assert_eq!(none.normalise(" The  End. "), "The  End");
        let case = TextOptions { ignore_case: true, ..none };
        assert_eq!(case.normalise("The  End!"), "the  end!");
        let space = TextOptions { ignore_whitespace: true, ..none };
        assert_eq!(space.normalise("The  End"), "The End");
        let articles = TextOptions { ignore_articles: true, ..none };
        assert_eq!(articles.normalise("The End"), "End");
    }
}
