//! Rational functions decided by their values modulo large primes.
//!
//! A rational function that vanishes at random points modulo primes near 2⁶² is zero but for a chance below 2⁻¹⁰⁰; one
//! that does not vanish at one point is not zero. Everything that is no variable (a root, a sine) is given a value of
//! its own, so agreement always proves equality, while disagreement only counts when no such parts are involved.

use std::collections::BTreeMap;

use dashu_base::Signed;
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use super::polynomial::{Base, Factor, Monomial, Polynomial};
use super::split_mix::SplitMix;
use super::{Stop, factor};
use crate::expr::Constant;
use crate::fuel::Fuel;

/// Primes ≡ 1 mod 4, each with a square root of −1.
const PRIMES: [(u64, u64); 4] = [
    (4_611_686_018_427_387_817, 4_490_822_397_581_186_023),
    (4_611_686_018_427_387_761, 3_481_184_452_870_754_207),
    (4_611_686_018_427_387_737, 4_166_598_643_325_741_967),
    (4_611_686_018_427_387_733, 678_134_394_580_861_710),
];

/// What the parts of a difference allow to conclude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Terms are linearly independent: a difference with terms is not zero.
    Independent,
    /// A rational function of independent parts: residues decide both ways.
    Rational,
    /// Parts may depend on one another: only agreement is conclusive.
    Related,
}

/// Sorts a difference by what can be concluded from it.
pub(crate) fn nature(difference: &Polynomial) -> Nature {
    let mut nature = Nature::Independent;
    for factor in difference.0.keys().flat_map(|monomial| &monomial.0) {
        if !factor.symbolic.is_one() {
            return Nature::Related;
        }
        match &factor.base {
            Base::Variable(_) | Base::Constant(_) => {}
            Base::Prime(prime) if factor::is_surely_prime(prime) => {}
            Base::Prime(_) | Base::Call(..) => return Nature::Related,
            Base::Sum(sum) => {
                let inner = self::nature(sum);
                let has_roots = sum
                    .0
                    .keys()
                    .chain(difference.0.keys())
                    .flat_map(|monomial| &monomial.0)
                    .any(|factor| matches!(factor.base, Base::Prime(_)));
                if inner == Nature::Related || has_roots || !factor.exponent.is_int() {
                    return Nature::Related;
                }
                nature = Nature::Rational;
            }
        }
    }
    nature
}

/// Whether a difference vanishes at all points tried.
pub(crate) fn vanishes(difference: &Polynomial, fuel: &Fuel) -> Result<bool, Stop> {
    let mut tried = 0;
    for attempt in 0..8_u64 {
        let (modulus, root_of_minus_one) = PRIMES[attempt as usize % PRIMES.len()];
        let mut field = Field {
            modulus,
            root_of_minus_one,
            stream: SplitMix(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1),
            values: BTreeMap::new(),
            fuel,
        };
        field.collect(difference);
        match field.polynomial(difference) {
            Ok(0) => tried += 1,
            Ok(_) => return Ok(false),
            // A denominator vanished by accident: another point.
            Err(Stop::Undefined) => {}
            Err(stop) => return Err(stop),
        }
        if tried == 3 {
            return Ok(true);
        }
    }
    Err(Stop::NotApplicable)
}

/// One point: a prime, and a residue for every part.
struct Field<'a> {
    modulus: u64,
    root_of_minus_one: u64,
    stream: SplitMix,
    /// For each part the common denominator of its exponents, and the residue of its root of that order.
    values: BTreeMap<(Base, Monomial), (UBig, u64)>,
    fuel: &'a Fuel,
}

impl Field<'_> {
    /// Finds the parts and the denominators of their exponents.
    fn collect(&mut self, polynomial: &Polynomial) {
        for factor in polynomial.0.keys().flat_map(|monomial| &monomial.0) {
            if let (Base::Sum(sum), true) = (&factor.base, factor.symbolic.is_one()) {
                self.collect(sum);
            }
            let key = (factor.base.clone(), factor.symbolic.clone());
            let next = self.next_residue();
            let entry = self.values.entry(key).or_insert((UBig::ONE, next));
            let common = dashu_base::Gcd::gcd(&entry.0, factor.exponent.denominator());
            entry.0 = &entry.0 / common * factor.exponent.denominator();
        }
    }

    fn next_residue(&mut self) -> u64 {
        self.stream.bits() % (self.modulus - 2) + 2
    }

    fn polynomial(&self, polynomial: &Polynomial) -> Result<u64, Stop> {
        let mut sum = 0;
        for (monomial, coefficient) in &polynomial.0 {
            let mut term = self.rational(coefficient)?;
            for factor in &monomial.0 {
                term = self.mul(term, self.factor(factor)?);
            }
            sum = (sum + term) % self.modulus;
        }
        Ok(sum)
    }

    fn factor(&self, factor: &Factor) -> Result<u64, Stop> {
        self.fuel.spend(800)?;
        if factor.symbolic.is_one() {
            match &factor.base {
                Base::Constant(Constant::I) => return self.power(self.root_of_minus_one, factor.exponent.numerator()),
                Base::Sum(sum) => {
                    let whole = factor.exponent.floor();
                    let value = self.power(self.polynomial(sum)?, &whole)?;
                    let fraction = &factor.exponent - RBig::from(whole);
                    return if fraction.is_zero() {
                        Ok(value)
                    } else {
                        Ok(self.mul(value, self.part(factor, &fraction)?))
                    };
                }
                _ => {}
            }
        }
        self.part(factor, &factor.exponent)
    }

    fn part(&self, factor: &Factor, exponent: &RBig) -> Result<u64, Stop> {
        let key = (factor.base.clone(), factor.symbolic.clone());
        let (common, residue) = self.values.get(&key).ok_or(Stop::NotApplicable)?;
        let exponent = exponent * RBig::from(common.clone());
        self.power(*residue, exponent.numerator())
    }

    fn rational(&self, value: &RBig) -> Result<u64, Stop> {
        self.fuel.spend(100)?;
        let modulus = IBig::from(self.modulus);
        let numerator = ((value.numerator() % &modulus) + &modulus) % &modulus;
        let denominator = value.denominator() % UBig::from(self.modulus);
        let numerator = u64::try_from(numerator).map_err(|_| Stop::NotApplicable)?;
        let denominator = u64::try_from(denominator).map_err(|_| Stop::NotApplicable)?;
        if denominator == 1 {
            return Ok(numerator);
        }
        Ok(self.mul(numerator, self.inverse(denominator)?))
    }

    fn mul(&self, a: u64, b: u64) -> u64 {
        (u128::from(a) * u128::from(b) % u128::from(self.modulus)) as u64
    }

    fn inverse(&self, value: u64) -> Result<u64, Stop> {
        if value == 0 { Err(Stop::Undefined) } else { Ok(self.power_unsigned(value, self.modulus - 2)) }
    }

    fn power(&self, base: u64, exponent: &IBig) -> Result<u64, Stop> {
        let base = if exponent.is_negative() { self.inverse(base)? } else { base };
        if base == 0 {
            return Ok(u64::from(exponent.is_zero()));
        }
        let size = exponent.clone().into_parts().1;
        let reduced = u64::try_from(size % UBig::from(self.modulus - 1)).map_err(|_| Stop::NotApplicable)?;
        Ok(self.power_unsigned(base, reduced))
    }

    fn power_unsigned(&self, mut base: u64, mut exponent: u64) -> u64 {
        let mut result = 1;
        while exponent > 0 {
            if exponent % 2 == 1 {
                result = self.mul(result, base);
            }
            base = self.mul(base, base);
            exponent /= 2;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roots_are_roots_of_minus_one() {
        for (modulus, root) in PRIMES {
            assert_eq!(u128::from(root) * u128::from(root) % u128::from(modulus), u128::from(modulus - 1));
        }
    }
}
