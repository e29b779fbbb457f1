//! Sets of real numbers: intervals, their unions, and what inequalities describe.

use std::cmp::Ordering;

use super::judge::Judge;
use crate::algebra::evaluate::evaluate;
use crate::algebra::{Stop, exact};
use crate::expr::{Bracket, Constant, Expr, Function, Relation, Separator, SetOperation};
use crate::number::NumericError;
use crate::number::elementary::Precision;

/// Most pieces a set may have.
const MAX_PIECES: usize = 64;

/// A union of disjoint pieces in ascending order.
#[derive(Debug, Clone)]
pub(crate) struct RealSet {
    pieces: Vec<(Cut, Cut)>,
    /// The variable, where an inequality named one.
    pub(crate) variable: Option<Box<str>>,
}

/// How two sets become one.
type Join = fn(&RealSet, &RealSet, &Judge<'_>) -> Result<RealSet, Stop>;

/// A place between real numbers: a piece is what lies between two of them, so that open and closed ends, unions and
/// complements need no cases.
#[derive(Debug, Clone)]
enum Cut {
    BelowAll,
    Before(Expr),
    After(Expr),
    AboveAll,
}

impl RealSet {
    fn of(pieces: Vec<(Cut, Cut)>) -> Self {
        Self { pieces, variable: None }
    }

    fn all() -> Self {
        Self::of(vec![(Cut::BelowAll, Cut::AboveAll)])
    }
}

/// The set an answer describes; `None` when it describes none whose ends are known constants.
pub(crate) fn from(expr: &Expr, judge: &Judge<'_>) -> Result<Option<RealSet>, Stop> {
    judge.fuel.spend(100)?;
    match expr {
        Expr::Constant(Constant::Reals) => Ok(Some(RealSet::all())),
        Expr::Constant(Constant::EmptySet) => Ok(Some(RealSet::of(Vec::new()))),
        Expr::Tuple { left, items, right } => match items.as_slice() {
            [low, high] => interval(low, *left == Bracket::Square, high, *right == Bracket::Square, judge),
            _ => Ok(None),
        },
        Expr::Set(items) => {
            let mut set = RealSet::of(Vec::new());
            for item in items {
                let Some(point) = interval(item, true, item, true, judge)? else {
                    return Ok(None);
                };
                set = union(&set, &point, judge)?;
            }
            Ok(Some(set))
        }
        Expr::SetOperation(operation, items) => {
            let Some((first, rest)) = items.split_first() else {
                return Ok(None);
            };
            let Some(mut set) = from(first, judge)? else {
                return Ok(None);
            };
            for item in rest {
                let Some(other) = from(item, judge)? else {
                    return Ok(None);
                };
                set = match operation {
                    SetOperation::Union => union(&set, &other, judge)?,
                    SetOperation::Intersection => intersection(&set, &other, judge)?,
                    SetOperation::Difference => intersection(&set, &complement(&other), judge)?,
                    SetOperation::Same if equal(&set, &other, judge)? => set,
                    SetOperation::Same => return Ok(None),
                };
            }
            Ok(Some(set))
        }
        Expr::List(separator, items) => {
            let mut sets = Vec::new();
            for item in items {
                match from(item, judge)? {
                    Some(set) => sets.push(set),
                    None => return Ok(None),
                }
            }
            let Some(first) = sets.first().cloned() else {
                return Ok(None);
            };
            let variable = first.variable.clone();
            if sets.iter().any(|set| set.variable != variable) || (*separator == Separator::Comma && variable.is_none())
            {
                return Ok(None);
            }
            let join: Join = if *separator == Separator::Or { union } else { intersection };
            let all = |join: Join| sets[1..].iter().try_fold(first.clone(), |set, other| join(&set, other, judge));
            let mut set = all(join)?;
            // `x < 1, x > 3` are alternatives: nothing meets both.
            if *separator == Separator::Comma && set.pieces.is_empty() {
                set = all(union)?;
            }
            set.variable = variable;
            Ok(Some(set))
        }
        Expr::Relation { sides, operators } => relation(sides, operators, judge),
        _ => Ok(None),
    }
}

/// What an inequality is about: a variable, or the absolute value of a linear term, `|scale x + shift|`.
struct Subject<'a> {
    variable: &'a str,
    scale: Option<Expr>,
    shift: Option<Expr>,
    is_absolute: bool,
}

/// `2x` as 2 and x, for a positive factor.
fn scaled(term: &Expr) -> Option<(Option<Expr>, &str)> {
    match term {
        Expr::Variable(variable) => Some((None, variable)),
        Expr::Product(factors) => match factors.as_slice() {
            [scale @ Expr::Number(number), Expr::Variable(variable)] if number.value > dashu_ratio::RBig::ZERO => {
                Some((Some(scale.clone()), variable))
            }
            _ => None,
        },
        _ => None,
    }
}

impl<'a> Subject<'a> {
    fn of(side: &'a Expr) -> Option<Self> {
        match side {
            Expr::Variable(variable) => Some(Self { variable, scale: None, shift: None, is_absolute: false }),
            Expr::Call(Function::Abs, arguments) => match arguments.as_slice() {
                [Expr::Sum(terms)] => {
                    let at = terms.iter().position(|term| scaled(term).is_some())?;
                    let (scale, variable) = scaled(&terms[at])?;
                    let mut rest = terms.clone();
                    rest.remove(at);
                    let is_shift = rest.iter().all(is_constant);
                    is_shift.then_some(Self { variable, scale, shift: Some(Expr::Sum(rest)), is_absolute: true })
                }
                [term] => {
                    let (scale, variable) = scaled(term)?;
                    Some(Self { variable, scale, shift: None, is_absolute: true })
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The values below (or at) a bound.
    fn below(&self, bound: &Expr, closed: bool, judge: &Judge<'_>) -> Result<Option<RealSet>, Stop> {
        if !self.is_absolute {
            return below(bound, closed, judge);
        }
        interval(&self.end(bound.clone().negate()), closed, &self.end(bound.clone()), closed, judge)
    }

    /// The values above (or at) a bound.
    fn above(&self, bound: &Expr, closed: bool, judge: &Judge<'_>) -> Result<Option<RealSet>, Stop> {
        if self.is_absolute {
            return Ok(self.below(bound, !closed, judge)?.map(|set| complement(&set)));
        }
        interval(bound, closed, &Expr::Constant(Constant::Infinity), false, judge)
    }

    /// A bound less the constant that is added to the variable, over the factor before it.
    fn end(&self, bound: Expr) -> Expr {
        let bound = match &self.shift {
            Some(shift) => Expr::Sum(vec![bound, Expr::Product(vec![Expr::integer(-1), shift.clone()])]),
            None => bound,
        };
        match &self.scale {
            Some(scale) => Expr::Product(vec![bound, scale.clone().reciprocal()]),
            None => bound,
        }
    }
}

/// `low < x ≤ high`, `x > low`, `x ≠ a`, `x ∈ S`, `|x| < a`.
fn relation(sides: &[Expr], operators: &[Relation], judge: &Judge<'_>) -> Result<Option<RealSet>, Stop> {
    let Some((at, subject)) = sides.iter().enumerate().find_map(|(at, side)| Some((at, Subject::of(side)?))) else {
        return Ok(None);
    };
    let mut set = RealSet::all();
    if sides.len() > 3 || (sides.len() == 3 && at != 1) {
        return Ok(None);
    }
    for (index, operator) in operators.iter().enumerate() {
        // Read every step with the variable on the left.
        let is_left = index == at;
        let other = &sides[if is_left { index + 1 } else { index }];
        let step = match (operator, is_left) {
            (Relation::Less, true) | (Relation::Greater, false) => subject.below(other, false, judge)?,
            (Relation::LessEqual, true) | (Relation::GreaterEqual, false) => subject.below(other, true, judge)?,
            (Relation::Greater, true) | (Relation::Less, false) => subject.above(other, false, judge)?,
            (Relation::GreaterEqual, true) | (Relation::LessEqual, false) => subject.above(other, true, judge)?,
            (Relation::NotEqual, _) if !subject.is_absolute => {
                interval(other, true, other, true, judge)?.map(|point| complement(&point))
            }
            (Relation::In, true) if !subject.is_absolute => from(other, judge)?,
            _ => return Ok(None),
        };
        let Some(step) = step else {
            return Ok(None);
        };
        set = intersection(&set, &step, judge)?;
    }
    set.variable = Some(subject.variable.into());
    Ok(Some(set))
}

fn below(bound: &Expr, closed: bool, judge: &Judge<'_>) -> Result<Option<RealSet>, Stop> {
    let infinity = Expr::Constant(Constant::Infinity).negate();
    interval(&infinity, false, bound, closed, judge)
}

/// The interval between two ends; `None` when an end is no constant or they are in the wrong order.
fn interval(
    low: &Expr,
    low_closed: bool,
    high: &Expr,
    high_closed: bool,
    judge: &Judge<'_>,
) -> Result<Option<RealSet>, Stop> {
    let infinity = Expr::Constant(Constant::Infinity);
    let low = match low {
        low if *low == infinity.clone().negate() => Cut::BelowAll,
        low if !is_constant(low) => return Ok(None),
        low if low_closed => Cut::Before(low.clone()),
        low => Cut::After(low.clone()),
    };
    let high = match high {
        high if *high == infinity => Cut::AboveAll,
        high if !is_constant(high) => return Ok(None),
        high if high_closed => Cut::After(high.clone()),
        high => Cut::Before(high.clone()),
    };
    Ok(match order_cuts(&low, &high, judge) {
        Ok(Ordering::Less) => Some(RealSet::of(vec![(low, high)])),
        Ok(_) | Err(Stop::NotApplicable) => None,
        Err(stop) => return Err(stop),
    })
}

fn is_constant(expr: &Expr) -> bool {
    let is_not = |node: &Expr| {
        matches!(node, Expr::Variable(_) | Expr::PlusMinus { .. } | Expr::Constant(Constant::Infinity | Constant::I))
    };
    expr.is_scalar() && !expr.any(&is_not)
}

/// The order of two constants, `None` when it cannot be told.
fn order(a: &Expr, b: &Expr, judge: &Judge<'_>) -> Result<Option<Ordering>, Stop> {
    if let (Ok(a), Ok(b)) = (exact::rational(a, judge.fuel), exact::rational(b, judge.fuel)) {
        return Ok(Some(a.cmp(&b)));
    }
    for bits in [96, 512] {
        let precision = Precision::new(bits, judge.fuel);
        match (evaluate(a, &[], &precision), evaluate(b, &[], &precision)) {
            (Ok(a), Ok(b)) if a.is_real() && b.is_real() => {
                if a.re.hi.cmp(&b.re.lo) == Ordering::Less {
                    return Ok(Some(Ordering::Less));
                }
                if b.re.hi.cmp(&a.re.lo) == Ordering::Less {
                    return Ok(Some(Ordering::Greater));
                }
            }
            (Err(NumericError::OutOfFuel), _) | (_, Err(NumericError::OutOfFuel)) => return Err(Stop::OutOfFuel),
            (Err(NumericError::Imprecise), _) | (_, Err(NumericError::Imprecise)) => {}
            _ => return Ok(None),
        }
    }
    Ok(judge.exact_scalars(a, b)?.equal.then_some(Ordering::Equal))
}

/// The order of two cuts; `NotApplicable` when it cannot be told.
fn order_cuts(a: &Cut, b: &Cut, judge: &Judge<'_>) -> Result<Ordering, Stop> {
    let rank = |cut: &Cut| match cut {
        Cut::BelowAll => 0,
        Cut::Before(_) | Cut::After(_) => 1,
        Cut::AboveAll => 2,
    };
    let (Cut::Before(x) | Cut::After(x), Cut::Before(y) | Cut::After(y)) = (a, b) else {
        return Ok(rank(a).cmp(&rank(b)));
    };
    let is_after = |cut: &Cut| matches!(cut, Cut::After(_));
    Ok(order(x, y, judge)?.ok_or(Stop::NotApplicable)?.then(is_after(a).cmp(&is_after(b))))
}

fn least(a: &Cut, b: &Cut, judge: &Judge<'_>) -> Result<Cut, Stop> {
    Ok(if order_cuts(a, b, judge)? == Ordering::Greater { b.clone() } else { a.clone() })
}

fn greatest(a: &Cut, b: &Cut, judge: &Judge<'_>) -> Result<Cut, Stop> {
    Ok(if order_cuts(a, b, judge)? == Ordering::Less { b.clone() } else { a.clone() })
}

fn union(a: &RealSet, b: &RealSet, judge: &Judge<'_>) -> Result<RealSet, Stop> {
    let mut sorted: Vec<(Cut, Cut)> = Vec::new();
    for piece in a.pieces.iter().chain(&b.pieces) {
        let mut at = sorted.len();
        while at > 0 && order_cuts(&piece.0, &sorted[at - 1].0, judge)? == Ordering::Less {
            at -= 1;
        }
        sorted.insert(at, piece.clone());
    }
    let mut merged: Vec<(Cut, Cut)> = Vec::new();
    for (low, high) in sorted {
        match merged.last_mut() {
            Some(last) if order_cuts(&low, &last.1, judge)? != Ordering::Greater => {
                last.1 = greatest(&last.1, &high, judge)?;
            }
            _ => merged.push((low, high)),
        }
    }
    if merged.len() > MAX_PIECES { Err(Stop::NotApplicable) } else { Ok(RealSet::of(merged)) }
}

fn intersection(a: &RealSet, b: &RealSet, judge: &Judge<'_>) -> Result<RealSet, Stop> {
    let mut pieces = Vec::new();
    for (low, high) in &a.pieces {
        for (other_low, other_high) in &b.pieces {
            let (low, high) = (greatest(low, other_low, judge)?, least(high, other_high, judge)?);
            if order_cuts(&low, &high, judge)? == Ordering::Less {
                pieces.push((low, high));
            }
        }
    }
    if pieces.len() > MAX_PIECES { Err(Stop::NotApplicable) } else { Ok(RealSet::of(pieces)) }
}

fn complement(set: &RealSet) -> RealSet {
    let mut pieces = Vec::new();
    let mut from = Cut::BelowAll;
    for (low, high) in &set.pieces {
        if !matches!(low, Cut::BelowAll) {
            pieces.push((from, low.clone()));
        }
        from = high.clone();
    }
    if !matches!(from, Cut::AboveAll) {
        pieces.push((from, Cut::AboveAll));
    }
    RealSet::of(pieces)
}

/// Whether two sets have the same pieces; ends are compared as answers are, decimals included.
pub(crate) fn equal(gold: &RealSet, prediction: &RealSet, judge: &Judge<'_>) -> Result<bool, Stop> {
    if gold.pieces.len() != prediction.pieces.len() {
        return Ok(false);
    }
    for (gold, prediction) in gold.pieces.iter().zip(&prediction.pieces) {
        for (gold, prediction) in [(&gold.0, &prediction.0), (&gold.1, &prediction.1)] {
            let same = match (gold, prediction) {
                (Cut::BelowAll, Cut::BelowAll) | (Cut::AboveAll, Cut::AboveAll) => true,
                (Cut::Before(gold), Cut::Before(prediction)) | (Cut::After(gold), Cut::After(prediction)) => {
                    judge.scalars(gold, prediction)?.equal
                }
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
