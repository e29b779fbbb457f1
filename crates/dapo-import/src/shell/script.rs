//! Statements of a shell script: assignments, commands, and the blocks they stand in.

use super::{
    Problem,
    word::{Reader, Word},
};

/// One simple command, with the assignments before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Statement {
    pub(super) line: usize,
    /// The blocks (`if`, `for`, functions …) around it, outermost first.
    pub(super) blocks: Vec<Block>,
    pub(super) assignments: Vec<Assignment>,
    pub(super) words: Vec<Word>,
}

/// What a statement stands in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) keyword: String,
    pub(super) line: usize,
}

/// `name=value`.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) name: String,
    pub(super) append: bool,
    pub(super) value: Assigned,
    pub(super) line: usize,
    pub(super) exported: bool,
}

/// What is assigned.
#[derive(Clone, Debug)]
pub(super) enum Assigned {
    Word(Word),
    Array(Vec<Word>),
    /// Something that only running the script would tell.
    Unknown,
}

/// The script's statements.
pub(super) fn statements(text: &str) -> Result<Vec<Statement>, Problem> {
    let mut parser = Parser::new(text);
    while parser.step()? {}
    match parser.blocks.first() {
        Some(Block { keyword, line }) => {
            Err(Problem::new(*line, &format!("`{keyword}` without its end"), "a whole script"))
        }
        None => Ok(parser.done),
    }
}

struct Parser {
    reader: Reader,
    done: Vec<Statement>,
    current: Statement,
    blocks: Vec<Block>,
    /// Whether words are `name=value` after `export` and its kin.
    declares: Option<bool>,
    /// Ends of here-documents that start at the next line.
    here_documents: Vec<String>,
}

impl Parser {
    fn new(text: &str) -> Self {
        Self {
            reader: Reader::new(text),
            done: Vec::new(),
            current: Statement::default(),
            blocks: Vec::new(),
            declares: None,
            here_documents: Vec::new(),
        }
    }

    /// Reads one word or operator; false at the end.
    fn step(&mut self) -> Result<bool, Problem> {
        let Some(c) = self.reader.peek() else {
            self.finish();
            return Ok(false);
        };
        match c {
            '\n' => {
                self.reader.next();
                self.finish();
                self.skip_here_documents();
            }
            c if c.is_whitespace() => drop(self.reader.next()),
            '\\' if self.reader.ahead(1) == Some('\n') => {
                self.reader.next();
                self.reader.next();
            }
            '#' => self.reader.skip_line(),
            '&' if self.reader.ahead(1) == Some('>') => self.redirection()?,
            ';' | '|' | '&' | ')' => {
                self.reader.next();
                self.finish();
            }
            '<' | '>' => self.redirection()?,
            '(' => self.parentheses()?,
            _ => self.word()?,
        }
        Ok(true)
    }

    fn word(&mut self) -> Result<(), Problem> {
        let line = self.reader.line;
        if (self.current.words.is_empty() || self.declares.is_some())
            && let Some((name, append)) = self.reader.assignment()
        {
            let value = self.assigned()?;
            let exported = self.declares == Some(true);
            self.start(line);
            self.current.assignments.push(Assignment { name, append, value, line, exported });
            return Ok(());
        }
        let word = self.reader.word()?;
        if matches!(self.reader.peek(), Some('<' | '>')) && word.bare().is_some_and(is_number) {
            return self.redirection();
        }
        if self.declares.is_some() || (self.current.words.is_empty() && self.keyword(&word)) {
            return Ok(());
        }
        self.start(line);
        self.current.words.push(word);
        Ok(())
    }

    fn assigned(&mut self) -> Result<Assigned, Problem> {
        if self.reader.peek() != Some('(') {
            return Ok(Assigned::Word(self.reader.word()?));
        }
        let line = self.reader.line;
        self.reader.next();
        let mut words = Vec::new();
        loop {
            match self.reader.peek() {
                None => return Err(Problem::new(line, "`(` without its end", "a closing `)`")),
                Some(')') => {
                    self.reader.next();
                    return Ok(Assigned::Array(words));
                }
                Some('#') => self.reader.skip_line(),
                Some(c) if c.is_whitespace() => drop(self.reader.next()),
                Some('\\') if self.reader.ahead(1) == Some('\n') => {
                    self.reader.next();
                    self.reader.next();
                }
                Some(c) if ";&|<>(".contains(c) => {
                    return Err(self.reader.problem(&format!("`{c}` in an array"), "words"));
                }
                Some(_) => words.push(self.reader.word()?),
            }
        }
    }

    /// Takes a reserved word; false if it is none.
    fn keyword(&mut self, word: &Word) -> bool {
        match word.bare() {
            Some("if" | "while" | "until" | "for" | "case" | "select" | "{") => {
                let keyword = word.bare().unwrap_or_default().to_owned();
                let names_variable = matches!(keyword.as_str(), "for" | "select");
                self.blocks.push(Block { keyword, line: word.line });
                self.start(word.line);
                if names_variable {
                    self.current.words.push(word.clone());
                }
            }
            Some("fi" | "done" | "esac" | "}") => drop(self.blocks.pop()),
            Some("then" | "do" | "else" | "elif" | "!" | "time" | "function") => {}
            Some("export") => self.declares = Some(true),
            Some("declare" | "local" | "readonly" | "typeset") => self.declares = Some(false),
            _ => return false,
        }
        true
    }

    /// A function's `()`, or a subshell, which is read over.
    fn parentheses(&mut self) -> Result<(), Problem> {
        if !self.current.words.is_empty() && self.reader.ahead(1) == Some(')') {
            self.reader.next();
            self.reader.next();
            self.current = Statement::default();
            return Ok(());
        }
        let line = self.reader.line;
        self.reader.balanced('(', ')')?;
        self.start(line);
        Ok(())
    }

    fn redirection(&mut self) -> Result<(), Problem> {
        let mut operator = String::new();
        while let Some(c) = self.reader.peek().filter(|c| "<>&|".contains(*c)) {
            operator.push(c);
            self.reader.next();
        }
        if operator == "<<" && self.reader.peek() == Some('-') {
            self.reader.next();
        }
        while matches!(self.reader.peek(), Some(' ' | '\t')) {
            self.reader.next();
        }
        if self.reader.peek() == Some('(') {
            return self.reader.balanced('(', ')');
        }
        let target = self.reader.word()?;
        if operator == "<<" {
            let end = target.parts.iter().map(|part| match part {
                super::word::Part::Text { text, .. } => text.as_str(),
                _ => "",
            });
            self.here_documents.push(end.collect());
        }
        Ok(())
    }

    fn skip_here_documents(&mut self) {
        for end in std::mem::take(&mut self.here_documents) {
            while self.reader.peek().is_some() && self.reader.take_line().trim_start_matches('\t') != end {}
        }
    }

    fn start(&mut self, line: usize) {
        if self.current.line == 0 {
            self.current.line = line;
            self.current.blocks.clone_from(&self.blocks);
        }
    }

    fn finish(&mut self) {
        self.declares = None;
        let mut statement = std::mem::take(&mut self.current);
        if let Some(name) = loop_variable(&statement.words) {
            let (line, value) = (statement.line, Assigned::Unknown);
            let assignment = Assignment { name, append: false, value, line, exported: false };
            statement.words.clear();
            statement.assignments.push(assignment);
        }
        if statement.line > 0 {
            self.done.push(statement);
        }
    }
}

fn loop_variable(words: &[Word]) -> Option<String> {
    match words {
        [first, name, ..] if matches!(first.bare(), Some("for" | "select")) => name.bare().map(str::to_owned),
        _ => None,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
