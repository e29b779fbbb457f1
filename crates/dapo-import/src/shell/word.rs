//! Words of a shell script: quotes, backslashes and `$` taken apart.

use super::Problem;

/// Deepest nesting of `${…:-${…}}` that is read.
const MAX_NESTING: usize = 16;

/// A word before its variables are filled in.
#[derive(Clone, Debug, Default)]
pub(super) struct Word {
    pub(super) parts: Vec<Part>,
    pub(super) line: usize,
}

/// A piece of a word.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Text {
        text: String,
        quoted: bool,
    },
    Variable {
        name: String,
        default: Option<Word>,
        quoted: bool,
        raw: String,
    },
    Elements {
        name: String,
        raw: String,
    },
    Arithmetic {
        text: String,
        raw: String,
    },
    /// Beyond what is read: command substitution, positional parameters, pattern operators.
    Other {
        raw: String,
    },
}

impl Word {
    /// The word, if it is bare text without quotes.
    pub(super) fn bare(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text { text, quoted: false }] => Some(text),
            _ => None,
        }
    }

    fn push(&mut self, c: char, is_quoted: bool) {
        match self.parts.last_mut() {
            Some(Part::Text { text, quoted }) if *quoted == is_quoted => text.push(c),
            _ => self.parts.push(Part::Text { text: c.to_string(), quoted: is_quoted }),
        }
    }
}

/// The script's characters and how far they were read.
pub(super) struct Reader {
    chars: Vec<char>,
    at: usize,
    pub(super) line: usize,
}

/// Where a word ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// At a blank or an operator.
    Blank,
    /// At the brace that closes `${…:-`.
    Brace,
}

impl Reader {
    pub(super) fn new(text: &str) -> Self {
        Self { chars: text.replace("\r\n", "\n").chars().collect(), at: 0, line: 1 }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.ahead(0)
    }

    pub(super) fn ahead(&self, by: usize) -> Option<char> {
        self.chars.get(self.at + by).copied()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    pub(super) fn skip_line(&mut self) {
        while self.peek().is_some_and(|c| c != '\n') {
            self.next();
        }
    }

    /// The rest of this line, its end read too.
    pub(super) fn take_line(&mut self) -> String {
        let start = self.at;
        self.skip_line();
        let line = self.chars[start..self.at].iter().collect();
        self.next();
        line
    }

    /// `name=` or `name+=` if that comes next: the name and whether the value is appended.
    pub(super) fn assignment(&mut self) -> Option<(String, bool)> {
        let length = self.name_length(0);
        let append = self.ahead(length) == Some('+');
        if length == 0 || self.ahead(length + usize::from(append)) != Some('=') {
            return None;
        }
        let name = self.chars[self.at..self.at + length].iter().collect();
        self.at += length + 1 + usize::from(append);
        Some((name, append))
    }

    fn name_length(&self, from: usize) -> usize {
        let is_part = |c: char, first: bool| c == '_' || c.is_ascii_alphabetic() || (!first && c.is_ascii_digit());
        self.chars.iter().skip(self.at + from).enumerate().take_while(|&(i, &c)| is_part(c, i == 0)).count()
    }

    /// The word that starts here; without parts at a blank or an operator.
    pub(super) fn word(&mut self) -> Result<Word, Problem> {
        self.word_until(End::Blank, 0)
    }

    fn word_until(&mut self, end: End, nesting: usize) -> Result<Word, Problem> {
        let mut word = Word { parts: Vec::new(), line: self.line };
        if nesting > MAX_NESTING {
            return Err(self.problem(&format!("more than {MAX_NESTING} nested `${{`"), "fewer"));
        }
        while let Some(c) = self.peek() {
            match c {
                '}' if end == End::Brace => break,
                c if end == End::Blank && (c.is_whitespace() || ";&|<>()".contains(c)) => break,
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(c) => word.push(c, true),
                    }
                }
                '\'' => self.single_quotes(&mut word)?,
                '"' => self.double_quotes(&mut word, nesting)?,
                '$' | '`' => {
                    let part = self.dollar(false, nesting)?;
                    word.parts.push(part);
                }
                c => {
                    self.next();
                    word.push(c, false);
                }
            }
        }
        Ok(word)
    }

    fn single_quotes(&mut self, word: &mut Word) -> Result<(), Problem> {
        let start = self.line;
        self.next();
        word.parts.push(Part::Text { text: String::new(), quoted: true });
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => word.push(c, true),
                None => return Err(Problem::new(start, "`'` without its end", "a closing `'`")),
            }
        }
    }

    fn double_quotes(&mut self, word: &mut Word, nesting: usize) -> Result<(), Problem> {
        let start = self.line;
        self.next();
        word.parts.push(Part::Text { text: String::new(), quoted: true });
        loop {
            match self.peek() {
                Some('"') => {
                    self.next();
                    return Ok(());
                }
                Some('\\') => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(c) => {
                            if !"\\\"$`".contains(c) {
                                word.push('\\', true);
                            }
                            word.push(c, true);
                        }
                    }
                }
                Some('$' | '`') => {
                    let part = self.dollar(true, nesting)?;
                    word.parts.push(part);
                }
                Some(c) => {
                    self.next();
                    word.push(c, true);
                }
                None => return Err(Problem::new(start, "`\"` without its end", "a closing `\"`")),
            }
        }
    }

    /// What `$` or a backtick starts.
    fn dollar(&mut self, quoted: bool, nesting: usize) -> Result<Part, Problem> {
        let start = self.at;
        if self.next() == Some('`') {
            self.through(|c| c == '`', "a backtick without its end")?;
            return Ok(Part::Other { raw: self.since(start) });
        }
        match (self.peek(), self.ahead(1)) {
            (Some('('), Some('(')) => {
                self.balanced('(', ')')?;
                let raw = self.since(start);
                Ok(match raw.strip_prefix("$((").and_then(|rest| rest.strip_suffix("))")) {
                    Some(text) => Part::Arithmetic { text: text.to_owned(), raw },
                    None => Part::Other { raw },
                })
            }
            (Some('('), _) => {
                self.balanced('(', ')')?;
                Ok(Part::Other { raw: self.since(start) })
            }
            (Some('{'), _) => self.braces(start, quoted, nesting),
            _ => {
                let length = self.name_length(0);
                if length > 0 {
                    let name = self.chars[self.at..self.at + length].iter().collect();
                    self.at += length;
                    return Ok(Part::Variable { name, default: None, quoted, raw: self.since(start) });
                }
                match self.peek() {
                    Some(c) if c.is_ascii_digit() || "@*#?!$-".contains(c) => {
                        self.next();
                        Ok(Part::Other { raw: self.since(start) })
                    }
                    _ => Ok(Part::Text { text: "$".into(), quoted }),
                }
            }
        }
    }

    fn braces(&mut self, start: usize, quoted: bool, nesting: usize) -> Result<Part, Problem> {
        let length = self.name_length(1);
        let name: String = self.chars[self.at + 1..self.at + 1 + length].iter().collect();
        let rest: String = self.chars[self.at + 1 + length..].iter().take(4).collect();
        if length > 0 && (rest.starts_with("[@]}") || rest.starts_with("[*]}")) {
            self.at += 1 + length + 4;
            return Ok(Part::Elements { name, raw: self.since(start) });
        }
        let operator = [":-", ":=", "-", "="].into_iter().find(|operator| rest.starts_with(operator));
        if length == 0 || !(rest.starts_with('}') || operator.is_some()) {
            self.balanced('{', '}')?;
            return Ok(Part::Other { raw: self.since(start) });
        }
        self.at += 1 + length + operator.map_or(0, str::len);
        let default = match operator {
            Some(_) => Some(self.word_until(End::Brace, nesting + 1)?),
            None => None,
        };
        if self.next() != Some('}') {
            return Err(self.problem("`${` without its end", "a closing `}`"));
        }
        Ok(Part::Variable { name, default, quoted, raw: self.since(start) })
    }

    /// Reads on to the bracket that closes the one here.
    pub(super) fn balanced(&mut self, open: char, close: char) -> Result<(), Problem> {
        let mut depth = 0_usize;
        self.through(
            |c| {
                depth = (depth + usize::from(c == open)).saturating_sub(usize::from(c == close));
                c == close && depth == 0
            },
            &format!("`{open}` without its end"),
        )
    }

    fn through(&mut self, mut is_last: impl FnMut(char) -> bool, problem: &str) -> Result<(), Problem> {
        let line = self.line;
        while let Some(c) = self.next() {
            if is_last(c) {
                return Ok(());
            }
        }
        Err(Problem::new(line, problem, "its end"))
    }

    fn since(&self, start: usize) -> String {
        self.chars[start..self.at].iter().collect()
    }

    pub(super) fn problem(&self, found: &str, expected: &str) -> Problem {
        Problem::new(self.line, found, expected)
    }
}
