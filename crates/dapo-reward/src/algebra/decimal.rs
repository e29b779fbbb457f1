//! Decimals against exact values.
//!
//! A decimal gold answer is met by what rounds to it at the digits it states, three significant digits at least; two
//! will do for a fraction without a finite expansion, such as 1/3. With fewer digits the gold is taken at its word. An
//! integer written with a zero fraction, 43.0, is that integer. A decimal prediction meets an exact gold answer when
//! both agree to a number of significant digits, rounded or cut off.

use dashu_base::{Abs, Signed};
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use super::evaluate::{evaluate, float_to_rational};
use super::exact;
use crate::expr::{Expr, Number};
use crate::fuel::Fuel;
use crate::number::elementary::Precision;

/// A decimal as written: its value and the place of its last digit.
pub(crate) struct Stated {
    value: RBig,
    places: i64,
    /// Whether it is a numeral with an exponent that reaches beyond its digits.
    is_scientific: bool,
}

/// The decimal an expression is, as written: `-1.50`, `1.5 \times 10^3`.
pub(crate) fn stated(expr: &Expr) -> Option<Stated> {
    match expr {
        Expr::Number(Number { value, places: Some(places) }) => {
            Some(Stated { value: value.clone(), places: *places, is_scientific: *places < 0 })
        }
        Expr::Product(factors) => {
            let mut result: Option<Stated> = None;
            let (mut sign, mut shift) = (1, 0);
            for factor in factors {
                match factor {
                    Expr::Number(Number { value, places: None }) if *value == RBig::NEG_ONE => sign = -sign,
                    Expr::Power(base, exponent) => match (base.as_ref(), exponent.as_ref()) {
                        (Expr::Number(base), Expr::Number(exponent))
                            if base.value == RBig::from(10) && exponent.value.is_int() =>
                        {
                            shift +=
                                i64::try_from(exponent.value.numerator()).ok().filter(|shift| shift.abs() < 5_000)?;
                        }
                        _ => return None,
                    },
                    other if result.is_none() => result = Some(stated(other)?),
                    _ => return None,
                }
            }
            let Stated { value, places, .. } = result?;
            Some(Stated {
                value: value * RBig::from(sign) * ten_to(shift),
                places: places - shift,
                is_scientific: false,
            })
        }
        _ => None,
    }
}

impl Stated {
    /// Whether this is the value rounded or cut off at the last digit.
    pub(crate) fn is_rounding_of(&self, value: &Value) -> bool {
        let unit = ten_to(-self.places);
        let half = &unit / RBig::from(2);
        [&value.lo, &value.hi].into_iter().all(|value| {
            let beyond = if self.value.is_negative() { &self.value - value } else { value - &self.value };
            beyond.clone().abs() <= half || (!beyond.is_negative() && beyond < unit)
        })
    }

    /// Whether this is an integer that a machine number was printed for: `1e+20`.
    fn is_machine_number(&self) -> bool {
        self.is_scientific && self.value.clone().abs() >= ten_to(16)
    }

    fn significant_digits(&self) -> usize {
        let scaled = (self.value.clone().abs() * ten_to(self.places)).floor();
        scaled.to_string().len()
    }
}

fn ten_to(exponent: i64) -> RBig {
    RBig::from(10).pow(exponent as isize)
}

/// A constant's value, exact or within a hair.
pub(crate) struct Value {
    lo: RBig,
    hi: RBig,
}

impl Value {
    pub(crate) fn of(expr: &Expr, fuel: &Fuel) -> Option<Self> {
        if let Ok(value) = exact::rational(expr, fuel) {
            return Some(Self { lo: value.clone(), hi: value });
        }
        let precision = Precision::new(256, fuel);
        let value = evaluate(expr, &[], &precision).ok()?;
        if !value.is_real() || value.re.accuracy() < 128 {
            return None;
        }
        Some(Self { lo: float_to_rational(&value.re.lo).ok()?, hi: float_to_rational(&value.re.hi).ok()? })
    }

    /// Whether two values are at most `distance` apart.
    pub(crate) fn is_within(&self, other: &Self, distance: &RBig) -> bool {
        (&self.lo - &other.hi).abs() <= *distance && (&self.hi - &other.lo).abs() <= *distance
    }

    fn is_exact(&self) -> bool {
        self.lo == self.hi
    }

    /// Whether the value is known to have a finite decimal expansion.
    fn terminates(&self) -> bool {
        if !self.is_exact() {
            return false;
        }
        let mut denominator = self.lo.denominator().clone();
        denominator.remove(&UBig::from(2_u8));
        denominator.remove(&UBig::from(5_u8));
        denominator.is_one()
    }
}

/// Whether a prediction meets a decimal gold answer at the digits it states.
pub(crate) fn meets_stated(gold: &Stated, prediction: &Value, in_structure: bool) -> bool {
    if gold.value.is_int() {
        return gold.is_machine_number() && prediction.is_exact() && prediction.lo.is_int() && {
            // Two integers that are one number in 53 bits.
            let distance = (&prediction.lo - &gold.value).abs();
            distance * RBig::from(1_u64 << 53) <= gold.value.clone().abs()
        };
    }
    let needed = if in_structure || prediction.is_exact() && !prediction.terminates() { 2 } else { 3 };
    if gold.significant_digits() < needed {
        return false;
    }
    let half_unit = ten_to(-gold.places) / RBig::from(2);
    (&prediction.lo - &gold.value).abs() <= half_unit && (&prediction.hi - &gold.value).abs() <= half_unit
}

/// Whether a decimal prediction agrees with an exact gold answer to `precision` significant digits.
pub(crate) fn agrees(gold: &Value, prediction: &Stated, precision: u32) -> bool {
    let size = gold.lo.clone().abs();
    if size.is_zero() || precision == 0 || gold.lo.is_negative() != prediction.value.is_negative() {
        return false;
    }
    let digits = i64::from(precision.min(200));
    if gold.is_exact() && gold.lo.is_int() && (&gold.lo - &prediction.value).abs() >= ten_to(-digits) {
        return false;
    }
    // Shift both so that the last digit compared is the units digit.
    let shift = digits - leading_place(&size);
    if shift.abs() > 5_000 {
        return false;
    }
    let scale = ten_to(shift);
    let gold = gold.lo.clone() * &scale;
    let prediction = prediction.value.clone() * scale;
    round(&gold) == round(&prediction) || gold.trunc() == prediction.trunc()
}

/// Whether a constant is known to be above zero.
pub(crate) fn is_positive(expr: &Expr, fuel: &Fuel) -> bool {
    Value::of(expr, fuel).is_some_and(|value| value.lo > RBig::ZERO)
}

fn round(value: &RBig) -> IBig {
    let half = RBig::from_parts(1.into(), 2_u8.into());
    if value.is_negative() { -((-value.clone() + half).floor()) } else { (value + half).floor() }
}

/// `k` such that 10^(k−1) ≤ size < 10^k, for a positive size.
fn leading_place(size: &RBig) -> i64 {
    let bits =
        crate::number::float::bits(size.numerator()) as f64 - dashu_base::BitTest::bit_len(size.denominator()) as f64;
    let mut place = (bits * std::f64::consts::LOG10_2).floor() as i64;
    while *size >= ten_to(place) {
        place += 1;
    }
    while *size < ten_to(place - 1) {
        place -= 1;
    }
    place
}
