//! The parser's place in the tokens, and its limits.

use super::lexer::{Kind, Token};
use super::{Parse, ParseError};
use crate::fuel::Fuel;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 64;
/// Most nodes an answer may have.
const MAX_NODES: usize = 2_000;

/// Work that sums and products in one answer may take to be written out.
const WRITING_OUT: u64 = 3_000_000;

pub(super) struct Cursor<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    nodes: usize,
    /// Whether a `|` closes an absolute value or separates a set's condition instead of opening.
    pub(super) bar_closes: bool,
    /// Whether indexed letters C, A and P are counts.
    pub(super) counts: bool,
    /// Work that writing out sums and products may take.
    pub(super) fuel: Fuel,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(tokens: Vec<Token<'a>>) -> Self {
        Self { tokens, at: 0, depth: 0, nodes: 0, bar_closes: false, counts: false, fuel: Fuel::new(WRITING_OUT) }
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(super) fn peek(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<Kind<'a>> {
        self.tokens.get(self.at + ahead).map(|token| token.kind)
    }

    pub(super) fn kind_at(&self, at: usize) -> Option<Kind<'a>> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// Whether space stands before the next token.
    pub(super) fn spaced(&self) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.spaced)
    }

    pub(super) fn next(&mut self) -> Option<Kind<'a>> {
        let kind = self.peek()?;
        self.at += 1;
        Some(kind)
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    /// Takes the next token if it is this symbol.
    pub(super) fn eat(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(Kind::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    /// Takes the next token if it is this command.
    pub(super) fn eat_command(&mut self, name: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Command(command)) if command == name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, symbol: char) -> Parse<()> {
        if self.eat(symbol) { Ok(()) } else { Err(ParseError::Syntax) }
    }

    /// Replaces the next token by what is left of it.
    pub(super) fn shorten(&mut self, rest: &'a str) {
        if let Some(token) = self.tokens.get_mut(self.at) {
            token.kind = Kind::Number(rest);
            token.spaced = false;
        }
    }

    /// Takes off the tokens from a place on.
    pub(super) fn cut(&mut self, at: usize) -> Vec<Token<'a>> {
        self.tokens.split_off(at.min(self.tokens.len()))
    }

    /// Puts tokens back that were taken off.
    pub(super) fn join(&mut self, tail: Vec<Token<'a>>) {
        self.tokens.extend(tail);
    }

    /// Runs a parser one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if self.depth >= MAX_DEPTH {
            return Err(ParseError::TooLarge);
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Counts a node.
    pub(super) fn node(&mut self) -> Parse<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(ParseError::TooLarge) } else { Ok(()) }
    }

    /// Runs a parser in which `|` closes, or opens again.
    pub(super) fn with_bar<T>(&mut self, closes: bool, parse: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        let before = std::mem::replace(&mut self.bar_closes, closes);
        let result = parse(self);
        self.bar_closes = before;
        result
    }
}
