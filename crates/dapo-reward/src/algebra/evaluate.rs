//! The value of an expression as an enclosure.

use dashu_base::Signed;
use dashu_int::IBig;
use dashu_ratio::RBig;

use super::{Stop, exact};
use crate::expr::{Constant, Expr, Function};
use crate::number::complex::Complex;
use crate::number::elementary::Precision;
use crate::number::float::Float;
use crate::number::interval::Interval;
use crate::number::{Numeric, NumericError};

/// Values of variables.
pub(crate) type Environment<'a> = [(&'a str, RBig)];

/// Integer exponents up to this are applied by multiplying.
const MAX_INTEGER_POWER: u64 = 1 << 14;

impl From<Stop> for NumericError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::OutOfFuel => Self::OutOfFuel,
            Stop::NotApplicable => Self::OutOfRange,
            Stop::Undefined => Self::Undefined,
        }
    }
}

/// Encloses the value of a scalar expression.
pub(crate) fn evaluate(expr: &Expr, values: &Environment<'_>, p: &Precision<'_>) -> Numeric<Complex> {
    p.fuel.spend(300)?;
    match expr {
        Expr::Number(number) => Ok(Complex::real(Interval::from_rational(&number.value, p.bits)?)),
        Expr::Constant(Constant::Pi) => Ok(Complex::real(p.pi()?)),
        Expr::Constant(Constant::E) => Ok(Complex::real(p.exp(&Interval::integer(1))?)),
        Expr::Constant(Constant::I) => Ok(Complex::i()),
        Expr::Variable(name) => {
            let (_, value) =
                values.iter().find(|(variable, _)| *variable == name.as_ref()).ok_or(NumericError::OutOfRange)?;
            Ok(Complex::real(Interval::from_rational(value, p.bits)?))
        }
        Expr::Sum(terms) => {
            terms.iter().try_fold(Complex::real(Interval::zero()), |sum, term| sum.add(&evaluate(term, values, p)?, p))
        }
        Expr::Product(factors) => factors.iter().try_fold(Complex::real(Interval::integer(1)), |product, factor| {
            product.mul(&evaluate(factor, values, p)?, p)
        }),
        Expr::Power(base, exponent) => power(base, exponent, values, p),
        Expr::Percent(term) => evaluate(term, values, p)?.mul(&fraction(1, 100, p)?, p),
        Expr::Call(Function::Root, arguments) => match arguments.as_slice() {
            [index, radicand] => power(radicand, &index.clone().reciprocal(), values, p),
            _ => Err(NumericError::OutOfRange),
        },
        Expr::Call(function, arguments) => {
            let arguments =
                arguments.iter().map(|argument| evaluate(argument, values, p)).collect::<Numeric<Vec<_>>>()?;
            call(*function, &arguments, p)
        }
        _ => Err(NumericError::OutOfRange),
    }
}

fn fraction(numerator: i64, denominator: u64, p: &Precision<'_>) -> Numeric<Complex> {
    Ok(Complex::real(Interval::from_rational(&RBig::from_parts(numerator.into(), denominator.into()), p.bits)?))
}

fn power(base: &Expr, exponent: &Expr, values: &Environment<'_>, p: &Precision<'_>) -> Numeric<Complex> {
    let value = evaluate(base, values, p)?;
    match exact::rational(exponent, p.fuel) {
        Ok(exponent) => rational_power(&value, &exponent, p),
        Err(Stop::OutOfFuel) => Err(NumericError::OutOfFuel),
        Err(Stop::Undefined) => Err(NumericError::Undefined),
        Err(Stop::NotApplicable) => {
            let exponent = evaluate(exponent, values, p)?;
            match exact_real(&exponent) {
                Ok(exponent) => rational_power(&value, &exponent, p),
                Err(_) => value.pow(&exponent, p),
            }
        }
    }
}

fn rational_power(base: &Complex, exponent: &RBig, p: &Precision<'_>) -> Numeric<Complex> {
    if exponent.is_int() {
        let size = dashu_base::UnsignedAbs::unsigned_abs(exponent.numerator().clone());
        if let Ok(size) = u64::try_from(size)
            && size <= MAX_INTEGER_POWER
        {
            let power = base.pow_integer(size, p)?;
            return if exponent.is_negative() { power.recip(p) } else { Ok(power) };
        }
    }
    if base.is_zero() {
        return if exponent.is_positive() { Ok(base.clone()) } else { Err(NumericError::Undefined) };
    }
    let is_two = |value: &dashu_int::UBig| *value == dashu_int::UBig::from(2_u8);
    if is_two(exponent.denominator()) {
        let root = base.sqrt(p)?;
        return rational_power(&root, &RBig::from(exponent.numerator().clone()), p);
    }
    let factor = Complex::real(Interval::from_rational(exponent, p.bits)?);
    if base.is_real() && base.re.is_negative() && !(exponent.denominator() % 2_u8).eq(&0_u8) {
        // Odd roots of negative numbers are real.
        let size = base.neg().pow(&factor, p)?;
        let is_odd = exponent.numerator() % IBig::from(2) != IBig::ZERO;
        return Ok(if is_odd { size.neg() } else { size });
    }
    base.pow(&factor, p)
}

/// The rational an enclosure pins down.
fn exact_real(value: &Complex) -> Numeric<RBig> {
    if !value.is_real() {
        return Err(NumericError::OutOfRange);
    }
    let point = &value.re.lo;
    if point.cmp(&value.re.hi) != std::cmp::Ordering::Equal {
        return Err(NumericError::OutOfRange);
    }
    float_to_rational(point)
}

/// The rational that a float is, unless its exponent is enormous.
pub(crate) fn float_to_rational(value: &Float) -> Numeric<RBig> {
    if value.exponent.abs() > 20_000 {
        return Err(NumericError::OutOfRange);
    }
    let shift = value.exponent.unsigned_abs() as usize;
    Ok(if value.exponent >= 0 {
        RBig::from(&value.mantissa << shift)
    } else {
        RBig::from_parts(value.mantissa.clone(), dashu_int::UBig::ONE << shift)
    })
}

fn real(value: &Complex) -> Numeric<&Interval> {
    if value.is_real() { Ok(&value.re) } else { Err(NumericError::OutOfRange) }
}

fn call(function: Function, arguments: &[Complex], p: &Precision<'_>) -> Numeric<Complex> {
    let x = arguments.first().ok_or(NumericError::OutOfRange)?;
    let of = |function: Function| call(function, arguments, p);
    let inverse_of = |function: Function| call(function, &[x.recip(p)?], p);
    let half_pi = || p.pi()?.mul(&Interval::point(Float::new(1.into(), -1)), p.bits);
    let one = Complex::real(Interval::integer(1));
    match function {
        Function::Sin | Function::Cos => sin_or_cos(function, x, p),
        Function::Tan => of(Function::Sin)?.mul(&of(Function::Cos)?.recip(p)?, p),
        Function::Cot => of(Function::Cos)?.mul(&of(Function::Sin)?.recip(p)?, p),
        Function::Sec => of(Function::Cos)?.recip(p),
        Function::Csc => of(Function::Sin)?.recip(p),
        Function::ArcSin => Ok(Complex::real(arc_sin(real(x)?, p)?)),
        Function::ArcCos => Ok(Complex::real(half_pi()?.sub(&arc_sin(real(x)?, p)?, p.bits)?)),
        Function::ArcTan => Ok(Complex::real(p.atan(real(x)?)?)),
        Function::ArcCot => Ok(Complex::real(half_pi()?.sub(&p.atan(real(x)?)?, p.bits)?)),
        Function::ArcSec => inverse_of(Function::ArcCos),
        Function::ArcCsc => inverse_of(Function::ArcSin),
        Function::Sinh | Function::Cosh => {
            let (up, down) = (x.exp(p)?, x.neg().exp(p)?);
            let down = if function == Function::Sinh { down.neg() } else { down };
            up.add(&down, p)?.mul(&fraction(1, 2, p)?, p)
        }
        Function::Tanh => of(Function::Sinh)?.mul(&of(Function::Cosh)?.recip(p)?, p),
        Function::Coth => of(Function::Cosh)?.mul(&of(Function::Sinh)?.recip(p)?, p),
        Function::Sech => of(Function::Cosh)?.recip(p),
        Function::Csch => of(Function::Sinh)?.recip(p),
        Function::ArcSinh => x.add(&x.mul(x, p)?.add(&one, p)?.sqrt(p)?, p)?.ln(p),
        Function::ArcCosh => x.add(&x.mul(x, p)?.add(&one.neg(), p)?.sqrt(p)?, p)?.ln(p),
        Function::ArcTanh => {
            one.add(x, p)?.mul(&one.add(&x.neg(), p)?.recip(p)?, p)?.ln(p)?.mul(&fraction(1, 2, p)?, p)
        }
        Function::Ln => x.ln(p),
        Function::Log => match arguments {
            [base, value] => value.ln(p)?.mul(&base.ln(p)?.recip(p)?, p),
            _ => Err(NumericError::OutOfRange),
        },
        Function::Exp => x.exp(p),
        Function::Abs => Ok(Complex::real(x.abs(p)?)),
        Function::Floor => Ok(Complex::real(floor(real(x)?)?)),
        Function::Ceil => Ok(Complex::real(floor(&real(x)?.neg())?.neg())),
        Function::Sign => {
            let x = real(x)?;
            let sign = if x.is_positive() {
                1
            } else if x.is_negative() {
                -1
            } else if x.is_zero() {
                0
            } else {
                return Err(NumericError::Imprecise);
            };
            Ok(Complex::real(Interval::integer(sign)))
        }
        Function::Min | Function::Max => {
            let mut best = real(x)?.clone();
            for other in &arguments[1..] {
                let other = real(other)?.clone();
                best = if function == Function::Min {
                    Interval { lo: best.lo.min(other.lo), hi: best.hi.min(other.hi) }
                } else {
                    Interval { lo: best.lo.max(other.lo), hi: best.hi.max(other.hi) }
                };
            }
            Ok(Complex::real(best))
        }
        Function::Re => Ok(Complex::real(x.re.clone())),
        Function::Im => Ok(Complex::real(x.im.clone())),
        Function::Arg => Ok(Complex::real(x.arg(p)?)),
        Function::Degree => x.mul(&Complex::real(p.pi()?), p)?.mul(&fraction(1, 180, p)?, p),
        Function::Factorial
        | Function::DoubleFactorial
        | Function::Binomial
        | Function::Gcd
        | Function::Lcm
        | Function::Mod => {
            let values = arguments.iter().map(exact_real).collect::<Numeric<Vec<_>>>()?;
            let value = exact::call(function, &values, p.fuel)?;
            Ok(Complex::real(Interval::from_rational(&value, p.bits)?))
        }
        Function::Root | Function::Determinant | Function::Apply => Err(NumericError::OutOfRange),
    }
}

fn sin_or_cos(function: Function, x: &Complex, p: &Precision<'_>) -> Numeric<Complex> {
    if x.is_real() {
        let (sin, cos) = p.sin_cos(&x.re)?;
        return Ok(Complex::real(if function == Function::Sin { sin } else { cos }));
    }
    // (e^{ix} ∓ e^{−ix}) / 2, over i for the sine.
    let turned = x.mul(&Complex::i(), p)?;
    let (up, down) = (turned.exp(p)?, turned.neg().exp(p)?);
    let half = fraction(1, 2, p)?;
    if function == Function::Cos {
        return up.add(&down, p)?.mul(&half, p);
    }
    up.add(&down.neg(), p)?.mul(&half, p)?.mul(&Complex::i().neg(), p)
}

/// asin x = atan(x / √(1 − x²)), and ±π/2 at the ends.
fn arc_sin(x: &Interval, p: &Precision<'_>) -> Numeric<Interval> {
    let one = Interval::integer(1);
    let cosine_squared = one.sub(&x.mul(x, p.bits)?, p.bits)?;
    if cosine_squared.is_negative() {
        return Err(NumericError::Undefined);
    }
    if cosine_squared.is_zero() {
        let quarter = p.pi()?.mul(&Interval::point(Float::new(1.into(), -1)), p.bits)?;
        return Ok(if x.is_negative() { quarter.neg() } else { quarter });
    }
    p.atan(&x.mul(&p.sqrt(&cosine_squared)?.recip(p.bits)?, p.bits)?)
}

fn floor(x: &Interval) -> Numeric<Interval> {
    let (lo, hi) = (x.lo.to_fixed(0)?, x.hi.to_fixed(0)?);
    if lo == hi { Ok(Interval::point(Float::new(lo, 0))) } else { Err(NumericError::Imprecise) }
}
