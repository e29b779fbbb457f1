//! Finite sums and products, written out while they are read: `\sum_{k=1}^{30} 2^{k-1}`.

use dashu_ratio::RBig;

use super::cursor::Cursor;
use super::lexer::Kind;
use super::{Parse, ParseError};
use crate::algebra::exact::rational;
use crate::expr::{Constant, Expr};

/// Most terms that are written out.
const MAX_TERMS: i64 = 10_000;

impl Cursor<'_> {
    /// `_{k=a}^{b}` and the factors after it; the sign itself is taken.
    pub(super) fn series(&mut self, is_sum: bool) -> Parse<Expr> {
        self.expect('_')?;
        self.expect('{')?;
        let Some(Kind::Letter(index)) = self.next() else {
            return Err(ParseError::Syntax);
        };
        self.expect('=')?;
        let low = self.nested(Self::sum)?;
        self.expect('}')?;
        self.expect('^')?;
        let high = self.argument(true)?;
        let (low, high) = (self.bound(&low)?, self.bound(&high)?);
        let body = self.nested(Self::product)?;
        if high.checked_sub(low).is_none_or(|terms| terms >= MAX_TERMS) {
            return Err(ParseError::Syntax);
        }
        let index = match index {
            'i' => Expr::Constant(Constant::I),
            'e' => return Err(ParseError::Syntax),
            letter => Expr::Variable(letter.to_string().into()),
        };
        let mut total = if is_sum { RBig::ZERO } else { RBig::ONE };
        let mut rest = Vec::new();
        for value in low..=high {
            let term = self.substitute(&body, &index, value)?;
            match rational(&term, &self.fuel) {
                Ok(value) if is_sum => total += value,
                Ok(value) => total *= value,
                Err(_) => {
                    self.count_nodes(&term)?;
                    rest.push(term);
                    continue;
                }
            }
            self.fuel.spend_product(bits(&total)).map_err(|_| ParseError::TooLarge)?;
        }
        if rest.is_empty() {
            return Ok(Expr::rational(total));
        }
        rest.push(Expr::rational(total));
        Ok(if is_sum { Expr::Sum(rest) } else { Expr::Product(rest) })
    }

    fn count_nodes(&mut self, expr: &Expr) -> Parse<()> {
        self.node()?;
        expr.children().try_for_each(|child| self.count_nodes(child))
    }

    /// A bound that is an integer.
    fn bound(&self, expr: &Expr) -> Parse<i64> {
        let value = rational(expr, &self.fuel).map_err(|_| ParseError::Syntax)?;
        if !value.is_int() {
            return Err(ParseError::Syntax);
        }
        i64::try_from(value.numerator()).map_err(|_| ParseError::Syntax)
    }

    /// The term at one value of the index; every node of what cannot be computed counts.
    fn substitute(&mut self, body: &Expr, index: &Expr, value: i64) -> Parse<Expr> {
        self.fuel.spend(20).map_err(|_| ParseError::TooLarge)?;
        if body == index {
            return Ok(Expr::integer(value));
        }
        let mut failed = None;
        let term = body.map_children(&mut |child| match self.substitute(child, index, value) {
            Ok(child) => child,
            Err(error) => {
                failed = Some(error);
                Expr::integer(0)
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(term),
        }
    }
}

fn bits(value: &RBig) -> usize {
    crate::number::float::rational_bits(value)
}
