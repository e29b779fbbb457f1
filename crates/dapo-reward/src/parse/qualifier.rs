//! Conditions after an answer: `cx for any c`, `x^2 + 1 (x > 0)`, `2k\pi, k \in \mathbb{Z}`.

use super::{Commas, parse_with};
use crate::expr::{Expr, Relation, Separator};

/// Words that begin a condition.
const BEGINNINGS: &[&str] = &["for", "where", "with", "such that", "\\forall"];
/// Words of which a condition that is no relation must have one.
const QUANTIFIERS: &[&str] = &[
    "all",
    "any",
    "every",
    "each",
    "some",
    "real",
    "integer",
    "integers",
    "constant",
    "constants",
    "arbitrary",
    "positive",
    "nonnegative",
    "natural",
    "number",
    "numbers",
];
/// Words that make a case distinction or an alternative of it.
const CASES: &[&str] =
    &["if", "otherwise", "or", "when", "else", "even", "odd", "for", "only", "not", "except", "unless"];

/// An answer that ends in a condition.
pub(super) fn split(source: &str) -> Option<Expr> {
    if source.ends_with(')') {
        return in_parentheses(source);
    }
    let (value, condition) = at_word(source)?;
    let value = parse_with(value, Commas::Thousands).ok()?;
    is_answer(&value).then(|| Expr::Qualified(Box::new(value), Box::new(condition)))
}

fn is_answer(value: &Expr) -> bool {
    !matches!(value, Expr::Text(_) | Expr::Choice(..)) && value.any(&|node| matches!(node, Expr::Variable(_)))
}

/// `value (x > 0)`.
fn in_parentheses(source: &str) -> Option<Expr> {
    let inner = source.strip_suffix(')')?.trim_end().trim_end_matches("\\right");
    let mut depth = 0_usize;
    let open = inner.char_indices().rev().find_map(|(at, c)| {
        match c {
            ')' => depth += 1,
            '(' if depth == 0 => return Some(at),
            '(' => depth -= 1,
            _ => {}
        }
        None
    })?;
    let condition = inner[open + 1..].trim();
    let before = trim_end(source[..open].trim_end().trim_end_matches("\\left"));
    if let Some(letters) = quantified(&plain(condition)) {
        let value = parse_with(before, Commas::Thousands).ok()?;
        return is_answer(&value).then(|| Expr::Qualified(Box::new(value), Box::new(letters)));
    }
    if !condition.contains(['<', '>', '\\', '≤', '≥', '≠', '∈', '=']) {
        return None;
    }
    let condition = relation(condition)?;
    let value = parse_with(before, Commas::Thousands).ok()?;
    is_answer(&value).then(|| Expr::Qualified(Box::new(value), Box::new(condition)))
}

/// A condition that is a relation other than an equation.
fn relation(source: &str) -> Option<Expr> {
    parse_with(source, Commas::Thousands).ok().filter(is_condition)
}

fn is_condition(expr: &Expr) -> bool {
    matches!(expr, Expr::Relation { operators, .. } if operators.iter().all(|operator| {
        matches!(
            operator,
            Relation::Less | Relation::LessEqual | Relation::Greater | Relation::GreaterEqual | Relation::NotEqual | Relation::In
        )
    }))
}

/// `value for all x`, `value where k is an integer`.
fn at_word(source: &str) -> Option<(&str, Expr)> {
    let is_inside = |c: char| c.is_ascii_alphabetic() || c == '\\';
    let at = BEGINNINGS
        .iter()
        .filter_map(|word| {
            source.match_indices(word).map(|(at, _)| (at, word)).find(|(at, word)| {
                !source[..*at].ends_with(is_inside)
                    && !source[at + word.len()..].starts_with(|c: char| c.is_ascii_alphabetic())
            })
        })
        .min()?;
    let (at, word) = at;
    let value = trim_end(&source[..at]);
    let condition = plain(&source[at + word.len()..]);
    let words = || condition.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    if value.is_empty() || words().any(|word| CASES.contains(&word)) || condition.contains([',', ';']) && *word == "for"
    {
        return None;
    }
    if let Some(relation) = relation(&condition) {
        return Some((value, relation));
    }
    if *word == "with" {
        return None;
    }
    Some((value, quantified(&condition)?))
}

/// Words that say for which values of letters something holds; what counts is which letters they speak of.
fn quantified(condition: &str) -> Option<Expr> {
    let words = || condition.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let is_quantified = words().any(|word| QUANTIFIERS.contains(&word)) && !words().any(|word| CASES.contains(&word));
    if !is_quantified || condition.contains(|c: char| c.is_ascii_digit() || matches!(c, '=' | '<' | '>')) {
        return None;
    }
    let mut letters: Vec<&str> = words().filter(|word| word.len() == 1).collect();
    letters.sort_unstable();
    // An article is no variable.
    if letters.len() > 1 {
        letters.retain(|letter| *letter != "a");
    }
    Some(Expr::Text(letters.join(" ").into()))
}

/// What remains before a condition without the space, brackets and commands that lead to it.
fn trim_end(source: &str) -> &str {
    let mut rest = source;
    loop {
        let trimmed = rest.trim_end_matches([' ', ',', '~', '$', '(', '\n', '\t', ';']);
        let trimmed = ["\\text{", "\\quad", "\\qquad", "\\textrm{", "\\mathrm{", "\\mbox{", "\\,", "\\;", "\\ "]
            .iter()
            .find_map(|end| trimmed.strip_suffix(end))
            .unwrap_or(trimmed);
        if trimmed.len() == rest.len() {
            return trimmed;
        }
        rest = trimmed;
    }
}

/// A condition without text commands, dollars and the closing brace or bracket of what it stands in.
fn plain(source: &str) -> String {
    let mut text = source.replace('$', " ").replace("\\quad", " ").replace("\\ ", " ").replace('~', " ");
    if text.matches('}').count() > text.matches('{').count() {
        text = text.replacen('}', " ", 1);
    }
    for command in ["\\text", "\\textrm", "\\mathrm", "\\mbox"] {
        while let Some(at) = text.find(&format!("{command}{{")) {
            let open = at + command.len();
            let Some(close) = text[open..].find('}') else {
                break;
            };
            text.replace_range(open + close..=open + close, " ");
            text.replace_range(at..=open, " ");
        }
    }
    text.trim().trim_end_matches('.').to_owned()
}

/// A list whose last item is a condition on a variable of the others.
pub(super) fn from_list(expr: Expr) -> Expr {
    let Expr::List(Separator::Comma, items) = &expr else {
        return expr;
    };
    let Some((condition, values)) = items.split_last() else {
        return expr;
    };
    let Some(variable) = condition_variable(condition) else {
        return expr;
    };
    let mentions = |value: &Expr| value.any(&|node| node == variable);
    let is_value = |value: &Expr| match value {
        Expr::Relation { sides, operators } => {
            operators.iter().all(|operator| *operator == Relation::Equal) && sides.first() != Some(variable)
        }
        _ => true,
    };
    if !(values.iter().all(is_value) && values.iter().any(mentions)) {
        return expr;
    }
    let value = if let [value] = values { value.clone() } else { Expr::List(Separator::Comma, values.to_vec()) };
    Expr::Qualified(Box::new(value), Box::new(condition.clone()))
}

/// The only variable of a condition.
fn condition_variable(condition: &Expr) -> Option<&Expr> {
    let Expr::Relation { sides, operators } = condition else {
        return None;
    };
    if !is_condition(condition) {
        return None;
    }
    if operators.as_slice() == [Relation::In] {
        return sides.first().filter(|side| matches!(side, Expr::Variable(_)));
    }
    let mut variables = sides.iter().filter(|side| side.any(&|node| matches!(node, Expr::Variable(_))));
    match (variables.next(), variables.next()) {
        (Some(side @ Expr::Variable(_)), None) => Some(side),
        _ => None,
    }
}
