//! Real intervals that enclose a value.

use std::cmp::Ordering;

use dashu_ratio::RBig;

use super::float::{Float, Round};
use super::{Numeric, NumericError};

/// All reals from `lo` to `hi`.
#[derive(Debug, Clone)]
pub(crate) struct Interval {
    pub(crate) lo: Float,
    pub(crate) hi: Float,
}

impl Interval {
    pub(crate) fn point(value: Float) -> Self {
        Self { lo: value.clone(), hi: value }
    }

    pub(crate) fn zero() -> Self {
        Self::point(Float::zero())
    }

    pub(crate) fn integer(value: i64) -> Self {
        Self::point(Float::new(value.into(), 0))
    }

    pub(crate) fn from_rational(value: &RBig, precision: usize) -> Numeric<Self> {
        Ok(Self {
            lo: Float::from_rational(value, precision, Round::Down)?,
            hi: Float::from_rational(value, precision, Round::Up)?,
        })
    }

    /// Exactly zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.lo.is_zero() && self.hi.is_zero()
    }

    pub(crate) fn contains_zero(&self) -> bool {
        !self.is_positive() && !self.is_negative()
    }

    pub(crate) fn is_positive(&self) -> bool {
        !self.lo.is_zero() && !self.lo.is_negative()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.hi.is_negative()
    }

    pub(crate) fn neg(&self) -> Self {
        Self { lo: self.hi.neg(), hi: self.lo.neg() }
    }

    pub(crate) fn add(&self, other: &Self, precision: usize) -> Numeric<Self> {
        Ok(Self {
            lo: self.lo.add(&other.lo, precision, Round::Down)?,
            hi: self.hi.add(&other.hi, precision, Round::Up)?,
        })
    }

    pub(crate) fn sub(&self, other: &Self, precision: usize) -> Numeric<Self> {
        self.add(&other.neg(), precision)
    }

    pub(crate) fn mul(&self, other: &Self, precision: usize) -> Numeric<Self> {
        let sided = |round: Round| -> Numeric<[Float; 4]> {
            Ok([
                self.lo.mul(&other.lo, precision, round)?,
                self.lo.mul(&other.hi, precision, round)?,
                self.hi.mul(&other.lo, precision, round)?,
                self.hi.mul(&other.hi, precision, round)?,
            ])
        };
        if !self.lo.is_negative() && !other.lo.is_negative() {
            return Ok(Self {
                lo: self.lo.mul(&other.lo, precision, Round::Down)?,
                hi: self.hi.mul(&other.hi, precision, Round::Up)?,
            });
        }
        let [a, b, c, d] = sided(Round::Down)?;
        let lo = a.min(b).min(c).min(d);
        let [a, b, c, d] = sided(Round::Up)?;
        Ok(Self { lo, hi: a.max(b).max(c).max(d) })
    }

    pub(crate) fn recip(&self, precision: usize) -> Numeric<Self> {
        if self.is_zero() {
            return Err(NumericError::Undefined);
        }
        if self.contains_zero() {
            return Err(NumericError::Imprecise);
        }
        let one = Float::new(1.into(), 0);
        Ok(Self { lo: one.div(&self.hi, precision, Round::Down)?, hi: one.div(&self.lo, precision, Round::Up)? })
    }

    pub(crate) fn abs(&self) -> Self {
        if self.is_negative() {
            return self.neg();
        }
        if self.contains_zero() && !self.is_zero() {
            return Self { lo: Float::zero(), hi: self.lo.neg().max(self.hi.clone()) };
        }
        self.clone()
    }

    /// Whether no real lies in both.
    pub(crate) fn is_apart(&self, other: &Self) -> bool {
        self.hi.cmp(&other.lo) == Ordering::Less || other.hi.cmp(&self.lo) == Ordering::Less
    }

    /// The smallest interval around both.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    /// Grows by `2^exponent` on both sides.
    pub(crate) fn widen(&self, exponent: i64, precision: usize) -> Numeric<Self> {
        let by = Float::new(1.into(), exponent);
        Ok(Self { lo: self.lo.add(&by.neg(), precision, Round::Down)?, hi: self.hi.add(&by, precision, Round::Up)? })
    }

    /// Bits to which the interval fixes its value; more for narrower ones, `i64::MAX` for points.
    pub(crate) fn accuracy(&self) -> i64 {
        let Ok(width) = self.hi.add(&self.lo.neg(), 16, Round::Up) else {
            return 0;
        };
        if width.is_zero() {
            return i64::MAX;
        }
        let size = if self.contains_zero() { width.magnitude() } else { self.lo.magnitude().min(self.hi.magnitude()) };
        size - width.magnitude()
    }
}
