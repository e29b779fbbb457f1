//! Complex enclosures: a rectangle of two intervals.

use super::elementary::Precision;
use super::interval::Interval;
use super::{Numeric, NumericError};

#[derive(Debug, Clone)]
pub(crate) struct Complex {
    pub(crate) re: Interval,
    pub(crate) im: Interval,
}

impl Complex {
    pub(crate) fn real(re: Interval) -> Self {
        Self { re, im: Interval::zero() }
    }

    pub(crate) fn i() -> Self {
        Self { re: Interval::zero(), im: Interval::integer(1) }
    }

    pub(crate) fn is_real(&self) -> bool {
        self.im.is_zero()
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.re.is_zero() && self.im.is_zero()
    }

    pub(crate) fn is_apart(&self, other: &Self) -> bool {
        self.re.is_apart(&other.re) || self.im.is_apart(&other.im)
    }

    pub(crate) fn neg(&self) -> Self {
        Self { re: self.re.neg(), im: self.im.neg() }
    }

    pub(crate) fn add(&self, other: &Self, p: &Precision<'_>) -> Numeric<Self> {
        p.fuel.spend(400 + p.bits as u64 / 4)?;
        Ok(Self { re: self.re.add(&other.re, p.bits)?, im: self.im.add(&other.im, p.bits)? })
    }

    pub(crate) fn mul(&self, other: &Self, p: &Precision<'_>) -> Numeric<Self> {
        p.fuel.spend(300)?;
        p.fuel.spend_product(p.bits * 2)?;
        let bits = p.bits;
        if self.is_real() && other.is_real() {
            return Ok(Self::real(self.re.mul(&other.re, bits)?));
        }
        p.fuel.spend_product(p.bits * 6)?;
        Ok(Self {
            re: self.re.mul(&other.re, bits)?.sub(&self.im.mul(&other.im, bits)?, bits)?,
            im: self.re.mul(&other.im, bits)?.add(&self.im.mul(&other.re, bits)?, bits)?,
        })
    }

    pub(crate) fn recip(&self, p: &Precision<'_>) -> Numeric<Self> {
        p.fuel.spend_product(p.bits * 4)?;
        if self.is_real() {
            return Ok(Self::real(self.re.recip(p.bits)?));
        }
        let norm = self.re.mul(&self.re, p.bits)?.add(&self.im.mul(&self.im, p.bits)?, p.bits)?;
        let inverse = norm.recip(p.bits)?;
        Ok(Self { re: self.re.mul(&inverse, p.bits)?, im: self.im.neg().mul(&inverse, p.bits)? })
    }

    pub(crate) fn abs(&self, p: &Precision<'_>) -> Numeric<Interval> {
        if self.is_real() {
            return Ok(self.re.abs());
        }
        let (re, im) = (self.re.abs(), self.im.abs());
        let norm = re.mul(&re, p.bits)?.add(&im.mul(&im, p.bits)?, p.bits)?;
        p.sqrt(&norm)
    }

    /// The principal argument, in (−π, π].
    pub(crate) fn arg(&self, p: &Precision<'_>) -> Numeric<Interval> {
        let half_pi =
            || -> Numeric<Interval> { p.pi()?.mul(&Interval::point(super::float::Float::new(1.into(), -1)), p.bits) };
        if self.re.is_positive() {
            return p.atan(&self.im.mul(&self.re.recip(p.bits)?, p.bits)?);
        }
        if self.im.is_positive() {
            return half_pi()?.sub(&p.atan(&self.re.mul(&self.im.recip(p.bits)?, p.bits)?)?, p.bits);
        }
        if self.im.is_negative() {
            return half_pi()?.neg().sub(&p.atan(&self.re.mul(&self.im.recip(p.bits)?, p.bits)?)?, p.bits);
        }
        match (self.re.is_negative(), self.im.is_zero()) {
            (true, true) => p.pi(),
            (false, true) if self.re.is_zero() => Err(NumericError::Undefined),
            _ => Err(NumericError::Imprecise),
        }
    }

    pub(crate) fn exp(&self, p: &Precision<'_>) -> Numeric<Self> {
        let size = p.exp(&self.re)?;
        if self.is_real() {
            return Ok(Self::real(size));
        }
        let (sin, cos) = p.sin_cos(&self.im)?;
        Ok(Self { re: size.mul(&cos, p.bits)?, im: size.mul(&sin, p.bits)? })
    }

    pub(crate) fn ln(&self, p: &Precision<'_>) -> Numeric<Self> {
        if self.is_real() && self.re.is_positive() {
            return Ok(Self::real(p.ln(&self.re)?));
        }
        Ok(Self { re: p.ln(&self.abs(p)?)?, im: self.arg(p)? })
    }

    /// A power with a non-negative integer exponent.
    pub(crate) fn pow_integer(&self, mut exponent: u64, p: &Precision<'_>) -> Numeric<Self> {
        let mut result = Self::real(Interval::integer(1));
        let mut base = self.clone();
        while exponent > 0 {
            if exponent % 2 == 1 {
                result = result.mul(&base, p)?;
            }
            exponent /= 2;
            if exponent > 0 {
                base = base.square(p)?;
            }
        }
        Ok(result)
    }

    /// The square, which is not negative for a real even when zero lies inside.
    fn square(&self, p: &Precision<'_>) -> Numeric<Self> {
        if self.is_real() {
            p.fuel.spend_product(p.bits * 2)?;
            let size = self.re.abs();
            return Ok(Self::real(size.mul(&size, p.bits)?));
        }
        self.mul(self, p)
    }

    pub(crate) fn sqrt(&self, p: &Precision<'_>) -> Numeric<Self> {
        if self.is_real() {
            if self.re.is_negative() {
                return Ok(Self { re: Interval::zero(), im: p.sqrt(&self.re.neg())? });
            }
            return Ok(Self::real(p.sqrt(&self.re)?));
        }
        let half = Self::real(Interval::point(super::float::Float::new(1.into(), -1)));
        self.ln(p)?.mul(&half, p)?.exp(p)
    }

    /// The principal power `self ^ exponent`.
    pub(crate) fn pow(&self, exponent: &Self, p: &Precision<'_>) -> Numeric<Self> {
        if self.is_zero() {
            return if exponent.re.is_positive() {
                Ok(Self::real(Interval::zero()))
            } else {
                Err(NumericError::Undefined)
            };
        }
        self.ln(p)?.mul(exponent, p)?.exp(p)
    }
}
