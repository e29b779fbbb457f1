//! Answers rewritten before they are compared.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::expr::{Expr, Function, Separator};
use crate::parse::{Answer, is_function_name};

/// Where a letter that is applied as a function also stands alone, it is a variable, and `f(1+m)` is a product.
pub(super) fn products_for_applications(gold: &Answer, prediction: &Answer) -> Option<(Answer, Answer)> {
    let all = || gold.readings.iter().chain(&prediction.readings);
    let is_application = |node: &Expr| matches!(node, Expr::Call(Function::Apply, _));
    if !all().any(|reading| reading.any(&is_application)) {
        return None;
    }
    let mut bare = BTreeSet::new();
    for reading in all() {
        bare_names(reading, &mut bare);
    }
    let is_product = |node: &Expr| matches!(node, Expr::Call(Function::Apply, arguments) if matches!(arguments.as_slice(), [Expr::Variable(name), argument] if bare.contains(name) && !(is_constant(argument) && is_function_name(name))));
    let is_product = &is_product;
    if !all().any(|reading| reading.any(is_product)) {
        return None;
    }
    let write_out = |answer: &Answer| Answer {
        readings: answer.readings.iter().map(|reading| as_product(reading, is_product)).collect(),
        guesses: Vec::new(),
        digits: None,
        words: answer.words.clone(),
    };
    Some((write_out(gold), write_out(prediction)))
}

/// `f(2)` is no product, whatever f is elsewhere.
fn is_constant(argument: &Expr) -> bool {
    !argument.any(&|node| matches!(node, Expr::Variable(_)))
}

fn bare_names(expr: &Expr, into: &mut BTreeSet<Box<str>>) {
    match expr {
        Expr::Variable(name) => {
            into.insert(name.clone());
        }
        Expr::Call(Function::Apply, arguments) => arguments.iter().skip(1).for_each(|child| bare_names(child, into)),
        other => other.children().for_each(|child| bare_names(child, into)),
    }
}

fn as_argument(expr: &Expr, is_product: &dyn Fn(&Expr) -> bool) -> Expr {
    expr.map_children(&mut |child| as_product(child, is_product))
}

fn as_product(expr: &Expr, is_product: &dyn Fn(&Expr) -> bool) -> Expr {
    // `f(1+m)^2` squares what is in the brackets.
    if let Expr::Power(base, exponent) = expr
        && is_product(base)
        && let Expr::Call(_, arguments) = as_argument(base, is_product)
        && let [name, argument] = arguments.as_slice()
    {
        let power = Expr::power(argument.clone(), as_product(exponent, is_product));
        return Expr::Product(vec![name.clone(), power]);
    }
    match as_argument(expr, is_product) {
        Expr::Call(_, arguments) if is_product(expr) => Expr::Product(arguments),
        other => other,
    }
}

/// Writes out ± as two answers, and scalars before vectors into their entries.
pub(super) fn prepare(expr: &Expr) -> Cow<'_, Expr> {
    let is_plus_minus = |node: &Expr| matches!(node, Expr::PlusMinus { .. });
    let expanded = if expr.any(&is_plus_minus) { Cow::Owned(expand_plus_minus(expr)) } else { Cow::Borrowed(expr) };
    let needs_distribution = |node: &Expr| matches!(node, Expr::Product(items) | Expr::Sum(items) if items.iter().any(|item| matches!(item, Expr::Matrix(_) | Expr::Tuple { .. } | Expr::Product(_) | Expr::Sum(_))));
    if expanded.any(&|node| matches!(node, Expr::Matrix(_) | Expr::Tuple { .. })) && expanded.any(&needs_distribution) {
        Cow::Owned(distribute(&expanded))
    } else {
        expanded
    }
}

fn expand_plus_minus(expr: &Expr) -> Expr {
    let both = |item: &Expr| {
        let (mut signs, mut are_coupled) = (0, false);
        count_signs(item, &mut signs, &mut are_coupled);
        match signs {
            0 => vec![item.clone()],
            // `±` and `∓` go together.
            2..=MAX_SIGNS if !are_coupled => {
                (0..1_u32 << signs).map(|negative| with_signs(item, negative, &mut 0)).collect()
            }
            _ => vec![with_sign(item, false), with_sign(item, true)],
        }
    };
    match expr {
        Expr::List(separator, items) => Expr::List(*separator, items.iter().flat_map(both).collect()),
        Expr::Set(items) => Expr::Set(items.iter().flat_map(both).collect()),
        other => Expr::List(Separator::Or, both(other)),
    }
}

/// Most signs that are written out independently of each other.
const MAX_SIGNS: u32 = 4;

/// Counts the double signs, and tells whether one of them is `∓`.
fn count_signs(expr: &Expr, signs: &mut u32, are_coupled: &mut bool) {
    if let Expr::PlusMinus { flipped, .. } = expr {
        *signs += 1;
        *are_coupled |= flipped;
    }
    expr.children().for_each(|child| count_signs(child, signs, are_coupled));
}

/// The expression with each double sign taken from its own bit.
fn with_signs(expr: &Expr, negative: u32, at: &mut u32) -> Expr {
    match expr {
        Expr::PlusMinus { term, .. } => {
            let is_negative = negative >> *at & 1 == 1;
            *at += 1;
            let term = with_signs(term, negative, at);
            if is_negative { term.negate() } else { term }
        }
        other => other.map_children(&mut |child| with_signs(child, negative, at)),
    }
}

fn with_sign(expr: &Expr, negative: bool) -> Expr {
    match expr {
        Expr::PlusMinus { flipped, term } => {
            let term = with_sign(term, negative);
            if *flipped == negative { term } else { term.negate() }
        }
        other => other.map_children(&mut |child| with_sign(child, negative)),
    }
}

/// `k (a, b)` → `(k a, k b)`, and sums of vectors entry by entry.
fn distribute(expr: &Expr) -> Expr {
    let expr = expr.map_children(&mut distribute);
    let is_vector = |item: &Expr| matches!(item, Expr::Matrix(_) | Expr::Tuple { .. });
    match &expr {
        Expr::Product(factors) if factors.iter().filter(|factor| is_vector(factor)).count() == 1 => {
            let Some(at) = factors.iter().position(is_vector) else {
                return expr;
            };
            let mut scalars = factors.clone();
            let vector = scalars.remove(at);
            if !scalars.iter().all(Expr::is_scalar) {
                return expr;
            }
            vector.map_children(&mut |entry| {
                let mut factors = scalars.clone();
                factors.push(entry.clone());
                Expr::Product(factors)
            })
        }
        Expr::Sum(terms) if terms.iter().all(is_vector) => {
            let Some((first, rest)) = terms.split_first() else {
                return expr;
            };
            let shape = |item: &Expr| match item {
                Expr::Matrix(rows) => Some((rows.len(), rows.first().map_or(0, Vec::len))),
                Expr::Tuple { items, .. } => Some((0, items.len())),
                _ => None,
            };
            if rest.iter().any(|term| shape(term) != shape(first)) {
                return expr;
            }
            let mut columns: Vec<Vec<&Expr>> = terms.iter().map(|term| term.children().collect()).collect();
            for column in &mut columns {
                column.reverse();
            }
            first.map_children(&mut |_| {
                Expr::Sum(columns.iter_mut().filter_map(|column| column.pop().cloned()).collect())
            })
        }
        _ => expr,
    }
}
