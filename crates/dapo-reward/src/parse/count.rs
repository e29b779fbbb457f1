//! Numbers of combinations and arrangements: `C_n^k`, `A_5^2`, `{}_{10}C_3`, `C(10, 3)`.

use super::cursor::Cursor;
use super::lexer::Kind;
use super::{Commas, Parse, ParseError, parse_counts};
use crate::expr::{Bracket, Expr, Function};

/// The answer read so that indexed letters C, A and P are counts, when there is such a letter.
pub(super) fn reading(source: &str) -> Option<Expr> {
    if !source.bytes().any(|byte| matches!(byte, b'A' | b'C' | b'P')) {
        return None;
    }
    let found = source
        .match_indices(['C', 'A', 'P'])
        .any(|(at, letter)| source[at + letter.len()..].trim_start_matches('}').starts_with(['_', '^', '(']));
    if !found {
        return between_numerals(source);
    }
    parse_counts(source, Commas::Thousands).ok()
}

/// `10C3`.
fn between_numerals(source: &str) -> Option<Expr> {
    let (upper, lower) = source.split_once(['C', 'P'])?;
    let number = |text: &str| text.trim().parse::<u16>().ok().map(|value| Expr::integer(i64::from(value)));
    let (upper, lower) = (number(upper)?, number(lower)?);
    Some(count(source.contains('C'), upper, lower))
}

fn count(is_combination: bool, upper: Expr, lower: Expr) -> Expr {
    let combinations = Expr::Call(Function::Binomial, vec![upper, lower.clone()]);
    if is_combination {
        return combinations;
    }
    Expr::Product(vec![combinations, Expr::call(Function::Factorial, lower)])
}

impl Cursor<'_> {
    /// The indices after a letter: `_n^k`, `^k_n`, `(n, k)`; `None` without indices.
    pub(super) fn count(&mut self, letter: &str) -> Parse<Option<Expr>> {
        if !matches!(letter, "C" | "A" | "P") {
            return Ok(None);
        }
        let is_combination = letter == "C";
        if letter != "A" && self.eat('(') {
            return match self.tuple_or_group(Bracket::Round)? {
                Expr::Tuple { items, .. }
                    if items.len() == 2 && items.iter().all(|item| matches!(item, Expr::Number(_))) =>
                {
                    Ok(Some(count(is_combination, items[0].clone(), items[1].clone())))
                }
                _ => Err(ParseError::Syntax),
            };
        }
        let (mut upper, mut lower) = (None, None);
        for _ in 0..2 {
            if lower.is_none() && self.eat('_') {
                lower = Some(self.index()?);
            } else if upper.is_none() && self.eat('^') {
                upper = Some(self.index()?);
            }
        }
        match (lower, upper) {
            (Some(lower), Some(upper)) => Ok(Some(count(is_combination, lower, upper))),
            (None, None) => Ok(None),
            _ => Err(ParseError::Syntax),
        }
    }

    /// An index; a single digit is not taken for a numeral in the base that its neighbour would be.
    fn index(&mut self) -> Parse<Expr> {
        match self.peek() {
            Some(Kind::Number(digit)) if digit.len() == 1 => {
                self.next();
                Ok(Expr::Number(super::number::parse(digit)?))
            }
            _ => self.argument(true),
        }
    }

    /// `{}_{10}C_3`, the letter's index before it; what opened it is already taken.
    pub(super) fn count_after_index(&mut self, opened_by: char) -> Parse<Expr> {
        if opened_by == '{' {
            self.expect('}')?;
            if !self.eat('_') {
                self.expect('^')?;
            }
        }
        let upper = self.argument(true)?;
        let letter = match self.next() {
            Some(Kind::Letter(letter)) => letter,
            Some(Kind::Text(text)) => text.trim().chars().next().ok_or(ParseError::Syntax)?,
            _ => return Err(ParseError::Syntax),
        };
        if !matches!(letter, 'C' | 'A' | 'P') {
            return Err(ParseError::Syntax);
        }
        self.expect('_')?;
        let lower = self.argument(true)?;
        Ok(count(letter == 'C', upper, lower))
    }
}
