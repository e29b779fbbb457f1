//! Which parts may stand inside which: a sum of sets or the sine of a matrix is no answer.

use dashu_ratio::RBig;

use crate::expr::{Constant, Expr, Function};

/// Whether every part of an answer stands where it has a meaning.
pub(super) fn is_well_formed(expr: &Expr) -> bool {
    match expr {
        Expr::SetOperation(_, items) => items.iter().all(|item| is_set(item) && is_well_formed(item)),
        Expr::Quantity(value, _) | Expr::Percent(value) => is_value(value),
        Expr::Relation { sides, .. } => {
            sides.iter().all(|side| !matches!(side, Expr::Relation { .. }) && is_well_formed(side))
        }
        Expr::Ratio(terms) => terms.iter().all(is_value),
        Expr::Text(_) | Expr::Choice(..) | Expr::Time(_) => true,
        Expr::Qualified(value, condition) => is_well_formed(value) && is_well_formed(condition),
        Expr::List(..) | Expr::Set(_) | Expr::Tuple { .. } | Expr::Matrix(_) => expr.children().all(is_well_formed),
        other => is_infinite(other) || is_value(other) || is_vector(other),
    }
}

/// A number, a formula, a determinant.
fn is_value(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::Variable(_) => true,
        Expr::Constant(constant) => matches!(constant, Constant::Pi | Constant::E | Constant::I),
        Expr::Call(Function::Determinant, arguments) => {
            matches!(arguments.as_slice(), [Expr::Matrix(rows)] if rows.iter().flatten().all(is_value))
        }
        Expr::Sum(_)
        | Expr::Product(_)
        | Expr::Power(..)
        | Expr::Call(..)
        | Expr::PlusMinus { .. }
        | Expr::Percent(_) => expr.children().all(is_value),
        _ => false,
    }
}

fn is_infinite(expr: &Expr) -> bool {
    match expr {
        Expr::Constant(constant) => matches!(constant, Constant::Infinity | Constant::Reals | Constant::EmptySet),
        Expr::Product(factors) => match factors.as_slice() {
            [Expr::Number(sign), Expr::Constant(Constant::Infinity)] => sign.value == RBig::NEG_ONE,
            _ => false,
        },
        Expr::PlusMinus { term, .. } => matches!(term.as_ref(), Expr::Constant(Constant::Infinity)),
        _ => false,
    }
}

/// A vector or matrix, a multiple of one, or a sum of such.
fn is_vector(expr: &Expr) -> bool {
    match expr {
        Expr::Tuple { items, .. } => items.iter().all(is_value),
        Expr::Matrix(rows) => rows.iter().flatten().all(is_value),
        Expr::Product(factors) => {
            let vectors = factors.iter().filter(|factor| is_vector(factor)).count();
            vectors == 1 && factors.iter().all(|factor| is_vector(factor) || is_value(factor))
        }
        Expr::Sum(terms) => terms.iter().all(is_vector),
        _ => false,
    }
}

fn is_set(expr: &Expr) -> bool {
    match expr {
        Expr::Tuple { items, .. } => items.len() == 2,
        Expr::Set(_) | Expr::SetOperation(..) | Expr::Variable(_) => true,
        Expr::Constant(constant) => matches!(constant, Constant::Reals | Constant::EmptySet),
        _ => false,
    }
}
