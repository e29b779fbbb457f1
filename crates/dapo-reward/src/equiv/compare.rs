//! Two answers of any kind: structures against structures, words against words, scalars against scalars.

use super::judge::{Comparison, Decision, Judge};
use super::measure::{differs_in_kind, is_group, meets_time};
use super::prepare::{prepare, products_for_applications};
use super::real_set;
use super::subject::{holds_differently, without_indices};
use crate::algebra::{Stop, decimal};
use crate::expr::{Bracket, Constant, Expr, Function, Relation, Separator};
use crate::fuel::Fuel;
use crate::parse::Answer;
use crate::rule::Rule;

/// Compares a prediction with a gold answer.
pub(crate) fn compare(gold: &Answer, prediction: &Answer, precision: u32, fuel: &Fuel) -> Comparison {
    let judge = Judge { fuel, precision, in_decimals: false };
    let is_text = |answer: &Answer| matches!(answer.readings.first(), Some(Expr::Text(_)));
    if is_text(gold) || is_text(prediction) {
        let equal = gold.words.is_some() && gold.words == prediction.words;
        return Ok(Decision::new(equal, Rule::Words));
    }
    if let Some((gold, prediction)) = products_for_applications(gold, prediction) {
        return compare(&gold, &prediction, precision, fuel);
    }
    let mut decision = Decision::incorrect(Rule::Structure);
    for (index, gold) in gold.readings.iter().enumerate() {
        for (other, prediction) in prediction.readings.iter().chain(&prediction.guesses).enumerate() {
            let found = judge.equal(&prepare(gold), &prepare(prediction))?;
            if found.equal {
                return Ok(found);
            }
            if index == 0 && other == 0 {
                decision = found;
            }
        }
    }
    // `2 m` may be a product, but not to an answer that is a quantity.
    for (gold, prediction) in gold.guesses.iter().zip(prediction.readings.first()) {
        if matches!(prediction, Expr::Quantity(..)) {
            let found = judge.equal(gold, prediction)?;
            if found.equal {
                return Ok(found);
            }
        }
    }
    let without_base = match (&gold.digits, &prediction.digits) {
        (Some(digits), None) => prediction.readings.first().map(|other| (digits, other)),
        (None, Some(digits)) => gold.readings.first().map(|other| (other, digits)),
        _ => None,
    };
    if let Some((gold, prediction)) = without_base
        && matches!((gold, prediction), (Expr::Number(_), Expr::Number(_)))
    {
        let found = judge.equal(gold, prediction)?;
        if found.equal {
            return Ok(found);
        }
    }
    Ok(decision)
}

impl Judge<'_> {
    /// Whether two answers mean the same.
    pub(crate) fn equal(&self, gold: &Expr, prediction: &Expr) -> Comparison {
        self.fuel.spend(50)?;
        if gold == prediction {
            return Ok(Decision::correct(Rule::Identical));
        }
        if let (Expr::Call(Function::Mod, gold), Expr::Call(Function::Mod, prediction)) = (gold, prediction)
            && let ([_, modulus], [_, other]) = (gold.as_slice(), prediction.as_slice())
            && !self.equal(modulus, other)?.equal
        {
            return Ok(Decision::incorrect(Rule::Structure));
        }
        if let Some(decision) = self.angles(gold, prediction)? {
            return Ok(decision);
        }
        if gold.is_scalar() && prediction.is_scalar() {
            return self.scalars(gold, prediction);
        }
        match (gold, prediction) {
            (Expr::Text(gold), Expr::Text(prediction)) => Ok(Decision::new(gold == prediction, Rule::Words)),
            (Expr::Choice(gold, _), Expr::Choice(prediction, _)) => Ok(Decision::new(gold == prediction, Rule::Choice)),
            (Expr::Choice(letter, rest), other) => self.choice(*letter, rest.as_deref(), other, true),
            (other, Expr::Choice(letter, rest)) => self.choice(*letter, rest.as_deref(), other, false),
            (Expr::Qualified(gold, condition), Expr::Qualified(prediction, other)) => {
                self.qualified((gold, condition), (prediction, other))
            }
            (Expr::Qualified(gold, _), other) => self.equal(gold, other),
            (other, Expr::Qualified(prediction, _)) => self.equal(other, prediction),
            (Expr::Time(time), other) if meets_time(other) => self.time_and(*time, other, true),
            (other, Expr::Time(time)) if meets_time(other) => self.time_and(*time, other, false),
            (Expr::Quantity(gold, gold_unit), Expr::Quantity(prediction, prediction_unit)) => {
                self.quantities((gold, gold_unit), (prediction, prediction_unit))
            }
            (Expr::Quantity(_, unit), other) | (other, Expr::Quantity(_, unit)) if differs_in_kind(other, unit) => {
                Ok(Decision::incorrect(Rule::Unit))
            }
            (_, Expr::Quantity(_, unit)) if is_group(unit) => Ok(Decision::incorrect(Rule::Unit)),
            (Expr::Quantity(gold, _), other) => self.equal(gold, other),
            (other, Expr::Quantity(prediction, _)) => self.equal(other, prediction),
            (Expr::Relation { .. }, _) | (_, Expr::Relation { .. }) => self.relations(gold, prediction),
            (Expr::Matrix(gold), Expr::Matrix(prediction)) => {
                if gold.len() != prediction.len() || gold.first().map(Vec::len) != prediction.first().map(Vec::len) {
                    return Ok(Decision::incorrect(Rule::Structure));
                }
                self.all_equal(gold.iter().flatten(), prediction.iter().flatten())
            }
            (Expr::Matrix(rows), Expr::Tuple { .. }) => self.matrix_and_tuple(rows, prediction, false),
            (Expr::Tuple { .. }, Expr::Matrix(rows)) => self.matrix_and_tuple(rows, gold, true),
            (
                Expr::Tuple { left, items, right },
                Expr::Tuple { left: other_left, items: others, right: other_right },
            ) => {
                let same_brackets = left == other_left && right == other_right;
                if items.len() != others.len()
                    || (!same_brackets && (items.len() == 2 || left != right || other_left != other_right))
                {
                    return Ok(Decision::incorrect(Rule::Structure));
                }
                self.all_equal(items.iter(), others.iter())
            }
            (Expr::Ratio(gold), Expr::Ratio(prediction)) => self.ratios(gold, prediction),
            (Expr::Ratio(terms), other) if other.is_scalar() => self.ratio_and_scalar(terms, other, true),
            (other, Expr::Ratio(terms)) if other.is_scalar() => self.ratio_and_scalar(terms, other, false),
            // A tuple whose parentheses were left out.
            (
                Expr::Tuple { left: Bracket::Round, items, right: Bracket::Round },
                Expr::List(Separator::Comma | Separator::And, others),
            )
            | (
                Expr::List(Separator::Comma | Separator::And, items),
                Expr::Tuple { left: Bracket::Round, items: others, right: Bracket::Round },
            ) => {
                if items.len() == others.len() {
                    let decision = self.all_equal(items.iter(), others.iter())?;
                    if decision.equal {
                        return Ok(decision);
                    }
                }
                // `x > 1 and x < 3` is an interval.
                Ok(self.as_real_sets(gold, prediction)?.unwrap_or(Decision::incorrect(Rule::Structure)))
            }
            (Expr::List(..) | Expr::Set(_), _) | (_, Expr::List(..) | Expr::Set(_)) => {
                self.collections(gold, prediction)
            }
            (Expr::Constant(_) | Expr::SetOperation(..), _) | (_, Expr::Constant(_) | Expr::SetOperation(..)) => {
                self.real_sets(gold, prediction)
            }
            (Expr::Call(Function::Determinant, gold), Expr::Call(Function::Determinant, prediction)) => {
                self.all_equal(gold.iter(), prediction.iter())
            }
            _ if is_value(gold) && is_value(prediction) => match self.exact_scalars(gold, prediction) {
                Err(Stop::NotApplicable) => Ok(Decision::incorrect(Rule::Structure)),
                other => other,
            },
            _ => Ok(Decision::incorrect(Rule::Structure)),
        }
    }

    /// Two values under conditions: both must be the same.
    fn qualified(&self, gold: (&Expr, &Expr), prediction: (&Expr, &Expr)) -> Comparison {
        let found = self.equal(gold.0, prediction.0)?;
        if !found.equal || gold.1 == prediction.1 || same_variable(gold.1, prediction.1) {
            return Ok(found);
        }
        self.equal(gold.1, prediction.1)
    }

    /// Pairs of answers, all equal; the rule reported is the last one's.
    pub(crate) fn all_equal<'a>(
        &self,
        gold: impl Iterator<Item = &'a Expr>,
        prediction: impl Iterator<Item = &'a Expr>,
    ) -> Comparison {
        let gold: Vec<&Expr> = gold.collect();
        let are_decimals = gold.len() >= 2 && gold.iter().all(|entry| decimal::stated(entry).is_some());
        let judge = Judge { in_decimals: are_decimals, ..*self };
        let mut decision = Decision::correct(Rule::Structure);
        for (gold, prediction) in gold.into_iter().zip(prediction) {
            decision = judge.equal(gold, prediction)?;
            if !decision.equal {
                return Ok(decision);
            }
        }
        Ok(decision)
    }

    fn choice(&self, letter: char, rest: Option<&Expr>, other: &Expr, choice_is_gold: bool) -> Comparison {
        if let Expr::Variable(name) = other {
            let mut letters = name.chars();
            if letters.next() == Some(letter) && letters.next().is_none() {
                return Ok(Decision::correct(Rule::Choice));
            }
        }
        match rest {
            Some(rest) if choice_is_gold => self.equal(rest, other),
            Some(rest) => self.equal(other, rest),
            None => Ok(Decision::incorrect(Rule::Choice)),
        }
    }

    /// `[[1, 2], [3, 4]]` is a matrix written as rows, `(1, 2)` a vector that may stand in a column.
    fn matrix_and_tuple(&self, rows: &[Vec<Expr>], tuple: &Expr, tuple_is_gold: bool) -> Comparison {
        let Expr::Tuple { left, items, right } = tuple else {
            return Ok(Decision::incorrect(Rule::Structure));
        };
        if (left, right) == (&Bracket::Round, &Bracket::Round) && is_vector(rows, items) {
            let entries = rows.iter().flatten();
            return if tuple_is_gold {
                self.all_equal(items.iter(), entries)
            } else {
                self.all_equal(entries, items.iter())
            };
        }
        let mut entries = Vec::new();
        for (row, item) in rows.iter().zip(items) {
            match item {
                Expr::Tuple { items, .. } if items.len() == row.len() => entries.extend(items),
                _ => return Ok(Decision::incorrect(Rule::Structure)),
            }
        }
        if rows.len() != items.len() {
            return Ok(Decision::incorrect(Rule::Structure));
        }
        let matrix = rows.iter().flatten();
        if tuple_is_gold {
            self.all_equal(entries.into_iter(), matrix)
        } else {
            self.all_equal(matrix, entries.into_iter())
        }
    }

    /// Lists and sets, whatever their order; a single answer is a set of one.
    fn collections(&self, gold: &Expr, prediction: &Expr) -> Comparison {
        if let Some(decision) = self.as_real_sets(gold, prediction)? {
            return Ok(decision);
        }
        if let (Expr::List(separator, items), Expr::List(other, others)) = (gold, prediction)
            && (*separator == Separator::Or) != (*other == Separator::Or)
            && (holds_differently(items) || holds_differently(others))
        {
            return Ok(Decision::incorrect(Rule::Structure));
        }
        let items = |expr: &Expr| match expr {
            Expr::List(_, items) | Expr::Set(items) => items.clone(),
            Expr::Constant(Constant::EmptySet) => Vec::new(),
            other => vec![other.clone()],
        };
        let (gold_items, items) = (items(gold), items(prediction));
        let is_set = matches!(gold, Expr::Set(_)) || matches!(prediction, Expr::Set(_));
        if !is_set && gold_items.len() != items.len() {
            return Ok(Decision::incorrect(Rule::Structure));
        }
        if gold_items.is_empty() || items.is_empty() {
            return Ok(Decision::new(gold_items.is_empty() && items.is_empty(), Rule::Structure));
        }
        if let Some((gold, items)) = without_indices(&gold_items, &items) {
            return self.same_members(&gold, &items, is_set);
        }
        self.same_members(&gold_items, &items, is_set)
    }

    /// Every gold item has its own equal among the items and none is left over; in a set, repeats do not count.
    fn same_members(&self, gold: &[Expr], items: &[Expr], is_set: bool) -> Comparison {
        let are_decimals = gold.len() >= 2 && gold.iter().all(|entry| decimal::stated(entry).is_some());
        let judge = Judge { in_decimals: are_decimals, ..*self };
        let mut taken = vec![false; items.len()];
        let mut last = Decision::incorrect(Rule::Structure);
        for one in gold {
            let mut found = false;
            for (index, other) in items.iter().enumerate() {
                // A member that is a set is not what the set holds.
                if (taken[index] && (found || !is_set)) || is_set_in_braces(one) != is_set_in_braces(other) {
                    continue;
                }
                let decision = judge.equal(one, other)?;
                if decision.equal {
                    taken[index] = true;
                    found = true;
                    last = decision;
                    if !is_set {
                        break;
                    }
                }
            }
            if !found {
                return Ok(Decision::incorrect(Rule::Structure));
            }
        }
        Ok(Decision::new(taken.into_iter().all(|taken| taken), last.rule))
    }

    fn real_sets(&self, gold: &Expr, prediction: &Expr) -> Comparison {
        Ok(self.as_real_sets(gold, prediction)?.unwrap_or(Decision::incorrect(Rule::Structure)))
    }

    /// The decision, when both answers describe sets of real numbers.
    pub(crate) fn as_real_sets(&self, gold: &Expr, prediction: &Expr) -> Result<Option<Decision>, Stop> {
        let describes = |expr: &Expr| {
            !matches!(expr, Expr::List(Separator::Comma, _) | Expr::Set(_))
                || matches!(expr, Expr::List(_, items) if items.iter().all(|item| matches!(item, Expr::Relation { .. })))
        };
        // Two plain collections are compared member by member.
        if !describes(gold) && !describes(prediction) {
            return Ok(None);
        }
        let read = |expr: &Expr| match real_set::from(expr, self) {
            Err(Stop::NotApplicable | Stop::Undefined) => Ok(None),
            other => other,
        };
        let (Some(gold), Some(prediction)) = (read(gold)?, read(prediction)?) else {
            return Ok(None);
        };
        if let (Some(gold), Some(prediction)) = (&gold.variable, &prediction.variable)
            && gold != prediction
        {
            return Ok(Some(Decision::incorrect(Rule::RealSet)));
        }
        Ok(Some(Decision::new(real_set::equal(&gold, &prediction, self)?, Rule::RealSet)))
    }
}

/// Whether of two conditions one says of a variable in words what the other says by the set it is in.
fn same_variable(one: &Expr, other: &Expr) -> bool {
    match (one, other) {
        (Expr::Text(letters), Expr::Relation { sides, operators })
        | (Expr::Relation { sides, operators }, Expr::Text(letters)) => {
            let variable = sides.first();
            operators.as_slice() == [Relation::In]
                && letters
                    .split(' ')
                    .any(|letter| matches!(variable, Some(Expr::Variable(name)) if name.as_ref() == letter))
        }
        _ => false,
    }
}

fn is_set_in_braces(expr: &Expr) -> bool {
    matches!(expr, Expr::Set(_) | Expr::Constant(Constant::EmptySet))
}

/// Whether a matrix is one row or column with an entry for every item.
fn is_vector(rows: &[Vec<Expr>], items: &[Expr]) -> bool {
    let is_line = rows.len() == 1 || rows.iter().all(|row| row.len() == 1);
    is_line
        && rows.iter().flatten().count() == items.len()
        && !items.iter().any(|item| matches!(item, Expr::Tuple { .. } | Expr::Matrix(_)))
}

/// Whether arithmetic may give the expression a value: a determinant is a scalar although a matrix is in it.
fn is_value(expr: &Expr) -> bool {
    match expr {
        Expr::Call(Function::Determinant, _) => true,
        Expr::Sum(_) | Expr::Product(_) | Expr::Power(..) => expr.children().all(is_value),
        other => other.is_scalar(),
    }
}
