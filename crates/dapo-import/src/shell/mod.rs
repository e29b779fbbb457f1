//! A small part of the shell: assignments, arrays, arithmetic and simple commands.
//!
//! Nothing is run. Blocks (`if`, `for`, functions …) are not followed: a variable that one of them sets keeps the value
//! that it has without the block, which is named. Without a value it counts as unknown, and so does the environment. What
//! is not known stays in the text as the script spells it, and is named.

mod arithmetic;
mod script;
mod variables;
mod word;

use std::{collections::BTreeSet, path::Path};

use super::error::ImportError;
use script::{Assigned, Statement};
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

/// A block that may change a variable.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    /// The variable.
    pub(super) name: String,
    /// The line that sets it.
    pub(super) line: usize,
    /// The block's first word.
    pub(super) keyword: String,
    /// The block's line.
    pub(super) block: usize,
}

/// A word of a value that the script assigns, whether it is used or not.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The variable.
    pub(super) name: String,
    /// The word.
    pub(super) word: Expanded,
    /// The block that it stands in: its first word and line.
    pub(super) block: Option<(String, usize)>,
    /// The doubt that the assignment casts on the variable.
    pub(super) doubt: Option<usize>,
}

/// A script as far as it can be told without running it.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// The commands of the script.
    pub(super) commands: Vec<Command>,
    /// Variables it exports.
    pub(super) exports: Vec<(String, Expanded)>,
    /// Variables that nothing in it uses.
    pub(super) unused: Vec<(String, Expanded)>,
    /// Blocks that were not followed: their first word and line.
    pub(super) blocks: Vec<(String, usize)>,
    /// Blocks that may change a variable.
    pub(super) doubts: Vec<Doubt>,
    /// Words of all values.
    pub(super) items: Vec<Item>,
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
    let mut exported = BTreeSet::new();
    for statement in script::statements(text)? {
        let block = statement.blocks.first().map(|block| (block.keyword.clone(), block.line));
        if let Some(block) = &block
            && script.blocks.last() != Some(block)
        {
            script.blocks.push(block.clone());
        }
        if statement.words.is_empty() {
            for assignment in &statement.assignments {
                let values = variables.values(&assignment.value)?;
                let doubt = variables.assign(assignment, &values, statement.blocks.first())?;
                let pieces = values.into_iter().flat_map(|value| pieces(&assignment.value, value));
                let item = |word| Item { name: assignment.name.clone(), word, block: block.clone(), doubt };
                script.items.extend(pieces.map(item));
                if assignment.exported {
                    exported.insert(assignment.name.clone());
                }
            }
        } else {
            script.commands.push(command(&statement, block, &mut variables)?);
        }
    }
    script.doubts = variables.doubts;
    for variable in variables.all {
        let value = Expanded { line: variable.line, ..variable.value() };
        if exported.contains(&variable.name) {
            script.exports.push((variable.name, value));
        } else if !variable.used {
            script.unused.push((variable.name, value));
        }
    }
    Ok(script)
}

/// The words of a value that is assigned: those of a text are set apart by blanks.
fn pieces(assigned: &Assigned, value: Expanded) -> Vec<Expanded> {
    match assigned {
        Assigned::Word(_) => {
            let word = |text: &str| Expanded { text: text.to_owned(), line: value.line, ..Expanded::default() };
            value.text.split_whitespace().map(word).collect()
        }
        _ => vec![value],
    }
}

fn command(
    statement: &Statement,
    block: Option<(String, usize)>,
    variables: &mut Variables,
) -> Result<Command, Problem> {
    let mut environment = Vec::new();
    for assignment in &statement.assignments {
        let value = match &assignment.value {
            Assigned::Word(word) => variables.text(word)?,
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
