//! Whole-number arithmetic as in `$((1024 * 2))`.

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 32;

/// The value of an expression of numbers, variables, `+ - * / %` and parentheses; `None` for anything else.
pub(super) fn evaluate(text: &str, variable: &mut dyn FnMut(&str) -> Option<i64>) -> Option<i64> {
    let mut expression = Expression { rest: text, variable };
    let value = expression.sum(0)?;
    expression.rest.trim_start().is_empty().then_some(value)
}

struct Expression<'a> {
    rest: &'a str,
    variable: &'a mut dyn FnMut(&str) -> Option<i64>,
}

impl Expression<'_> {
    fn take(&mut self, c: char) -> bool {
        match self.rest.trim_start().strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self, depth: usize) -> Option<i64> {
        let mut value = self.product(depth)?;
        loop {
            value = if self.take('+') {
                value.checked_add(self.product(depth)?)?
            } else if self.take('-') {
                value.checked_sub(self.product(depth)?)?
            } else {
                return Some(value);
            };
        }
    }

    fn product(&mut self, depth: usize) -> Option<i64> {
        let mut value = self.factor(depth)?;
        loop {
            value = if self.take('*') {
                value.checked_mul(self.factor(depth)?)?
            } else if self.take('/') {
                value.checked_div(self.factor(depth)?)?
            } else if self.take('%') {
                value.checked_rem(self.factor(depth)?)?
            } else {
                return Some(value);
            };
        }
    }

    fn factor(&mut self, depth: usize) -> Option<i64> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take('-') {
            return self.factor(depth + 1)?.checked_neg();
        }
        if self.take('(') {
            let value = self.sum(depth + 1)?;
            return self.take(')').then_some(value);
        }
        let (dollar, brace) = (self.take('$'), self.take('{'));
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if brace && !(dollar && self.take('}')) {
            return None;
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) { word.parse().ok() } else { (self.variable)(word) }
    }
}
