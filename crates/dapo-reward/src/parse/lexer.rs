//! Characters to tokens: LaTeX and plain notation become one stream.

use super::ParseError;
use super::text::{self, braced, command_name};
use super::words::{self, Known};
use super::{counted, glyphs};

/// A token and whether space stood before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) spaced: bool,
    /// Byte where the token ends in the source.
    pub(crate) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind<'a> {
    /// Digits, perhaps with a point, separators, an exponent or a repetend; read by [`super::number`].
    Number(&'a str),
    Letter(char),
    /// A LaTeX command or a known word, without its backslash.
    Command(&'a str),
    /// A word that is neither a product of letters nor known.
    Word(&'a str),
    /// The content of `\text{…}` and its kin.
    Text(&'a str),
    /// Any other character; `{` and `}` are LaTeX's groups.
    Symbol(char),
    /// `\{` and `\}`.
    OpenSet,
    CloseSet,
    /// `\\` in a matrix.
    NewRow,
}

/// How commas between digits are read where both readings make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commas {
    /// `1,000` is a thousand.
    Thousands,
    /// `1,000` is two numbers.
    Separate,
}

const MAX_TOKENS: usize = 4_096;

pub(crate) fn lex(source: &str, commas: Commas) -> Result<Vec<Token<'_>>, ParseError> {
    let mut lexer = Lexer { source, at: 0, tokens: Vec::with_capacity(16), spaced: false, brackets: 0, commas };
    while lexer.at < source.len() {
        lexer.step()?;
        if lexer.tokens.len() > MAX_TOKENS {
            return Err(ParseError::TooLarge);
        }
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token<'a>>,
    spaced: bool,
    /// Open round, square and set brackets, in which commas always separate.
    brackets: usize,
    commas: Commas,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: Kind<'a>, length: usize) {
        self.at += length;
        match kind {
            Kind::Symbol('(' | '[') | Kind::OpenSet => self.brackets += 1,
            Kind::Symbol(')' | ']') | Kind::CloseSet => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.tokens.push(Token { kind, spaced: self.spaced, end: self.at });
        self.spaced = false;
    }

    fn skip(&mut self, length: usize) {
        self.at += length;
        self.spaced = true;
    }

    fn step(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else {
            return Ok(());
        };
        match c {
            '0'..='9' => self.number(),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            'a'..='z' | 'A'..='Z' => self.letters(),
            '\\' => self.command()?,
            '‰' => self.push(Kind::Symbol(c), c.len_utf8()),
            '$' | '~' | '\u{200b}' | '\u{2061}' | '\u{2062}' | '\u{feff}' => self.skip(c.len_utf8()),
            '^' if let Some((marks, length)) = text::primes(&rest[1..]) => {
                for _ in 1..marks {
                    self.push(Kind::Symbol('\''), 0);
                }
                self.push(Kind::Symbol('\''), length + 1);
            }
            '*' if rest.starts_with("**") => self.push(Kind::Symbol('^'), 2),
            '<' if rest.starts_with("<=") => self.push(Kind::Command("le"), 2),
            '>' if rest.starts_with(">=") => self.push(Kind::Command("ge"), 2),
            '!' if rest.starts_with("!=") => self.push(Kind::Command("ne"), 2),
            '=' if rest.starts_with("==") => self.push(Kind::Symbol('='), 2),
            '+' if rest.starts_with("+/-") => self.push(Kind::Command("pm"), 3),
            '+' if rest.starts_with("+-") && !rest.starts_with("+-\\") => self.push(Kind::Symbol('+'), 1),
            '.' if rest.starts_with("...") => self.push(Kind::Command("ldots"), 3),
            _ if c.is_whitespace() => self.skip(c.len_utf8()),
            _ if c.is_ascii_control() => return Err(ParseError::Syntax),
            _ if c.is_ascii() => self.push(Kind::Symbol(c), 1),
            _ => self.unicode(c)?,
        }
        Ok(())
    }

    /// Typographic and Greek characters stand for the command they look like.
    fn unicode(&mut self, c: char) -> Result<(), ParseError> {
        let length = c.len_utf8();
        if let Some(fraction) = glyphs::vulgar_fraction(c) {
            self.push(Kind::Number(fraction), length);
        } else if let Some(symbol) = glyphs::symbol(c) {
            self.push(Kind::Symbol(symbol), length);
        } else if let Some(command) = glyphs::unicode_command(c) {
            self.push(Kind::Command(command), length);
        } else if glyphs::is_cjk(c) {
            let rest = self.rest();
            let length = rest.find(|c: char| !glyphs::is_cjk(c)).unwrap_or(rest.len());
            let (piece, length) = counted::first_piece(&rest[..length]);
            self.push(Kind::Text(piece), length);
        } else if c.is_alphabetic() {
            self.push(Kind::Letter(c), length);
        } else {
            return Err(ParseError::Syntax);
        }
        Ok(())
    }

    fn number(&mut self) {
        let length = super::number::scan(self.rest(), self.commas == Commas::Thousands && self.brackets == 0);
        let text = &self.rest()[..length];
        self.push(Kind::Number(text), length);
    }

    fn letters(&mut self) {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let word = &rest[..length];
        if matches!(self.tokens.last(), Some(Token { kind: Kind::Number(_), .. }))
            && let Some(length) = super::half_day::half_of_day(rest)
                .map(|(_, length)| length)
                .or_else(|| super::half_day::part_of_day(rest))
        {
            self.push(Kind::Text(&rest[..length]), length);
            return;
        }
        if self
            .tokens
            .last()
            .is_some_and(|token| matches!(token.kind, Kind::Number(digits) if counted::is_ordinal(digits, word)))
            && !self.spaced
        {
            self.push(Kind::Text(word), length);
            return;
        }
        if matches!(length, 2..=3)
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && let Some((currency, length)) = counted::currency_before(rest)
        {
            self.push(Kind::Command(currency), length);
            return;
        }
        if word == "sq" && rest[length..].starts_with('.') && self.follows_value() {
            self.push(Kind::Text(word), length + 1);
            return;
        }
        if length == 1 {
            self.push(Kind::Letter(char::from(rest.as_bytes()[0])), 1);
            return;
        }
        match words::known(word) {
            Some(Known::Command(command)) => self.push(Kind::Command(command), length),
            Some(Known::Separator) => self.push(Kind::Text(word), length),
            None if self.follows_value() && counted::is_unit(word) => self.push(Kind::Text(word), length),
            None if words::is_letters(word) => {
                for letter in word.chars() {
                    self.push(Kind::Letter(letter), 1);
                }
            }
            None => match words::split_function(word) {
                Some((command, letters)) => {
                    self.push(Kind::Command(command), command.len());
                    for letter in letters.chars() {
                        self.push(Kind::Letter(letter), 1);
                    }
                }
                None => self.push(Kind::Word(word), length),
            },
        }
    }

    fn follows_value(&self) -> bool {
        self.tokens.last().is_some_and(|token| {
            matches!(token.kind, Kind::Number(_) | Kind::Text(_) | Kind::Command("pi") | Kind::Symbol(')' | '}' | '%'))
        })
    }

    fn command(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let after = &rest[1..];
        let Some(c) = after.chars().next() else {
            self.skip(1);
            return Ok(());
        };
        match c {
            '\\' => {
                // `\\frac` is a command whose backslash was escaped once too often.
                let name = command_name(&after[1..]);
                if !name.is_empty() && words::is_latex_command(name) {
                    self.at += 1;
                    return self.command();
                }
                self.push(Kind::NewRow, 2);
                // An optional row distance: `\\[2pt]`.
                if let Some(end) = self.rest().strip_prefix('[').and_then(|rest| rest.find("pt]").or(rest.find("ex]")))
                {
                    self.skip(end + 4);
                }
            }
            '{' => self.push(Kind::OpenSet, 2),
            '}' => self.push(Kind::CloseSet, 2),
            '|' => self.push(Kind::Command("Vert"), 2),
            '%' => self.push(Kind::Symbol('%'), 2),
            '$' => self.push(Kind::Command("dollar"), 2),
            c @ ('_' | '#') => self.push(Kind::Symbol(c), 2),
            ',' | ';' | ':' | '!' | ' ' | '(' | ')' | '[' | ']' | '>' | '\n' | '/' | '-' => self.skip(2),
            'a'..='z' | 'A'..='Z' => self.named(command_name(after))?,
            _ => return Err(ParseError::Syntax),
        }
        Ok(())
    }

    fn named(&mut self, name: &'a str) -> Result<(), ParseError> {
        let length = name.len() + 1;
        if words::is_spacing(name) {
            self.skip(length);
            return Ok(());
        }
        match name {
            "left" | "right" | "middle" => self.delimiter(name, length),
            "begin" | "end" => {
                let content = braced(&self.rest()[length..]).ok_or(ParseError::Syntax)?;
                // The environment's name follows as a word of its own.
                self.push(Kind::Command(name), length);
                self.push(Kind::Word(content.text), content.end);
            }
            _ if words::is_text_command(name) => {
                if let Some(content) = braced(&self.rest()[length..]) {
                    if self.follows_value() && self.compound(content.text) {
                        self.at += length + content.end;
                        return Ok(());
                    }
                    let kind = match content.text.trim() {
                        "mod" => Kind::Command("mod"),
                        text => counted::currency(text).map_or(Kind::Text(content.text), Kind::Command),
                    };
                    self.push(kind, length + content.end);
                } else {
                    self.skip(length);
                }
            }
            _ if words::is_font(name) => self.skip(length),
            _ => self.push(Kind::Command(words::canonical_command(name)), length),
        }
        Ok(())
    }

    /// Takes ` hours 5 minutes` apart: units with the numerals between them.
    fn compound(&mut self, text: &'a str) -> bool {
        if !text.bytes().any(|byte| byte.is_ascii_digit()) {
            return false;
        }
        let words = || text.split([' ', ',', '~']).filter(|word| !word.is_empty() && *word != "and");
        let is_numeral = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
        let alternates =
            words().enumerate().all(|(at, word)| if at % 2 == 1 { is_numeral(word) } else { counted::is_unit(word) });
        if !alternates || words().count() % 2 == 0 {
            return false;
        }
        for word in words() {
            self.push(if is_numeral(word) { Kind::Number(word) } else { Kind::Text(word) }, 0);
        }
        true
    }

    /// `\left` and `\right` vanish with the point they may carry; bars become one-sided.
    fn delimiter(&mut self, name: &str, length: usize) {
        let rest = self.rest()[length..].trim_start();
        let skipped = self.rest().len() - rest.len();
        if rest.starts_with('.') {
            self.skip(skipped + 1);
        } else if rest.starts_with('|') {
            self.push(Kind::Command(if name == "left" { "lvert" } else { "rvert" }), skipped + 1);
        } else {
            self.skip(skipped);
        }
    }
}
