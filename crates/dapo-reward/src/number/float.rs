//! Binary floating point of any precision, rounded down or up.

use std::cmp::Ordering;

use dashu_base::{BitTest, Signed};
use dashu_int::IBig;
use dashu_ratio::RBig;

use super::{Numeric, NumericError};

/// `mantissa · 2^exponent`.
#[derive(Debug, Clone)]
pub(crate) struct Float {
    pub(crate) mantissa: IBig,
    pub(crate) exponent: i64,
}

/// Which way a result is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    Down,
    Up,
}

const MAX_EXPONENT: i64 = 1 << 40;

impl Float {
    pub(crate) fn new(mantissa: IBig, exponent: i64) -> Self {
        Self { mantissa, exponent }
    }

    pub(crate) fn zero() -> Self {
        Self::new(IBig::ZERO, 0)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.mantissa.is_zero()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.mantissa.is_negative()
    }

    /// `floor(log2 |x|) + 1`; 0 has none.
    pub(crate) fn magnitude(&self) -> i64 {
        bits(&self.mantissa) as i64 + self.exponent
    }

    pub(crate) fn neg(&self) -> Self {
        Self::new(-&self.mantissa, self.exponent)
    }

    /// Shortens the mantissa to `precision` bits.
    pub(crate) fn round(self, precision: usize, round: Round) -> Numeric<Self> {
        let length = bits(&self.mantissa);
        if self.exponent.abs() > MAX_EXPONENT {
            return Err(NumericError::OutOfRange);
        }
        if length <= precision {
            return Ok(self);
        }
        let shift = length - precision;
        let mantissa = match round {
            Round::Down => self.mantissa >> shift,
            Round::Up => -((-self.mantissa) >> shift),
        };
        Ok(Self::new(mantissa, self.exponent + shift as i64))
    }

    pub(crate) fn add(&self, other: &Self, precision: usize, round: Round) -> Numeric<Self> {
        if self.is_zero() {
            return other.clone().round(precision, round);
        }
        if other.is_zero() {
            return self.clone().round(precision, round);
        }
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let gap = (high.exponent - low.exponent) as usize;
        let reach = precision + bits(&low.mantissa) + 4;
        if gap > reach {
            // The small one is below the last bit: a nudge in its direction stands for it.
            let nudge = IBig::from(if low.is_negative() { -1 } else { 1 });
            let mantissa = (&high.mantissa << reach) + nudge;
            return Self::new(mantissa, high.exponent - reach as i64).round(precision, round);
        }
        Self::new((&high.mantissa << gap) + &low.mantissa, low.exponent).round(precision, round)
    }

    pub(crate) fn mul(&self, other: &Self, precision: usize, round: Round) -> Numeric<Self> {
        Self::new(&self.mantissa * &other.mantissa, self.exponent + other.exponent).round(precision, round)
    }

    /// `self / other`, which must not be zero.
    pub(crate) fn div(&self, other: &Self, precision: usize, round: Round) -> Numeric<Self> {
        if other.is_zero() {
            return Err(NumericError::Undefined);
        }
        let shift = (precision + 2 + bits(&other.mantissa)).saturating_sub(bits(&self.mantissa));
        let numerator = &self.mantissa << shift;
        let (numerator, denominator) =
            if other.is_negative() { (-numerator, -&other.mantissa) } else { (numerator, other.mantissa.clone()) };
        let quotient = match round {
            Round::Down => floor_div(&numerator, &denominator),
            Round::Up => -floor_div(&-numerator, &denominator),
        };
        Self::new(quotient, self.exponent - other.exponent - shift as i64).round(precision, round)
    }

    pub(crate) fn from_rational(value: &RBig, precision: usize, round: Round) -> Numeric<Self> {
        let numerator = Self::new(value.numerator().clone(), 0);
        if value.is_int() {
            return numerator.round(precision, round);
        }
        numerator.div(&Self::new(IBig::from(value.denominator().clone()), 0), precision, round)
    }

    /// `floor(self · 2^places)`.
    pub(crate) fn to_fixed(&self, places: i64) -> Numeric<IBig> {
        let shift = self.exponent + places;
        if shift > 1 << 20 {
            return Err(NumericError::OutOfRange);
        }
        Ok(if shift >= 0 {
            &self.mantissa << shift as usize
        } else {
            // Beyond the mantissa's length only the sign is left.
            let length = bits(&self.mantissa) as i64 + 1;
            &self.mantissa >> length.min(-shift) as usize
        })
    }

    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        let sign = |x: &Self| {
            if x.is_zero() {
                0
            } else if x.is_negative() {
                -1
            } else {
                1
            }
        };
        let by_sign = sign(self).cmp(&sign(other));
        if by_sign != Ordering::Equal || self.is_zero() {
            return by_sign;
        }
        let by_magnitude = self.magnitude().cmp(&other.magnitude());
        if by_magnitude != Ordering::Equal {
            return if self.is_negative() { by_magnitude.reverse() } else { by_magnitude };
        }
        // Equal magnitudes: the exponents differ by no more than the mantissas' lengths.
        let low = self.exponent.min(other.exponent);
        let align = |x: &Self| &x.mantissa << (x.exponent - low) as usize;
        align(self).cmp(&align(other))
    }

    pub(crate) fn min(self, other: Self) -> Self {
        if self.cmp(&other) == Ordering::Greater { other } else { self }
    }

    pub(crate) fn max(self, other: Self) -> Self {
        if self.cmp(&other) == Ordering::Less { other } else { self }
    }
}

pub(crate) fn bits(value: &IBig) -> usize {
    value.as_sign_words().1.len().saturating_sub(1) * 64
        + value.as_sign_words().1.last().map_or(0, |word| (dashu_int::Word::BITS - word.leading_zeros()) as usize)
}

/// `floor(a / b)` for positive `b`.
pub(crate) fn floor_div(a: &IBig, b: &IBig) -> IBig {
    let quotient = a / b;
    let exact = (&quotient * b) == *a;
    if a.is_negative() && !exact { quotient - IBig::ONE } else { quotient }
}

/// Bits needed for a rational's numerator and denominator together.
pub(crate) fn rational_bits(value: &RBig) -> usize {
    bits(value.numerator()) + value.denominator().bit_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_directed() {
        let third = RBig::from_parts((-1).into(), 3_u8.into());
        let down = Float::from_rational(&third, 10, Round::Down).unwrap();
        let up = Float::from_rational(&third, 10, Round::Up).unwrap();
        assert_eq!(down.cmp(&up), Ordering::Less);
        assert_eq!(bits(&IBig::from(-1024)), 11);
        assert_eq!(bits(&IBig::ZERO), 0);
    }

    #[test]
    fn a_summand_below_the_last_bit_still_moves_the_bound() {
        let one = Float::new(1.into(), 0);
        let tiny = Float::new(1.into(), -10_000);
        assert_eq!(one.add(&tiny, 64, Round::Up).unwrap().cmp(&one), Ordering::Greater);
        assert_eq!(one.add(&tiny.neg(), 64, Round::Down).unwrap().cmp(&one), Ordering::Less);
        assert_eq!(one.add(&tiny, 64, Round::Down).unwrap().cmp(&one), Ordering::Equal);
    }

    #[test]
    fn order_holds_across_magnitudes() {
        let f = |m: i64, e: i64| Float::new(m.into(), e);
        assert_eq!(f(-1, 1_000_000).cmp(&f(-1, 0)), Ordering::Less);
        assert_eq!(f(3, 0).cmp(&f(6, -1)), Ordering::Equal);
        assert_eq!(f(0, 5).cmp(&f(1, -900)), Ordering::Less);
        assert_eq!(f(-5, -2).to_fixed(0).unwrap(), IBig::from(-2));
        assert_eq!(f(-5, -200).to_fixed(0).unwrap(), IBig::from(-1));
    }
}
