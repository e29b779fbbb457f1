//! The string rule that DAPO's published results were graded with, character for character.

/// Which part of the published grader to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DapoRule {
    /// The last `Answer: …` line of the last 300 characters, normalised.
    #[default]
    AnswerLine,
    /// The same; where there is no such line, as [`StrictBox`](Self::StrictBox).
    AnswerLineOrBox,
    /// The last `\boxed{}` of the last 100 characters, compared raw.
    StrictBox,
}

/// The published grader's opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DapoGrade {
    /// The two strings are equal after normalisation.
    Right,
    /// They differ.
    Wrong,
    /// No answer was found; graded as wrong.
    Invalid,
}

/// Grades a completion by the published rule, which compares strings and knows no mathematics.
///
/// # Example
/// ```
/// use dapo_reward::{DapoGrade, DapoRule, dapo_grade};
///
/// let grade = |completion| dapo_grade(completion, "21", DapoRule::AnswerLine);
/// assert_eq!(grade("Answer: 20\nAnswer: 21"), DapoGrade::Right);
/// assert_eq!(grade("The final answer: $21$."), DapoGrade::Right);
/// assert_eq!(grade("Answer: 21.0"), DapoGrade::Wrong);
/// assert_eq!(grade("The total is 21."), DapoGrade::Invalid);
/// assert_eq!(dapo_grade(r"so \boxed{21}", "21", DapoRule::StrictBox), DapoGrade::Right);
/// ```
pub fn dapo_grade(completion: &str, gold: &str, rule: DapoRule) -> DapoGrade {
    let judge = |equal| if equal { DapoGrade::Right } else { DapoGrade::Wrong };
    match dapo_answer(completion, rule) {
        Some(DapoAnswer::Line(answer)) => judge(dapo_normalize(answer) == dapo_normalize(gold)),
        Some(DapoAnswer::Boxed(answer)) => judge(answer == gold),
        None => DapoGrade::Invalid,
    }
}

/// What the published grader judges, as it stands in the completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DapoAnswer<'a> {
    /// From an `Answer: …` line; compared after normalisation.
    Line(&'a str),
    /// From a box; compared raw.
    Boxed(&'a str),
}

pub(crate) fn dapo_answer(completion: &str, rule: DapoRule) -> Option<DapoAnswer<'_>> {
    let text = last_chars(completion, 300);
    let line = if rule == DapoRule::StrictBox { None } else { last_answer_line(text).map(DapoAnswer::Line) };
    if line.is_some() || rule == DapoRule::AnswerLine {
        return line;
    }
    last_box(last_chars(text, 100)).map(DapoAnswer::Boxed)
}

const REPLACED: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

const DELETED: [&str; 40] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
];

/// The published normalisation of one answer.
///
/// # Example
/// ```
/// use dapo_reward::dapo_normalize;
///
/// assert_eq!(dapo_normalize("x = $1,234$ dollars"), "1234");
/// assert_eq!(dapo_normalize(r"\frac12"), r"\frac{1}{2}");
/// assert_eq!(dapo_normalize(r"\text{(B)}"), "(B)");
/// ```
pub fn dapo_normalize(answer: &str) -> String {
    let mut text = answer.rsplit('=').next().unwrap_or_default().to_owned();
    for (from, to) in REPLACED {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    for word in DELETED.into_iter().chain(["\\dots"]) {
        if text.contains(word) {
            text = text.replace(word, "");
        }
    }
    text = keep_first_math(&text);
    for command in ["\\text{", "\\textbf{", "\\overline{"] {
        text = unwrap(&text, command, str::find);
    }
    text = unwrap(&text, "\\boxed{", str::rfind);
    text = brace_frac(&text);
    text = brace_sqrt(&text);
    text = text.replace('$', "");
    let without_commas = text.replace(',', "");
    if !without_commas.is_empty() && without_commas.chars().all(is_digit) {
        text = without_commas;
    }
    text.trim_matches(is_space).to_owned()
}

/// The last `count` characters.
fn last_chars(text: &str, count: usize) -> &str {
    let start = text.char_indices().rev().take(count).last().map_or(text.len(), |(at, _)| at);
    &text[start..]
}

/// White space as Python sees it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The last match's group of `(?i)Answer\s*:\s*([^\n]+)`, found left to right without overlaps.
fn last_answer_line(text: &str) -> Option<&str> {
    let mut last = None;
    let mut at = 0;
    while at < text.len() {
        if let Some((start, end)) = match_answer(text, at) {
            last = Some(&text[start..end]);
            at = end;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    last
}

fn match_answer(text: &str, at: usize) -> Option<(usize, usize)> {
    let mut rest = text[at..].chars();
    // Case folding over all of Unicode lets the long s stand for an s.
    let is_word = "answer"
        .chars()
        .all(|want| rest.next().is_some_and(|c| c.to_ascii_lowercase() == want || (want == 's' && c == '\u{17f}')));
    if !is_word {
        return None;
    }
    let rest = rest.as_str().trim_start_matches(is_space).strip_prefix(':')?;
    let after_colon = text.len() - rest.len();
    let after_space = text.len() - rest.trim_start_matches(is_space).len();
    let start = if after_space < text.len() {
        after_space
    } else {
        // Nothing but space follows: the group takes the last piece of it that is not a newline.
        after_colon + rest.char_indices().rev().find(|&(_, c)| c != '\n')?.0
    };
    Some((start, text[start..].find('\n').map_or(text.len(), |newline| start + newline)))
}

/// The content of the last `\boxed{}` with balanced braces.
fn last_box(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed{";
    let start = text.rfind(OPEN)? + OPEN.len();
    let mut depth = 1;
    for (at, byte) in text[start..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + at]);
        }
    }
    None
}

/// On every line with two dollars: what stands between the first two, with its dollars.
fn keep_first_math(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let mut pieces = line.splitn(3, '$');
        match (pieces.next(), pieces.next(), pieces.next()) {
            (Some(_), Some(math), Some(_)) => format!("${math}$"),
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Replaces every `open … }` on one line by its content; `close` finds the closing brace.
fn unwrap(text: &str, open: &str, close: impl Fn(&str, char) -> Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(open) {
        let content = &rest[at + open.len()..];
        let line = &content[..content.find('\n').unwrap_or(content.len())];
        out.push_str(&rest[..at]);
        if let Some(end) = close(line, '}') {
            out.push_str(&content[..end]);
            rest = &content[end + 1..];
        } else {
            out.push_str(open);
            rest = content;
        }
    }
    out + rest
}

/// `fracab` → `frac{a}{b}`, where `a` is no brace and `b` no newline.
fn brace_frac(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("frac") {
        out.push_str(&rest[..at + 4]);
        rest = &rest[at + 4..];
        let mut chars = rest.chars();
        if let (Some(a), Some(b)) = (chars.next(), chars.next())
            && a != '{'
            && b != '\n'
        {
            out.extend(['{', a, '}', '{', b, '}']);
            rest = chars.as_str();
        }
    }
    out + rest
}

/// `sqrta` → `sqrt{a}`, where `a` is no brace.
fn brace_sqrt(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("sqrt") {
        out.push_str(&rest[..at + 4]);
        rest = &rest[at + 4..];
        let mut chars = rest.chars();
        if let Some(a) = chars.next()
            && a != '{'
        {
            out.extend(['{', a, '}']);
            rest = chars.as_str();
        }
    }
    out + rest
}

/// Characters that the rule calls digits, from the Unicode properties `Numeric_Type=Decimal` and `Digit`.
fn is_digit(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    DIGITS.iter().any(|&(first, last)| (first..=last).contains(&c))
}

const DIGITS: &[(char, char)] = &[
    ('\u{30}', '\u{39}'),
    ('\u{b2}', '\u{b3}'),
    ('\u{b9}', '\u{b9}'),
    ('\u{660}', '\u{669}'),
    ('\u{6f0}', '\u{6f9}'),
    ('\u{7c0}', '\u{7c9}'),
    ('\u{966}', '\u{96f}'),
    ('\u{9e6}', '\u{9ef}'),
    ('\u{a66}', '\u{a6f}'),
    ('\u{ae6}', '\u{aef}'),
    ('\u{b66}', '\u{b6f}'),
    ('\u{be6}', '\u{bef}'),
    ('\u{c66}', '\u{c6f}'),
    ('\u{ce6}', '\u{cef}'),
    ('\u{d66}', '\u{d6f}'),
    ('\u{de6}', '\u{def}'),
    ('\u{e50}', '\u{e59}'),
    ('\u{ed0}', '\u{ed9}'),
    ('\u{f20}', '\u{f29}'),
    ('\u{1040}', '\u{1049}'),
    ('\u{1090}', '\u{1099}'),
    ('\u{1369}', '\u{1371}'),
    ('\u{17e0}', '\u{17e9}'),
    ('\u{1810}', '\u{1819}'),
    ('\u{1946}', '\u{194f}'),
    ('\u{19d0}', '\u{19da}'),
    ('\u{1a80}', '\u{1a89}'),
    ('\u{1a90}', '\u{1a99}'),
    ('\u{1b50}', '\u{1b59}'),
    ('\u{1bb0}', '\u{1bb9}'),
    ('\u{1c40}', '\u{1c49}'),
    ('\u{1c50}', '\u{1c59}'),
    ('\u{2070}', '\u{2070}'),
    ('\u{2074}', '\u{2079}'),
    ('\u{2080}', '\u{2089}'),
    ('\u{2460}', '\u{2468}'),
    ('\u{2474}', '\u{247c}'),
    ('\u{2488}', '\u{2490}'),
    ('\u{24ea}', '\u{24ea}'),
    ('\u{24f5}', '\u{24fd}'),
    ('\u{24ff}', '\u{24ff}'),
    ('\u{2776}', '\u{277e}'),
    ('\u{2780}', '\u{2788}'),
    ('\u{278a}', '\u{2792}'),
    ('\u{a620}', '\u{a629}'),
    ('\u{a8d0}', '\u{a8d9}'),
    ('\u{a900}', '\u{a909}'),
    ('\u{a9d0}', '\u{a9d9}'),
    ('\u{a9f0}', '\u{a9f9}'),
    ('\u{aa50}', '\u{aa59}'),
    ('\u{abf0}', '\u{abf9}'),
    ('\u{ff10}', '\u{ff19}'),
    ('\u{104a0}', '\u{104a9}'),
    ('\u{10a40}', '\u{10a43}'),
    ('\u{10d30}', '\u{10d39}'),
    ('\u{10e60}', '\u{10e68}'),
    ('\u{11052}', '\u{1105a}'),
    ('\u{11066}', '\u{1106f}'),
    ('\u{110f0}', '\u{110f9}'),
    ('\u{11136}', '\u{1113f}'),
    ('\u{111d0}', '\u{111d9}'),
    ('\u{112f0}', '\u{112f9}'),
    ('\u{11450}', '\u{11459}'),
    ('\u{114d0}', '\u{114d9}'),
    ('\u{11650}', '\u{11659}'),
    ('\u{116c0}', '\u{116c9}'),
    ('\u{11730}', '\u{11739}'),
    ('\u{118e0}', '\u{118e9}'),
    ('\u{11950}', '\u{11959}'),
    ('\u{11c50}', '\u{11c59}'),
    ('\u{11d50}', '\u{11d59}'),
    ('\u{11da0}', '\u{11da9}'),
    ('\u{16a60}', '\u{16a69}'),
    ('\u{16ac0}', '\u{16ac9}'),
    ('\u{16b50}', '\u{16b59}'),
    ('\u{1d7ce}', '\u{1d7ff}'),
    ('\u{1e140}', '\u{1e149}'),
    ('\u{1e2f0}', '\u{1e2f9}'),
    ('\u{1e950}', '\u{1e959}'),
    ('\u{1f100}', '\u{1f10a}'),
    ('\u{1fbf0}', '\u{1fbf9}'),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn right(completion: &str, gold: &str) -> bool {
        dapo_grade(completion, gold, DapoRule::AnswerLine) == DapoGrade::Right
    }

    #[test]
    fn grades_the_published_examples() {
        assert!(right("Answer: 20\nAnswer: 21", "21"));
        assert!(right("ANSWER :   21", "21"));
        assert!(right("The final answer: $21$.", "21"));
        assert!(right("Answer: $n = 21$", "21"));
        assert!(right("Answer: 21 degrees", "21"));
        assert!(!right("Answer: 21.", "21"));
        assert!(!right("Answer: **21**", "21"));
        assert!(!right("Answer: 21.0", "21"));
        assert!(!right("The total is 21.", "21"));
        assert!(!right(&format!("Answer: 21{}", "x".repeat(400)), "21"));
        assert!(!right(&format!("Answer: 21\n{}", "x".repeat(400)), "21"));
    }

    #[test]
    fn the_window_is_counted_in_characters() {
        assert!(right(&format!("Answer: 21\n{}", "é".repeat(289)), "21"));
        assert!(!right(&format!("Answer: 21\n{}", "é".repeat(290)), "21"));
    }

    #[test]
    fn a_second_answer_on_the_same_line_belongs_to_the_first() {
        assert_eq!(last_answer_line("Answer: Answer: 21"), Some("Answer: 21"));
        assert_eq!(last_answer_line("Answer:\n\n 21 \nx"), Some("21 "));
        assert_eq!(last_answer_line("Answer:  \n"), Some(" "));
        assert_eq!(last_answer_line("Answer:\n"), None);
        assert_eq!(last_answer_line("An\u{17f}wer: 3"), Some("3"));
        assert_eq!(last_answer_line("Answer 3"), None);
    }

    #[test]
    fn normalisation_follows_the_order_of_its_rules() {
        assert_eq!(dapo_normalize("an apple"), "apple");
        assert_eq!(dapo_normalize("a square has 4 edges"), "has4");
        assert_eq!(dapo_normalize("\\$32,\\!348"), "32348");
        assert_eq!(dapo_normalize("$x$ and $y$"), "x");
        assert_eq!(dapo_normalize("\\text{10}\\text{ cm}"), "10");
        assert_eq!(dapo_normalize("\\boxed{\\frac{1}{2}}"), "\\frac{1}{2}");
        assert_eq!(dapo_normalize("\\sqrt3+\\frac1{72}"), "\\sqrt{3}+\\frac{1}{{}72}");
        assert_eq!(dapo_normalize("1,234,567"), "1234567");
        assert_eq!(dapo_normalize("(1,2)"), "(1,2)");
        assert_eq!(dapo_normalize("45^{\\circ}"), "45");
        assert_eq!(dapo_normalize(""), "");
        assert_eq!(dapo_normalize("frac"), "frac");
        assert_eq!(dapo_normalize("\\text{open"), "\\text{open");
        assert_eq!(dapo_normalize("５,０"), "５０");
    }

    #[test]
    fn strict_box_compares_raw_within_a_hundred_characters() {
        let grade = |text: &str| dapo_grade(text, "21", DapoRule::StrictBox);
        assert_eq!(grade("Answer: 21"), DapoGrade::Invalid);
        assert_eq!(grade("\\boxed{20} \\boxed{21}"), DapoGrade::Right);
        assert_eq!(grade("\\boxed{ 21}"), DapoGrade::Wrong);
        assert_eq!(grade("\\boxed{21"), DapoGrade::Invalid);
        assert_eq!(grade(&format!("\\boxed{{21}}{}", "x".repeat(90))), DapoGrade::Right);
        assert_eq!(grade(&format!("\\boxed{{21}}{}", "x".repeat(91))), DapoGrade::Invalid);
        assert_eq!(dapo_grade("\\boxed{21}", "21", DapoRule::AnswerLineOrBox), DapoGrade::Right);
        assert_eq!(dapo_grade("Answer: 4 \\boxed{21}", "21", DapoRule::AnswerLineOrBox), DapoGrade::Wrong);
        assert_eq!(dapo_grade("\\boxed{21}", "21", DapoRule::AnswerLine), DapoGrade::Invalid);
    }
}
