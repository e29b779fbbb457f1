//! Two scalars: exact arithmetic first, then canonical forms, residues, enclosures, points, and decimals last.

use std::collections::BTreeSet;

use dashu_ratio::RBig;

use super::judge::{Decision, Judge};
use crate::algebra::canonical::canonical;
use crate::algebra::residue::{Nature, nature, vanishes};
use crate::algebra::{Stop, decimal, exact, sample};
use crate::expr::{Constant, Expr, Function};
use crate::rule::Rule;

impl Judge<'_> {
    /// Whether two scalars are equal, with percentages and degrees at either of their two values.
    pub(crate) fn scalars(&self, gold: &Expr, prediction: &Expr) -> Result<Decision, Stop> {
        let (gold_values, prediction_values) = (alternatives(gold), alternatives(prediction));
        if gold_values.len() == 1 && prediction_values.len() == 1 {
            return self.plain_scalars(gold, prediction);
        }
        if gold_values.len() == prediction_values.len() {
            // The same notation on both sides is read the same way.
            return self.plain_scalars(&gold_values[0], &prediction_values[0]);
        }
        let mut last = Decision::incorrect(Rule::Number);
        for gold in &gold_values {
            for prediction in &prediction_values {
                last = self.plain_scalars(gold, prediction)?;
                if last.equal {
                    return Ok(last);
                }
            }
        }
        Ok(last)
    }

    fn plain_scalars(&self, gold: &Expr, prediction: &Expr) -> Result<Decision, Stop> {
        let decision = self.exact_scalars(gold, prediction)?;
        if decision.equal {
            return Ok(decision);
        }
        if let Some(stated) = decimal::stated(gold) {
            let met = decimal::Value::of(prediction, self.fuel)
                .is_some_and(|value| decimal::meets_stated(&stated, &value, self.in_decimals));
            return Ok(if met { Decision::correct(Rule::Decimal) } else { decision });
        }
        if let Some(stated) = decimal::stated(prediction) {
            let agrees = decimal::Value::of(gold, self.fuel)
                .is_some_and(|value| decimal::agrees(&value, &stated, self.precision));
            return Ok(if agrees { Decision::correct(Rule::Decimal) } else { decision });
        }
        Ok(decision)
    }

    /// Equality of values, decimals taken at their word.
    pub(crate) fn exact_scalars(&self, gold: &Expr, prediction: &Expr) -> Result<Decision, Stop> {
        if let (Some(gold), Some(prediction)) = (infinity(gold), infinity(prediction)) {
            return Ok(Decision::new(gold == prediction, Rule::Number));
        }
        let mentions_infinity = |expr: &Expr| expr.any(&|node| matches!(node, Expr::Constant(Constant::Infinity)));
        if mentions_infinity(gold) || mentions_infinity(prediction) {
            return Ok(Decision::incorrect(Rule::Number));
        }
        match (exact::rational(gold, self.fuel), exact::rational(prediction, self.fuel)) {
            (Ok(gold), Ok(prediction)) => return Ok(Decision::new(gold == prediction, Rule::Number)),
            (Err(Stop::OutOfFuel), _) | (_, Err(Stop::OutOfFuel)) => return Err(Stop::OutOfFuel),
            (Err(Stop::Undefined), _) | (_, Err(Stop::Undefined)) => return Ok(Decision::incorrect(Rule::Undefined)),
            _ => {}
        }
        match self.by_canonical_form(gold, prediction) {
            Err(Stop::NotApplicable) => {}
            Err(Stop::Undefined) => return Ok(Decision::incorrect(Rule::Undefined)),
            other => return other,
        }
        let mut names = BTreeSet::new();
        sample::variables(gold, &mut names);
        sample::variables(prediction, &mut names);
        let (outcome, rule) = if names.is_empty() {
            (sample::constants_equal(gold, prediction, self.fuel), Rule::Enclosure)
        } else {
            (sample::functions_equal(gold, prediction, self.fuel), Rule::Points)
        };
        match outcome {
            Ok(equal) => Ok(Decision::new(equal, rule)),
            Err(Stop::Undefined) => Ok(Decision::incorrect(Rule::Undefined)),
            Err(Stop::NotApplicable) => Ok(Decision::incorrect(Rule::Undecided)),
            Err(Stop::OutOfFuel) => Err(Stop::OutOfFuel),
        }
    }

    /// Decides by canonical forms and residues; `NotApplicable` where they do not settle it.
    fn by_canonical_form(&self, gold: &Expr, prediction: &Expr) -> Result<Decision, Stop> {
        let difference = canonical(gold, self.fuel)?.subtract(&canonical(prediction, self.fuel)?, self.fuel)?;
        if difference.is_zero() {
            return Ok(Decision::correct(Rule::CanonicalForm));
        }
        match nature(&difference) {
            Nature::Independent => Ok(Decision::incorrect(Rule::CanonicalForm)),
            Nature::Rational => Ok(Decision::new(vanishes(&difference, self.fuel)?, Rule::Residues)),
            Nature::Related if vanishes(&difference, self.fuel)? => Ok(Decision::correct(Rule::Residues)),
            Nature::Related => Err(Stop::NotApplicable),
        }
    }
}

/// The values a notation may stand for: `10%` is 10 or a tenth, `45°` is 45 or π/4.
fn alternatives(expr: &Expr) -> Vec<Expr> {
    match expr {
        Expr::Percent(value) => {
            let hundredth = Expr::rational(RBig::from_parts(1.into(), 100_u8.into()));
            let shifted = match value.as_ref() {
                // A decimal stays one, so that its digits still count as stated.
                Expr::Number(number) => Expr::Number(crate::expr::Number {
                    value: &number.value / RBig::from(100),
                    places: number.places.map(|places| places + 2),
                }),
                other => Expr::Product(vec![other.clone(), hundredth]),
            };
            vec![value.as_ref().clone(), shifted]
        }
        Expr::Product(factors) => match factors.as_slice() {
            [Expr::Number(sign), rest @ (Expr::Percent(_) | Expr::Call(Function::Degree, _))]
                if sign.value == RBig::NEG_ONE =>
            {
                alternatives(rest).into_iter().map(Expr::negate).collect()
            }
            _ => vec![expr.clone()],
        },
        Expr::Call(Function::Degree, arguments) => {
            arguments.first().cloned().into_iter().chain([expr.clone()]).collect()
        }
        _ => vec![expr.clone()],
    }
}

/// The sign of an infinite value.
fn infinity(expr: &Expr) -> Option<i8> {
    match expr {
        Expr::Constant(Constant::Infinity) => Some(1),
        Expr::Product(factors) => match factors.as_slice() {
            [Expr::Number(sign), rest] if sign.value == RBig::NEG_ONE => infinity(rest).map(|sign| -sign),
            _ => None,
        },
        _ => None,
    }
}
