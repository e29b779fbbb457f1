//! The smallest pieces: numbers, letters, commands with their arguments, brackets.

use dashu_int::IBig;
use dashu_ratio::RBig;

use super::cursor::Cursor;
use super::lexer::Kind;
use super::{Parse, ParseError, words};
use crate::expr::{Bracket, Constant, Expr, Function};

impl<'a> Cursor<'a> {
    pub(super) fn atom(&mut self) -> Parse<Expr> {
        self.node()?;
        match self.next().ok_or(ParseError::Syntax)? {
            Kind::Number(text) => self.numeral(text),
            Kind::Letter(letter) => self.variable(letter.to_string()),
            Kind::Text(text) => self.text_atom(text),
            Kind::Symbol('(') => self.tuple_or_group(Bracket::Round),
            Kind::Symbol('[') => self.tuple_or_group(Bracket::Square),
            Kind::Symbol('{') if self.counts && self.peek() == Some(Kind::Symbol('}')) => self.count_after_index('{'),
            Kind::Symbol(mark @ ('_' | '^')) if self.counts => self.count_after_index(mark),
            Kind::Symbol('{') => self.group_after_brace(),
            Kind::OpenSet => self.set(),
            Kind::Symbol('|') => {
                let value = self.nested(|cursor| cursor.with_bar(true, Self::sum))?;
                self.expect('|')?;
                Ok(Expr::call(Function::Abs, value))
            }
            Kind::Command(name) => self.command(name),
            Kind::Symbol(_) | Kind::Word(_) | Kind::CloseSet | Kind::NewRow => Err(ParseError::Syntax),
        }
    }

    /// Digits, and a base where a subscript gives one.
    fn numeral(&mut self, text: &str) -> Parse<Expr> {
        let number = super::number::parse(text)?;
        if !self.eat('_') {
            return Ok(Expr::Number(number));
        }
        let braced = self.eat('{');
        let base = match self.next() {
            Some(Kind::Number(base)) => base.parse::<u32>().map_err(|_| ParseError::Syntax)?,
            Some(Kind::Text(base)) => {
                const NAMES: [&str; 11] =
                    ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
                match base.trim() {
                    "sixteen" => 16,
                    name => match (2_u32..).zip(NAMES).find(|(_, known)| *known == name) {
                        Some((base, _)) => base,
                        None => name.parse().map_err(|_| ParseError::Syntax)?,
                    },
                }
            }
            _ => return Err(ParseError::Syntax),
        };
        if braced {
            self.expect('}')?;
        }
        if !(2..=36).contains(&base) {
            return Err(ParseError::Syntax);
        }
        let value = IBig::from_str_radix(text, base).map_err(|_| ParseError::Syntax)?;
        Ok(Expr::rational(RBig::from(value)))
    }

    /// A letter with its primes and subscripts; `e` and `i` are constants.
    fn variable(&mut self, mut name: String) -> Parse<Expr> {
        if self.counts
            && let Some(count) = self.count(&name)?
        {
            return Ok(count);
        }
        if self.eat('_') {
            name.push('_');
            name.push_str(&self.subscript()?);
        } else if !matches!(self.peek(), Some(Kind::Symbol('\''))) {
            match name.as_str() {
                "e" => return Ok(Expr::Constant(Constant::E)),
                "i" => return Ok(Expr::Constant(Constant::I)),
                _ => {}
            }
        }
        while self.eat('\'') {
            name.push('\'');
        }
        if super::label::is_function_name(&name) && self.inverse_mark() {
            name.push_str("^{-1}");
        }
        self.application(name.into())
    }

    /// `^{-1}` before the bracket of a function's argument.
    fn inverse_mark(&mut self) -> bool {
        let marks = [Kind::Symbol('^'), Kind::Symbol('{'), Kind::Symbol('-'), Kind::Number("1"), Kind::Symbol('}')];
        let found = marks.iter().enumerate().all(|(ahead, mark)| self.peek_at(ahead) == Some(*mark))
            && self.peek_at(marks.len()) == Some(Kind::Symbol('('));
        if found {
            for _ in marks {
                self.next();
            }
        }
        found
    }

    fn subscript(&mut self) -> Parse<String> {
        let mut name = String::new();
        let braced = self.eat('{');
        let mut first = true;
        while first || (braced && self.peek() != Some(Kind::Symbol('}'))) {
            match self.next().ok_or(ParseError::Syntax)? {
                Kind::Number(text) | Kind::Text(text) | Kind::Word(text) | Kind::Command(text) => {
                    name.push_str(text.trim());
                }
                Kind::Letter(letter) => name.push(letter),
                Kind::Symbol(symbol @ ('+' | '-' | ',' | '\'' | '*')) if braced => name.push(symbol),
                _ => return Err(ParseError::Syntax),
            }
            if name.len() > 64 {
                return Err(ParseError::TooLarge);
            }
            first = false;
        }
        if braced {
            self.expect('}')?;
        }
        Ok(name)
    }

    /// Upright letters in a formula: a variable, a function or a number in disguise.
    fn text_atom(&mut self, text: &str) -> Parse<Expr> {
        let text = text.trim();
        let mut letters = text.chars();
        if let (Some(letter), None) = (letters.next(), letters.next())
            && letter.is_ascii_alphabetic()
        {
            return self.variable(letter.to_string());
        }
        if let Some(function) = words::function(text) {
            return self.apply(function, text);
        }
        if !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','))
            && super::number::scan(text, true) == text.len()
        {
            return Ok(Expr::Number(super::number::parse(text)?));
        }
        Err(ParseError::Syntax)
    }

    /// `{…}`, the brace already taken.
    fn group_after_brace(&mut self) -> Parse<Expr> {
        self.nested(|cursor| {
            cursor.with_bar(false, |cursor| {
                let value = cursor.sum()?;
                cursor.expect('}')?;
                Ok(value)
            })
        })
    }

    /// A LaTeX argument: a group, or a single token, of which a numeral gives one digit when `digit` is set.
    pub(super) fn argument(&mut self, digit: bool) -> Parse<Expr> {
        if self.eat('{') {
            return self.group_after_brace();
        }
        if let Some(Kind::Number(text)) = self.peek()
            && digit
            && text.len() > 1
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ')
        {
            let (first, rest) = text.split_at(1);
            self.shorten(rest.trim_start());
            return Ok(Expr::Number(super::number::parse(first)?));
        }
        self.nested(Self::atom)
    }

    fn command(&mut self, name: &'a str) -> Parse<Expr> {
        if let Some(greek) = words::greek(name) {
            return self.variable(greek.to_owned());
        }
        match name {
            "pi" => Ok(Expr::Constant(Constant::Pi)),
            "infty" => Ok(Expr::Constant(Constant::Infinity)),
            "emptyset" => Ok(Expr::Constant(Constant::EmptySet)),
            "Reals" | "R" => Ok(Expr::Constant(Constant::Reals)),
            "mathbb" => match self.argument(false)? {
                Expr::Variable(letter) => {
                    let mark = self.set_mark();
                    if letter.as_ref() == "R" && mark.is_none() {
                        return Ok(Expr::Constant(Constant::Reals));
                    }
                    let mark = mark.map(String::from).unwrap_or_default();
                    Ok(Expr::Variable(format!("mathbb {letter}{mark}").into()))
                }
                _ => Err(ParseError::Syntax),
            },
            "frac" => {
                let numerator = self.argument(true)?;
                let denominator = self.argument(true)?;
                Ok(Expr::Product(vec![numerator, denominator.reciprocal()]))
            }
            "sqrt" => self.root(),
            "cbrt" => {
                let radicand = self.argument(false)?;
                Ok(Expr::Call(Function::Root, vec![Expr::integer(3), radicand]))
            }
            "binom" => {
                let upper = self.argument(true)?;
                let lower = self.argument(true)?;
                Ok(Expr::Call(Function::Binomial, vec![upper, lower]))
            }
            "lvert" => self.enclosed(Function::Abs, &[Kind::Command("rvert")]),
            "lfloor" => self.enclosed(Function::Floor, &[Kind::Command("rfloor")]),
            "lceil" => self.enclosed(Function::Ceil, &[Kind::Command("rceil")]),
            "langle" => self.tuple_or_group(Bracket::Round),
            "begin" => self.environment(),
            "int" => self.integral(),
            "sum" | "prod" => self.series(name == "sum"),
            "dollar" | "euro" | "sterling" | "yen" | "rupee" | "yuan" | "cent" => {
                let value = self.factor()?;
                let unit = if name == "dollar" { "dollar" } else { name };
                Ok(Expr::Quantity(Box::new(value), unit.into()))
            }
            "vec" | "hat" | "bar" | "tilde" | "overline" | "overrightarrow" | "dot" => self.accent(name),
            "angle" | "triangle" => self.labelled(name),
            _ => match words::function(name) {
                Some(function) => self.apply(function, name),
                None => Err(ParseError::Syntax),
            },
        }
    }

    /// `^*`, `^+`, `_+` after the name of a set of numbers.
    fn set_mark(&mut self) -> Option<char> {
        let Some(Kind::Symbol('^' | '_')) = self.peek() else {
            return None;
        };
        let (mark, length) = match (self.peek_at(1)?, self.peek_at(2), self.peek_at(3)) {
            (Kind::Symbol(mark @ ('*' | '+' | '-')), _, _) => (mark, 2),
            (Kind::Symbol('{'), Some(Kind::Symbol(mark @ ('*' | '+' | '-'))), Some(Kind::Symbol('}'))) => (mark, 4),
            _ => return None,
        };
        for _ in 0..length {
            self.next();
        }
        Some(mark)
    }

    fn enclosed(&mut self, function: Function, closers: &[Kind<'static>]) -> Parse<Expr> {
        match self.bracketed(closers)? {
            (super::structure::Content::One(value), _) => Ok(Expr::call(function, value)),
            _ => Err(ParseError::Syntax),
        }
    }

    /// `\sqrt{x}`, `\sqrt[n]{x}`, `\sqrt x`.
    fn root(&mut self) -> Parse<Expr> {
        let index = if self.eat('[') {
            let index = self.nested(Self::sum)?;
            self.expect(']')?;
            Some(index)
        } else {
            None
        };
        let radicand = self.argument(false)?;
        Ok(match index {
            None => Expr::power(radicand, Expr::rational(RBig::from_parts(1.into(), 2_u8.into()))),
            Some(index) => Expr::Call(Function::Root, vec![index, radicand]),
        })
    }

    /// `\vec{v}`, `\overline{AB}`: a name that is not the plain letters.
    fn accent(&mut self, accent: &str) -> Parse<Expr> {
        let braced = self.eat('{');
        let mut name = format!("{accent} ");
        loop {
            match self.next() {
                Some(Kind::Letter(letter)) => name.push(letter),
                Some(Kind::Word(word) | Kind::Text(word)) => name.push_str(word.trim()),
                Some(Kind::Command(command)) if words::greek(command).is_some() => name.push_str(command),
                _ => return Err(ParseError::Syntax),
            }
            if !braced {
                break;
            }
            if self.eat('_') {
                name.push('_');
                name.push_str(&self.subscript()?);
            }
            if self.eat('}') {
                break;
            }
        }
        self.variable(name)
    }

    /// `\angle ABC`: one name.
    fn labelled(&mut self, label: &str) -> Parse<Expr> {
        let mut name = format!("{label} ");
        while let Some(Kind::Letter(letter)) = self.peek() {
            name.push(letter);
            self.next();
        }
        if let Some(Kind::Word(word) | Kind::Text(word)) = self.peek() {
            name.push_str(word.trim());
            self.next();
        }
        if name.ends_with(' ') { Err(ParseError::Syntax) } else { Ok(Expr::Variable(name.into())) }
    }

    /// A function's subscript, exponent and argument.
    fn apply(&mut self, function: Function, name: &str) -> Parse<Expr> {
        let base = if self.eat('_') { Some(self.argument(true)?) } else { None };
        let exponent = if self.eat('^') { Some(self.argument(true)?) } else { None };
        let argument = self.nested(Self::function_argument)?;
        self.node()?;
        let (function, exponent) = match exponent {
            Some(Expr::Number(ref number)) if number.value == RBig::NEG_ONE => {
                (inverse(function).ok_or(ParseError::Syntax)?, None)
            }
            other => (function, other),
        };
        let arguments = match (function, argument) {
            (Function::Log, argument) => {
                let base = match base {
                    Some(base) => base,
                    None if name == "lg" => Expr::integer(10),
                    None => Expr::Constant(Constant::E),
                };
                vec![base, argument]
            }
            (_, _) if base.is_some() => return Err(ParseError::Syntax),
            (
                Function::Gcd | Function::Lcm | Function::Min | Function::Max,
                Expr::Tuple { items, .. } | Expr::Set(items),
            ) => items,
            (_, Expr::Tuple { .. } | Expr::Set(_)) => return Err(ParseError::Syntax),
            (_, argument) => vec![argument],
        };
        let value = Expr::Call(function, arguments);
        Ok(match exponent {
            Some(exponent) => Expr::power(value, exponent),
            None => value,
        })
    }

    /// What a function applies to: a bracket or group right after it, else the factors up to the next sign, operator or
    /// function.
    fn function_argument(&mut self) -> Parse<Expr> {
        match self.peek() {
            Some(Kind::Symbol('(')) => {
                self.next();
                return self.tuple_or_group(Bracket::Round);
            }
            Some(Kind::Symbol('{')) => {
                self.next();
                return self.group_after_brace();
            }
            _ => {}
        }
        let minus = self.eat('-');
        let mut factors = vec![self.factor()?];
        loop {
            match self.peek() {
                Some(Kind::Letter(_) | Kind::Command("pi" | "frac" | "sqrt")) => factors.push(self.factor()?),
                Some(Kind::Command(name)) if words::greek(name).is_some() => factors.push(self.factor()?),
                Some(Kind::Symbol('/')) if matches!(self.peek_at(1), Some(Kind::Number(_))) && !self.spaced() => {
                    self.next();
                    factors.push(self.factor()?.reciprocal());
                }
                _ => break,
            }
            self.node()?;
        }
        let argument = if factors.len() == 1 { factors.remove(0) } else { Expr::Product(factors) };
        Ok(if minus { argument.negate() } else { argument })
    }
}

fn inverse(function: Function) -> Option<Function> {
    Some(match function {
        Function::Sin => Function::ArcSin,
        Function::Cos => Function::ArcCos,
        Function::Tan => Function::ArcTan,
        Function::Cot => Function::ArcCot,
        Function::Sec => Function::ArcSec,
        Function::Csc => Function::ArcCsc,
        Function::Sinh => Function::ArcSinh,
        Function::Cosh => Function::ArcCosh,
        Function::Tanh => Function::ArcTanh,
        _ => return None,
    })
}
