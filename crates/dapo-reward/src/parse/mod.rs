//! Reading an answer, plain or LaTeX: whole or not at all.

mod atom;
mod clock;
mod count;
mod counted;
mod cursor;
mod fold;
mod glyphs;
mod half_day;
mod integral;
mod label;
mod lexer;
mod number;
mod qualifier;
mod quantity;
mod scalar;
mod series;
mod shape;
mod structure;
mod tail;
mod text;
pub(crate) mod units;
pub(crate) mod words;

use crate::expr::Expr;
use cursor::Cursor;
pub(crate) use label::is_function_name;
use lexer::{Commas, Kind, lex};

/// Longest answer that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// Not an answer this parser knows.
    Syntax,
    /// Longer, deeper or with longer numerals than is read.
    TooLarge,
}

pub(crate) type Parse<T> = Result<T, ParseError>;

/// An answer as read.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// What it means; two readings where `1,000` may be a thousand or two numbers.
    pub(crate) readings: Vec<Expr>,
    /// What it may mean besides, when it is the answer judged: `5 m` is five metres if it is no product.
    pub(crate) guesses: Vec<Expr>,
    /// A numeral's digits without the base they are written in: what an answer that leaves the base out is compared with.
    pub(crate) digits: Option<Expr>,
    /// The same as words, for comparison with an answer that is nothing but words.
    pub(crate) words: Option<Box<str>>,
}

/// Reads an answer.
pub(crate) fn parse_answer(source: &str) -> Parse<Answer> {
    if source.len() > MAX_BYTES {
        return Err(ParseError::TooLarge);
    }
    let is_plain_integer =
        |source: &str| (1..18).contains(&source.len()) && source.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain_integer(source) {
        return Ok(answer(Expr::Number(number::parse(source)?), None));
    }
    let folded = fold::fold(source);
    let source = unwrap(&folded);
    if source.is_empty() {
        return Err(ParseError::Syntax);
    }
    if is_plain_integer(source) {
        return Ok(answer(Expr::Number(number::parse(source)?), None));
    }
    let words = if source.bytes().any(|byte| byte.is_ascii_alphabetic()) || !source.is_ascii() {
        text::plain_words(source)
    } else {
        None
    };
    if let Some(words) = words.as_deref() {
        if let Some(choice) = choice(words, source) {
            return Ok(answer(choice, Some(words)));
        }
        if is_only_words(words) {
            return Ok(answer(Expr::Text(words.into()), Some(words)));
        }
    }
    if let Some(chain) = remark(source) {
        return Ok(answer(chain, words.as_deref()));
    }
    match parse_with(source, Commas::Thousands) {
        Ok(expr) => {
            let mut answer = answer(qualifier::from_list(expr), words.as_deref());
            answer.digits = based_digits(source);
            if let Some(counts) = count::reading(source)
                && counts != answer.readings[0]
            {
                answer.readings.push(counts);
            }
            if let Some((quantity, is_certain)) = with_unit(source) {
                if is_certain {
                    answer.readings.push(quantity);
                } else {
                    answer.guesses.push(quantity);
                }
            }
            if has_ambiguous_comma(source)
                && let Ok(other) = parse_with(source, Commas::Separate)
                && other != answer.readings[0]
            {
                answer.readings.push(other);
            }
            Ok(answer)
        }
        Err(ParseError::TooLarge) => Err(ParseError::TooLarge),
        Err(ParseError::Syntax) => match words {
            _ if let Some(expr) = otherwise(source) => Ok(answer(expr, words.as_deref())),
            Some(words) if has_word(&words) => Ok(answer(Expr::Text(words.as_str().into()), Some(&words))),
            _ => Err(ParseError::Syntax),
        },
    }
}

fn answer(expr: Expr, words: Option<&str>) -> Answer {
    Answer { readings: vec![expr], guesses: Vec::new(), digits: None, words: words.map(Into::into) }
}

/// `42 (6 times 7)`: how a value came about, told in words, is a chain of equal values and not a factor.
fn remark(source: &str) -> Option<Expr> {
    let inner = source.strip_suffix(')')?;
    let (value, inner) = inner.split_once(" (").filter(|(_, inner)| inner.contains(" times "))?;
    let sides = vec![parse_with(inner, Commas::Thousands).ok()?, parse_with(value, Commas::Thousands).ok()?];
    let chain = Expr::Relation { sides, operators: vec![crate::expr::Relation::Equal] };
    shape::is_well_formed(&chain).then_some(chain)
}

/// The reading of an answer that is not read as it stands.
fn otherwise(source: &str) -> Option<Expr> {
    if let Some((value, rounded)) = tail::rounding(source) {
        let sides = vec![parse_with(value, Commas::Thousands).ok()?, parse_with(rounded, Commas::Thousands).ok()?];
        let chain = Expr::Relation { sides, operators: vec![crate::expr::Relation::Approximately] };
        return shape::is_well_formed(&chain).then_some(chain);
    }
    with_unit(source)
        .map(|(quantity, _)| quantity)
        .or_else(|| rate(source))
        .or_else(|| both_ways(source))
        .or_else(|| qualifier::split(source))
        .or_else(|| count::reading(source))
}

/// An amount of money for a unit of something.
fn rate(source: &str) -> Option<Expr> {
    let (amount, word) = tail::rate(source)?;
    match parse_with(amount, Commas::Thousands).ok()? {
        Expr::Quantity(value, unit) => Some(Expr::Quantity(value, format!("{unit} / {word}").into())),
        _ => None,
    }
}

/// `x < -7 : (-\infty, -7)`: one set written in two ways.
fn both_ways(source: &str) -> Option<Expr> {
    let (condition, set) = source.rsplit_once(':')?;
    let set = set.trim_start();
    if !["(", "[", "\\left", "\\{", "\\mathbb"].iter().any(|open| set.starts_with(open)) {
        return None;
    }
    let (condition, set) = (parse_with(condition, Commas::Thousands).ok()?, parse_with(set, Commas::Thousands).ok()?);
    let is_condition = |expr: &Expr| matches!(expr, Expr::Relation { .. });
    let are_conditions = match &condition {
        Expr::List(_, items) => items.iter().all(is_condition),
        other => is_condition(other),
    };
    let is_set = matches!(set, Expr::Tuple { .. } | Expr::SetOperation(..) | Expr::Set(_) | Expr::Constant(_));
    (are_conditions && is_set).then(|| Expr::SetOperation(crate::expr::SetOperation::Same, vec![condition, set]))
}

/// The digits of a numeral that is written with its base, without the base.
fn based_digits(source: &str) -> Option<Expr> {
    let (digits, base) = source.split_once('_')?;
    let digits = digits.trim_end();
    let is_base = !base.is_empty() && base.len() < 24 && !base.contains(['+', '=', ',', '-', '*', '/', '^']);
    if !(is_base && (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    number::parse(digits).ok().map(Expr::Number)
}

/// A constant with the unit after it, and whether the unit can be nothing else.
fn with_unit(source: &str) -> Option<(Expr, bool)> {
    let tail = tail::split(source)?;
    let value = parse_with(tail.value, Commas::Thousands).ok()?;
    let is_constant = value.is_scalar() && !value.any(&|node| matches!(node, Expr::Variable(_)));
    is_constant.then(|| (Expr::Quantity(Box::new(value), tail.unit.into()), tail.is_certain))
}

fn parse_with(source: &str, commas: Commas) -> Parse<Expr> {
    parse_tokens(source, commas, false)
}

/// Reads indexed letters C, A and P as counts.
fn parse_counts(source: &str, commas: Commas) -> Parse<Expr> {
    parse_tokens(source, commas, true)
}

fn parse_tokens(source: &str, commas: Commas, counts: bool) -> Parse<Expr> {
    let mut tokens = lex(source, commas)?;
    while tokens.last().is_some_and(|token| matches!(token.kind, Kind::NewRow | Kind::Symbol('.' | ',' | ';'))) {
        tokens.pop();
    }
    let mut cursor = Cursor::new(tokens);
    cursor.counts = counts;
    let expr = cursor.list()?;
    if cursor.at_end() && shape::is_well_formed(&expr) { Ok(expr) } else { Err(ParseError::Syntax) }
}

/// Takes off what wraps an answer as a whole: delimiters, boxes, text and font commands, bare braces.
pub(crate) fn unwrap(source: &str) -> &str {
    let mut source = source;
    loop {
        let trimmed = &source[crate::trim::trim(source, 0..source.len())];
        let trimmed = trimmed.trim_matches(['\u{feff}', '\u{200b}', '~', '。']).trim();
        let inner = wrapped(trimmed).or_else(|| tail::without_approximately(trimmed)).or_else(|| {
            let inner = trimmed.strip_prefix('=').filter(|inner| !inner.starts_with('='))?.trim_start();
            (!inner.is_empty()).then_some(inner)
        });
        let Some(inner) = inner else {
            return trimmed;
        };
        source = inner;
    }
}

fn wrapped(source: &str) -> Option<&str> {
    let rest = match source.strip_prefix('\\') {
        Some(command) => {
            let name = text::command_name(command);
            let is_wrapper = matches!(name, "boxed" | "fbox")
                || words::is_text_command(name)
                || name == "mathbf"
                || name == "boldsymbol";
            is_wrapper.then(|| &command[name.len()..])?
        }
        None => source,
    };
    let group = text::braced(rest)?;
    (group.end == rest.len()).then_some(group.text)
}

/// `(C)`, `C. 12`, `(C) Cecile`: a choice letter with or without the answer it stands for.
fn choice(words: &str, source: &str) -> Option<Expr> {
    // The letter is a capital in the source; `words` only tells where wrappers end.
    let source = source.trim_start();
    let bare = source
        .trim_start_matches("\\text")
        .trim_start_matches("bf")
        .trim_start_matches("rm")
        .trim_start_matches(['{', ' ']);
    let (parenthesised, after) = match bare.strip_prefix('(') {
        Some(after) => (true, after.trim_start()),
        None => (false, bare),
    };
    let letter = after.chars().next().filter(|c| ('A'..='J').contains(c))?;
    let rest = after[1..].trim_start();
    let rest = if parenthesised { rest.strip_prefix(')')? } else { rest.strip_prefix([')', '.', ':'])? };
    let rest = rest.trim_start_matches(['}', ' ', ':', '.', '~']).trim();
    if rest.is_empty() {
        return Some(Expr::Choice(letter, None));
    }
    // `(A)(B)` and `(A)^2` are mathematics.
    let separated =
        bare.len() - rest.len() > 3 || rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '$' | '\\'));
    if !separated || rest.starts_with(['(', '^', '*', '+', '-', '=', '/', '_', '!', ',']) || words.len() < 2 {
        return None;
    }
    let stands_for = parse_answer(rest).ok()?.readings.into_iter().next()?;
    Some(Expr::Choice(letter, Some(Box::new(stands_for))))
}

/// Letters and spaces only, and not to be read as a product of variables or a named constant.
fn is_only_words(words: &str) -> bool {
    let only_letters = words.chars().all(|c| c.is_alphabetic() || matches!(c, ' ' | '-' | '\'' | '.' | ','));
    if !only_letters || !words.contains(|c: char| c.is_ascii_alphabetic()) {
        return only_letters
            && words.chars().count() > 1
            && !words.chars().any(|c| glyphs::unicode_command(c).is_some());
    }
    let mut parts = words.split([' ', '-', ',']).filter(|part| !part.is_empty());
    parts.any(|part| {
        let part = part.trim_matches(['.', '\'']);
        part.len() >= 2
            && (words::is_short_word(part) || !words::is_letters(part))
            && words::known(part).is_none()
            && words::split_function(part).is_none()
    })
}

fn has_word(words: &str) -> bool {
    words.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().count() >= 2)
}

/// Whether a comma between digits could group them or separate numbers.
fn has_ambiguous_comma(source: &str) -> bool {
    source.as_bytes().windows(5).any(|window| {
        window[0].is_ascii_digit() && matches!(window[1], b',' | b' ') && window[2..].iter().all(u8::is_ascii_digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Bracket, Relation, Separator, SetOperation};

    fn read(source: &str) -> Expr {
        parse_answer(source).unwrap_or_else(|error| panic!("{source}: {error:?}")).readings.remove(0)
    }

    #[test]
    fn wrappers_are_taken_off() {
        for source in
            ["5", "$5$", "\\boxed{5}", "\\text{5}", "{5}", "$\\boxed{\\text{5}}$.", "**5**", "5.", "\\(5\\)", "5\\"]
        {
            assert_eq!(read(source), Expr::integer(5), "{source}");
        }
    }

    #[test]
    fn words_stay_words() {
        for source in ["odd", "\\text{Evelyn}", "no solution", "East", "yes"] {
            assert!(matches!(read(source), Expr::Text(_)), "{source}");
        }
        for source in ["xy", "abc", "\\pi", "pi", "x", "ab"] {
            assert!(read(source).is_scalar(), "{source}");
        }
    }

    #[test]
    fn choices_keep_what_they_stand_for() {
        assert_eq!(read("(C)"), Expr::Choice('C', None));
        assert_eq!(read("\\text{(B)}"), Expr::Choice('B', None));
        assert_eq!(read("(D) 12"), Expr::Choice('D', Some(Box::new(Expr::integer(12)))));
        assert_eq!(read("\\textbf{(A) } 7"), Expr::Choice('A', Some(Box::new(Expr::integer(7)))));
        assert!(matches!(read("(A)(B)"), Expr::Product(_)));
        assert!(matches!(read("C"), Expr::Variable(_)));
    }

    #[test]
    fn structures_have_their_own_nodes() {
        assert!(matches!(read("(1,2]"), Expr::Tuple { left: Bracket::Round, right: Bracket::Square, .. }));
        assert!(matches!(read("1, 2, 3"), Expr::List(Separator::Comma, items) if items.len() == 3));
        assert!(matches!(read("x=1 \\text{ or } x=2"), Expr::List(Separator::Or, _)));
        assert!(matches!(read("\\{1,2\\}"), Expr::Set(items) if items.len() == 2));
        assert!(matches!(read("(-\\infty,0)\\cup(0,\\infty)"), Expr::SetOperation(SetOperation::Union, _)));
        assert!(matches!(read("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"), Expr::Matrix(rows) if rows.len() == 2));
        assert!(
            matches!(read("1 < x \\le 3"), Expr::Relation { operators, .. } if operators == [Relation::Less, Relation::LessEqual])
        );
        assert!(matches!(read("3:2"), Expr::Ratio(_)));
    }

    #[test]
    fn thousands_may_also_be_lists() {
        assert_eq!(parse_answer("1,000").unwrap().readings.len(), 2);
        assert_eq!(parse_answer("1, 000").unwrap().readings.len(), 1);
        assert!(matches!(read("(5,100)"), Expr::Tuple { .. }));
    }

    #[test]
    fn a_fragment_is_never_enough() {
        for source in ["\\frac{1}{", "1+", "((", "2 3", "x=", "\\frac{1}", "1..2", "{", "\\sum_{k=1}^n k", "3 +"] {
            assert_eq!(parse_answer(source).map(|answer| answer.readings), Err(ParseError::Syntax), "{source}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        for source in [
            "(".repeat(4000),
            "{".repeat(4000),
            "-".repeat(4000),
            "\\sqrt".repeat(800),
            "x^".repeat(2000),
            "\\sin".repeat(900),
            "|".repeat(4000),
        ] {
            assert!(parse_answer(&source).is_err());
        }
        assert_eq!(parse_answer(&"1".repeat(5000)).map(|_| ()), Err(ParseError::TooLarge));
    }
}
