//! Names before a value: words, functions applied, operators that are not evaluated.

use super::cursor::Cursor;
use super::lexer::Kind;
use super::{Parse, ParseError, shape};
use crate::expr::{Expr, Function};

/// Longest name that is kept, in bytes.
const MAX_NAME: usize = 256;

impl Cursor<'_> {
    /// Skips words that name what follows: `\text{Area} = …`, `Area = …`.
    pub(super) fn label(&mut self) {
        /// A name with one of these words says that the value is none.
        const DENIALS: [&str; 7] = ["wrong", "incorrect", "not", "previous", "excluded", "rejected", "unlike"];
        let position = self.position();
        let mut named = false;
        while let Some(Kind::Text(text) | Kind::Word(text)) = self.peek() {
            let denies = |word: &str| DENIALS.iter().any(|denial| word.eq_ignore_ascii_case(denial));
            if text.split(|c: char| !c.is_alphabetic()).any(denies) || text.contains('错') {
                named = false;
                break;
            }
            self.next();
            named = true;
        }
        if !(named && (self.eat('=') || self.eat(':')) && !self.at_end()) {
            self.rewind(position);
        }
    }

    /// The left side of a relation. What stands before an equals sign and cannot be read, such as `P(A|B)` or
    /// `\lim_{x\to0} f`, is a name.
    pub(super) fn left_side(&mut self) -> Parse<Expr> {
        let start = self.position();
        match self.set_expression() {
            Ok(side) if self.peek() != Some(Kind::Symbol('=')) || shape::is_well_formed(&side) => Ok(side),
            Err(ParseError::TooLarge) => Err(ParseError::TooLarge),
            _ => {
                self.rewind(start);
                self.opaque_name()
            }
        }
    }

    /// Everything up to the equals sign, as one name.
    fn opaque_name(&mut self) -> Parse<Expr> {
        let operator = self.name_begins().ok_or(ParseError::Syntax)?;
        let mut name = String::from("=");
        let mut depth = 0_usize;
        let mut is_complete = false;
        let mut in_bars = false;
        loop {
            let kind = self.peek().ok_or(ParseError::Syntax)?;
            if depth == 0 && matches!(kind, Kind::Symbol('=') | Kind::Command("approx")) {
                break;
            }
            is_complete = true;
            match kind {
                Kind::Symbol('(' | '[' | '{') | Kind::OpenSet => depth += 1,
                Kind::Symbol(')' | ']' | '}') | Kind::CloseSet => {
                    depth = depth.checked_sub(1).ok_or(ParseError::Syntax)?;
                }
                Kind::NewRow => return Err(ParseError::Syntax),
                Kind::Symbol('|') => in_bars = !in_bars,
                Kind::Symbol(',' | ';' | '<' | '>' | ':' | '?')
                | Kind::Command("le" | "ge" | "lt" | "gt" | "ne" | "equiv" | "in" | "not" | "or" | "and")
                    if depth == 0 && !in_bars =>
                {
                    return Err(ParseError::Syntax);
                }
                // One word or phrase may begin a name; a sentence is none.
                Kind::Text(text) | Kind::Word(text)
                    if depth == 0 && (name.len() > 1 || !super::counted::is_name(text)) =>
                {
                    return Err(ParseError::Syntax);
                }
                // What is added to a name or multiplies it makes an equation.
                Kind::Symbol('+' | '-' | '*' | '/') if depth == 0 && !operator => return Err(ParseError::Syntax),
                Kind::Symbol('^') if depth == 0 && !self.is_mark() => return Err(ParseError::Syntax),
                Kind::Symbol('+' | '-' | '*' | '/' | '^' | '_') => is_complete = false,
                _ => {}
            }
            self.next();
            match kind {
                Kind::Number(text) | Kind::Text(text) | Kind::Word(text) | Kind::Command(text) => {
                    name.push_str(text.trim());
                    name.push(' ');
                }
                Kind::Letter(letter) | Kind::Symbol(letter) => name.push(letter),
                Kind::OpenSet => name.push('{'),
                Kind::CloseSet | Kind::NewRow => name.push('}'),
            }
            if name.len() > MAX_NAME {
                return Err(ParseError::TooLarge);
            }
        }
        if is_complete && depth == 0 { Ok(Expr::Variable(name.into())) } else { Err(ParseError::Syntax) }
    }

    /// Whether a name may begin here; `Some(true)` for an operator whose scope reaches to the equals sign.
    fn name_begins(&self) -> Option<bool> {
        match (self.peek()?, self.peek_at(1)) {
            (Kind::Command("int" | "iint" | "iiint" | "oint" | "lim" | "sum" | "prod" | "max" | "min" | "sup"), _) => {
                Some(true)
            }
            // A derivative is written as a fraction.
            (Kind::Command("frac"), _) => {
                matches!(self.peek_at(2), Some(Kind::Command("partial") | Kind::Letter('d'))).then_some(false)
            }
            (Kind::Command("sqrt" | "cbrt" | "binom" | "ln" | "log" | "exp" | "sin" | "cos" | "tan" | "pm"), _) => None,
            (Kind::Letter(_) | Kind::Text(_) | Kind::Word(_) | Kind::Command(_) | Kind::Symbol('|' | '#' | '{'), _)
            | (Kind::Symbol('(' | '['), Some(Kind::Letter(_) | Kind::Command(_) | Kind::Text(_))) => Some(false),
            _ => None,
        }
    }

    /// Whether what a caret raises is a mark on a name, such as `^*`, `^{-1}` or `^{(4)}`, and no expression.
    fn is_mark(&self) -> bool {
        if self.peek_at(1) != Some(Kind::Symbol('{')) {
            return true;
        }
        let mut letters = 0;
        for ahead in 2..10 {
            match self.peek_at(ahead) {
                Some(Kind::Symbol('}')) => return true,
                Some(Kind::Letter(_) | Kind::Command(_)) if letters == 0 => letters = 1,
                Some(Kind::Symbol('(' | ')' | '*' | '+' | '-') | Kind::Number(_) | Kind::Text(_)) => {}
                _ => return false,
            }
        }
        false
    }

    /// `f(x)`, `g'(2, 3)`, the name already taken: a function that is only named.
    pub(super) fn application(&mut self, name: Box<str>) -> Parse<Expr> {
        let is_applied = match self.peek() {
            Some(Kind::Symbol('(')) => is_function_name(&name) || self.is_numeral_in_parentheses(),
            _ => false,
        };
        let mut arguments = vec![Expr::Variable(name)];
        if is_applied {
            self.next();
            match self.tuple_or_group(crate::expr::Bracket::Round)? {
                Expr::Tuple { items, .. } => arguments.extend(items),
                argument => arguments.push(argument),
            }
            if arguments.iter().all(Expr::is_scalar) {
                return Ok(Expr::Call(Function::Apply, arguments));
            }
            return Err(ParseError::Syntax);
        }
        Ok(arguments.remove(0))
    }
}

impl Cursor<'_> {
    /// Whether `(2)` or `(-1)` is next: what a sequence or a function is taken at.
    fn is_numeral_in_parentheses(&self) -> bool {
        let at = 1 + usize::from(self.peek_at(1) == Some(Kind::Symbol('-')));
        // `P(1.05)^t` is a product.
        matches!(self.peek_at(at), Some(Kind::Number(_)))
            && self.peek_at(at + 1) == Some(Kind::Symbol(')'))
            && self.peek_at(at + 2) != Some(Kind::Symbol('^'))
    }
}

/// `d(P, Q) = 6` is about a function's value, not about a multiple of a vector.
pub(super) fn name_application(sides: &mut [Expr]) {
    let is_vector = |side: &Expr| side.any(&|node| matches!(node, Expr::Tuple { .. } | Expr::Matrix(_)));
    if sides.iter().skip(1).any(is_vector) {
        return;
    }
    if let Some(Expr::Product(factors)) = sides.first()
        && let [Expr::Variable(name), Expr::Tuple { items, .. }] = factors.as_slice()
    {
        let arguments = std::iter::once(Expr::Variable(name.clone())).chain(items.iter().cloned());
        sides[0] = Expr::Call(Function::Apply, arguments.collect());
    }
}

/// Letters that name functions, with primes and subscripts.
pub(crate) fn is_function_name(name: &str) -> bool {
    let base = name.trim_end_matches('\'');
    let base = base.strip_suffix("^{-1}").unwrap_or(base);
    let base = base.split_once('_').map_or(base, |(base, _)| base);
    matches!(base, "f" | "g" | "h" | "F" | "G" | "H")
}
