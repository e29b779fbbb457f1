//! What a relation is about: the names that an equation gives a value to.

use std::collections::BTreeSet;

use dashu_ratio::RBig;

use crate::expr::{Constant, Expr, Function, Relation};

/// The value a relation gives to its subject: the end of `x = …`, of a chain of constants, the left of `… ≈ …`.
pub(crate) fn assigned(expr: &Expr) -> Option<Expr> {
    let Expr::Relation { sides, operators } = expr else {
        return None;
    };
    match operators.as_slice() {
        [Relation::In | Relation::Congruent] if is_name(&sides[0]) => return Some(sides[1].clone()),
        _ => {}
    }
    // What follows ≈ is a rounding of what precedes it, unless nothing but a name does.
    let end = operators.iter().position(|operator| *operator == Relation::Approximately).unwrap_or(operators.len());
    let end = if end == 0 && is_name(&sides[0]) { 1 } else { end };
    if operators[..end].iter().any(|operator| !matches!(operator, Relation::Equal | Relation::Approximately))
        || operators[end..].iter().any(|operator| *operator != Relation::Approximately)
    {
        return None;
    }
    let is_constant = |side: &Expr| bare(side).is_scalar() && !has_variable(side);
    // `6 = x`
    if let ([value, Expr::Variable(_) | Expr::Call(Function::Apply, _)], [Relation::Equal]) =
        (sides.as_slice(), operators.as_slice())
        && is_constant(value)
    {
        return Some(value.clone());
    }
    (end == 0 || names(&sides[0], &sides[end]) || is_constant(&sides[0])).then(|| sides[end].clone())
}

/// A quantity's value, any other expression itself.
pub(super) fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Quantity(value, _) => value,
        other => other,
    }
}

/// Whether an equation's left side is a name and its right side what the name stands for. `ax + by = 0` is an equation.
fn names(left: &Expr, right: &Expr) -> bool {
    let is_zero = matches!(right, Expr::Number(number) if number.value.is_zero());
    match left {
        Expr::Sum(_) | Expr::Call(Function::Sin | Function::Cos | Function::Tan, _) if is_zero => false,
        Expr::Product(factors) if is_zero => is_application(factors),
        Expr::Product(factors) => {
            // A multiple of a vector is no name for a vector.
            is_name(left)
                && !(matches!(right, Expr::Tuple { .. }) && matches!(factors.last(), Some(Expr::Tuple { .. })))
        }
        _ => is_name(left),
    }
}

/// What may stand to the left of an assignment: a variable, a function's application, or a sum or product of variables.
pub(super) fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Variable(_) | Expr::Call(Function::Apply, _) => true,
        Expr::Constant(constant) => matches!(constant, Constant::E | Constant::I),
        Expr::Tuple { items, .. } => items.iter().all(|item| matches!(item, Expr::Variable(_))),
        Expr::Product(factors) => is_application(factors) || is_product_of_names(factors) || is_quotient(factors),
        // `[G:H]`
        Expr::Ratio(terms) => terms.iter().all(|term| matches!(term, Expr::Variable(_))),
        Expr::Sum(terms) => is_sum_of_names(terms),
        Expr::Call(Function::Abs, arguments) => arguments.iter().all(is_measured),
        // A variance.
        Expr::Power(base, exponent) => {
            matches!(base.as_ref(), Expr::Variable(name) if name.starts_with("sigma"))
                && matches!(exponent.as_ref(), Expr::Number(number) if number.value == RBig::from(2))
        }
        Expr::Call(
            Function::Arg
            | Function::Re
            | Function::Im
            | Function::Gcd
            | Function::Lcm
            | Function::Min
            | Function::Max
            | Function::Determinant
            | Function::Sin
            | Function::Cos
            | Function::Tan,
            arguments,
        ) => arguments.iter().any(has_variable),
        _ => false,
    }
}

/// Whether bars around an expression are its length or its size: `|x| = 5` is an equation for `x`.
fn is_measured(expr: &Expr) -> bool {
    let is_unknown = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase()) && !matches!(name, "a" | "b" | "c" | "u" | "v" | "w" | "z")
    };
    match expr {
        Expr::Variable(name) => name.contains(' ') || !is_unknown(name),
        other => is_name(other) || has_vector(other),
    }
}

fn has_variable(expr: &Expr) -> bool {
    expr.any(&|node| matches!(node, Expr::Variable(_)))
}

/// Whether the expression is a small letter: `f(x)` and `g(t)` define functions, `P(A)` and `P(B)` are two values.
fn is_unknown(expr: &Expr) -> bool {
    matches!(expr, Expr::Variable(name) if name.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Whether a variable with an arrow, a bar or bold letters is in the expression: the bars around it are a norm.
fn has_vector(expr: &Expr) -> bool {
    expr.any(&|node| matches!(node, Expr::Variable(name) if name.contains(' ')))
}

/// `f(2)`, `P(A)`, `φ(7)`, `d(P, Q)`, `f^{-1}(x)`, `dy/dx`.
fn is_application(factors: &[Expr]) -> bool {
    match factors {
        [Expr::Variable(name), _] if is_function_name(name) => true,
        [Expr::Variable(_), Expr::Number(_) | Expr::Tuple { .. }] => true,
        [Expr::Power(function, exponent), argument] => {
            let inverted = matches!(exponent.as_ref(), Expr::Number(number) if number.value == RBig::NEG_ONE);
            matches!(function.as_ref(), Expr::Variable(name) if is_function_name(name))
                && (inverted || matches!(argument, Expr::Variable(_)))
        }
        [numerator, Expr::Power(denominator, _)] => is_differential(numerator) && is_differential(denominator),
        [Expr::Product(operator), _] => match operator.as_slice() {
            [Expr::Variable(d), Expr::Power(denominator, _)] => d.as_ref() == "d" && is_differential(denominator),
            _ => false,
        },
        _ => false,
    }
}

/// `dy`, `d^2y`, `dx^2`.
fn is_differential(expr: &Expr) -> bool {
    let is_d = |expr: &Expr| matches!(expr, Expr::Variable(name) if name.as_ref() == "d");
    match expr {
        Expr::Product(factors) => match factors.first() {
            Some(Expr::Power(base, _)) => is_d(base),
            Some(first) => is_d(first) && factors.len() == 2,
            None => false,
        },
        _ => false,
    }
}

/// `a/b`, `BD/DC`, `|AB|/|CD|`.
fn is_quotient(factors: &[Expr]) -> bool {
    let is_part = |part: &Expr| match part {
        Expr::Variable(_) => true,
        Expr::Product(letters) => letters.iter().all(is_capital),
        Expr::Call(Function::Abs, _) => is_name(part),
        _ => false,
    };
    match factors {
        [numerator, Expr::Power(denominator, exponent)] => {
            is_part(numerator)
                && is_part(denominator)
                && matches!(exponent.as_ref(), Expr::Number(number) if number.value == RBig::NEG_ONE)
        }
        _ => false,
    }
}

fn is_capital(expr: &Expr) -> bool {
    matches!(expr, Expr::Variable(name) if name.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// `AB`, `mn`, `AB^2`, `f(1) f(2)`.
fn is_product_of_names(factors: &[Expr]) -> bool {
    factors.iter().all(|factor| {
        matches!(factor, Expr::Variable(_) | Expr::Tuple { .. } | Expr::Call(Function::Apply, _)) && is_name(factor)
    }) || factors.iter().all(|factor| match factor {
        Expr::Power(base, exponent) => is_capital(base) && matches!(exponent.as_ref(), Expr::Number(_)),
        other => is_capital(other),
    })
}

/// `m + n`, `AB + CD`, `ab + bc + ca`; an equation in x, y or z is none.
fn is_sum_of_names(terms: &[Expr]) -> bool {
    let is_unknown = |node: &Expr| matches!(node, Expr::Variable(name) if matches!(name.as_ref(), "x" | "y" | "z"));
    let has_products = terms.iter().any(|term| matches!(term, Expr::Product(factors) if !is_application(factors)));
    terms.iter().all(is_name) && !(has_products && terms.iter().any(|term| term.any(&is_unknown)))
}

fn is_function_name(name: &str) -> bool {
    matches!(
        name.trim_end_matches('\''),
        "f" | "g" | "h" | "F" | "G" | "H" | "P" | "p" | "q" | "Q" | "T" | "S" | "A" | "V" | "C" | "R"
    ) || name.starts_with("f_")
        || name.starts_with("g_")
}

/// Whether two assignments are about the same thing: the same name, or a function's value and `y`.
pub(super) fn same_subject(sides: &[Expr], others: &[Expr]) -> bool {
    let (Some(left), Some(right)) = (sides.first(), others.first()) else {
        return false;
    };
    // Both a function at the same arguments, or a function and the variable for its values.
    let arguments = |expr: &Expr| match expr {
        Expr::Call(Function::Apply, arguments) => Some(arguments[1..].to_vec()),
        Expr::Product(factors) if is_name(expr) => Some(factors[1..].to_vec()),
        _ => None,
    };
    let is_value = |expr: &Expr, of: &[Expr]| {
        matches!(expr, Expr::Variable(name) if name.as_ref() == if of.len() == 2 { "z" } else { "y" })
            && of.iter().all(has_variable)
    };
    let is_y = |expr: &Expr| matches!(expr, Expr::Variable(name) if name.as_ref() == "y");
    if left == right || (is_y(left) && is_y(right)) || is_repeated_root(sides, right) || is_repeated_root(others, left)
    {
        return true;
    }
    match (arguments(left), arguments(right)) {
        (Some(left), Some(right)) => left == right || (left.iter().all(is_unknown) && right.iter().all(is_unknown)),
        (Some(of), None) => is_value(right, &of),
        (None, Some(of)) => is_value(left, &of),
        (None, None) => !has_variable(left) && !has_variable(right),
    }
}

/// The value that a function of the second names gives, written for the first names.
pub(super) fn in_names_of(sides: &[Expr], others: &[Expr], value: Expr) -> Expr {
    let names = |sides: &[Expr]| -> Vec<Box<str>> {
        let arguments = match sides.first() {
            Some(Expr::Call(Function::Apply, arguments)) => &arguments[1..],
            Some(Expr::Product(factors)) if is_application(factors) => &factors[1..],
            _ => return Vec::new(),
        };
        let name = |argument: &Expr| match argument {
            Expr::Variable(name) => Some(name.clone()),
            _ => None,
        };
        arguments.iter().map(name).collect::<Option<_>>().unwrap_or_default()
    };
    let (to, from) = (names(sides), names(others));
    if to == from || to.len() != from.len() {
        return value;
    }
    rename(&value, &from, &to)
}

fn rename(expr: &Expr, from: &[Box<str>], to: &[Box<str>]) -> Expr {
    match expr {
        Expr::Variable(name) => match from.iter().position(|other| other == name) {
            Some(at) => Expr::Variable(to[at].clone()),
            // A letter that is no argument stays apart from the arguments.
            None if to.contains(name) => Expr::Variable(format!("{name} free").into()),
            None => expr.clone(),
        },
        other => other.map_children(&mut |child| rename(child, from, to)),
    }
}

/// Whether relations side by side are about different things, so that "and" and "or" between them differ.
pub(super) fn holds_differently(items: &[Expr]) -> bool {
    let subject = |item: &Expr| -> Option<BTreeSet<Box<str>>> {
        let Expr::Relation { sides, operators } = item else {
            return None;
        };
        let mut names = BTreeSet::new();
        let all = match sides.as_slice() {
            [side @ Expr::Variable(_), _] if operators.as_slice() == [Relation::Equal] => std::slice::from_ref(side),
            all => all,
        };
        for side in all {
            variables(side, &mut names);
        }
        Some(names)
    };
    match items.iter().map(subject).collect::<Option<Vec<_>>>() {
        Some(subjects) => subjects.windows(2).any(|pair| pair[0] != pair[1]),
        None => false,
    }
}

/// The variables of an expression without their indices.
fn variables(expr: &Expr, into: &mut BTreeSet<Box<str>>) {
    match expr {
        Expr::Variable(name) => {
            into.insert(name.split_once('_').map_or(name.as_ref(), |(base, _)| base).into());
        }
        other => other.children().for_each(|child| variables(child, into)),
    }
}

/// Whether the sides are `x_1 = x_2 = 3`, all solutions for the variable.
fn is_repeated_root(sides: &[Expr], variable: &Expr) -> bool {
    let (Expr::Variable(variable), Some((_, roots))) = (variable, sides.split_last()) else {
        return false;
    };
    let is_root = |root: &Expr| {
        matches!(root, Expr::Variable(name) if name.split_once('_').is_some_and(|(base, index)| {
            base == variable.as_ref() && index.bytes().all(|byte| byte.is_ascii_digit())
        }))
    };
    roots.len() > 1 && roots.iter().all(is_root)
}

/// The values of `x_1 = 3, x_2 = 5` and `x = 3, x = 5`, where one numbers the solutions that the other does not.
pub(super) fn without_indices(gold: &[Expr], prediction: &[Expr]) -> Option<(Vec<Expr>, Vec<Expr>)> {
    let named = |items: &[Expr]| -> Option<Vec<(Box<str>, Expr)>> {
        let mut all: Vec<(Box<str>, Expr)> = Vec::new();
        for item in items {
            let (name, value) = match item {
                Expr::Relation { sides, operators } if operators.as_slice() == [Relation::Equal] => {
                    match sides.as_slice() {
                        [Expr::Variable(name), value] => (name.clone(), value),
                        _ => return None,
                    }
                }
                // `x = 3 or 5`
                value if value.is_scalar() => (all.first()?.0.clone(), value),
                _ => return None,
            };
            all.push((name, value.clone()));
        }
        Some(all)
    };
    let (gold, prediction) = (named(gold)?, named(prediction)?);
    let (base, _) = gold.first()?.0.split_once('_').unwrap_or((&gold.first()?.0, ""));
    let is_bare = |items: &[(Box<str>, Expr)]| items.iter().all(|(name, _)| name.as_ref() == base);
    let is_numbered = |items: &[(Box<str>, Expr)]| {
        items.iter().all(|(name, _)| {
            name.split_once('_')
                .is_some_and(|(letter, index)| letter == base && index.bytes().all(|c| c.is_ascii_digit() || c == b','))
        })
    };
    // Two numbered solutions of one equation may be numbered either way; terms of a sequence may not.
    let are_roots =
        gold.len() == 2 && matches!(base, "x" | "t" | "z") && is_numbered(&gold) && is_numbered(&prediction);
    let fits =
        are_roots || (is_bare(&gold) && is_numbered(&prediction)) || (is_numbered(&gold) && is_bare(&prediction));
    let values = |items: Vec<(Box<str>, Expr)>| items.into_iter().map(|(_, value)| value).collect();
    fits.then(|| (values(gold), values(prediction)))
}
