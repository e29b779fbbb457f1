//! Lists, relations, sets, brackets and matrices.

use super::cursor::Cursor;
use super::lexer::Kind;
use super::{Parse, ParseError};
use crate::expr::{Bracket, Expr, Relation, Separator, SetOperation};

/// A bracketed content: one value, or several.
pub(super) enum Content {
    One(Expr),
    Many(Vec<Expr>),
    Empty,
}

impl Cursor<'_> {
    /// Answers side by side: `a, b`, `a and b`, `a or b`.
    pub(super) fn list(&mut self) -> Parse<Expr> {
        let mut items = vec![self.relation()?];
        let mut separator = Separator::Comma;
        while let Some(found) = self.separator() {
            if found != Separator::Comma {
                separator = found;
            }
            // `a, b, and c`
            while let Some(more) = self.separator() {
                if more != Separator::Comma {
                    separator = more;
                }
            }
            if self.at_end() {
                break;
            }
            items.push(self.relation()?);
        }
        if separator != Separator::Or {
            repeat_inequality(&mut items);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Expr::List(separator, items) })
    }

    fn separator(&mut self) -> Option<Separator> {
        let separator = match self.peek()? {
            Kind::Symbol(',' | ';') | Kind::NewRow => Separator::Comma,
            Kind::Text(text) => match text.trim_matches(|c: char| c.is_whitespace() || matches!(c, ',' | '~')) {
                "and" | "AND" | "And" => Separator::And,
                "or" | "OR" | "Or" => Separator::Or,
                "" if text.contains(',') => Separator::Comma,
                _ => return None,
            },
            Kind::Command("or") => Separator::Or,
            Kind::Command("and") => Separator::And,
            _ => return None,
        };
        self.next();
        Some(separator)
    }

    /// `side (operator side)*`
    fn relation(&mut self) -> Parse<Expr> {
        self.nested(|cursor| {
            cursor.label();
            let mut sides = vec![cursor.left_side()?];
            let mut operators = Vec::new();
            while let Some(operator) = cursor.relation_operator() {
                operators.push(operator);
                sides.push(cursor.set_expression()?);
            }
            if operators.is_empty() {
                return Ok(sides.remove(0));
            }
            cursor.node()?;
            super::label::name_application(&mut sides);
            Ok(Expr::Relation { sides, operators })
        })
    }

    fn relation_operator(&mut self) -> Option<Relation> {
        let operator = match self.peek()? {
            Kind::Symbol('=') => Relation::Equal,
            Kind::Symbol('<') => Relation::Less,
            Kind::Symbol('>') => Relation::Greater,
            Kind::Command(name) => match name {
                "le" => Relation::LessEqual,
                "ge" => Relation::GreaterEqual,
                "lt" => Relation::Less,
                "gt" => Relation::Greater,
                "ne" => Relation::NotEqual,
                "approx" | "sim" => Relation::Approximately,
                "equiv" => Relation::Congruent,
                "in" => Relation::In,
                "not" => {
                    let negated = match self.peek_at(1)? {
                        Kind::Symbol('=') => Relation::NotEqual,
                        _ => return None,
                    };
                    self.next();
                    negated
                }
                _ => return None,
            },
            _ => return None,
        };
        self.next();
        Some(operator)
    }

    /// `a ∪ b`, `a ∩ b`, `a ∖ b`, and ratios `a : b`.
    pub(super) fn set_expression(&mut self) -> Parse<Expr> {
        if matches!(self.peek(), Some(Kind::Number(_)))
            && matches!(self.peek_at(1), Some(Kind::Symbol(':') | Kind::Text(_)))
            && let Some(time) = self.clock()
        {
            return Ok(time);
        }
        let mut left = self.sum()?;
        loop {
            let operation = match self.peek() {
                Some(Kind::Command("cup")) => SetOperation::Union,
                Some(Kind::Command("cap")) => SetOperation::Intersection,
                Some(Kind::Command("setminus")) => SetOperation::Difference,
                Some(Kind::Symbol(':')) if !self.bar_closes => {
                    self.next();
                    let right = self.sum()?;
                    left = match left {
                        Expr::Ratio(mut terms) => {
                            terms.push(right);
                            Expr::Ratio(terms)
                        }
                        first => Expr::Ratio(vec![first, right]),
                    };
                    continue;
                }
                _ => return Ok(left),
            };
            self.next();
            self.node()?;
            let right = self.sum()?;
            left = match left {
                Expr::SetOperation(before, mut items)
                    if before == operation && operation != SetOperation::Difference =>
                {
                    items.push(right);
                    Expr::SetOperation(operation, items)
                }
                other => Expr::SetOperation(operation, vec![other, right]),
            };
        }
    }

    /// What stands between an opening bracket, already taken, and `closers`; tells which closer ended it.
    pub(super) fn bracketed(&mut self, closers: &[Kind<'static>]) -> Parse<(Content, usize)> {
        self.nested(|cursor| {
            cursor.with_bar(false, |cursor| {
                if let Some(closer) = cursor.closer(closers) {
                    return Ok((Content::Empty, closer));
                }
                let mut items = vec![cursor.relation()?];
                loop {
                    if let Some(closer) = cursor.closer(closers) {
                        let content =
                            if items.len() == 1 { Content::One(items.remove(0)) } else { Content::Many(items) };
                        return Ok((content, closer));
                    }
                    cursor.separator().ok_or(ParseError::Syntax)?;
                    if let Some(closer) = cursor.closer(closers) {
                        return Ok((Content::Many(items), closer));
                    }
                    items.push(cursor.relation()?);
                }
            })
        })
    }

    fn closer(&mut self, closers: &[Kind<'static>]) -> Option<usize> {
        let kind = self.peek()?;
        let found = closers.iter().position(|closer| *closer == kind)?;
        self.next();
        Some(found)
    }

    /// `(…)` or `[…]`, the opening bracket already taken.
    pub(super) fn tuple_or_group(&mut self, left: Bracket) -> Parse<Expr> {
        let closers = [Kind::Symbol(')'), Kind::Symbol(']'), Kind::Command("rangle")];
        let (content, closer) = self.bracketed(&closers)?;
        let right = if closer == 1 { Bracket::Square } else { Bracket::Round };
        self.node()?;
        match content {
            Content::Many(items) => Ok(Expr::Tuple { left, items, right }),
            Content::One(item) if left == right => Ok(item),
            Content::One(_) | Content::Empty => Err(ParseError::Syntax),
        }
    }

    /// `{…}` as a set, the opening brace already taken.
    pub(super) fn set(&mut self) -> Parse<Expr> {
        self.node()?;
        self.nested(|cursor| {
            if cursor.peek() == Some(Kind::CloseSet) {
                cursor.next();
                return Ok(Expr::Set(Vec::new()));
            }
            let mut items = vec![cursor.with_bar(true, Self::relation)?];
            // `{x | condition}`
            let bar = match cursor.peek() {
                Some(Kind::Symbol('|' | ':') | Kind::Command("mid")) => true,
                Some(Kind::Text(text)) => matches!(text.trim(), "such that" | "|" | "s.t."),
                _ => false,
            };
            if bar {
                cursor.next();
                let condition = cursor.list()?;
                if cursor.next() != Some(Kind::CloseSet) {
                    return Err(ParseError::Syntax);
                }
                return set_builder(&items[0], condition);
            }
            while cursor.peek() != Some(Kind::CloseSet) {
                cursor.separator().ok_or(ParseError::Syntax)?;
                if cursor.peek() == Some(Kind::CloseSet) {
                    break;
                }
                items.push(cursor.with_bar(true, Self::relation)?);
            }
            cursor.next();
            Ok(Expr::Set(items))
        })
    }

    /// A matrix environment, `\begin` already taken.
    pub(super) fn environment(&mut self) -> Parse<Expr> {
        let Some(Kind::Word(name)) = self.next() else {
            return Err(ParseError::Syntax);
        };
        if matches!(name, "array") {
            // The column specification is a group.
            if self.eat('{') {
                while !matches!(self.next(), Some(Kind::Symbol('}')) | None) {}
            }
        } else if !matches!(name, "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "smallmatrix" | "vmatrix") {
            return Err(ParseError::Syntax);
        }
        self.nested(|cursor| {
            let mut rows = vec![Vec::new()];
            loop {
                if let (Some(Kind::Command("end")), Some(Kind::Word(end))) = (cursor.peek(), cursor.peek_at(1)) {
                    if end != name {
                        return Err(ParseError::Syntax);
                    }
                    cursor.next();
                    cursor.next();
                    break;
                }
                let row = rows.last_mut().ok_or(ParseError::Syntax)?;
                if !row.is_empty() {
                    if cursor.peek() == Some(Kind::NewRow) {
                        cursor.next();
                        rows.push(Vec::new());
                        continue;
                    }
                    cursor.expect('&')?;
                }
                if cursor.eat_command("hline") {
                    continue;
                }
                row.push(cursor.with_bar(false, |cursor| cursor.nested(Self::sum))?);
            }
            if rows.last().is_some_and(Vec::is_empty) {
                rows.pop();
            }
            let width = rows.first().map_or(0, Vec::len);
            if width == 0 || rows.iter().any(|row| row.len() != width) {
                return Err(ParseError::Syntax);
            }
            cursor.node()?;
            let matrix = Expr::Matrix(rows);
            Ok(if name == "vmatrix" { Expr::call(crate::expr::Function::Determinant, matrix) } else { matrix })
        })
    }
}

/// `x ≠ 0, 1` excludes both.
fn repeat_inequality(items: &mut [Expr]) {
    let Some((Expr::Relation { sides, operators }, rest)) = items.split_first_mut() else {
        return;
    };
    let [variable @ Expr::Variable(_), value] = sides.as_slice() else {
        return;
    };
    let is_constant = |value: &Expr| value.is_scalar() && !value.any(&|node| matches!(node, Expr::Variable(_)));
    if operators.as_slice() == [Relation::NotEqual] && is_constant(value) && rest.iter().all(is_constant) {
        for item in rest {
            *item = Expr::Relation { sides: vec![variable.clone(), item.clone()], operators: operators.clone() };
        }
    }
}

/// `{x | condition}` is the set that its condition describes, when `x` is the condition's variable.
fn set_builder(element: &Expr, condition: Expr) -> Parse<Expr> {
    let element = match element {
        Expr::Relation { sides, operators }
            if operators.as_slice() == [Relation::In] && sides[1] == Expr::Constant(crate::expr::Constant::Reals) =>
        {
            &sides[0]
        }
        other => other,
    };
    let mentions = |expr: &Expr| expr.any(&|node| node == element);
    let is_condition = match &condition {
        Expr::Relation { .. } => mentions(&condition),
        Expr::List(_, items) => items.iter().all(|item| matches!(item, Expr::Relation { .. }) && mentions(item)),
        _ => false,
    };
    if matches!(element, Expr::Variable(_)) && is_condition { Ok(condition) } else { Err(ParseError::Syntax) }
}
