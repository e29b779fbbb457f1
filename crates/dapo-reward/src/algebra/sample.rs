//! Expressions compared by their values: constants at rising precision, functions at chosen points.

use std::collections::BTreeSet;

use dashu_ratio::RBig;

use super::Stop;
use super::evaluate::evaluate;
use super::split_mix::SplitMix;
use crate::expr::{Constant, Expr, Function};
use crate::fuel::Fuel;
use crate::number::NumericError;
use crate::number::complex::Complex;
use crate::number::elementary::Precision;

/// Precisions in bits at which constants are compared; those that still overlap at the last are equal.
const LADDER: [usize; 4] = [96, 288, 1_024, 3_072];
/// Points that must agree, and points tried at most.
const AGREEMENTS: usize = 8;
const ATTEMPTS: u64 = 48;

/// Whether two constants are equal.
pub(crate) fn constants_equal(gold: &Expr, prediction: &Expr, fuel: &Fuel) -> Result<bool, Stop> {
    let mut overlap_bits = 0;
    for bits in LADDER {
        let precision = Precision::new(bits, fuel);
        let pair = evaluate(gold, &[], &precision).and_then(|gold| Ok((gold, evaluate(prediction, &[], &precision)?)));
        match pair {
            Ok((gold, prediction)) if gold.is_apart(&prediction) => return Ok(false),
            Ok((gold, prediction)) => overlap_bits = agreement(&gold, &prediction),
            Err(NumericError::Imprecise) => {}
            Err(NumericError::Undefined) => return Err(Stop::Undefined),
            Err(NumericError::OutOfRange) => return Err(Stop::NotApplicable),
            Err(NumericError::OutOfFuel) => break,
        }
    }
    // Fuel may end before the last rung; what agrees to hundreds of digits is not told apart by more.
    if overlap_bits >= 900 { Ok(true) } else { Err(Stop::OutOfFuel) }
}

/// Bits to which two overlapping enclosures fix the common value: relative, or absolute near zero.
fn agreement(left: &Complex, right: &Complex) -> i64 {
    let part = |left: &crate::number::interval::Interval, right: &crate::number::interval::Interval| {
        let both = left.clone().hull(right.clone());
        if both.contains_zero() { -both.hi.magnitude().max(both.lo.magnitude()) } else { both.accuracy() }
    };
    let im = if left.im.is_zero() && right.im.is_zero() { i64::MAX } else { part(&left.im, &right.im) };
    if left.re.is_zero() && right.re.is_zero() { im } else { im.min(part(&left.re, &right.re)) }
}

/// Names of the variables in an expression.
pub(crate) fn variables<'a>(expr: &'a Expr, into: &mut BTreeSet<&'a str>) {
    if let Expr::Variable(name) = expr {
        into.insert(name);
    }
    for child in expr.children() {
        variables(child, into);
    }
}

/// A source of points: fixed, so that a verdict never changes.
pub(crate) struct Points {
    stream: SplitMix,
    integers_only: bool,
}

impl Points {
    pub(crate) fn new(expressions: &[&Expr]) -> Self {
        let discrete = |expr: &Expr| {
            matches!(
                expr,
                Expr::Call(
                    Function::Factorial
                        | Function::DoubleFactorial
                        | Function::Binomial
                        | Function::Gcd
                        | Function::Lcm
                        | Function::Mod,
                    _
                )
            )
        };
        Self {
            stream: SplitMix(0x0da7_0c0d_e5ee_d001),
            integers_only: expressions.iter().any(|expr| expr.any(&discrete)),
        }
    }

    fn next(&mut self, bound: u64) -> u64 {
        self.stream.bits() % bound
    }

    /// A value for each variable; the attempt decides the region.
    pub(crate) fn point<'a>(&mut self, names: &BTreeSet<&'a str>, attempt: u64) -> Vec<(&'a str, RBig)> {
        let mut value = |region: u64| {
            let fraction = |low: i64, width: u64, draw: u64| {
                RBig::from_parts((low * 1_009 + (draw % (width * 1_009)) as i64).into(), 1_009_u32.into())
            };
            let draw = self.next(1 << 40);
            if self.integers_only {
                return RBig::from(draw % 13 + u64::from(region != 3));
            }
            match region {
                0 => fraction(1, 3, draw),
                1 => fraction(0, 1, draw),
                2 => fraction(-4, 8, draw),
                _ => RBig::from(draw % 12 + 1),
            }
        };
        names.iter().map(|name| (*name, value(attempt % 4))).collect()
    }
}

/// Both values at a point, when both are real there (or the expressions are about complex numbers), precisely enough to be
/// told apart or to agree.
pub(crate) fn values_at(
    left: &Expr,
    right: &Expr,
    point: &[(&str, RBig)],
    is_complex: bool,
    fuel: &Fuel,
) -> Result<Option<(Complex, Complex)>, Stop> {
    for bits in [128, 512, 1_536] {
        let precision = Precision::new(bits, fuel);
        let pair = evaluate(left, point, &precision).and_then(|left| Ok((left, evaluate(right, point, &precision)?)));
        match pair {
            Ok((left, right)) => {
                let is_real = |value: &Complex| value.im.contains_zero();
                if !(is_complex || is_real(&left) && is_real(&right)) {
                    return Ok(None);
                }
                if left.is_apart(&right) || agreement(&left, &right) > 80 {
                    return Ok(Some((left, right)));
                }
            }
            Err(NumericError::Imprecise) => {}
            Err(NumericError::OutOfFuel) => return Err(Stop::OutOfFuel),
            Err(NumericError::Undefined | NumericError::OutOfRange) => return Ok(None),
        }
    }
    Ok(None)
}

pub(crate) fn mentions_i(expr: &Expr) -> bool {
    expr.any(&|node| matches!(node, Expr::Constant(Constant::I)))
}

/// Whether two functions agree at every point of a fixed sample on which both are defined.
pub(crate) fn functions_equal(gold: &Expr, prediction: &Expr, fuel: &Fuel) -> Result<bool, Stop> {
    let mut names = BTreeSet::new();
    variables(gold, &mut names);
    variables(prediction, &mut names);
    let is_complex = mentions_i(gold) || mentions_i(prediction);
    let mut points = Points::new(&[gold, prediction]);
    let mut agreements = 0;
    for attempt in 0..ATTEMPTS {
        // Functions that share no domain are not worth more points.
        if attempt == ATTEMPTS / 2 && agreements == 0 {
            break;
        }
        let point = points.point(&names, attempt);
        if let Some((gold, prediction)) = values_at(gold, prediction, &point, is_complex, fuel)? {
            if gold.is_apart(&prediction) {
                return Ok(false);
            }
            agreements += 1;
            if agreements == AGREEMENTS {
                return Ok(true);
            }
        }
    }
    if agreements >= AGREEMENTS / 2 { Ok(true) } else { Err(Stop::NotApplicable) }
}

/// Whether `left = k · right` for one constant `k`, positive if `positive` is set, at every point of a fixed sample.
pub(crate) fn proportional(left: &Expr, right: &Expr, positive: bool, fuel: &Fuel) -> Result<bool, Stop> {
    let mut names = BTreeSet::new();
    variables(left, &mut names);
    variables(right, &mut names);
    let mut points = Points::new(&[left, right]);
    let precision = Precision::new(128, fuel);
    let mut ratio: Option<Complex> = None;
    let mut agreements = 0;
    for attempt in 0..ATTEMPTS {
        let point = points.point(&names, attempt);
        let quotient = evaluate(left, &point, &precision)
            .and_then(|left| left.mul(&evaluate(right, &point, &precision)?.recip(&precision)?, &precision));
        match quotient {
            Ok(quotient) if quotient.is_real() => {
                if quotient.re.contains_zero() || (positive && quotient.re.is_negative()) {
                    return Ok(false);
                }
                if quotient.re.accuracy() < 64 {
                    continue;
                }
                if ratio.as_ref().is_some_and(|ratio| ratio.is_apart(&quotient)) {
                    return Ok(false);
                }
                ratio = Some(quotient);
                agreements += 1;
                if agreements == AGREEMENTS {
                    return Ok(true);
                }
            }
            Err(NumericError::OutOfFuel) => return Err(Stop::OutOfFuel),
            _ => {}
        }
    }
    if agreements >= AGREEMENTS / 2 { Ok(true) } else { Err(Stop::NotApplicable) }
}
