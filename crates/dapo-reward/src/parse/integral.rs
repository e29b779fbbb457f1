//! Definite integrals of polynomials and a few elementary functions, computed while they are read.

use dashu_ratio::RBig;

use super::cursor::Cursor;
use super::lexer::Kind;
use super::{Parse, ParseError};
use crate::algebra::canonical::polynomial_in;
use crate::algebra::decimal::is_positive;
use crate::expr::{Constant, Expr, Function};

impl Cursor<'_> {
    /// `_a^b f(x) dx`; the sign itself is taken. Other integrands are not read.
    pub(super) fn integral(&mut self) -> Parse<Expr> {
        self.expect('_')?;
        let low = self.argument(true)?;
        self.expect('^')?;
        let high = self.argument(true)?;
        let (end, variable) = self.differential().ok_or(ParseError::Syntax)?;
        let tail = self.cut(end);
        let body = if self.at_end() { Ok(Expr::integer(1)) } else { self.nested(Self::sum) };
        let is_whole = self.at_end();
        self.join(tail);
        let body = body?;
        if !is_whole {
            return Err(ParseError::Syntax);
        }
        self.next();
        self.next();
        self.node()?;
        let is_constant = |bound: &Expr| {
            bound.is_scalar()
                && !bound.any(&|node| matches!(node, Expr::Variable(_) | Expr::Constant(Constant::Infinity)))
        };
        if !(is_constant(&low) && is_constant(&high)) {
            return Err(ParseError::Syntax);
        }
        self.between(&body, &Expr::Variable(variable.to_string().into()), &low, &high).ok_or(ParseError::Syntax)
    }

    /// Where `dx` stands, outside of all brackets, and its variable.
    fn differential(&self) -> Option<(usize, char)> {
        let mut depth = 0_usize;
        let mut at = self.position();
        loop {
            match (self.kind_at(at)?, self.kind_at(at + 1)) {
                (Kind::Letter('d') | Kind::Text("d"), Some(Kind::Letter(variable)))
                    if depth == 0 && !matches!(variable, 'e' | 'i') =>
                {
                    return Some((at, variable));
                }
                (Kind::Symbol('(' | '[' | '{'), _) => depth += 1,
                (Kind::Symbol(')' | ']' | '}'), _) => depth = depth.checked_sub(1)?,
                (Kind::Symbol('=' | ',' | ';' | '<' | '>'), _) if depth == 0 => return None,
                _ => {}
            }
            at += 1;
        }
    }

    fn between(&self, body: &Expr, variable: &Expr, low: &Expr, high: &Expr) -> Option<Expr> {
        let Expr::Variable(name) = variable else {
            return None;
        };
        if let Some(terms) = polynomial_in(body, name, &self.fuel) {
            let part = |(degree, coefficient): (u32, RBig)| {
                let exponent = Expr::integer(i64::from(degree) + 1);
                let power = |bound: &Expr| Expr::power(bound.clone(), exponent.clone());
                let factor = Expr::rational(coefficient / RBig::from(degree + 1));
                Expr::Product(vec![factor, Expr::difference(power(high), power(low))])
            };
            return Some(Expr::Sum(terms.into_iter().map(part).collect()));
        }
        let primitive: fn(Expr) -> Expr = match body {
            Expr::Call(Function::Sin, argument) if argument.as_slice() == [variable.clone()] => {
                |x| Expr::call(Function::Cos, x).negate()
            }
            Expr::Call(Function::Cos, argument) if argument.as_slice() == [variable.clone()] => {
                |x| Expr::call(Function::Sin, x)
            }
            Expr::Power(base, exponent) if **base == Expr::Constant(Constant::E) && **exponent == *variable => {
                |x| Expr::power(Expr::Constant(Constant::E), x)
            }
            Expr::Product(factors)
                if factors.as_slice() == [Expr::integer(1), variable.clone().reciprocal()]
                    && is_positive(low, &self.fuel)
                    && is_positive(high, &self.fuel) =>
            {
                |x| Expr::call(Function::Ln, x)
            }
            _ => return None,
        };
        Some(Expr::difference(primitive(high.clone()), primitive(low.clone())))
    }
}
