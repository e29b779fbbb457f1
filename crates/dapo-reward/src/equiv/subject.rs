//! What a relation is about: the names that an equation gives a value to.

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
    let is_constant = |side: &Expr| side.is_scalar() && !has_variable(side);
    // `6 = x`
    if let ([value, Expr::Variable(_) | Expr::Call(Function::Apply, _)], [Relation::Equal]) =
        (sides.as_slice(), operators.as_slice())
        && is_constant(value)
    {
        return Some(value.clone());
    }
    (end == 0 || names(&sides[0], &sides[end]) || is_constant(&sides[0])).then(|| sides[end].clone())
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
        Expr::Call(Function::Abs, arguments) => {
            arguments.iter().all(|argument| is_name(argument) || has_vector(argument))
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

fn has_variable(expr: &Expr) -> bool {
    expr.any(&|node| matches!(node, Expr::Variable(_)))
}

/// Whether a small letter is in the expression: `f(x)` and `g(t)` define functions, `P(A)` and `P(B)` are two values.
fn has_unknown(expr: &Expr) -> bool {
    expr.any(&|node| matches!(node, Expr::Variable(name) if name.starts_with(|c: char| c.is_ascii_lowercase())))
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
            let inverted =
                matches!(exponent.as_ref(), Expr::Number(number) if number.value == dashu_ratio::RBig::NEG_ONE);
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

/// `a/b`.
fn is_quotient(factors: &[Expr]) -> bool {
    match factors {
        [Expr::Variable(_), Expr::Power(denominator, exponent)] => {
            matches!(denominator.as_ref(), Expr::Variable(_))
                && matches!(exponent.as_ref(), Expr::Number(number) if number.value == dashu_ratio::RBig::NEG_ONE)
        }
        _ => false,
    }
}

/// `AB`, `mn`, `AB^2`, `f(1) f(2)`.
fn is_product_of_names(factors: &[Expr]) -> bool {
    let is_upper = |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase());
    factors.iter().all(|factor| {
        matches!(factor, Expr::Variable(_) | Expr::Tuple { .. } | Expr::Call(Function::Apply, _)) && is_name(factor)
    }) || factors.iter().all(|factor| match factor {
        Expr::Variable(name) => is_upper(name),
        Expr::Power(base, exponent) => {
            matches!(base.as_ref(), Expr::Variable(name) if is_upper(name))
                && matches!(exponent.as_ref(), Expr::Number(_))
        }
        _ => false,
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
pub(super) fn same_subject(left: &[Expr], right: &[Expr]) -> bool {
    let (Some(left), Some(right)) = (left.first(), right.first()) else {
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
    if left == right || (is_y(left) && is_y(right)) {
        return true;
    }
    match (arguments(left), arguments(right)) {
        (Some(left), Some(right)) => left == right || (left.iter().all(has_unknown) && right.iter().all(has_unknown)),
        (Some(of), None) => is_value(right, &of),
        (None, Some(of)) => is_value(left, &of),
        (None, None) => !has_variable(left) && !has_variable(right),
    }
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
    let fits = (is_bare(&gold) && is_numbered(&prediction)) || (is_numbered(&gold) && is_bare(&prediction));
    let values = |items: Vec<(Box<str>, Expr)>| items.into_iter().map(|(_, value)| value).collect();
    fits.then(|| (values(gold), values(prediction)))
}
