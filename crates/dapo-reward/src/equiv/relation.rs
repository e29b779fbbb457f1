//! Equations, inequalities, and what they assign.

use std::collections::BTreeMap;

use dashu_base::Signed;
use dashu_ratio::RBig;

use super::judge::{Comparison, Decision, Judge};
use super::subject::{assigned, bare, in_names_of, same_subject};
use crate::algebra::canonical::canonical;
use crate::algebra::polynomial::{Base, Monomial, Polynomial};
use crate::algebra::{Stop, decimal, sample};
use crate::expr::{Expr, Relation};
use crate::fuel::Fuel;
use crate::rule::Rule;

impl Judge<'_> {
    /// Compares two answers of which one is a relation at least.
    pub(crate) fn relations(&self, gold: &Expr, prediction: &Expr) -> Comparison {
        for side in [gold, prediction] {
            if self.contradicts_itself(side)? {
                return Ok(Decision::incorrect(Rule::Contradiction));
            }
        }
        if let (Expr::Relation { sides, operators }, Expr::Relation { sides: others, operators: other_operators }) =
            (gold, prediction)
        {
            let decision = self.two_relations((sides, operators), (others, other_operators))?;
            if decision.equal {
                return Ok(decision);
            }
            if let Some(decision) = self.as_real_sets(gold, prediction)? {
                return Ok(decision);
            }
            // `f(x) = …` and `y = …`, or two chains that end in the same value.
            return match (assigned(gold), assigned(prediction)) {
                (Some(gold), Some(prediction)) if same_subject(sides, others) => {
                    self.equal(&gold, &in_names_of(sides, others, prediction))
                }
                _ => Ok(decision),
            };
        }
        if let Some(decision) = self.as_real_sets(gold, prediction)? {
            return Ok(decision);
        }
        match (gold, prediction) {
            (Expr::Relation { .. }, other) => match assigned(gold) {
                Some(value) => self.equal(&value, other),
                None => Ok(Decision::incorrect(Rule::Structure)),
            },
            (other, _) => match assigned(prediction) {
                Some(value) => self.equal(other, &value),
                None => Ok(Decision::incorrect(Rule::Structure)),
            },
        }
    }

    fn two_relations(&self, gold: (&[Expr], &[Relation]), prediction: (&[Expr], &[Relation])) -> Comparison {
        let (Some(gold), Some(prediction)) = (Ordered::all(gold.0, gold.1), Ordered::all(prediction.0, prediction.1))
        else {
            return Ok(Decision::incorrect(Rule::Structure));
        };
        if gold.len() != prediction.len() {
            return Ok(Decision::incorrect(Rule::Structure));
        }
        // A chain may be written from either end.
        let forward = self.ordered(gold.iter(), prediction.iter())?;
        if forward.equal || gold.len() == 1 {
            return Ok(forward);
        }
        self.ordered(gold.iter(), prediction.iter().rev())
    }

    fn ordered<'a>(
        &self,
        gold: impl Iterator<Item = &'a Ordered>,
        prediction: impl Iterator<Item = &'a Ordered>,
    ) -> Comparison {
        let mut decision = Decision::incorrect(Rule::Relation);
        for (gold, prediction) in gold.zip(prediction) {
            decision = self.same_relation(gold, prediction)?;
            if !decision.equal {
                break;
            }
        }
        Ok(decision)
    }

    fn same_relation(&self, gold: &Ordered, prediction: &Ordered) -> Comparison {
        if gold.kind != prediction.kind {
            return Ok(Decision::incorrect(Rule::Relation));
        }
        if matches!(gold.kind, Kind::In | Kind::Congruent) || !(gold.is_scalar() && prediction.is_scalar()) {
            let first = self.equal(&gold.small, &prediction.small)?;
            return if first.equal { self.equal(&gold.large, &prediction.large) } else { Ok(first) };
        }
        let has_direction = matches!(gold.kind, Kind::Less | Kind::LessEqual);
        let (left, right) = (gold.difference(), prediction.difference());
        match self.proportional(&left, &right, has_direction) {
            Ok(equal) => Ok(Decision::new(equal, Rule::Relation)),
            Err(Stop::NotApplicable | Stop::Undefined) => {
                match sample::proportional(&left, &right, has_direction, self.fuel) {
                    Ok(equal) => Ok(Decision::new(equal, Rule::Points)),
                    Err(Stop::OutOfFuel) => Err(Stop::OutOfFuel),
                    Err(_) => Ok(Decision::incorrect(Rule::Undecided)),
                }
            }
            Err(Stop::OutOfFuel) => Err(Stop::OutOfFuel),
        }
    }

    /// Whether one expression is a constant multiple of the other, by canonical form; `NotApplicable` where that does not tell.
    fn proportional(&self, left: &Expr, right: &Expr, positive: bool) -> Result<bool, Stop> {
        let (left, right) = (canonical(left, self.fuel)?, canonical(right, self.fuel)?);
        if let Some(ratio) = ratio(&left, &right, self.fuel)? {
            return Ok(!positive || ratio.is_positive());
        }
        if !positive {
            // An equation may be multiplied through.
            let (left, right) = (clear_denominators(&left, self.fuel)?, clear_denominators(&right, self.fuel)?);
            if ratio(&left, &right, self.fuel)?.is_some() {
                return Ok(true);
            }
        }
        let is_exact = |polynomial: &Polynomial| {
            polynomial
                .0
                .keys()
                .flat_map(|monomial| &monomial.0)
                .all(|factor| matches!(factor.base, Base::Variable(_)) && factor.symbolic.is_one())
        };
        if is_exact(&left) && is_exact(&right) { Ok(false) } else { Err(Stop::NotApplicable) }
    }

    /// Whether a chain of equal constants holds a false equation, or rounds wrongly.
    fn contradicts_itself(&self, expr: &Expr) -> Result<bool, Stop> {
        let Expr::Relation { sides, operators } = expr else {
            return Ok(false);
        };
        let is_constant = |side: &Expr| {
            bare(side).is_scalar() && !side.any(&|node| matches!(node, Expr::Variable(_) | Expr::PlusMinus { .. }))
        };
        for (pair, operator) in sides.windows(2).zip(operators) {
            if !pair.iter().all(is_constant) {
                continue;
            }
            if let [Expr::Quantity(..), Expr::Quantity(..)] = pair {
                if *operator == Relation::Equal && !self.equal(&pair[0], &pair[1])?.equal {
                    return Ok(true);
                }
                continue;
            }
            let pair = [bare(&pair[0]), bare(&pair[1])];
            let holds = match operator {
                Relation::Equal => self.scalars(pair[0], pair[1])?.equal || self.rounds_to(pair[0], pair[1], false),
                Relation::Approximately => {
                    self.rounds_to(pair[0], pair[1], true) || self.scalars(pair[0], pair[1])?.equal
                }
                _ => true,
            };
            if !holds {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a decimal is a value rounded or cut off; a value without decimals may be said to be near, not to equal,
    /// anything within a half.
    fn rounds_to(&self, value: &Expr, rounded: &Expr, may_be_near: bool) -> bool {
        let (Some(stated), Some(value)) = (decimal::stated(rounded), decimal::Value::of(value, self.fuel)) else {
            let (Some(value), Some(rounded)) =
                (decimal::Value::of(value, self.fuel), decimal::Value::of(rounded, self.fuel))
            else {
                return false;
            };
            return may_be_near && value.is_within(&rounded, &RBig::from_parts(1.into(), 2_u8.into()));
        };
        stated.is_rounding_of(&value)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    In,
    Congruent,
}

/// One step of a relation, turned so that it reads `small < large`.
struct Ordered {
    kind: Kind,
    small: Expr,
    large: Expr,
}

impl Ordered {
    fn all(sides: &[Expr], operators: &[Relation]) -> Option<Vec<Self>> {
        sides.windows(2).zip(operators).map(|(pair, operator)| Self::new(&pair[0], *operator, &pair[1])).collect()
    }

    fn new(left: &Expr, operator: Relation, right: &Expr) -> Option<Self> {
        let (kind, turned) = match operator {
            Relation::Equal => (Kind::Equal, false),
            Relation::NotEqual => (Kind::NotEqual, false),
            Relation::Less => (Kind::Less, false),
            Relation::LessEqual => (Kind::LessEqual, false),
            Relation::Greater => (Kind::Less, true),
            Relation::GreaterEqual => (Kind::LessEqual, true),
            Relation::In => (Kind::In, false),
            Relation::Congruent => (Kind::Congruent, false),
            Relation::Approximately => return None,
        };
        let (small, large) = if turned { (right, left) } else { (left, right) };
        Some(Self { kind, small: small.clone(), large: large.clone() })
    }

    fn is_scalar(&self) -> bool {
        self.small.is_scalar() && self.large.is_scalar()
    }

    fn difference(&self) -> Expr {
        Expr::difference(self.large.clone(), self.small.clone())
    }
}

/// `k` with `left = k · right`, if there is one.
fn ratio(left: &Polynomial, right: &Polynomial, fuel: &Fuel) -> Result<Option<RBig>, Stop> {
    let (Some((monomial, a)), Some((other, b))) = (left.0.iter().next(), right.0.iter().next()) else {
        return Ok((left.is_zero() && right.is_zero()).then_some(RBig::ONE));
    };
    if monomial != other || left.0.len() != right.0.len() {
        return Ok(None);
    }
    let ratio = a / b;
    Ok(left.subtract(&right.scale(&ratio), fuel)?.is_zero().then_some(ratio))
}

/// Multiplies by every base that occurs with a negative whole exponent.
fn clear_denominators(polynomial: &Polynomial, fuel: &Fuel) -> Result<Polynomial, Stop> {
    let mut result = polynomial.clone();
    for _ in 0..4 {
        let mut lowest: BTreeMap<Base, RBig> = BTreeMap::new();
        for factor in result.0.keys().flat_map(|monomial| &monomial.0) {
            if factor.symbolic.is_one() && factor.exponent.is_negative() && factor.exponent.is_int() {
                let entry = lowest.entry(factor.base.clone()).or_insert(RBig::ZERO);
                if factor.exponent < *entry {
                    entry.clone_from(&factor.exponent);
                }
            }
        }
        if lowest.is_empty() {
            break;
        }
        for (base, exponent) in lowest {
            let factor = Polynomial::term(RBig::ONE, Monomial::single(base, Monomial::default(), -exponent));
            result = result.multiply(&factor, fuel)?;
        }
    }
    Ok(result)
}
