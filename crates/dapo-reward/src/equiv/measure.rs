//! Quantities, ratios and times of day.

use super::judge::{Comparison, Decision, Judge};
use crate::algebra::{Stop, exact};
use crate::expr::{Expr, Function, Half, Time};
use crate::parse::units;
use crate::rule::Rule;

impl Judge<'_> {
    pub(super) fn quantities(&self, gold: (&Expr, &str), prediction: (&Expr, &str)) -> Comparison {
        let (Some(gold_unit), Some(unit)) = (units::resolve(gold.1), units::resolve(prediction.1)) else {
            // What a known unit measures is not met by a thing of another kind.
            return match (units::resolve(gold.1), units::resolve_beginning(prediction.1)) {
                (Some(_), None) if !units::is_neutral(prediction.1) => Ok(Decision::incorrect(Rule::Unit)),
                (Some(known), Some(unit)) if !(known.comparable(&unit) && known.size == unit.size) => {
                    Ok(Decision::incorrect(Rule::Unit))
                }
                _ => self.equal(gold.0, prediction.0),
            };
        };
        if !gold_unit.comparable(&unit) {
            return Ok(Decision::incorrect(Rule::Unit));
        }
        if gold_unit.size == unit.size {
            return self.equal(gold.0, prediction.0);
        }
        let converted = Expr::Product(vec![prediction.0.clone(), Expr::rational(unit.size / gold_unit.size)]);
        self.equal(gold.0, &converted)
    }

    /// Angles against percentages, and against angles in another unit.
    pub(super) fn angles(&self, gold: &Expr, prediction: &Expr) -> Result<Option<Decision>, Stop> {
        let (Expr::Call(Function::Degree, angle), other, degrees_are_gold) = (match (gold, prediction) {
            (Expr::Call(Function::Degree, _), other) => (gold, other, true),
            (other, Expr::Call(Function::Degree, _)) => (prediction, other, false),
            _ => return Ok(None),
        }) else {
            return Ok(None);
        };
        let (value, unit) = match other {
            Expr::Percent(_) => return Ok(Some(Decision::incorrect(Rule::Unit))),
            Expr::Quantity(value, unit) => (value, unit),
            _ => return Ok(None),
        };
        let Some(in_degrees) = units::resolve(unit).and_then(|unit| unit.in_degrees()) else {
            return Ok(None);
        };
        let (Some(angle), turned) = (angle.first(), Expr::Product(vec![value.as_ref().clone(), in_degrees])) else {
            return Ok(None);
        };
        if degrees_are_gold { self.equal(angle, &turned) } else { self.equal(&turned, angle) }.map(Some)
    }

    pub(super) fn ratios(&self, gold: &[Expr], prediction: &[Expr]) -> Comparison {
        if gold.len() != prediction.len() || !gold.iter().chain(prediction).all(Expr::is_scalar) {
            return Ok(Decision::incorrect(Rule::Structure));
        }
        let mut decision = Decision::incorrect(Rule::Structure);
        for (a, b) in gold.iter().zip(prediction).skip(1) {
            if [a, b, &gold[0], &prediction[0]].into_iter().any(|term| self.is_zero(term)) {
                return self.all_equal(gold.iter(), prediction.iter());
            }
            let cross = |x: &Expr, y: &Expr| Expr::Product(vec![x.clone(), y.clone()]);
            decision = self.exact_scalars(&cross(a, &prediction[0]), &cross(b, &gold[0]))?;
            if !decision.equal {
                break;
            }
        }
        Ok(decision)
    }

    /// Whether a term is known to be zero.
    pub(super) fn is_zero(&self, term: &Expr) -> bool {
        exact::rational(term, self.fuel).is_ok_and(|value| value.is_zero())
    }

    pub(super) fn ratio_and_scalar(&self, terms: &[Expr], scalar: &Expr, ratio_is_gold: bool) -> Comparison {
        let [antecedent, consequent] = terms else {
            return Ok(Decision::incorrect(Rule::Structure));
        };
        let quotient = Expr::Product(vec![antecedent.clone(), consequent.clone().reciprocal()]);
        if ratio_is_gold { self.equal(&quotient, scalar) } else { self.equal(scalar, &quotient) }
    }

    /// A time of day against a time, a value, or a quantity.
    pub(super) fn time_and(&self, time: Time, other: &Expr, time_is_gold: bool) -> Comparison {
        match other {
            Expr::Time(other) => return Ok(Decision::new(same_time(time, *other), Rule::Structure)),
            Expr::Quantity(..) => return Ok(Decision::incorrect(Rule::Unit)),
            _ => {}
        }
        if time_is_gold && is_full_hour(time) {
            return self.equal(&Expr::integer(i64::from(time.hour)), other);
        }
        match time_value(time) {
            Some(value) if time_is_gold => self.equal(&value, other),
            Some(value) => self.equal(other, &value),
            None => Ok(Decision::incorrect(Rule::Structure)),
        }
    }
}

/// Whether a percentage or an angle in degrees is compared with a quantity of another kind.
pub(super) fn differs_in_kind(other: &Expr, unit: &str) -> bool {
    let known = units::resolve(unit);
    match other {
        Expr::Percent(_) => known.is_some(),
        Expr::Call(Function::Degree, _) => known.is_some_and(|unit| !unit.is_angle()),
        _ => false,
    }
}

/// Whether a unit is a number of things, so that a bare number leaves it out only where the question names it.
pub(super) fn is_group(unit: &str) -> bool {
    matches!(unit.trim(), "pair" | "pairs")
}

/// Whether an answer is of a kind that a time of day is compared with.
pub(super) fn meets_time(other: &Expr) -> bool {
    matches!(other, Expr::Time(_) | Expr::Quantity(..)) || other.is_scalar()
}

/// Whether two times of day are the same; one without `a.m.` or `p.m.` is a time on a clock of either 12 or 24 hours.
fn same_time(one: Time, other: Time) -> bool {
    let of_day = |time: Time| match time.half {
        Some(Half::Afternoon) if time.hour < 12 => time.hour + 12,
        Some(Half::Morning) if time.hour == 12 => 0,
        _ => time.hour,
    };
    let same_hour = if one.half.is_some() == other.half.is_some() {
        of_day(one) == of_day(other)
    } else {
        one.hour == other.hour || of_day(one) == of_day(other)
    };
    same_hour && (one.minute, one.second) == (other.minute, other.second)
}

/// Whether a time is `3 p.m.`: a bare 3 gives that hour, but `3 p.m.` is not the number 3.
fn is_full_hour(time: Time) -> bool {
    time.half.is_some() && time.minute == 0 && time.second == 0
}

/// What a time may be compared with a bare value as: `1:12` with the ratio.
fn time_value(time: Time) -> Option<Expr> {
    // A ratio would be in lowest terms.
    let is_ratio =
        time.half.is_none() && time.minute >= 10 && time.second == 0 && time.hour > 0 && has_lowest_terms(time);
    let part = |part: u8| Expr::integer(i64::from(part));
    is_ratio.then(|| Expr::Product(vec![part(time.hour), part(time.minute).reciprocal()]))
}

fn has_lowest_terms(time: Time) -> bool {
    !(2..=time.hour).any(|divisor| time.hour.is_multiple_of(divisor) && time.minute.is_multiple_of(divisor))
}
