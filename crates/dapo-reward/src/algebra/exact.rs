//! Exact rational values.

use dashu_base::Signed;
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use super::Stop;
use crate::expr::{Expr, Function};
use crate::fuel::Fuel;
use crate::number::float::rational_bits;

/// Largest power or factorial that is written out, in bits.
const MAX_BITS: u64 = 20_000;

/// The rational number an expression denotes, by arithmetic alone; `NotApplicable` where arithmetic gives no number.
pub(crate) fn rational(expr: &Expr, fuel: &Fuel) -> Result<RBig, Stop> {
    fuel.spend(20)?;
    match expr {
        Expr::Number(number) => Ok(number.value.clone()),
        Expr::Sum(terms) => terms.iter().try_fold(RBig::ZERO, |sum, term| bounded(sum + rational(term, fuel)?, fuel)),
        Expr::Product(factors) => {
            factors.iter().try_fold(RBig::ONE, |product, factor| bounded(product * rational(factor, fuel)?, fuel))
        }
        Expr::Power(base, exponent) => power(&rational(base, fuel)?, &rational(exponent, fuel)?, fuel),
        Expr::Percent(term) => Ok(rational(term, fuel)? / RBig::from(100)),
        Expr::Call(function, arguments) => {
            let values = arguments.iter().map(|argument| rational(argument, fuel)).collect::<Result<Vec<_>, _>>()?;
            call(*function, &values, fuel)
        }
        _ => Err(Stop::NotApplicable),
    }
}

fn bounded(value: RBig, fuel: &Fuel) -> Result<RBig, Stop> {
    let bits = rational_bits(&value);
    fuel.spend_product(bits)?;
    if bits as u64 > MAX_BITS { Err(Stop::NotApplicable) } else { Ok(value) }
}

/// `base ^ exponent` where that is rational and of reasonable size.
pub(crate) fn power(base: &RBig, exponent: &RBig, fuel: &Fuel) -> Result<RBig, Stop> {
    if exponent.is_int() {
        return integer_power(base, exponent.numerator(), fuel);
    }
    // A perfect power: both parts have an exact root.
    let root = u32::try_from(exponent.denominator()).map_err(|_| Stop::NotApplicable)?;
    let root_of = |value: &UBig| -> Result<UBig, Stop> {
        fuel.spend_product(rational_bits(base) * 4)?;
        if value.is_zero() || value.is_one() {
            return Ok(value.clone());
        }
        if u64::from(root) > MAX_BITS {
            return Err(Stop::NotApplicable);
        }
        let found = value.nth_root(root as usize);
        if found.pow(root as usize) == *value { Ok(found) } else { Err(Stop::NotApplicable) }
    };
    if base.is_negative() && root % 2 == 0 {
        return Err(Stop::NotApplicable);
    }
    let (numerator, denominator) = base.clone().into_parts();
    let sign = numerator.sign();
    let (_, size) = numerator.into_parts();
    let root = RBig::from_parts(IBig::from_parts(sign, root_of(&size)?), root_of(&denominator)?);
    integer_power(&root, exponent.numerator(), fuel)
}

fn integer_power(base: &RBig, exponent: &IBig, fuel: &Fuel) -> Result<RBig, Stop> {
    if base.is_zero() {
        return match exponent.sign() {
            _ if exponent.is_zero() => Ok(RBig::ONE),
            dashu_base::Sign::Positive => Ok(RBig::ZERO),
            dashu_base::Sign::Negative => Err(Stop::Undefined),
        };
    }
    if base.is_one() || *base == RBig::NEG_ONE {
        let is_odd = exponent % IBig::from(2) != IBig::ZERO;
        return Ok(if is_odd { base.clone() } else { RBig::ONE });
    }
    let exponent = i32::try_from(exponent).map_err(|_| Stop::NotApplicable)?;
    let bits = rational_bits(base) as u64 * u64::from(exponent.unsigned_abs());
    if bits > MAX_BITS {
        return Err(Stop::NotApplicable);
    }
    fuel.spend_product(bits as usize * 2)?;
    Ok(base.pow(exponent as isize))
}

/// A function of rationals whose value is rational.
pub(crate) fn call(function: Function, values: &[RBig], fuel: &Fuel) -> Result<RBig, Stop> {
    let one = || values.first().ok_or(Stop::NotApplicable);
    let small = |value: &RBig, limit: i64| -> Result<i64, Stop> {
        if !value.is_int() {
            return Err(Stop::NotApplicable);
        }
        i64::try_from(value.numerator()).ok().filter(|value| value.abs() <= limit).ok_or(Stop::NotApplicable)
    };
    match (function, values) {
        (Function::Abs, [value]) => Ok(dashu_base::Abs::abs(value.clone())),
        (Function::Floor, _) => Ok(RBig::from(one()?.floor())),
        (Function::Ceil, _) => Ok(RBig::from(one()?.ceil())),
        (Function::Sign, [value]) => Ok(value.signum()),
        (Function::Re, [value]) => Ok(value.clone()),
        (Function::Im, [_]) => Ok(RBig::ZERO),
        (Function::Root, [index, value]) => {
            if index.is_zero() {
                return Err(Stop::Undefined);
            }
            power(value, &(RBig::ONE / index), fuel)
        }
        (Function::Exp, [value]) if value.is_zero() => Ok(RBig::ONE),
        (
            Function::Sin | Function::Tan | Function::ArcSin | Function::ArcTan | Function::Sinh | Function::Tanh,
            [value],
        ) if value.is_zero() => Ok(RBig::ZERO),
        (Function::Cos | Function::Cosh | Function::Sec | Function::Sech, [value]) if value.is_zero() => Ok(RBig::ONE),
        (Function::Ln, [value]) if value.is_one() => Ok(RBig::ZERO),
        (Function::Log, [base, value]) => logarithm(base, value),
        (Function::Factorial, [value]) => {
            let n = small(value, 2_000)?;
            if n < 0 { Err(Stop::Undefined) } else { product(1, n, 1, fuel) }
        }
        (Function::DoubleFactorial, [value]) => {
            let n = small(value, 2_000)?;
            if n < 0 { Err(Stop::Undefined) } else { product(2 - n % 2, n, 2, fuel) }
        }
        (Function::Binomial, [upper, lower]) => binomial(small(upper, 1 << 40)?, small(lower, 1 << 40)?, fuel),
        (Function::Gcd | Function::Lcm, [_, ..]) => {
            let mut result = UBig::from(u8::from(function == Function::Lcm));
            for value in values {
                if !value.is_int() {
                    return Err(Stop::NotApplicable);
                }
                fuel.spend_product(rational_bits(value) * 8)?;
                let size = dashu_base::UnsignedAbs::unsigned_abs(value.numerator().clone());
                let both_zero = size.is_zero() && result.is_zero();
                let divisor = if both_zero { UBig::ONE } else { dashu_base::Gcd::gcd(&result, &size) };
                result = match function {
                    _ if both_zero => UBig::ZERO,
                    Function::Gcd => divisor,
                    _ => bounded(RBig::from(result / divisor * size), fuel)?.numerator().clone().into_parts().1,
                };
            }
            Ok(RBig::from(result))
        }
        (Function::Min, [_, ..]) => values.iter().min().cloned().ok_or(Stop::NotApplicable),
        (Function::Max, [_, ..]) => values.iter().max().cloned().ok_or(Stop::NotApplicable),
        (Function::Mod, [value, modulus]) => {
            if modulus.is_zero() {
                return Err(Stop::Undefined);
            }
            Ok(value - modulus * RBig::from((value / modulus).floor()))
        }
        _ => Err(Stop::NotApplicable),
    }
}

/// `log_base(value)` where it is an integer.
fn logarithm(base: &RBig, value: &RBig) -> Result<RBig, Stop> {
    // Zero counts as positive here.
    if value.is_negative() || value.is_zero() || base.is_negative() || base.is_zero() || base.is_one() {
        return Err(Stop::NotApplicable);
    }
    if value.is_one() {
        return Ok(RBig::ZERO);
    }
    let limit = (rational_bits(value) + 2) as i32;
    if limit > 2_000 {
        return Err(Stop::NotApplicable);
    }
    // base^n = value for n of either sign; powers of a rational only grow in size.
    for (step, sign) in [(base.clone(), 1), (RBig::ONE / base, -1)] {
        let mut power = step.clone();
        for n in 1..limit {
            if power == *value {
                return Ok(RBig::from(n * sign));
            }
            if rational_bits(&power) > rational_bits(value) + 2 {
                break;
            }
            power *= &step;
        }
    }
    Err(Stop::NotApplicable)
}

/// `from · (from + step) · … · to`, 1 when empty.
fn product(from: i64, to: i64, step: usize, fuel: &Fuel) -> Result<RBig, Stop> {
    let mut result = UBig::ONE;
    for factor in (from.max(1)..=to).step_by(step) {
        fuel.spend_product(dashu_base::BitTest::bit_len(&result))?;
        result *= factor.unsigned_abs();
        if dashu_base::BitTest::bit_len(&result) as u64 > MAX_BITS {
            return Err(Stop::NotApplicable);
        }
    }
    Ok(RBig::from(result))
}

fn binomial(n: i64, k: i64, fuel: &Fuel) -> Result<RBig, Stop> {
    if k < 0 || (n >= 0 && k > n) {
        return Ok(RBig::ZERO);
    }
    if n < 0 {
        return Err(Stop::NotApplicable);
    }
    let k = k.min(n - k);
    let mut result = UBig::ONE;
    for i in 1..=k {
        fuel.spend_product(dashu_base::BitTest::bit_len(&result) * 2)?;
        result = result * (n - k + i).unsigned_abs() / i.unsigned_abs();
        if dashu_base::BitTest::bit_len(&result) as u64 > MAX_BITS {
            return Err(Stop::NotApplicable);
        }
    }
    Ok(RBig::from(result))
}
