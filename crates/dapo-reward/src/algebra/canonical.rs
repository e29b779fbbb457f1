//! Expressions in canonical form.

use dashu_base::{Abs, Signed};
use dashu_ratio::RBig;

use super::polynomial::{Base, Factor, Monomial, Polynomial, normalize, rational_power};
use super::{Stop, exact, factor, special};
use crate::expr::{Constant, Expr, Function};
use crate::fuel::Fuel;

/// The canonical form; `NotApplicable` where an expression has none or it would be too large.
pub(crate) fn canonical(expr: &Expr, fuel: &Fuel) -> Result<Polynomial, Stop> {
    fuel.spend(200)?;
    match expr {
        Expr::Number(number) => Ok(Polynomial::constant(number.value.clone())),
        Expr::Constant(constant @ (Constant::Pi | Constant::E | Constant::I)) => {
            Ok(Polynomial::base(Base::Constant(*constant)))
        }
        Expr::Variable(name) => Ok(Polynomial::base(Base::Variable(name.clone()))),
        Expr::Sum(terms) => {
            let mut sum = Polynomial::default();
            for term in terms {
                sum.add(&canonical(term, fuel)?, fuel)?;
            }
            Ok(sum)
        }
        Expr::Product(factors) => {
            let mut product = Polynomial::constant(RBig::ONE);
            for factor in factors {
                product = product.multiply(&canonical(factor, fuel)?, fuel)?;
            }
            Ok(product)
        }
        Expr::Power(base, exponent) => {
            let exponent = canonical(exponent, fuel)?;
            may_be_copied(&exponent, fuel)?;
            power(&canonical(base, fuel)?, &exponent, fuel)
        }
        Expr::Percent(term) => Ok(canonical(term, fuel)?.scale(&RBig::from_parts(1.into(), 100_u8.into()))),
        Expr::Call(function, arguments) => {
            if *function == Function::Determinant {
                return determinant(arguments, fuel);
            }
            let arguments =
                arguments.iter().map(|argument| canonical(argument, fuel)).collect::<Result<Vec<_>, _>>()?;
            for argument in &arguments {
                may_be_copied(argument, fuel)?;
            }
            call(*function, arguments, fuel)
        }
        _ => Err(Stop::NotApplicable),
    }
}

/// Pays for the copies that are made of an exponent or argument. Each level of a tower such as `30^{30^{30^x}}` would
/// triple it.
fn may_be_copied(part: &Polynomial, fuel: &Fuel) -> Result<(), Stop> {
    const LARGEST: usize = 1_024;
    // Most are a number or a variable.
    if part.as_rational().is_some() {
        return Ok(());
    }
    let size = part.size(LARGEST);
    fuel.spend(50 * size as u64)?;
    if size < LARGEST { Ok(()) } else { Err(Stop::NotApplicable) }
}

/// `base ^ exponent`.
pub(crate) fn power(base: &Polynomial, exponent: &Polynomial, fuel: &Fuel) -> Result<Polynomial, Stop> {
    if let Some(exponent) = exponent.as_rational() {
        return constant_power(base, &exponent, fuel);
    }
    if base.is_zero() {
        return Err(Stop::NotApplicable);
    }
    let mut result = Polynomial::constant(RBig::ONE);
    for (symbolic, coefficient) in &exponent.0 {
        let part = if symbolic.is_one() {
            constant_power(base, coefficient, fuel)?
        } else {
            symbolic_power(base, symbolic, coefficient, fuel)?
        };
        result = result.multiply(&part, fuel)?;
    }
    Ok(result)
}

/// `base ^ (coefficient · symbolic)`.
fn symbolic_power(base: &Polynomial, symbolic: &Monomial, coefficient: &RBig, fuel: &Fuel) -> Result<Polynomial, Stop> {
    let mut factors = Vec::new();
    let mut push = |base: Base, exponent: RBig| factors.push(Factor { base, symbolic: symbolic.clone(), exponent });
    match base.as_term() {
        Some((monomial, content)) if content.is_positive() && is_positive(monomial) => {
            for (part, sign) in [(content.numerator().clone().into_parts().1, 1), (content.denominator().clone(), -1)] {
                if !part.is_one() {
                    for (prime, times) in factor::factors(&part, fuel)? {
                        push(Base::Prime(prime), coefficient * RBig::from(times * sign));
                    }
                }
            }
            for factor in &monomial.0 {
                if !factor.symbolic.is_one() {
                    return Err(Stop::NotApplicable);
                }
                push(factor.base.clone(), coefficient * &factor.exponent);
            }
        }
        Some((monomial, content))
            if content.is_one()
                && monomial.0.len() == 1
                && monomial.0[0].exponent.is_one()
                && monomial.0[0].symbolic.is_one() =>
        {
            push(monomial.0[0].base.clone(), coefficient.clone());
        }
        _ => push(Base::Sum(base.clone()), coefficient.clone()),
    }
    factors.sort();
    // A prime may be in the content and in the monomial.
    let mut result = Polynomial::constant(RBig::ONE);
    for factor in factors {
        result = result.multiply(&Polynomial::term(RBig::ONE, Monomial(vec![factor])), fuel)?;
    }
    Ok(result)
}

/// Whether every factor is positive wherever it is real.
fn is_positive(monomial: &Monomial) -> bool {
    monomial.0.iter().all(|factor| match &factor.base {
        Base::Prime(_) | Base::Constant(Constant::Pi | Constant::E) => true,
        Base::Call(function, _) => matches!(function, Function::Abs | Function::Exp | Function::Cosh),
        _ => false,
    })
}

fn constant_power(base: &Polynomial, exponent: &RBig, fuel: &Fuel) -> Result<Polynomial, Stop> {
    if exponent.is_zero() {
        return Ok(Polynomial::constant(RBig::ONE));
    }
    if base.is_zero() {
        return if exponent.is_negative() { Err(Stop::Undefined) } else { Ok(Polynomial::default()) };
    }
    if let Some(value) = base.as_rational() {
        return rational_power(&value, exponent, fuel);
    }
    if let Some((monomial, coefficient)) = base.as_term() {
        if exponent.is_int() || (is_positive(monomial) && coefficient.is_positive()) {
            let factors = monomial.0.iter().map(|factor| Factor {
                base: factor.base.clone(),
                symbolic: factor.symbolic.clone(),
                exponent: &factor.exponent * exponent,
            });
            let factors: Vec<Factor> = factors.collect();
            let powers = normalize(factors, RBig::ONE, fuel)?;
            return rational_power(coefficient, exponent, fuel)?.multiply(&powers, fuel);
        }
        if let ([factor], true) = (monomial.0.as_slice(), coefficient.is_one())
            && factor.exponent.is_one()
            && factor.symbolic.is_one()
        {
            // √x as a power of x itself.
            return normalize(vec![Factor { exponent: exponent.clone(), ..factor.clone() }], RBig::ONE, fuel);
        }
    }
    if exponent.is_int() && exponent.is_positive() {
        let exponent = u64::try_from(exponent.numerator()).map_err(|_| Stop::NotApplicable)?;
        return base.power(exponent, fuel);
    }
    let (content, mut rest) = base.split_content();
    let mut sign = RBig::ONE;
    if exponent.is_int() && rest.leads_negative() {
        rest = rest.scale(&RBig::NEG_ONE);
        sign = rational_power(&RBig::NEG_ONE, exponent, fuel)?.as_rational().ok_or(Stop::NotApplicable)?;
    }
    let factor = Factor { base: Base::Sum(rest), symbolic: Monomial::default(), exponent: exponent.clone() };
    let root = normalize(vec![factor], sign, fuel)?;
    rational_power(&content, exponent, fuel)?.multiply(&root, fuel)
}

fn reciprocal(value: &Polynomial, fuel: &Fuel) -> Result<Polynomial, Stop> {
    constant_power(value, &RBig::NEG_ONE, fuel)
}

/// A function of canonical arguments.
fn call(function: Function, mut arguments: Vec<Polynomial>, fuel: &Fuel) -> Result<Polynomial, Stop> {
    if let Some(values) = arguments.iter().map(Polynomial::as_rational).collect::<Option<Vec<_>>>() {
        match exact::call(function, &values, fuel) {
            Ok(value) => return Ok(Polynomial::constant(value)),
            Err(Stop::NotApplicable) => {}
            Err(stop) => return Err(stop),
        }
    }
    if let [_, second] = arguments.as_slice() {
        let second = second.clone();
        match function {
            Function::Root => return power(&second, &reciprocal(&arguments[0], fuel)?, fuel),
            Function::Log => {
                let base = call(Function::Ln, vec![arguments.swap_remove(0)], fuel)?;
                return call(Function::Ln, vec![second], fuel)?.multiply(&reciprocal(&base, fuel)?, fuel);
            }
            _ => {}
        }
    }
    let Some(argument) = arguments.first() else {
        return Err(Stop::NotApplicable);
    };
    let of = |function, fuel| call(function, vec![argument.clone()], fuel);
    match function {
        Function::Exp => power(&Polynomial::base(Base::Constant(Constant::E)), argument, fuel),
        Function::Degree => {
            let pi = Polynomial::base(Base::Constant(Constant::Pi)).scale(&RBig::from_parts(1.into(), 180_u8.into()));
            argument.multiply(&pi, fuel)
        }
        Function::Ln => logarithm(argument, fuel),
        Function::Tan => of(Function::Sin, fuel)?.multiply(&reciprocal(&of(Function::Cos, fuel)?, fuel)?, fuel),
        Function::Cot => of(Function::Cos, fuel)?.multiply(&reciprocal(&of(Function::Sin, fuel)?, fuel)?, fuel),
        Function::Sec => reciprocal(&of(Function::Cos, fuel)?, fuel),
        Function::Csc => reciprocal(&of(Function::Sin, fuel)?, fuel),
        Function::Sin | Function::Cos => {
            if let Some(value) = special::sin_or_cos(function, argument, fuel)? {
                return Ok(value);
            }
            Ok(by_parity(function, arguments))
        }
        Function::Sinh
        | Function::Cosh
        | Function::Tanh
        | Function::ArcSin
        | Function::ArcTan
        | Function::ArcSinh
        | Function::ArcTanh
        | Function::Sign => {
            if argument.is_zero() && function != Function::Cosh {
                return Ok(Polynomial::default());
            }
            Ok(by_parity(function, arguments))
        }
        Function::Abs => {
            let (content, rest) = argument.split_content();
            let rest = if rest.leads_negative() { rest.scale(&RBig::NEG_ONE) } else { rest };
            let size = match rest.as_term() {
                Some((monomial, coefficient)) if is_positive(monomial) => {
                    Polynomial::term(coefficient.clone().abs(), monomial.clone())
                }
                _ => Polynomial::base(Base::Call(Function::Abs, vec![rest])),
            };
            Ok(size.scale(&content))
        }
        _ => Ok(Polynomial::base(Base::Call(function, arguments))),
    }
}

/// f(−x) = −f(x), or f(x) for the cosines: the argument's sign is made positive.
fn by_parity(function: Function, mut arguments: Vec<Polynomial>) -> Polynomial {
    let is_even = matches!(function, Function::Cos | Function::Cosh);
    let negative = arguments.first().is_some_and(Polynomial::leads_negative);
    if negative {
        arguments[0] = arguments[0].scale(&RBig::NEG_ONE);
    }
    let value = Polynomial::base(Base::Call(function, arguments));
    if negative && !is_even { value.scale(&RBig::NEG_ONE) } else { value }
}

/// ln of a product of positive factors is a sum; other logarithms stay.
fn logarithm(argument: &Polynomial, fuel: &Fuel) -> Result<Polynomial, Stop> {
    if argument.is_zero() {
        return Err(Stop::Undefined);
    }
    let of = |base: Base| {
        let argument = Polynomial::base(base);
        Polynomial::base(Base::Call(Function::Ln, vec![argument]))
    };
    let Some((monomial, coefficient)) = argument.as_term() else {
        return Ok(Polynomial::base(Base::Call(Function::Ln, vec![argument.clone()])));
    };
    let is_splittable = coefficient.is_positive() && is_positive(monomial);
    if !is_splittable {
        return Ok(Polynomial::base(Base::Call(Function::Ln, vec![argument.clone()])));
    }
    let mut sum = Polynomial::default();
    for (part, sign) in [(coefficient.numerator().clone().into_parts().1, 1), (coefficient.denominator().clone(), -1)] {
        if !part.is_one() {
            for (prime, times) in factor::factors(&part, fuel)? {
                sum.add(&of(Base::Prime(prime)).scale(&RBig::from(times * sign)), fuel)?;
            }
        }
    }
    for factor in &monomial.0 {
        let exponent = Polynomial::term(factor.exponent.clone(), factor.symbolic.clone());
        let part = match factor.base {
            Base::Constant(Constant::E) => exponent,
            _ => exponent.multiply(&of(factor.base.clone()), fuel)?,
        };
        sum.add(&part, fuel)?;
    }
    Ok(sum)
}

/// By expansion along the first row, up to 5 × 5.
fn determinant(arguments: &[Expr], fuel: &Fuel) -> Result<Polynomial, Stop> {
    let Some(Expr::Matrix(rows)) = arguments.first() else {
        return Err(Stop::NotApplicable);
    };
    if rows.len() > 5 || rows.iter().any(|row| row.len() != rows.len()) {
        return Err(Stop::NotApplicable);
    }
    let rows = rows
        .iter()
        .map(|row| row.iter().map(|entry| canonical(entry, fuel)).collect())
        .collect::<Result<Vec<Vec<_>>, _>>()?;
    minor(&rows, &(0..rows.len()).collect::<Vec<_>>(), fuel)
}

fn minor(rows: &[Vec<Polynomial>], columns: &[usize], fuel: &Fuel) -> Result<Polynomial, Stop> {
    let Some((first, rest)) = rows.split_first() else {
        return Ok(Polynomial::constant(RBig::ONE));
    };
    let mut sum = Polynomial::default();
    for (index, &column) in columns.iter().enumerate() {
        let others: Vec<usize> = columns.iter().copied().filter(|&other| other != column).collect();
        let product = first[column].multiply(&minor(rest, &others, fuel)?, fuel)?;
        sum.add(&if index % 2 == 0 { product } else { product.scale(&RBig::NEG_ONE) }, fuel)?;
    }
    Ok(sum)
}

/// The degrees and coefficients of a polynomial in one variable with rational coefficients; `None` for anything else.
pub(crate) fn polynomial_in(expr: &Expr, name: &str, fuel: &Fuel) -> Option<Vec<(u32, RBig)>> {
    let polynomial = canonical(expr, fuel).ok()?;
    let degree = |monomial: &Monomial| match monomial.0.as_slice() {
        [] => Some(0),
        [factor]
            if factor.base == Base::Variable(name.into()) && factor.symbolic.is_one() && factor.exponent.is_int() =>
        {
            u32::try_from(factor.exponent.numerator()).ok().filter(|degree| *degree <= 1_000)
        }
        _ => None,
    };
    polynomial.0.iter().map(|(monomial, coefficient)| Some((degree(monomial)?, coefficient.clone()))).collect()
}
