//! From rules to one answer.

use std::ops::Range;

use super::announce::{self, Manner, announces_no_more};
use super::doubt::{self, Afterthought};
use super::nested::announced_within;
use super::prose::{self, Reading};
use super::{ExtractRule, Extracted, Profile, boxed, choice, lines, math};
use crate::parse::{Answer, ParseError, parse_answer};
use crate::trim::trim;

/// An answer that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) extracted: Extracted,
    /// The sentence that the answer was told from, where there is more to it.
    pub(crate) sentence: Option<Range<usize>>,
}

/// Part of a text that a rule points at.
struct Candidate {
    rule: ExtractRule,
    /// Where the announcement begins.
    start: usize,
    content: Range<usize>,
}

/// A candidate brought down to the answer in it.
struct Resolved {
    span: Range<usize>,
    sentence: Option<Range<usize>>,
    is_prose: bool,
}

/// Finds the answer in a text, as [`super::extract_answer`] does.
pub(crate) fn find(text: &str, profile: &Profile) -> Option<Found> {
    if profile.rules.first() == Some(&ExtractRule::Boxed)
        && profile.window.is_none()
        && !profile.after_think
        && let Some(span) = boxed::only_number(text)
    {
        return Some(Found { extracted: Extracted { span, rule: ExtractRule::Boxed }, sentence: None });
    }
    let start = search_start(text, profile)?;
    let searched = first_turn(&text[start..]);
    let shifted = |span: Range<usize>| start + span.start..start + span.end;
    let found = search(searched, &profile.rules);
    // An answer within a thought gives way to what is said behind it. Only what follows the answer is looked at, unless the
    // answer is the whole text.
    let from = match &found {
        Some((ExtractRule::Whole, _)) | None => 0,
        Some((_, resolved)) => resolved.sentence.as_ref().unwrap_or(&resolved.span).end,
    };
    if let Some(end) = behind_thought(&searched[from..]) {
        let behind = start + from + end;
        let found = find(&text[behind..], profile)?;
        let shifted = |span: Range<usize>| behind + span.start..behind + span.end;
        let extracted = Extracted { span: shifted(found.extracted.span), rule: found.extracted.rule };
        return Some(Found { extracted, sentence: found.sentence.map(shifted) });
    }
    let (rule, mut resolved) = found?;
    if is_explicit(rule) || matches!(rule, ExtractRule::AnswerIs | ExtractRule::LastMath) {
        let end = resolved.sentence.as_ref().unwrap_or(&resolved.span).end;
        match doubt::afterthought(searched, end) {
            Afterthought::None => {}
            Afterthought::Rejected => return None,
            Afterthought::Corrected(sentence) => resolved = resolve(searched, ExtractRule::AnswerIs, sentence)?,
        }
    }
    Some(Found {
        extracted: Extracted { span: shifted(resolved.span), rule },
        sentence: resolved.sentence.map(shifted),
    })
}

/// Ends a thought.
const CLOSE: &str = "</think>";

/// Where the last thought ends, if something is said behind it.
fn behind_thought(text: &str) -> Option<usize> {
    if !text.contains(CLOSE) {
        return None;
    }
    let end = text.rfind(CLOSE)? + CLOSE.len();
    let is_silent = text[end..].trim_matches(|c: char| c.is_whitespace() || c == '*').is_empty();
    (!is_silent).then_some(end)
}

/// Where a profile begins to look.
fn search_start(text: &str, profile: &Profile) -> Option<usize> {
    let mut start = 0;
    if let Some(window) = profile.window {
        start = text.char_indices().rev().take(window).last().map_or(text.len(), |(at, _)| at);
    }
    if profile.after_think {
        start = start.max(text.rfind(CLOSE)? + CLOSE.len());
        // The window may begin inside the tag's end; both bounds are character boundaries.
    } else if text.trim_start().starts_with("<think>") && !text.contains("</think>") {
        // A thought that is not finished gives no answer yet.
        return None;
    }
    Some(start)
}

/// Reads what was found: a list of boxes without the boxes; emphasis goes where it is in the way.
pub(crate) fn parse_prediction(text: &str) -> Result<Answer, ParseError> {
    let text = boxed::unboxed(text);
    if text.starts_with("**") { parse_answer(&text.replace("**", "")) } else { parse_answer(&text) }
}

/// What a model says before the mark that ends its turn.
fn first_turn(text: &str) -> &str {
    if !text.contains("<|") {
        return text;
    }
    let ends = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>"].iter().filter_map(|mark| text.find(mark));
    ends.min().map(|end| &text[..end]).filter(|turn| !turn.trim().is_empty()).unwrap_or(text)
}

fn search(text: &str, rules: &[ExtractRule]) -> Option<(ExtractRule, Resolved)> {
    // What was announced in words that hold no value, in case nothing else is found.
    let mut spare: Option<(ExtractRule, Resolved)> = None;
    let mut rest = rules;
    while let Some(&rule) = rest.first() {
        let explicit = rest.iter().take_while(|rule| is_explicit(**rule)).count();
        let found = if explicit > 0 {
            explicit_answer(text, &rest[..explicit], &mut spare)
        } else if spare.is_some() && rule != ExtractRule::AnswerIs {
            return spare;
        } else {
            apply(rule, text).and_then(|content| resolve(text, rule, content)).map(|found| (rule, found))
        };
        match found {
            Some((ExtractRule::LastMath, found)) if rest.len() > 1 && found.is_unreadable(text) => {}
            Some((rule, found)) if found.is_prose && rule == ExtractRule::AnswerIs && spare.is_some() => {}
            Some(found) => return Some(found),
            None => {}
        }
        rest = &rest[explicit.max(1)..];
    }
    spare
}

impl Resolved {
    /// Whether the answer cannot be read.
    fn is_unreadable(&self, text: &str) -> bool {
        let piece = &text[self.span.clone()];
        !is_plain(piece) && parse_prediction(piece).is_err()
    }
}

fn is_explicit(rule: ExtractRule) -> bool {
    matches!(rule, ExtractRule::Boxed | ExtractRule::AnswerLine | ExtractRule::Hash | ExtractRule::AnswerTag)
}

/// The last of the explicit announcements; one that holds no value yields to an earlier one.
fn explicit_answer(
    text: &str,
    rules: &[ExtractRule],
    spare: &mut Option<(ExtractRule, Resolved)>,
) -> Option<(ExtractRule, Resolved)> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let boxed = if rules.contains(&ExtractRule::Boxed) { boxed::last(text) } else { None };
    // Only what stands behind the box comes after it.
    let box_end = boxed.as_ref().map_or(0, |found| found.whole.end);
    let mut after = box_end;
    if let Some(found) = boxed {
        if announces_nothing(&text[box_end..])
            && let Some(resolved) = resolve(text, ExtractRule::Boxed, found.content.clone())
            && !resolved.is_prose
        {
            return Some((ExtractRule::Boxed, resolved));
        }
        candidates.push(Candidate { rule: ExtractRule::Boxed, start: found.whole.start, content: found.content });
    }
    for &rule in rules {
        let content = match rule {
            ExtractRule::Hash => lines::hash(&text[box_end..]),
            ExtractRule::AnswerTag => lines::answer_tag(&text[box_end..]),
            _ => None,
        };
        if let Some(content) = content {
            let content = box_end + content.start..box_end + content.end;
            after = after.max(content.end);
            candidates.push(Candidate { rule, start: content.start, content });
        }
    }
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.start));
    if rules.contains(&ExtractRule::AnswerLine)
        && let Some(line) = announce::last(text, after, Manner::Line)
    {
        candidates.insert(0, Candidate { rule: ExtractRule::AnswerLine, start: line.start, content: line.content });
    }
    for candidate in candidates {
        let Some(resolved) = resolve(text, candidate.rule, candidate.content) else { continue };
        if !resolved.is_prose {
            return Some((candidate.rule, resolved));
        }
        if spare.is_none() {
            *spare = Some((candidate.rule, resolved));
        }
    }
    None
}

fn apply(rule: ExtractRule, text: &str) -> Option<Range<usize>> {
    match rule {
        ExtractRule::AnswerIs => announce::last(text, 0, Manner::Sentence).map(|found| found.content),
        ExtractRule::LastMath => math::last_math(text),
        ExtractRule::Choice => choice::letter(text),
        ExtractRule::LastNumber => math::last_number(text),
        ExtractRule::Whole => Some(0..text.len()),
        ExtractRule::Boxed | ExtractRule::AnswerLine | ExtractRule::Hash | ExtractRule::AnswerTag => None,
    }
}

/// Brings what a rule points at down to the answer in it.
fn resolve(text: &str, rule: ExtractRule, content: Range<usize>) -> Option<Resolved> {
    /// Announcements within announcements that are followed.
    const DEEPEST: usize = 4;
    let mut span = trim(text, content);
    if span.is_empty() {
        return None;
    }
    let whole = |span| Some(Resolved { span, sentence: None, is_prose: false });
    let follows = is_explicit(rule) || rule == ExtractRule::AnswerIs;
    if !follows || is_plain(&text[span.clone()]) {
        return whole(span);
    }
    let mut followed = false;
    for _ in 0..DEEPEST {
        let Some(inner) = announced_within(&text[span.clone()]) else { break };
        let inner = trim(text, span.start + inner.start..span.start + inner.end);
        if inner.is_empty() || inner == span {
            break;
        }
        span = inner;
        followed = true;
    }
    if rule == ExtractRule::Boxed && !followed {
        return whole(span);
    }
    // Within a formula, `!` is a factorial.
    let is_sentence = rule == ExtractRule::AnswerIs && !text[..span.start].ends_with(['$', '(', '[']);
    match prose::read(&text[span.clone()], is_sentence) {
        Reading::Whole => {
            let is_prose = points_elsewhere(&text[span.clone()]);
            Some(Resolved { span, sentence: None, is_prose })
        }
        Reading::Prose => Some(Resolved { span, sentence: None, is_prose: true }),
        Reading::Value(value) => {
            let value = trim(text, span.start + value.start..span.start + value.end);
            if value.is_empty() {
                return whole(span);
            }
            Some(Resolved { span: value, sentence: Some(span), is_prose: false })
        }
    }
}

/// Whether a short text holds none of the signs of an announcement.
fn announces_nothing(text: &str) -> bool {
    text.len() <= boxed::LONGEST_END && text.bytes().all(announces_no_more)
}

/// Whether an answer needs no further look: a plain integer.
fn is_plain(piece: &str) -> bool {
    piece.len() <= 20 && piece.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// "see above" and the like.
fn points_elsewhere(piece: &str) -> bool {
    ["see above", "above", "as above", "as shown above", "shown above", "given above", "boxed above", "see below"]
        .iter()
        .any(|words| piece.eq_ignore_ascii_case(words))
}
