//! Sums, products, powers, and the words that may follow a value.

use super::cursor::Cursor;
use super::lexer::Kind;
use super::{Parse, ParseError, words};
use crate::expr::{Expr, Function, Number};

impl<'a> Cursor<'a> {
    /// `±a + b − c ± d`, with a unit at the end if there is one.
    pub(super) fn sum(&mut self) -> Parse<Expr> {
        let mut terms = Vec::new();
        let mut is_first = true;
        loop {
            let sign = self.sign();
            if !is_first && sign.is_none() {
                break;
            }
            let term = self.product()?;
            terms.push(match sign {
                Some(Sign::Minus) => term.negate(),
                Some(Sign::PlusMinus { flipped }) => Expr::PlusMinus { flipped, term: Box::new(term) },
                Some(Sign::Plus) | None => term,
            });
            is_first = false;
        }
        self.node()?;
        let value = if terms.len() == 1 { terms.remove(0) } else { Expr::Sum(terms) };
        let value = super::quantity::amount(value);
        // `{n \choose k}`
        if self.eat_command("choose") {
            let lower = self.nested(Self::sum)?;
            return Ok(Expr::Call(Function::Binomial, vec![value, lower]));
        }
        self.unit(value)
    }

    fn sign(&mut self) -> Option<Sign> {
        let sign = match self.peek()? {
            Kind::Symbol('+') => Sign::Plus,
            Kind::Symbol('-') => Sign::Minus,
            Kind::Command("pm") => Sign::PlusMinus { flipped: false },
            Kind::Command("mp") => Sign::PlusMinus { flipped: true },
            _ => return None,
        };
        self.next();
        Some(sign)
    }

    /// Factors joined by `·`, `/`, or nothing.
    pub(super) fn product(&mut self) -> Parse<Expr> {
        self.nested(|cursor| {
            let mut factors = vec![cursor.factor()?];
            let mut previous_is_integer = cursor.last_was_integer(&factors);
            loop {
                match cursor.peek() {
                    Some(Kind::Symbol('*') | Kind::Command("cdot" | "times")) => {
                        cursor.next();
                        factors.push(cursor.signed_factor()?);
                        previous_is_integer = false;
                    }
                    Some(Kind::Symbol('/') | Kind::Command("div")) => {
                        cursor.next();
                        factors.push(cursor.signed_factor()?.reciprocal());
                        previous_is_integer = false;
                    }
                    Some(Kind::Command("mod" | "pmod")) => {
                        cursor.next();
                        let modulus = cursor.factor()?;
                        let value = product_of(factors);
                        factors = vec![Expr::Call(Function::Mod, vec![value, modulus])];
                        previous_is_integer = false;
                    }
                    Some(Kind::Symbol('(')) if cursor.peek_at(1) == Some(Kind::Command("mod")) => {
                        cursor.next();
                        cursor.next();
                        let modulus = cursor.factor()?;
                        cursor.expect(')')?;
                        factors = vec![Expr::Call(Function::Mod, vec![product_of(factors), modulus])];
                        previous_is_integer = false;
                    }
                    Some(Kind::Number(_)) if cursor.numeral_is_factor(factors.last()) => {
                        factors.push(cursor.factor()?);
                        previous_is_integer = false;
                    }
                    Some(Kind::Number(_)) => {
                        let mixed = if previous_is_integer { cursor.mixed_literal(&factors)? } else { None };
                        *factors.last_mut().ok_or(ParseError::Syntax)? = mixed.ok_or(ParseError::Syntax)?;
                        previous_is_integer = false;
                    }
                    Some(kind) if cursor.starts_factor(kind) => {
                        let is_fraction = matches!(kind, Kind::Command("frac"));
                        let factor = cursor.factor()?;
                        let (fraction, is_percentage) = match &factor {
                            Expr::Percent(fraction) => (fraction.as_ref(), true),
                            other => (other, false),
                        };
                        match mixed_number(factors.last(), fraction) {
                            Some(mixed) if is_fraction && previous_is_integer => {
                                factors.pop();
                                factors.push(if is_percentage { Expr::Percent(Box::new(mixed)) } else { mixed });
                            }
                            _ => factors.push(factor),
                        }
                        previous_is_integer = false;
                    }
                    _ => break,
                }
                cursor.node()?;
            }
            Ok(product_of(factors))
        })
    }

    /// A factor after an explicit operator may carry a sign: `2 * -3`.
    fn signed_factor(&mut self) -> Parse<Expr> {
        match self.sign() {
            Some(Sign::Plus) | None => self.factor(),
            Some(Sign::Minus) => Ok(self.factor()?.negate()),
            Some(Sign::PlusMinus { .. }) => Err(ParseError::Syntax),
        }
    }

    fn last_was_integer(&self, factors: &[Expr]) -> bool {
        let ended_in_digits = self.position().checked_sub(1).is_some();
        ended_in_digits && matches!(factors, [Expr::Number(Number { value, places: None })] if value.is_int())
    }

    /// Whether a numeral after a factor is another factor: `n 2^{n-1}`, `(n-2)2^n`, `\frac12 3^n`. Two bare numerals side by
    /// side are none.
    fn numeral_is_factor(&self, previous: Option<&Expr>) -> bool {
        let before = self.position().checked_sub(1).and_then(|at| self.kind_at(at));
        let after_bracket = matches!(before, Some(Kind::Symbol(')' | ']')));
        let has_exponent = self.peek_at(1) == Some(Kind::Symbol('^'));
        // `3!7!`
        let are_factorials = before == Some(Kind::Symbol('!')) && self.peek_at(1) == Some(Kind::Symbol('!'));
        match previous {
            Some(Expr::Number(_)) => after_bracket,
            Some(Expr::Power(base, exponent)) if is_numeral(base) && !is_fraction(exponent) => {
                after_bracket || has_exponent
            }
            Some(_) => after_bracket || has_exponent || are_factorials || before == Some(Kind::Symbol('}')),
            None => false,
        }
    }

    /// `3 1/2` and `3½`.
    fn mixed_literal(&mut self, factors: &[Expr]) -> Parse<Option<Expr>> {
        let Some(Kind::Number(text)) = self.next() else {
            return Ok(None);
        };
        let numerator = super::number::parse(text)?;
        if text.contains('/') {
            return Ok(mixed_number(factors.last(), &Expr::Number(numerator)));
        }
        let (Some(Kind::Symbol('/')), Some(Kind::Number(denominator))) = (self.peek(), self.peek_at(1)) else {
            return Ok(None);
        };
        self.next();
        self.next();
        let denominator = super::number::parse(denominator)?;
        if denominator.value.is_zero() || !denominator.value.is_int() {
            return Ok(None);
        }
        let fraction = Expr::rational(numerator.value / denominator.value);
        Ok(mixed_number(factors.last(), &fraction))
    }

    fn starts_factor(&self, kind: Kind<'a>) -> bool {
        match kind {
            Kind::Letter(_) | Kind::OpenSet | Kind::Symbol('(' | '[' | '{') => true,
            Kind::Symbol('|') => !self.bar_closes,
            Kind::Command(name) => {
                matches!(
                    name,
                    "frac"
                        | "sqrt"
                        | "cbrt"
                        | "root"
                        | "binom"
                        | "pi"
                        | "infty"
                        | "lvert"
                        | "lfloor"
                        | "lceil"
                        | "langle"
                        | "begin"
                        | "vec"
                        | "overline"
                        | "hat"
                        | "bar"
                        | "tilde"
                        | "overrightarrow"
                        | "mathbb"
                        | "angle"
                        | "exp"
                        | "int"
                        | "sum"
                        | "prod"
                ) || words::function(name).is_some()
                    || words::greek(name).is_some()
            }
            Kind::Text(text) => {
                text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) && !self.text_is_unit(text)
            }
            _ => false,
        }
    }

    /// A one-letter text straight after a number is a unit when units are called so: `5\,\mathrm{m}`.
    fn text_is_unit(&self, text: &str) -> bool {
        // `\mathrm{A}_3^2` is no ampere.
        if self.peek_at(1) == Some(Kind::Symbol('_')) {
            return false;
        }
        let is_symbol = self.spaced() && matches!(text, "N" | "J" | "W" | "V" | "A" | "K" | "C" | "F" | "T");
        self.position() > 0 && (is_symbol || (super::units::resolve(text).is_some() && text != "l"))
    }

    /// A power: `base ^ exponent`, right-associative, after postfix operators.
    pub(super) fn factor(&mut self) -> Parse<Expr> {
        self.nested(|cursor| {
            let base = cursor.atom()?;
            let base = cursor.postfix(base)?;
            if !cursor.eat('^') {
                return Ok(base);
            }
            cursor.node()?;
            if cursor.is_degree_mark() {
                let angle = cursor.degrees(base)?;
                return cursor.postfix(angle);
            }
            if cursor.ordinal_mark() {
                return Ok(base);
            }
            let exponent = cursor.exponent()?;
            let power = Expr::power(base, exponent);
            cursor.postfix(power)
        })
    }

    /// Factorials, degree signs and percent signs.
    fn postfix(&mut self, mut value: Expr) -> Parse<Expr> {
        loop {
            match self.peek() {
                Some(Kind::Symbol('!')) => {
                    self.next();
                    let double = self.eat('!');
                    value = Expr::call(if double { Function::DoubleFactorial } else { Function::Factorial }, value);
                }
                Some(Kind::Command("degree")) => {
                    self.next();
                    value = self.degrees(value)?;
                }
                Some(Kind::Symbol('‰')) => {
                    self.next();
                    let thousandth = Expr::rational(dashu_ratio::RBig::from_parts(1.into(), 1_000_u16.into()));
                    value = Expr::Product(vec![value, thousandth]);
                }
                Some(Kind::Symbol('%')) => {
                    self.next();
                    value = Expr::Percent(Box::new(value));
                }
                _ => return Ok(value),
            }
            self.node()?;
        }
    }

    /// `^\circ` and `^{\circ}`, the caret already taken.
    fn is_degree_mark(&mut self) -> bool {
        let position = self.position();
        let braced = self.eat('{');
        if (self.eat_command("circ") || self.eat_command("degree") || self.eat_letter_o()) && (!braced || self.eat('}'))
        {
            return true;
        }
        self.rewind(position);
        false
    }

    /// `^o` as a degree sign.
    fn eat_letter_o(&mut self) -> bool {
        let found = self.peek() == Some(Kind::Letter('o'));
        if found {
            self.next();
        }
        found
    }

    /// `5^{th}` is 5.
    fn ordinal_mark(&mut self) -> bool {
        let position = self.position();
        let braced = self.eat('{');
        let mark = match self.next() {
            Some(Kind::Text(text) | Kind::Word(text)) => matches!(text.trim(), "th" | "st" | "nd" | "rd"),
            Some(Kind::Letter(first)) => match self.next() {
                Some(Kind::Letter(second)) => ["th", "st", "nd", "rd"].contains(&format!("{first}{second}").as_str()),
                _ => false,
            },
            _ => false,
        };
        if mark && (!braced || self.eat('}')) {
            return true;
        }
        self.rewind(position);
        false
    }

    fn exponent(&mut self) -> Parse<Expr> {
        match self.sign() {
            Some(Sign::Minus) => Ok(self.factor()?.negate()),
            Some(Sign::Plus) | None => self.factor(),
            Some(Sign::PlusMinus { .. }) => Err(ParseError::Syntax),
        }
    }
}

enum Sign {
    Plus,
    Minus,
    PlusMinus { flipped: bool },
}

fn is_numeral(expr: &Expr) -> bool {
    matches!(expr, Expr::Number(_))
}

fn is_fraction(expr: &Expr) -> bool {
    matches!(expr, Expr::Number(number) if !number.value.is_int())
}

fn product_of(mut factors: Vec<Expr>) -> Expr {
    if factors.len() == 1 { factors.remove(0) } else { Expr::Product(factors) }
}

/// `a b/c` as a mixed number, for an integer `a` and a proper fraction of positive integers.
fn mixed_number(whole: Option<&Expr>, fraction: &Expr) -> Option<Expr> {
    let Some(Expr::Number(Number { value: whole, places: None })) = whole else {
        return None;
    };
    let fraction = match fraction {
        Expr::Number(Number { value, .. }) => value.clone(),
        Expr::Product(factors) => match factors.as_slice() {
            [Expr::Number(numerator), Expr::Power(denominator, _)] => match denominator.as_ref() {
                Expr::Number(denominator)
                    if !denominator.value.is_zero() && denominator.places.is_none() && numerator.places.is_none() =>
                {
                    &numerator.value / &denominator.value
                }
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    let is_proper = dashu_base::Signed::is_positive(&fraction) && fraction < dashu_ratio::RBig::ONE;
    (whole.is_int() && is_proper).then(|| Expr::rational(whole + fraction))
}
