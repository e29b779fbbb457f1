//! exp, ln, sin, cos and atan of a real, enclosed.
//!
//! Each works in fixed point with guard bits: the argument is reduced, a Taylor series summed, the reduction undone, and
//! the result widened by a bound on every rounding made on the way.

use std::cell::OnceCell;

use dashu_base::{Signed, SquareRoot};
use dashu_int::{IBig, UBig};

use super::float::{Float, Round, floor_div};
use super::interval::Interval;
use super::{Numeric, NumericError};
use crate::fuel::Fuel;

/// A precision in bits, with the constants and the fuel that go with it.
pub(crate) struct Precision<'f> {
    pub(crate) bits: usize,
    pub(crate) fuel: &'f Fuel,
    pi: OnceCell<(i64, IBig)>,
    ln2: OnceCell<(i64, IBig)>,
}

/// Guard bits beyond the precision asked for.
const GUARD: i64 = 48;
/// Largest argument, in bits, whose exponential is written down.
const MAX_EXP_BITS: i64 = 32;
/// Largest angle, in bits, that is reduced.
const MAX_ANGLE_BITS: i64 = 256;

impl<'f> Precision<'f> {
    pub(crate) fn new(bits: usize, fuel: &'f Fuel) -> Self {
        Self { bits, fuel, pi: OnceCell::new(), ln2: OnceCell::new() }
    }

    fn spend_series(&self, places: i64) -> Numeric<()> {
        let limbs = (places as u64) / 64 + 2;
        // About places / 8 terms, each a product and a division.
        Ok(self.fuel.spend(1_000 + (places as u64 / 8) * (120 + limbs * limbs.min(32) * 3))?)
    }

    /// π · 2^places, within 2^8.
    fn pi_fixed(&self, places: i64) -> IBig {
        let (have, value) = self.pi.get_or_init(|| {
            let places = self.bits as i64 + GUARD + 64;
            (places, (arctan_inverse(5, places) * 16) - (arctan_inverse(239, places) * 4))
        });
        if *have >= places {
            return value >> (have - places) as usize;
        }
        (arctan_inverse(5, places) * 16) - (arctan_inverse(239, places) * 4)
    }

    /// ln 2 · 2^places, within 2^8.
    fn ln2_fixed(&self, places: i64) -> IBig {
        let compute = |places| {
            artanh_inverse(26, places) * 18 - artanh_inverse(4801, places) * 2 + artanh_inverse(8749, places) * 8
        };
        let (have, value) = self.ln2.get_or_init(|| {
            let places = self.bits as i64 + GUARD + 64;
            (places, compute(places))
        });
        if *have >= places { value >> (have - places) as usize } else { compute(places) }
    }

    fn enclose(&self, fixed: IBig, places: i64, error_bits: i64) -> Numeric<Interval> {
        let error = IBig::ONE << error_bits as usize;
        Ok(Interval {
            lo: Float::new(&fixed - &error, -places).round(self.bits, Round::Down)?,
            hi: Float::new(fixed + error, -places).round(self.bits, Round::Up)?,
        })
    }

    pub(crate) fn pi(&self) -> Numeric<Interval> {
        self.spend_series(self.bits as i64 + GUARD)?;
        let places = self.bits as i64 + GUARD;
        self.enclose(self.pi_fixed(places), places, 9)
    }

    fn exp_point(&self, x: &Float) -> Numeric<Interval> {
        if x.is_zero() {
            return Ok(Interval::integer(1));
        }
        let magnitude = x.magnitude();
        if magnitude > MAX_EXP_BITS {
            return Err(NumericError::OutOfRange);
        }
        if magnitude < -(self.bits as i64) - 8 {
            return Interval::integer(1).widen(magnitude + 1, self.bits + 16);
        }
        let places = self.bits as i64 + GUARD + magnitude.max(0);
        self.spend_series(places)?;
        let ln2 = self.ln2_fixed(places);
        let fixed = x.to_fixed(places)?;
        let turns = floor_div(&fixed, &ln2);
        let reduced = (fixed - &turns * &ln2) >> 8;
        let one = IBig::ONE << places as usize;
        let (mut sum, mut term) = (one.clone(), one);
        for n in 1_u32.. {
            term = ((term * &reduced) >> places as usize) / n;
            if term.is_zero() {
                break;
            }
            sum += &term;
        }
        for _ in 0..8 {
            sum = (&sum * &sum) >> places as usize;
        }
        let turns = i64::try_from(turns).map_err(|_| NumericError::OutOfRange)?;
        let value = self.enclose(sum, places, magnitude.max(0) + 24)?;
        let shift = |x: Float| Float::new(x.mantissa, x.exponent + turns);
        Ok(Interval { lo: shift(value.lo), hi: shift(value.hi) })
    }

    pub(crate) fn exp(&self, x: &Interval) -> Numeric<Interval> {
        Ok(Interval { lo: self.exp_point(&x.lo)?.lo, hi: self.exp_point(&x.hi)?.hi })
    }

    /// Of a positive point.
    fn ln_point(&self, x: &Float) -> Numeric<Interval> {
        let places = self.bits as i64 + GUARD;
        self.spend_series(places)?;
        let power = x.magnitude() - 1;
        // x = m · 2^power with 1 ≤ m < 2.
        let mut m = Float::new(x.mantissa.clone(), x.exponent - power).to_fixed(places)?;
        for _ in 0..8 {
            m = IBig::from((m << places as usize).sqrt());
        }
        let one = IBig::ONE << places as usize;
        let ratio = ((&m - &one) << places as usize) / (m + one);
        let square = (&ratio * &ratio) >> places as usize;
        let (mut sum, mut term) = (ratio.clone(), ratio);
        for n in 1_u32.. {
            term = (term * &square) >> places as usize;
            if term.is_zero() {
                break;
            }
            sum += &term / (2 * n + 1);
        }
        let scaled = (sum << 9) + self.ln2_fixed(places) * power;
        let power_bits = i64::from(64 - power.unsigned_abs().leading_zeros());
        self.enclose(scaled, places, 24 + power_bits)
    }

    /// Of a positive interval.
    pub(crate) fn ln(&self, x: &Interval) -> Numeric<Interval> {
        if !x.is_positive() {
            return Err(if x.is_zero() { NumericError::Undefined } else { NumericError::Imprecise });
        }
        Ok(Interval { lo: self.ln_point(&x.lo)?.lo, hi: self.ln_point(&x.hi)?.hi })
    }

    /// Square root of an interval that is not negative.
    pub(crate) fn sqrt(&self, x: &Interval) -> Numeric<Interval> {
        if x.is_negative() {
            return Err(NumericError::Undefined);
        }
        if x.lo.is_negative() {
            return Err(NumericError::Imprecise);
        }
        self.fuel.spend_product(self.bits * 2)?;
        Ok(Interval {
            lo: self.sqrt_point(&x.lo).0.round(self.bits, Round::Down)?,
            hi: self.sqrt_point(&x.hi).1.round(self.bits, Round::Up)?,
        })
    }

    fn sqrt_point(&self, x: &Float) -> (Float, Float) {
        if x.is_zero() {
            return (Float::zero(), Float::zero());
        }
        let mut shift = (2 * self.bits + 4).saturating_sub(super::float::bits(&x.mantissa)) as i64;
        if (x.exponent - shift) % 2 != 0 {
            shift += 1;
        }
        let radicand = &x.mantissa << shift as usize;
        let root: UBig = radicand.sqrt();
        let root = IBig::from(root);
        let exponent = (x.exponent - shift) / 2;
        let is_exact = &root * &root == radicand;
        let above = if is_exact { root.clone() } else { &root + IBig::ONE };
        (Float::new(root, exponent), Float::new(above, exponent))
    }

    /// (sin, cos) of a point.
    fn sin_cos_point(&self, x: &Float) -> Numeric<(Interval, Interval)> {
        if x.is_zero() {
            return Ok((Interval::zero(), Interval::integer(1)));
        }
        let magnitude = x.magnitude().max(0);
        if magnitude > MAX_ANGLE_BITS {
            return Err(NumericError::OutOfRange);
        }
        let places = self.bits as i64 + GUARD + magnitude;
        self.spend_series(2 * places)?;
        let quarter = self.pi_fixed(places) >> 1;
        let fixed = x.to_fixed(places)?;
        let turns = floor_div(&fixed, &quarter);
        let reduced = fixed - &turns * &quarter;
        let (mut sin, mut cos) = (IBig::ZERO, IBig::ONE << places as usize);
        let mut term = cos.clone();
        for n in 1_u32.. {
            term = ((term * &reduced) >> places as usize) / n;
            if term.is_zero() {
                break;
            }
            match n % 4 {
                0 => cos += &term,
                1 => sin += &term,
                2 => cos -= &term,
                _ => sin -= &term,
            }
        }
        let error = magnitude + 16;
        let (sin, cos) = (self.enclose(sin, places, error)?, self.enclose(cos, places, error)?);
        let quadrant = u8::try_from(turns & IBig::from(3)).map_err(|_| NumericError::OutOfRange)?;
        Ok(match quadrant {
            0 => (sin, cos),
            1 => (cos, sin.neg()),
            2 => (sin.neg(), cos.neg()),
            _ => (cos.neg(), sin),
        })
    }

    /// (sin, cos) of an interval: their values at its middle, widened by half its width.
    pub(crate) fn sin_cos(&self, x: &Interval) -> Numeric<(Interval, Interval)> {
        let precision = self.bits + 32;
        let sum = x.lo.add(&x.hi, precision, Round::Down)?;
        let middle = Float::new(sum.mantissa, sum.exponent - 1);
        let width = x.hi.add(&x.lo.neg(), 16, Round::Up)?;
        let (sin, cos) = self.sin_cos_point(&middle)?;
        if width.is_zero() {
            return Ok((sin, cos));
        }
        let one = Float::new(1.into(), 0);
        let clamp = |value: Interval| Interval { lo: value.lo.max(one.neg()), hi: value.hi.min(one.clone()) };
        // The middle is rounded down, by less than the width.
        let radius = width.magnitude();
        Ok((clamp(sin.widen(radius, self.bits)?), clamp(cos.widen(radius, self.bits)?)))
    }

    fn atan_point(&self, x: &Float) -> Numeric<Interval> {
        if x.is_zero() {
            return Ok(Interval::zero());
        }
        if x.is_negative() {
            return Ok(self.atan_point(&x.neg())?.neg());
        }
        let places = self.bits as i64 + GUARD;
        self.spend_series(places)?;
        let is_large = x.magnitude() > 0;
        let one = IBig::ONE << places as usize;
        let mut t = if is_large {
            Float::new(1.into(), 0).div(x, places as usize + 4, Round::Down)?.to_fixed(places)?
        } else {
            x.to_fixed(places)?
        };
        for _ in 0..3 {
            let hypotenuse = IBig::from(((&t * &t) + (&one << places as usize)).sqrt());
            t = (t << places as usize) / (&one + hypotenuse);
        }
        let square = (&t * &t) >> places as usize;
        let (mut sum, mut term) = (t.clone(), t);
        for n in 1_u32.. {
            term = -((term * &square) >> places as usize);
            // A negative shift never reaches zero; −1 is as good.
            if term.is_zero() || term == IBig::NEG_ONE || term.is_one() {
                break;
            }
            sum += &term / (2 * n + 1);
        }
        let mut fixed = sum << 3;
        if is_large {
            fixed = (self.pi_fixed(places) >> 1) - fixed;
        }
        self.enclose(fixed, places, 24)
    }

    pub(crate) fn atan(&self, x: &Interval) -> Numeric<Interval> {
        Ok(Interval { lo: self.atan_point(&x.lo)?.lo, hi: self.atan_point(&x.hi)?.hi })
    }
}

/// atan(1/n) · 2^places.
fn arctan_inverse(n: u32, places: i64) -> IBig {
    inverse_series(n, places, -1)
}

/// artanh(1/n) · 2^places.
fn artanh_inverse(n: u32, places: i64) -> IBig {
    inverse_series(n, places, 1)
}

fn inverse_series(n: u32, places: i64, sign: i32) -> IBig {
    let square = u64::from(n) * u64::from(n);
    let mut power = (IBig::ONE << places as usize) / n;
    let mut sum = power.clone();
    for k in 1_u32.. {
        power = power / square * sign;
        if power.is_zero() {
            break;
        }
        sum += &power / (2 * k + 1);
    }
    debug_assert!(sum.is_positive());
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use dashu_ratio::RBig;

    fn at(text: &str, bits: usize) -> Interval {
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        let value = RBig::from_parts(numerator.parse().unwrap(), denominator.parse().unwrap());
        Interval::from_rational(&value, bits).unwrap()
    }

    fn near(value: &Interval, expected: f64) {
        let approximate = |x: &Float| {
            (&x.mantissa >> crate::number::float::bits(&x.mantissa).saturating_sub(60)).to_f64().value()
                * 2_f64.powi((x.exponent + crate::number::float::bits(&x.mantissa).saturating_sub(60) as i64) as i32)
        };
        let (lo, hi) = (approximate(&value.lo), approximate(&value.hi));
        assert!(
            (lo - expected).abs() <= 1e-13 * expected.abs().max(1e-3)
                && (hi - expected).abs() <= 1e-13 * expected.abs().max(1e-3),
            "{lo} {hi} {expected}"
        );
        assert!(value.accuracy() > 50 || value.accuracy() < 0, "{}", value.accuracy());
    }

    #[test]
    fn functions_agree_with_double_precision() {
        let fuel = Fuel::new(u64::MAX);
        for bits in [64, 200, 1000] {
            let precision = Precision::new(bits, &fuel);
            near(&precision.pi().unwrap(), std::f64::consts::PI);
            for (text, x) in [
                ("1/3", 1.0_f64 / 3.0),
                ("-7/2", -3.5),
                ("12345/100", 123.45),
                ("1/1000000", 1e-6),
                ("20", 20.0),
                ("-1/8", -0.125),
            ] {
                let point = at(text, bits);
                near(&precision.exp(&point).unwrap(), x.exp());
                near(&precision.atan(&point).unwrap(), x.atan());
                let (sin, cos) = precision.sin_cos(&point).unwrap();
                near(&sin, x.sin());
                near(&cos, x.cos());
                if x > 0.0 {
                    near(&precision.ln(&point).unwrap(), x.ln());
                    near(&precision.sqrt(&point).unwrap(), x.sqrt());
                }
            }
        }
    }

    #[test]
    fn enclosures_shrink_with_precision_and_keep_the_identity() {
        let fuel = Fuel::new(u64::MAX);
        for bits in [64, 300, 2000] {
            let precision = Precision::new(bits, &fuel);
            let x = at("22/7", bits);
            let back = precision.ln(&precision.exp(&x).unwrap()).unwrap();
            assert!(!back.is_apart(&x) && back.accuracy() > bits as i64 - 16);
            let (sin, cos) = precision.sin_cos(&x).unwrap();
            let one = sin.mul(&sin, bits).unwrap().add(&cos.mul(&cos, bits).unwrap(), bits).unwrap();
            assert!(!one.is_apart(&Interval::integer(1)) && one.accuracy() > bits as i64 - 16);
            let root = precision.sqrt(&Interval::integer(9)).unwrap();
            assert_eq!(root.accuracy(), i64::MAX);
        }
    }
}
