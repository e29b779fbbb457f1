//! Answers in words: what is announced, else the last line.

use std::ops::Range;

use super::find::find;
use super::lines::{rest_of_line, sentence_end, skip_blank};
use super::{AnswerRule, ExtractRule, Profile, choice, prose};
use crate::trim::trim;

/// Words that announce a label.
const NOUNS: [&str; 16] = [
    "category",
    "label",
    "class",
    "classification",
    "sentiment",
    "topic",
    "intent",
    "department",
    "tag",
    "verdict",
    "prediction",
    "emotion",
    "genre",
    "type",
    "option",
    "choice",
];

/// The answer in words that a completion gives: what is announced as the answer or the label, else its last line.
pub(crate) fn wording(text: &str) -> Option<(Range<usize>, AnswerRule)> {
    announced(text).or_else(|| last_line(text))
}

fn announced(text: &str) -> Option<(Range<usize>, AnswerRule)> {
    use ExtractRule::{AnswerIs, AnswerLine, AnswerTag, Boxed, Hash};
    let profile =
        Profile { rules: vec![Boxed, AnswerLine, Hash, AnswerTag, AnswerIs], window: None, after_think: false };
    let answer = find(text, &profile).map(|found| {
        // All words of a sentence count.
        let span = found.sentence.unwrap_or(found.extracted.span);
        (span, AnswerRule::Extract(found.extracted.rule))
    });
    let label = label(text).map(|span| (span, AnswerRule::Label));
    match (answer, label) {
        (Some(answer), Some(label)) if label.0.start > answer.0.end => Some(label),
        (Some(answer), _) => Some(answer),
        (None, label) => label,
    }
}

/// What follows the last "the category is", `Label:` and the like.
fn label(text: &str) -> Option<Range<usize>> {
    let mut end = text.len();
    loop {
        let start = text[..end].rfind('\n').map_or(0, |at| at + 1);
        // The shortest is "tag: x".
        let line = if end - start < 6 { String::new() } else { text[start..end].to_ascii_lowercase() };
        let announces = line.contains([':', '=']) || line.contains("is ") || line.contains("be ");
        let nouns = if announces { NOUNS.as_slice() } else { &[] };
        let found = nouns.iter().filter_map(|noun| after_noun(&line, noun)).max();
        if let Some(found) = found {
            let content = skip_blank(text, start + found);
            let span = content..rest_of_line(text, content).end;
            let sentence = content..content + sentence_end(&text[span]);
            let span = trim(text, sentence);
            if !span.is_empty() {
                return Some(span);
            }
        }
        end = start.checked_sub(1)?;
    }
}

/// Past the colon or verb after the last `noun` of a line.
fn after_noun(line: &str, noun: &str) -> Option<usize> {
    line.rmatch_indices(noun).take(8).find_map(|(at, _)| {
        let before = line[..at].chars().next_back();
        let rest = &line[at + noun.len()..];
        let bare = rest.trim_start_matches(['*', '_', '"', ' ']);
        let after = bare.strip_prefix(':').or_else(|| {
            let verb = ["is ", "is:", "should be ", "would be ", "must be ", "= "]
                .iter()
                .find(|verb| bare.starts_with(**verb))?;
            Some(&bare[verb.len()..])
        })?;
        let is_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && (rest.len() > bare.len() || rest.starts_with(':'));
        is_word.then(|| line.len() - after.trim_start_matches([':', ' ']).len())
    })
}

/// The last line that is not empty.
fn last_line(text: &str) -> Option<(Range<usize>, AnswerRule)> {
    let end = text.trim_end().len();
    let start = text[..end].rfind('\n').map_or(0, |at| at + 1);
    let span = trim(text, start..end);
    (!span.is_empty()).then_some((span, AnswerRule::LastLine))
}

/// The choice that a completion gives: a letter where what it says begins with one, else the words.
pub(crate) fn choice_or_wording(text: &str) -> Option<(Range<usize>, AnswerRule)> {
    let letter = || choice::letter(text).map(|span| (span, AnswerRule::Extract(ExtractRule::Choice)));
    let Some((piece, rule)) = wording(text) else { return letter() };
    if let Some(letter) = choice::opening(text, piece.clone()) {
        return Some((letter, rule));
    }
    let is_sentence = text[piece.clone()].split_whitespace().count() > 3;
    if rule == AnswerRule::LastLine
        && is_sentence
        && let Some(letter) = letter()
    {
        return Some(letter);
    }
    Some((label_in(text, piece), rule))
}

/// The label that a completion gives, perhaps with its letter.
pub(crate) fn label_wording(text: &str) -> Option<Range<usize>> {
    let (piece, _) = wording(text)?;
    Some(label_in(text, piece))
}

/// A label without the explanation behind it; a tail that hedges stays.
fn label_in(text: &str, piece: Range<usize>) -> Range<usize> {
    const BREAKS: [&str; 10] = [". ", " - ", " — ", " – ", " (", " because ", ", because", ", since ", ", as ", "; "];
    /// No label is longer, in bytes.
    const LONGEST: usize = 600;
    let source = &text[piece.clone()];
    if source.len() > LONGEST {
        return piece;
    }
    let Some(end) = BREAKS.iter().filter_map(|mark| source.find(mark)).min() else { return piece };
    if prose::is_hedged(&source[end..]) {
        return piece;
    }
    trim(text, piece.start..piece.start + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<&str> {
        wording(text).map(|(span, _)| &text[span])
    }

    fn chosen(text: &str) -> Option<&str> {
        choice_or_wording(text).map(|(span, _)| &text[span])
    }

    #[test]
    fn words_are_found_where_they_are_announced() {
        for text in [
            "The category is billing.",
            "Category: billing",
            "**Label:** billing\n",
            "The answer is billing.",
            "\\boxed{billing}",
            "#### billing",
            "<answer>billing</answer>",
            "Answer: billing",
            "I think.\nbilling",
            "billing",
            "Let me see.\nThe correct class is **billing**.",
            "\"label\": billing",
            "The answer is clear. The category is billing.",
        ] {
            assert_eq!(words(text), Some("billing"), "{text}");
        }
        assert_eq!(words("It is billing or sales."), Some("It is billing or sales"));
        assert_eq!(words("The category is billing or sales."), Some("billing or sales"));
        assert_eq!(words("The answer is 5 golden rings in total"), Some("5 golden rings in total"));
        assert_eq!(words(" \n"), None);
    }

    #[test]
    fn choices_are_letters_or_labels() {
        assert_eq!(chosen("The answer is (B)."), Some("B"));
        assert_eq!(chosen("The category is billing, because of the invoice."), Some("billing"));
        assert_eq!(chosen("Answer: billing - it is about an invoice"), Some("billing"));
        assert_eq!(chosen("billing. The user asks about an invoice."), Some("billing"));
        assert_eq!(chosen("Answer: billing (or sales)"), Some("billing (or sales)"));
        assert_eq!(chosen("The answer is vitamin C."), Some("vitamin C"));
        assert_eq!(chosen("So it has to be B."), Some("B"));
    }
}
