//! Choice letters: A to J, standing alone, neither denied nor the words "A" and "I".

use std::ops::Range;

use super::announce::{self, Manner};
use super::nested::announced_within;
use super::{boxed, lines};
use crate::trim::trim;

/// The letter, or the letters joined by "and", "or" and commas, that a text chooses.
pub(crate) fn letter(text: &str) -> Option<Range<usize>> {
    for piece in announced(text) {
        if begins_with_refusal(&text[piece.clone()]) {
            return None;
        }
        if let Some(span) = within(text, piece.clone()) {
            return Some(span);
        }
        if declines(&text[piece]) {
            return None;
        }
    }
    let groups = groups(text, 0..text.len());
    let whole = trim(text, 0..text.len());
    if !text[whole.clone()].contains('\n')
        && let Some(span) = lone(text, whole)
        && !groups.first().is_some_and(|group| group.span.start <= span.start && group.span.len() > 1)
    {
        return Some(span);
    }
    leading(text, &groups).or_else(|| groups.last().map(|group| group.span.clone()))
}

/// What is announced as the answer, the last first.
fn announced(text: &str) -> Vec<Range<usize>> {
    let announced = |manner| announce::last(text, 0, manner).map(|found| (found.start, found.content));
    let mut pieces: Vec<(usize, Range<usize>)> = [
        announced(Manner::Line),
        announced(Manner::Sentence),
        boxed::last(text).map(|found| (found.whole.start, found.content)),
        lines::hash(text).map(|content| (content.start, content)),
        lines::answer_tag(text).map(|content| (content.start, content)),
    ]
    .into_iter()
    .flatten()
    .collect();
    pieces.sort_by_key(|(start, _)| std::cmp::Reverse(*start));
    let brought_down = |piece: Range<usize>| {
        let piece = trim(text, piece);
        let inner = announced_within(&text[piece.clone()]);
        inner.map_or(piece.clone(), |inner| trim(text, piece.start + inner.start..piece.start + inner.end))
    };
    pieces.into_iter().map(|(_, piece)| brought_down(piece)).collect()
}

/// The first choice in what was announced.
fn within(text: &str, piece: Range<usize>) -> Option<Range<usize>> {
    let first = groups(text, piece.clone()).into_iter().next().map(|group| group.span);
    let several = first.clone().filter(|span| span.len() > 1);
    several.or_else(|| lone(text, piece)).or(first)
}

/// The choice that a piece begins with.
pub(super) fn opening(text: &str, piece: Range<usize>) -> Option<Range<usize>> {
    let span = within(text, piece.clone())?;
    let before = text[piece.start..span.start].to_ascii_lowercase();
    let before = before.trim_matches(|c: char| !c.is_alphabetic());
    matches!(before, "" | "option" | "choice" | "letter" | "text" | "textbf").then_some(span)
}

fn begins_with_refusal(piece: &str) -> bool {
    const WORDS: [&str; 12] = [
        "none",
        "neither",
        "no ",
        "unsure",
        "unknown",
        "unclear",
        "cannot",
        "impossible",
        "not sure",
        "i don",
        "i do not",
        "i can",
    ];
    let piece = piece.trim_start_matches(['*', '(', '{', ' ']);
    WORDS.iter().any(|word| piece.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)))
}

/// Whether an announcement says that there is no answer.
fn declines(piece: &str) -> bool {
    let words: Vec<String> = piece
        .split(|c: char| !(c.is_alphabetic() || matches!(c, '\'' | '’')))
        .take(12)
        .map(|word| word.to_ascii_lowercase().replace('’', "'"))
        .collect();
    words.iter().any(|word| {
        matches!(
            word.as_str(),
            "none" | "not" | "neither" | "no" | "unsure" | "unknown" | "unclear" | "cannot" | "never" | "impossible"
        ) || word.ends_with("n't")
    })
}

/// A letter of either case with nothing but its brackets or an answer after it (`d`, `(d)`, `b. 4`), or letters run
/// together.
fn lone(text: &str, piece: Range<usize>) -> Option<Range<usize>> {
    let source = &text[piece.clone()];
    if is_small_list(source) {
        return Some(piece);
    }
    let bare =
        source.trim_start_matches("\\text").trim_start_matches("bf").trim_start_matches(['{', '(', '*', '$', ' ', '[']);
    let start = piece.start + source.len() - bare.len();
    let run = bare.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(bare.len());
    let after = bare[run..].trim_start_matches(['}', '*', '$']);
    let ends = after.trim_matches([' ', '.', ')', ']', '}', '*', '$', ':']).is_empty();
    let letters = &bare.as_bytes()[..run];
    if run == 1 {
        let marked = after.starts_with(['.', ')', ':', ']']) && after[1..].starts_with([' ', '\n', '*', '}']);
        let is_letter = matches!(letters[0], b'A'..=b'J' | b'a'..=b'j');
        let is_denied = after.starts_with(['.', ')', ':', ']']) && denied_after(&after[1..]);
        return (is_letter && (ends || marked) && !is_denied).then_some(start..start + 1);
    }
    let distinct = || (1..run).all(|at| !letters[..at].contains(&letters[at]));
    (ends && (2..=10).contains(&run) && letters.iter().all(|byte| matches!(byte, b'A'..=b'J')) && distinct())
        .then_some(start..start + run)
}

/// `a, b and d`: several small letters and nothing else.
fn is_small_list(text: &str) -> bool {
    let mut letters = 0;
    text.len() <= 40
        && text.split([' ', ',', '/', '&', '(', ')', '.']).filter(|word| !word.is_empty()).all(|word| {
            letters += usize::from(word.len() == 1);
            matches!(word.as_bytes(), [b'a'..=b'j']) || matches!(word, "and" | "or")
        })
        && letters >= 2
}

/// Letters joined by separators.
struct Group {
    span: Range<usize>,
    /// Whether they are said not to be the answer.
    denied: bool,
}

/// The groups of letters that are not denied, in order; one pass.
fn groups(text: &str, range: Range<usize>) -> Vec<Group> {
    let bytes = text.as_bytes();
    let mut groups: Vec<Group> = Vec::new();
    let mut denied = false;
    let mut exempts = false;
    let mut at = range.start;
    while at < range.end {
        let byte = bytes[at];
        if matches!(byte, b'.' | b',' | b';' | b':' | b'\n' | b'!' | b'?') {
            denied = false;
        }
        if !byte.is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        let run = bytes[at..range.end]
            .iter()
            .position(|byte| !(byte.is_ascii_alphabetic() || *byte == b'\''))
            .unwrap_or(range.end - at);
        let end = at + run;
        if run == 1 && is_alone(text, at) {
            let joined = groups.last().is_some_and(|group| joins(&text[group.span.end..at]));
            let denied_here = if joined { groups.last().is_some_and(|group| group.denied) } else { denied };
            let denied_here = denied_here || denied_after(&text[end..range.end]);
            if is_letter(text, at) {
                match groups.last_mut() {
                    Some(group) if joined => {
                        group.span.end = end;
                        group.denied |= denied_here;
                    }
                    _ => groups.push(Group { span: at..end, denied: denied_here }),
                }
            }
        } else if is_denial(&text[at..end])
            || text[end..].starts_with("’t")
            || (exempts && text[at..end].eq_ignore_ascii_case("but"))
        {
            denied = true;
        } else if ["but", "so", "it", "rather", "instead", "therefore"]
            .iter()
            .any(|word| text[at..end].eq_ignore_ascii_case(word))
        {
            denied = false;
        }
        exempts =
            ["anything", "everything", "all", "nothing"].iter().any(|word| text[at..end].eq_ignore_ascii_case(word));
        at = end;
    }
    groups.retain(|group| !group.denied);
    groups
}

fn is_denial(word: &str) -> bool {
    [
        "not",
        "neither",
        "nor",
        "never",
        "cannot",
        "except",
        "isn",
        "eliminating",
        "ruling",
        "rule",
        "eliminate",
        "excluding",
    ]
    .iter()
    .any(|known| word.eq_ignore_ascii_case(known))
        || word.ends_with("n't")
        || word.ends_with("N'T")
}

/// Whether what follows a letter says that it is not the answer.
fn denied_after(text: &str) -> bool {
    const DENIALS: [&str; 14] = [
        "is not",
        "is incorrect",
        "is wrong",
        "is false",
        "isn't",
        "isn’t",
        "is also incorrect",
        "is also wrong",
        "cannot",
        "can't",
        "was wrong",
        "is ruled out",
        "is eliminated",
        "is out",
    ];
    let rest = text.trim_start_matches([')', '*', ' ', '}', '$', '.']);
    rest.len() < text.len()
        && DENIALS.iter().any(|denial| rest.get(..denial.len()).is_some_and(|head| head.eq_ignore_ascii_case(denial)))
}

/// Whether a gap between two letters only separates them.
fn joins(gap: &str) -> bool {
    if gap.len() > 16 {
        return false;
    }
    let bare: String = gap.chars().filter(|c| !matches!(c, ' ' | '(' | ')' | '*' | '$' | '{' | '}')).collect();
    matches!(bare.as_str(), "," | "and" | "or" | "&" | "/" | ",and" | ",or" | ";" | "、" | "，")
}

/// A letter that opens the text or a line: `D. …`, `(D) …`, `D`. Lines that open with different letters are the options.
fn leading(text: &str, groups: &[Group]) -> Option<Range<usize>> {
    let opens = |group: &&Group| {
        let before = text[..group.span.start].trim_end_matches([' ', '(', '*', '$', '\t']);
        before.is_empty() || before.ends_with('\n')
    };
    let mut leading = groups.iter().filter(opens);
    let first = leading.next()?;
    let letter = &text[first.span.clone()];
    leading.all(|other| text[other.span.clone()] == *letter).then(|| first.span.clone())
}

fn is_alone(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    let after = text[at + 1..].chars().next();
    let part_of_word = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '_' | '\\');
    // "N/A" names no choice.
    let unavailable = text[..at].ends_with("N/") || text[..at].ends_with("n/");
    !unavailable && !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
}

/// Whether a lone capital is a choice letter: "A" and "I" before a word are words.
fn is_letter(text: &str, at: usize) -> bool {
    let byte = text.as_bytes()[at];
    if !matches!(byte, b'A'..=b'J') {
        return false;
    }
    let after = &text[at + 1..];
    let pauses = byte == b'I' && after.starts_with(',');
    if !matches!(byte, b'A' | b'I') || !(pauses || after.starts_with([' ', '\t'])) {
        return true;
    }
    let next = after.trim_start_matches([' ', '\t', ',']);
    let word = &next[..next.find(|c: char| !c.is_alphabetic()).unwrap_or(next.len())];
    !word.starts_with(char::is_lowercase)
        || matches!(word, "because" | "is" | "since" | "as" | "and" | "or" | "but" | "for")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        letter(text).map(|span| &text[span])
    }

    #[test]
    fn announced_letters_come_first_then_leading_ones_then_the_last() {
        assert_eq!(found("I am sure the answer is D, not A or B"), Some("D"));
        assert_eq!(found("The answer: D, it is neither A nor B"), Some("D"));
        assert_eq!(found("D. It cannot be A"), Some("D"));
        assert_eq!(found("It is not A, so it has to be B"), Some("B"));
        assert_eq!(found("(D) Ann"), Some("D"));
        assert_eq!(found("Because of C\n(B) it is"), Some("B"));
        assert_eq!(found("nothing here"), None);
        assert_eq!(found("Élan É"), None);
        assert_eq!(found("\\boxed{A} at first.\nThe answer is B."), Some("B"));
    }

    #[test]
    fn words_are_no_letters() {
        for text in [
            "ANSWER: I don't know",
            "I do not know",
            "A car moves",
            "ANSWER: None of the above, A is tempting",
            "I'm lost",
            "I’m lost",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
        assert_eq!(found("The answer is I."), Some("I"));
        assert_eq!(found("The answer is A because it is"), Some("A"));
    }

    #[test]
    fn what_is_denied_is_not_chosen() {
        for text in [
            "Not A.",
            "It isn't A",
            "It isn’t A",
            "neither A nor B",
            "not A, B or C",
            "A is incorrect.",
            "(A) is wrong",
            "The answer is not A.",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
        assert_eq!(found("So B. A is incorrect."), Some("B"));
        assert_eq!(found("The answer is not A but B."), Some("B"));
    }

    #[test]
    fn letters_together_stay_together() {
        assert_eq!(found("The answer is A or B."), Some("A or B"));
        assert_eq!(found("Answer: A, B, D"), Some("A, B, D"));
        assert_eq!(found("Answer: (A) and (C)"), Some("A) and (C"));
        assert_eq!(found("Answer: ABD"), Some("ABD"));
        assert_eq!(found("Answer: BB"), None);
    }

    #[test]
    fn small_letters_count_alone() {
        for text in ["d", "(d)", "d.", "The correct answer is d.", "Answer: d) 12", "\\boxed{d}", "**d**", "b. 4"] {
            assert!(matches!(found(text), Some("d" | "b")), "{text}");
        }
        for text in ["a dog", "e.g. this", "The answer is a dog", "i think so", "dog"] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn options_that_are_repeated_are_not_chosen() {
        assert_eq!(found("A. 5\nB. 6\nC. 7\nIt must be C"), Some("C"));
        assert_eq!(found("A. 5"), Some("A"));
    }
}
