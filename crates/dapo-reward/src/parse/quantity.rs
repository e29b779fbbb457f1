//! Units, currencies, multipliers and ordinal endings after a value.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::lexer::Kind;
use super::{Parse, ParseError, counted, units};
use crate::expr::{Expr, Function, Number};

impl Cursor<'_> {
    /// A unit, a currency, a multiplier or an ordinal ending after a value; `5 feet 6 inches` is one value.
    pub(super) fn unit(&mut self, value: Expr) -> Parse<Expr> {
        let mut value = self.simple_unit(value)?;
        while let Expr::Quantity(size, unit) = &value {
            let Some(added) = self.smaller_unit(unit)? else {
                break;
            };
            let total = Expr::Sum(vec![size.as_ref().clone(), added]);
            value = Expr::Quantity(Box::new(total), unit.clone());
        }
        Ok(value)
    }

    /// `6 inches` or `and 6 inches` after feet, in feet.
    fn smaller_unit(&mut self, unit: &str) -> Parse<Option<Expr>> {
        let start = self.position();
        if matches!(self.peek(), Some(Kind::Text(text)) if matches!(text.trim(), "and" | ""))
            || self.peek() == Some(Kind::Symbol(','))
        {
            self.next();
        }
        let (Some(Kind::Number(digits)), Some(Kind::Text(name) | Kind::Word(name))) = (self.peek(), self.peek_at(1))
        else {
            self.rewind(start);
            return Ok(None);
        };
        // After hours, 分 is short for minutes.
        let name = if name == "分" && matches!(unit, "小时" | "时") { "分钟" } else { name };
        let size = match (units::resolve(unit), units::resolve(name)) {
            (Some(larger), Some(smaller)) if larger.comparable(&smaller) && smaller.size < larger.size => {
                smaller.size / larger.size
            }
            _ => {
                self.rewind(start);
                return Ok(None);
            }
        };
        self.next();
        self.next();
        let number = super::number::parse(digits)?;
        Ok(Some(Expr::rational(number.value * size)))
    }

    fn simple_unit(&mut self, mut value: Expr) -> Parse<Expr> {
        let mut phrase = String::new();
        while let Some(Kind::Text(text) | Kind::Word(text)) = self.peek() {
            let clean = clean(text);
            let bare = clean.trim();
            let (first, rest) = bare.split_once(' ').unwrap_or((bare, ""));
            if let Some(factor) = counted::multiplier(first).filter(|_| phrase.is_empty()) {
                value = Expr::Product(vec![value, Expr::integer(factor)]);
                // `millions of dollars`
                let rest = rest.trim_start();
                let rest = rest.strip_prefix("of ").unwrap_or(rest).trim();
                if counted::multiplier(rest).is_some() || !counted::is_unit_phrase(rest) {
                    return Err(ParseError::Syntax);
                }
                phrase.push_str(rest);
            } else if matches!(bare, "and" | "or" | "AND" | "OR" | "And" | "Or" | ",") {
                break;
            } else if matches!(bare, "th" | "st" | "nd" | "rd" | "") {
                // An ordinal's ending says nothing about the value.
            } else {
                // `5 feet and 6 inches`: the conjunction belongs to what follows.
                let is_compound = matches!(self.peek_at(1), Some(Kind::Number(_)));
                let bare = bare
                    .strip_suffix(" and")
                    .or_else(|| bare.strip_suffix(','))
                    .filter(|_| is_compound)
                    .unwrap_or(bare);
                let allowed = matches!(self.peek(), Some(Kind::Text(_))) || counted::is_unit(bare);
                if !allowed || !counted::is_unit_phrase(bare) {
                    return Err(ParseError::Syntax);
                }
                if !phrase.is_empty() {
                    phrase.push(' ');
                }
                phrase.push_str(bare);
            }
            self.next();
            self.unit_power(&mut phrase)?;
        }
        let currency = match self.peek() {
            Some(Kind::Command("dollar")) => Some("dollar"),
            Some(Kind::Command(name @ ("euro" | "sterling" | "yen" | "rupee" | "cent"))) => Some(name),
            _ => None,
        };
        if let Some(currency) = currency {
            self.next();
            currency.clone_into(&mut phrase);
        }
        if phrase.is_empty() {
            return Ok(value);
        }
        self.node()?;
        Ok(match phrase.to_ascii_lowercase().as_str() {
            "percent" | "percents" => Expr::Percent(Box::new(value)),
            "degree" | "degrees" | "deg" if matches!(self.peek(), Some(Kind::Letter('C' | 'F'))) => {
                self.degrees(value)?
            }
            "degree" | "degrees" | "deg" => Expr::call(Function::Degree, value),
            _ => Expr::Quantity(Box::new(value), phrase.into()),
        })
    }

    /// `^2` after a unit word, and `/`, `·`, `-` with a second unit after it.
    fn unit_power(&mut self, phrase: &mut String) -> Parse<()> {
        if !phrase.is_empty() && self.eat('^') {
            let braced = self.eat('{');
            let negative = self.eat('-');
            let Some(Kind::Number(power)) = self.next() else {
                return Err(ParseError::Syntax);
            };
            if braced {
                self.expect('}')?;
            }
            phrase.push_str(if negative { "^-" } else { "^" });
            phrase.push_str(power);
        }
        if phrase.is_empty() {
            return Ok(());
        }
        match (self.peek(), self.peek_at(1)) {
            (Some(Kind::Symbol('/')), Some(Kind::Text(_) | Kind::Word(_))) => {
                self.next();
                phrase.push_str(" /");
            }
            (Some(Kind::Symbol('/')), Some(Kind::Letter(letter @ ('s' | 'h' | 'm' | 'g' | 'l' | 'L')))) => {
                self.next();
                self.next();
                phrase.push_str(" / ");
                phrase.push(letter);
                return self.unit_power(phrase);
            }
            (
                Some(Kind::Symbol('-' | '*') | Kind::Command("cdot" | "times")),
                Some(Kind::Text(text) | Kind::Word(text)),
            ) if text.trim_matches(['~', ' ']).len() <= 3 => {
                self.next();
            }
            _ => {}
        }
        Ok(())
    }

    /// An angle in degrees, with minutes and seconds if they follow, or a temperature where `C` or `F` follows.
    pub(super) fn degrees(&mut self, value: Expr) -> Parse<Expr> {
        let unit = match self.peek() {
            Some(Kind::Text(text) | Kind::Word(text)) if matches!(clean(text).trim(), "C" | "Celsius" | "celsius") => {
                "celsius"
            }
            Some(Kind::Text(text) | Kind::Word(text))
                if matches!(clean(text).trim(), "F" | "Fahrenheit" | "fahrenheit") =>
            {
                "fahrenheit"
            }
            Some(Kind::Letter('C')) => "celsius",
            Some(Kind::Letter('F')) => "fahrenheit",
            _ => {
                let value = self.arc_minutes(value)?;
                return Ok(Expr::call(Function::Degree, value));
            }
        };
        self.next();
        Ok(Expr::Quantity(Box::new(value), unit.into()))
    }

    /// `45' 30''` after whole degrees.
    fn arc_minutes(&mut self, value: Expr) -> Parse<Expr> {
        let mut total = match &value {
            Expr::Number(Number { value, places: None }) if value.is_int() => value.clone(),
            _ => return Ok(value),
        };
        let whole = total.clone();
        let mut sixtieths = 60;
        for marks in 1..=2 {
            let Some(Kind::Number(digits)) = self.peek() else {
                break;
            };
            let mark = |ahead: usize| self.peek_at(ahead) == Some(Kind::Symbol('\''));
            let is_double = self.peek_at(1) == Some(Kind::Symbol('"'));
            if !((marks == 1 || !is_double) && (1..=marks).all(mark) || (marks == 2 && is_double)) {
                break;
            }
            for _ in 0..=(if is_double { 1 } else { marks }) {
                self.next();
            }
            total += super::number::parse(digits)?.value / dashu_ratio::RBig::from(sixtieths);
            sixtieths *= 60;
        }
        Ok(if total == whole { value } else { Expr::rational(total) })
    }
}

/// `\$200 - \$130`, `3 \times \$5`: sums and multiples of amounts of one currency are an amount; a sign left out counts
/// as written.
pub(super) fn amount(value: Expr) -> Expr {
    let unit_of = |part: &Expr| match part {
        Expr::Quantity(_, unit) => Some(unit.clone()),
        Expr::Product(factors) => {
            let mut units = factors.iter().filter_map(|factor| match factor {
                Expr::Quantity(_, unit) => Some(unit.clone()),
                _ => None,
            });
            units.next().filter(|_| units.next().is_none())
        }
        _ => None,
    };
    let bare = |part: &Expr| match part {
        Expr::Quantity(value, _) => value.as_ref().clone(),
        Expr::Product(factors) => Expr::Product(
            factors
                .iter()
                .map(|factor| match factor {
                    Expr::Quantity(value, _) => value.as_ref().clone(),
                    other => other.clone(),
                })
                .collect(),
        ),
        other => other.clone(),
    };
    let parts = match &value {
        Expr::Sum(terms) => terms.as_slice(),
        Expr::Product(_) => std::slice::from_ref(&value),
        _ => return value,
    };
    let mut units = parts.iter().filter_map(unit_of);
    let Some(unit) = units.next() else {
        return value;
    };
    if units.any(|other| other != unit) {
        return value;
    }
    let total = match &value {
        Expr::Sum(terms) => Expr::Sum(terms.iter().map(bare).collect()),
        product => bare(product),
    };
    Expr::Quantity(Box::new(total), unit)
}

/// A unit's text without the commands that only set space.
fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '~']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.replace("\\cdot", "·")
            .replace('~', " ")
            .replace("\\,", " ")
            .replace("\\;", " ")
            .replace("\\ ", " ")
            .replace("\\!", ""),
    )
}
