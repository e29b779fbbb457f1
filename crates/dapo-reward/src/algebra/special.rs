//! Sines and cosines of simple fractions of π.

use dashu_int::IBig;
use dashu_ratio::RBig;

use super::Stop;
use super::polynomial::{Base, Monomial, Polynomial};
use crate::expr::{Constant, Function};
use crate::fuel::Fuel;

/// The exact value at a multiple of π/4 or π/6; `None` for other arguments.
pub(crate) fn sin_or_cos(function: Function, argument: &Polynomial, fuel: &Fuel) -> Result<Option<Polynomial>, Stop> {
    fuel.spend(50)?;
    let Some(turns) = multiple_of_pi(argument) else {
        return Ok(None);
    };
    // Twelfths of π, modulo a full turn; the cosine is the sine a quarter turn later.
    let twelfths = turns * RBig::from(12);
    if !twelfths.is_int() {
        return Ok(None);
    }
    let shift = if function == Function::Cos { 6 } else { 0 };
    let turn = IBig::from(24);
    let step = ((twelfths.numerator() % &turn) + &turn + IBig::from(shift)) % turn;
    let step = u8::try_from(step).map_err(|_| Stop::NotApplicable)?;
    let (step, sign) = if step >= 12 { (step - 12, -1) } else { (step, 1) };
    let half = |sign: i64| RBig::from_parts(sign.into(), 2_u8.into());
    let root = |radicand: u8| {
        let exponent = RBig::from_parts(1.into(), 2_u8.into());
        Polynomial::term(half(sign), Monomial::single(Base::Prime(radicand.into()), Monomial::default(), exponent))
    };
    Ok(match step {
        0 => Some(Polynomial::default()),
        2 | 10 => Some(Polynomial::constant(half(sign))),
        3 | 9 => Some(root(2)),
        4 | 8 => Some(root(3)),
        6 => Some(Polynomial::constant(RBig::from(sign))),
        _ => None,
    })
}

/// `r` when the argument is `r·π`.
fn multiple_of_pi(argument: &Polynomial) -> Option<RBig> {
    if argument.is_zero() {
        return Some(RBig::ZERO);
    }
    let (monomial, coefficient) = argument.as_term()?;
    let [factor] = monomial.0.as_slice() else {
        return None;
    };
    let is_pi = factor.base == Base::Constant(Constant::Pi) && factor.symbolic.is_one() && factor.exponent.is_one();
    is_pi.then(|| coefficient.clone())
}
