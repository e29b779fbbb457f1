//! Sums of products of powers: the form in which equal expressions are equal term by term.

use std::collections::BTreeMap;

use dashu_base::{Abs, Gcd, Signed};
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use super::{Stop, exact, factor};
use crate::expr::{Constant, Function};
use crate::fuel::Fuel;
use crate::number::float::rational_bits;

/// Most terms a sum may grow to.
const MAX_TERMS: usize = 400;
/// Largest coefficient, in bits.
const MAX_COEFFICIENT_BITS: usize = 20_000;

/// What a power is a power of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Base {
    /// A prime, or an integer without small divisors.
    Prime(UBig),
    Constant(Constant),
    Variable(Box<str>),
    Call(Function, Vec<Polynomial>),
    /// A sum of two terms or more, or a single term under a root that may not be taken apart.
    Sum(Polynomial),
}

/// `base ^ (exponent · symbolic)`, where `symbolic` is 1 unless the exponent has variables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Factor {
    pub(crate) base: Base,
    pub(crate) symbolic: Monomial,
    pub(crate) exponent: RBig,
}

/// A product of factors, sorted, each base once for each symbolic part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Monomial(pub(crate) Vec<Factor>);

/// A sum of monomials with rational coefficients, none of them 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Polynomial(pub(crate) BTreeMap<Monomial, RBig>);

impl Monomial {
    /// How many factors there are within exponents, functions and roots, counted up to `most`.
    fn size(&self, most: usize) -> usize {
        let mut size = 0;
        for factor in &self.0 {
            if size >= most {
                break;
            }
            size += 1 + factor.symbolic.size(most - size);
            size += match &factor.base {
                Base::Call(_, arguments) => arguments.iter().map(|argument| argument.size(most)).sum(),
                Base::Sum(sum) => sum.size(most),
                Base::Prime(_) | Base::Constant(_) | Base::Variable(_) => 0,
            };
        }
        size
    }

    pub(crate) fn is_one(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn single(base: Base, symbolic: Monomial, exponent: RBig) -> Self {
        Self(vec![Factor { base, symbolic, exponent }])
    }
}

impl Polynomial {
    /// How many factors there are in all terms and within them, counted up to about `most`.
    pub(crate) fn size(&self, most: usize) -> usize {
        let mut size = 0;
        for monomial in self.0.keys() {
            if size >= most {
                break;
            }
            size += 1 + monomial.size(most - size);
        }
        size
    }

    pub(crate) fn constant(value: RBig) -> Self {
        let mut terms = BTreeMap::new();
        if !value.is_zero() {
            terms.insert(Monomial::default(), value);
        }
        Self(terms)
    }

    pub(crate) fn term(coefficient: RBig, monomial: Monomial) -> Self {
        let mut terms = BTreeMap::new();
        if !coefficient.is_zero() {
            terms.insert(monomial, coefficient);
        }
        Self(terms)
    }

    pub(crate) fn base(base: Base) -> Self {
        Self::term(RBig::ONE, Monomial::single(base, Monomial::default(), RBig::ONE))
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, if it is a rational number.
    pub(crate) fn as_rational(&self) -> Option<RBig> {
        match self.0.iter().next() {
            None => Some(RBig::ZERO),
            Some((monomial, coefficient)) if self.0.len() == 1 && monomial.is_one() => Some(coefficient.clone()),
            Some(_) => None,
        }
    }

    /// The only term, if there is just one.
    pub(crate) fn as_term(&self) -> Option<(&Monomial, &RBig)> {
        if self.0.len() == 1 { self.0.iter().next() } else { None }
    }

    pub(crate) fn add_term(&mut self, monomial: Monomial, coefficient: RBig) {
        use std::collections::btree_map::Entry;
        if coefficient.is_zero() {
            return;
        }
        match self.0.entry(monomial) {
            Entry::Vacant(entry) => {
                entry.insert(coefficient);
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += coefficient;
                if entry.get().is_zero() {
                    entry.remove();
                }
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self, fuel: &Fuel) -> Result<(), Stop> {
        for (monomial, coefficient) in &other.0 {
            fuel.spend(150 + 60 * monomial.0.len() as u64 + rational_bits(coefficient) as u64)?;
            self.add_term(monomial.clone(), coefficient.clone());
        }
        self.check_size()
    }

    fn check_size(&self) -> Result<(), Stop> {
        if self.0.len() > MAX_TERMS { Err(Stop::NotApplicable) } else { Ok(()) }
    }

    pub(crate) fn scale(&self, factor: &RBig) -> Self {
        if factor.is_zero() {
            return Self::default();
        }
        Self(self.0.iter().map(|(monomial, coefficient)| (monomial.clone(), coefficient * factor)).collect())
    }

    pub(crate) fn subtract(&self, other: &Self, fuel: &Fuel) -> Result<Self, Stop> {
        let mut result = self.clone();
        result.add(&other.scale(&RBig::NEG_ONE), fuel)?;
        Ok(result)
    }

    pub(crate) fn multiply(&self, other: &Self, fuel: &Fuel) -> Result<Self, Stop> {
        let mut result = Self::default();
        for (left, a) in &self.0 {
            for (right, b) in &other.0 {
                let coefficient = a * b;
                let bits = rational_bits(&coefficient);
                fuel.spend_product(bits)?;
                if bits > MAX_COEFFICIENT_BITS {
                    return Err(Stop::NotApplicable);
                }
                for (monomial, coefficient) in product(left, right, coefficient, fuel)?.0 {
                    result.add_term(monomial, coefficient);
                }
                result.check_size()?;
            }
        }
        Ok(result)
    }

    pub(crate) fn power(&self, mut exponent: u64, fuel: &Fuel) -> Result<Self, Stop> {
        if exponent > 64 && self.0.len() > 1 {
            return Err(Stop::NotApplicable);
        }
        let mut result = Self::constant(RBig::ONE);
        let mut base = self.clone();
        while exponent > 0 {
            if exponent % 2 == 1 {
                result = result.multiply(&base, fuel)?;
            }
            exponent /= 2;
            if exponent > 0 {
                base = base.multiply(&base, fuel)?;
            }
        }
        Ok(result)
    }

    /// Splits off the positive rational common to all coefficients: `self = content · rest`, with integers without a common
    /// divisor as the rest's coefficients.
    pub(crate) fn split_content(&self) -> (RBig, Self) {
        let mut numerator = UBig::ZERO;
        let mut denominator = UBig::ONE;
        for coefficient in self.0.values() {
            let size = coefficient.numerator().clone().into_parts().1;
            numerator = if numerator.is_zero() { size } else { numerator.gcd(&size) };
            let common = (&denominator).gcd(coefficient.denominator());
            denominator = denominator / common * coefficient.denominator();
        }
        if numerator.is_zero() {
            return (RBig::ONE, self.clone());
        }
        let content = RBig::from_parts(IBig::from(numerator), denominator);
        let inverse = RBig::ONE / &content;
        (content, self.scale(&inverse))
    }

    /// Whether the first coefficient is negative, to give ±x one form.
    pub(crate) fn leads_negative(&self) -> bool {
        self.0.values().next_back().is_some_and(Signed::is_negative)
    }
}

/// The product of two monomials, brought back to normal form: whole powers of primes move to the coefficient, `i² = −1`,
/// whole powers of sums are multiplied out.
fn product(left: &Monomial, right: &Monomial, coefficient: RBig, fuel: &Fuel) -> Result<Polynomial, Stop> {
    fuel.spend(800 + 200 * (left.0.len() + right.0.len()) as u64)?;
    let mut merged: Vec<Factor> = Vec::with_capacity(left.0.len() + right.0.len());
    let (mut a, mut b) = (left.0.iter().peekable(), right.0.iter().peekable());
    loop {
        let ordering = match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(x), Some(y)) => (&x.base, &x.symbolic).cmp(&(&y.base, &y.symbolic)),
        };
        match ordering {
            std::cmp::Ordering::Less => merged.extend(a.next().cloned()),
            std::cmp::Ordering::Greater => merged.extend(b.next().cloned()),
            std::cmp::Ordering::Equal => {
                if let (Some(x), Some(y)) = (a.next(), b.next()) {
                    let exponent = &x.exponent + &y.exponent;
                    if !exponent.is_zero() {
                        merged.push(Factor { base: x.base.clone(), symbolic: x.symbolic.clone(), exponent });
                    }
                }
            }
        }
    }
    normalize(merged, coefficient, fuel)
}

/// Brings a sorted list of factors to normal form.
pub(crate) fn normalize(factors: Vec<Factor>, mut coefficient: RBig, fuel: &Fuel) -> Result<Polynomial, Stop> {
    let mut kept = Vec::with_capacity(factors.len());
    let mut expanded: Vec<(Polynomial, u64)> = Vec::new();
    for factor in factors {
        let Factor { base, symbolic, exponent } = factor;
        if !symbolic.is_one() {
            kept.push(Factor { base, symbolic, exponent });
            continue;
        }
        match base {
            Base::Prime(prime) => {
                let whole = exponent.floor();
                let fraction = exponent - RBig::from(whole.clone());
                if !whole.is_zero() {
                    coefficient *= exact::power(&RBig::from(prime.clone()), &RBig::from(whole), fuel)?;
                }
                if !fraction.is_zero() {
                    kept.push(Factor { base: Base::Prime(prime), symbolic, exponent: fraction });
                }
            }
            Base::Constant(Constant::I) => {
                if !exponent.is_int() {
                    return Err(Stop::NotApplicable);
                }
                let quarter = i8::try_from(((exponent.numerator() % IBig::from(4)) + IBig::from(4)) % IBig::from(4))
                    .map_err(|_| Stop::NotApplicable)?;
                if quarter >= 2 {
                    coefficient = -coefficient;
                }
                if quarter % 2 == 1 {
                    kept.push(Factor { base: Base::Constant(Constant::I), symbolic, exponent: RBig::ONE });
                }
            }
            Base::Sum(sum) if exponent >= RBig::ONE => {
                let whole = u64::try_from(exponent.floor()).map_err(|_| Stop::NotApplicable)?;
                let fraction = exponent - RBig::from(whole);
                expanded.push((sum.clone(), whole));
                if !fraction.is_zero() {
                    kept.push(Factor { base: Base::Sum(sum), symbolic, exponent: fraction });
                }
            }
            base => kept.push(Factor { base, symbolic, exponent }),
        }
    }
    let mut result = Polynomial::term(coefficient, Monomial(kept));
    for (sum, whole) in expanded {
        result = result.multiply(&sum.power(whole, fuel)?, fuel)?;
    }
    Ok(result)
}

/// A positive rational to a rational power, as coefficient and roots of primes.
pub(crate) fn rational_power(value: &RBig, exponent: &RBig, fuel: &Fuel) -> Result<Polynomial, Stop> {
    if exponent.is_int() {
        return Ok(Polynomial::constant(exact::power(value, exponent, fuel)?));
    }
    let size = value.clone().abs();
    let mut factors = Vec::new();
    for (part, sign) in [(size.numerator().clone().into_parts().1, 1), (size.denominator().clone(), -1)] {
        if part.is_one() {
            continue;
        }
        for (prime, times) in factor::factors(&part, fuel)? {
            let exponent = exponent * RBig::from(times * sign);
            factors.push(Factor { base: Base::Prime(prime), symbolic: Monomial::default(), exponent });
        }
    }
    factors.sort();
    let positive = normalize(factors, RBig::ONE, fuel)?;
    if !value.is_negative() {
        return Ok(positive);
    }
    // Odd roots of negative numbers are real; the square root is imaginary; others are left alone.
    let is_odd_root = exponent.denominator() % UBig::from(2_u8) == UBig::ONE;
    let is_odd_power = exponent.numerator() % IBig::from(2) != IBig::ZERO;
    if is_odd_root {
        return Ok(if is_odd_power { positive.scale(&RBig::NEG_ONE) } else { positive });
    }
    if *exponent.denominator() != UBig::from(2_u8) {
        return Err(Stop::NotApplicable);
    }
    let unit = normalize(
        vec![Factor {
            base: Base::Constant(Constant::I),
            symbolic: Monomial::default(),
            exponent: RBig::from(exponent.numerator().clone()),
        }],
        RBig::ONE,
        fuel,
    )?;
    positive.multiply(&unit, fuel)
}
