//! Answers in words: texts, labels and JSON.

mod json;
mod normal;

pub use normal::TextOptions;

use crate::extract::{
    AnswerRule, ExtractRule, FoundAnswer, Profile, choice_letter, choice_or_wording, extract_answer, label_wording,
    wording,
};
use crate::letters::{Letters, Small};
use json::Json;

/// A gold text, prepared once.
#[derive(Debug, Clone)]
pub(crate) struct TextGold {
    options: TextOptions,
    normal: String,
    json: Option<Json>,
    has_lines: bool,
}

impl TextGold {
    pub(crate) fn new(gold: &str, options: TextOptions) -> Self {
        let json = Json::of_text(gold);
        let text = if json.is_some() { gold } else { marked(gold) };
        Self { options, normal: options.normalise(text), json, has_lines: text.trim().contains('\n') }
    }

    /// Whether there is anything to compare with.
    pub(crate) fn is_readable(&self) -> bool {
        !self.normal.is_empty()
    }

    pub(crate) fn is_met_by(&self, completion: &str) -> bool {
        if let Some(gold) = &self.json {
            return gold.last_like(completion).is_some_and(|(found, _)| found == *gold);
        }
        let same = |text: &str| self.is_readable() && self.options.normalise(text) == self.normal;
        (self.has_lines && same(completion)) || wording(completion).is_some_and(|(span, _)| same(&completion[span]))
    }
}

/// What of a completion is compared with a gold text: JSON with JSON, words with words.
pub(crate) fn text_compared<'a>(completion: &'a str, gold: &str) -> Option<FoundAnswer<'a>> {
    let found = match Json::of_text(gold) {
        Some(gold) => gold.last_like(completion).map(|(_, span)| (span, AnswerRule::Json)),
        None => wording(completion),
    };
    found.map(|(span, rule)| FoundAnswer { text: completion[span].trim(), rule })
}

/// The text that a completion is judged by.
pub(crate) fn text_answer(completion: &str) -> Option<&str> {
    if let Some((_, span)) = json::last_object(completion) {
        return Some(completion[span].trim());
    }
    wording(completion).map(|(span, _)| &completion[span])
}

/// What makes two texts the same answer.
pub(crate) fn text_key(completion: &str, options: TextOptions) -> Option<String> {
    let answer = text_answer(completion)?;
    Some(Json::of_text(answer).map_or_else(|| options.normalise(answer), |json| format!("{json:?}")))
}

/// A gold choice, prepared once: a letter, a label, or both.
#[derive(Debug, Clone)]
pub(crate) struct ChoiceGold {
    letters: Option<Letters>,
    label: Option<String>,
}

impl ChoiceGold {
    pub(crate) fn new(gold: &str) -> Self {
        let gold = marked(gold).trim();
        if let Some(letters) = Letters::of_gold(gold) {
            return Self { letters: Some(letters), label: None };
        }
        let letters = Letters::of_label(gold);
        let label = plain_label(gold);
        Self { letters, label: (!label.is_empty()).then_some(label) }
    }

    /// Whether there is anything to compare with.
    pub(crate) fn is_readable(&self) -> bool {
        self.letters.is_some() || self.label.is_some()
    }

    pub(crate) fn is_met_by(&self, completion: &str) -> bool {
        let label_words = label_wording(completion).map(|span| &completion[span]);
        if let (Some(label), Some(words)) = (&self.label, label_words)
            && plain_label(words) == *label
        {
            // "A. sales" does not mean "B. sales".
            let named = Letters::of_any_label(words);
            return named.is_none() || self.letters.is_none() || named == self.letters;
        }
        let Some(letters) = self.letters else { return false };
        let names = |text: &str| letters.are_named_by(text, Small::Count);
        let found = choice_answer(completion).and_then(names);
        found.unwrap_or_else(|| choice_letter(completion).and_then(|span| names(&completion[span])).unwrap_or(false))
    }
}

/// What makes two choices the same: the letters, else the label.
pub(crate) fn choice_key(completion: &str) -> Option<String> {
    let words = choice_answer(completion)?;
    Some(Letters::of_choice(words).map_or_else(|| plain_label(words), |letters| format!("{letters:?}")))
}

/// The choice that a completion is judged by.
pub(crate) fn choice_answer(completion: &str) -> Option<&str> {
    choice_found(completion).map(|found| found.text)
}

/// The choice that a completion is judged by, and how it is found.
pub(crate) fn choice_found(completion: &str) -> Option<FoundAnswer<'_>> {
    choice_or_wording(completion).map(|(span, rule)| FoundAnswer { text: &completion[span], rule })
}

/// A label without its letter and without the noun it is a label of.
fn plain_label(label: &str) -> String {
    let label = label.trim();
    let words = match Letters::of_any_label(label) {
        Some(_) => label.split_once([' ']).map_or(label, |(_, words)| words),
        None => label,
    };
    let normal = TextOptions::default().normalise(words);
    let noun = ["category", "label", "class", "department", "team"].iter().find_map(|noun| normal.strip_suffix(noun));
    noun.and_then(|rest| rest.strip_suffix(' ')).filter(|rest| !rest.is_empty()).map_or(normal.clone(), str::to_owned)
}

/// What a gold text marks as its answer, else all of it.
fn marked(gold: &str) -> &str {
    let profile = Profile { rules: vec![ExtractRule::Boxed, ExtractRule::Hash], window: None, after_think: false };
    extract_answer(gold, &profile).map_or(gold, |found| found.text(gold))
}
