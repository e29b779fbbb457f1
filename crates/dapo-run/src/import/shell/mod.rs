//! A small, honest part of the shell: assignments, arrays, arithmetic and simple commands.
//!
//! Nothing is run. Blocks (`if`, `for`, functions …) are not followed, and a variable that one of them sets counts as
//! unknown; so does the environment. What is not known stays in the text as the script spells it, and is named.

mod arithmetic;
mod script;
mod variables;
mod word;

use std::path::Path;

use super::error::ImportError;
use script::Statement;
use variables::Variables;

pub(super) use variables::Expanded;

/// What is wrong with a script, and where.
#[derive(Debug)]
struct Problem {
    line: usize,
    found: String,
    expected: String,
}

impl Problem {
    fn new(line: usize, found: &str, expected: &str) -> Self {
        Self { line, found: found.into(), expected: expected.into() }
    }
}

/// A command with its variables filled in.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// The line it starts on.
    pub(super) line: usize,
    /// The words `if`, `for` … of the block it stands in, and that block's line.
    pub(super) block: Option<(String, usize)>,
    /// `NAME=value` before it.
    pub(super) environment: Vec<(String, Expanded)>,
    /// Its words; at least one.
    pub(super) words: Vec<Expanded>,
}

/// A script as far as it can be told without running it.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Its commands.
    pub(super) commands: Vec<Command>,
    /// Variables it exports.
    pub(super) exports: Vec<(String, Expanded)>,
    /// Variables that nothing in it uses.
    pub(super) unused: Vec<(String, Expanded)>,
    /// Blocks that were not followed: their first word and line.
    pub(super) blocks: Vec<(String, usize)>,
}

/// Reads a script.
pub(super) fn read(text: &str, file: &Path) -> Result<Script, ImportError> {
    interpret(text).map_err(|Problem { line, found, expected }| ImportError::Syntax {
        file: file.to_owned(),
        line,
        found,
        expected,
    })
}

fn interpret(text: &str) -> Result<Script, Problem> {
    let mut script = Script::default();
    let mut variables = Variables::default();
    for statement in script::statements(text)? {
        let block = statement.blocks.first().map(|block| (block.keyword.clone(), block.line));
        if let Some(block) = &block
            && script.blocks.last() != Some(block)
        {
            script.blocks.push(block.clone());
        }
        if statement.words.is_empty() {
            for assignment in &statement.assignments {
                variables.assign(assignment, block.is_none())?;
                if assignment.exported {
                    script.exports.retain(|(name, _)| *name != assignment.name);
                    script.exports.push((assignment.name.clone(), Expanded::default()));
                }
            }
        } else {
            script.commands.push(command(&statement, block, &mut variables)?);
        }
    }
    for variable in variables.all {
        match script.exports.iter_mut().find(|(name, _)| *name == variable.name) {
            Some((_, value)) => *value = Expanded { line: variable.line, ..variable.value() },
            None if variable.used => {}
            None => script.unused.push((variable.name.clone(), Expanded { line: variable.line, ..variable.value() })),
        }
    }
    Ok(script)
}

fn command(
    statement: &Statement,
    block: Option<(String, usize)>,
    variables: &mut Variables,
) -> Result<Command, Problem> {
    let mut environment = Vec::new();
    for assignment in &statement.assignments {
        let value = match &assignment.value {
            script::Assigned::Word(word) => variables.text(word)?,
            _ => Expanded::default(),
        };
        environment.push((assignment.name.clone(), Expanded { line: assignment.line, ..value }));
    }
    let mut words = Vec::new();
    for word in &statement.words {
        words.extend(variables.words(word)?);
    }
    Ok(Command { line: statement.line, block, environment, words })
}
