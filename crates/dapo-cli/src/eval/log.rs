//! The file of an evaluation's completions, which an interrupted evaluation continues.
//!
//! Beside FILE lies FILE.partial for as long as the evaluation is not finished: a line that says what is evaluated and
//! how, and then a line a problem with its samples as they were judged. FILE follows from it.

use anyhow::{Context, Result, bail};
use dapo_data::Prompt;
use dapo_trainer::{Group, Sample, durable};
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes the lines of groups.
pub(super) type Lines<'a> = dyn Fn(&mut Vec<u8>, &[Group]) -> io::Result<()> + 'a;

/// The file of all completions, with what it takes to continue it.
pub(super) struct Log<'a> {
    path: PathBuf,
    file: File,
    partial: PathBuf,
    /// Locked for as long as this lives.
    state: File,
    lines: Box<Lines<'a>>,
}

/// What the completions of a file depend on.
pub(super) struct Evaluated<'a> {
    /// Model, problems and settings.
    pub(super) identity: Map<String, Value>,
    pub(super) prompts: &'a [Prompt],
    /// Completions of each problem.
    pub(super) samples: usize,
}

impl<'a> Log<'a> {
    /// Begins a file, or continues one: gives the groups that it has.
    ///
    /// # Errors
    /// When the file exists and belongs to no interrupted evaluation or to another one, or was changed. It is then as it was.
    pub(super) fn open(path: &Path, evaluated: &Evaluated<'_>, lines: Box<Lines<'a>>) -> Result<(Self, Vec<Group>)> {
        let named = || format!("{}, given for --completions", path.display());
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let is_begun = path.exists();
        if is_begun && !partial.exists() {
            bail!("{}: the file exists, expected a new one, or one of an interrupted evaluation", named());
        }
        let open = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            file.with_context(named)
        };
        let mut state = open(&partial)?;
        match state.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{}: another process is evaluating into it", named()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(named),
        }
        let (mut text, mut written) = (Vec::new(), Vec::new());
        state.read_to_end(&mut text).with_context(|| partial.display().to_string())?;
        if is_begun {
            written = fs::read(path).with_context(named)?;
        }
        let (kept, groups) = if written.is_empty() && !text.contains(&b'\n') {
            (0, Vec::new())
        } else {
            evaluated.read(&text, &partial).with_context(named)?
        };
        let mut expected = Vec::new();
        lines(&mut expected, &groups)?;
        let common = expected.len().min(written.len());
        if expected[..common] != written[..common] {
            bail!("{}: it was changed, expected the completions of {}", named(), partial.display());
        }

        // The state first: what the file has must follow from it.
        cut(&mut state, kept).with_context(|| partial.display().to_string())?;
        if kept == 0 {
            let mut line = serde_json::to_vec(&evaluated.identity)?;
            line.push(b'\n');
            state.write_all(&line).and_then(|()| state.sync_all()).with_context(|| partial.display().to_string())?;
        }
        let mut file = open(path)?;
        cut(&mut file, common).and_then(|()| file.write_all(&expected[common..])).with_context(named)?;
        Ok((Self { path: path.into(), file, partial, state, lines }, groups))
    }

    /// Adds the next groups.
    pub(super) fn append(&mut self, groups: &[Group]) -> Result<()> {
        let (mut state, mut text) = (Vec::new(), Vec::new());
        for group in groups {
            serde_json::to_writer(&mut state, &group.samples)?;
            state.push(b'\n');
        }
        (self.lines)(&mut text, groups)?;
        self.state.write_all(&state).with_context(|| self.partial.display().to_string())?;
        self.file.write_all(&text).with_context(|| self.path.display().to_string())
    }

    /// Says that the evaluation is finished.
    pub(super) fn finish(self) -> Result<()> {
        self.file.sync_all().with_context(|| self.path.display().to_string())?;
        fs::remove_file(&self.partial).with_context(|| self.partial.display().to_string())?;
        Ok(durable::sync_dir(self.path.parent().unwrap_or(&self.path))?)
    }
}

impl Evaluated<'_> {
    /// The groups of a state, and how many of its bytes they take; a torn last line is left out.
    fn read(&self, text: &[u8], partial: &Path) -> Result<(usize, Vec<Group>)> {
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let damaged = |line: usize| format!("{}:{line}: damaged", partial.display());
        let first = lines.next().unwrap_or_default();
        let before: Map<String, Value> = serde_json::from_slice(first).with_context(|| damaged(1))?;
        // Numbers as they are read.
        let now: Map<String, Value> = serde_json::from_slice(&serde_json::to_vec(&self.identity)?)?;
        if let Some((key, is)) = now.iter().find(|(key, is)| before.get(*key) != Some(*is)) {
            let was = before.get(key).unwrap_or(&Value::Null);
            bail!(
                "the interrupted evaluation had {key} {was}, expected {is} as now: repeat its command, or remove the file to \
                 start again"
            );
        }
        let (mut kept, mut groups) = (first.len(), Vec::new());
        for (number, line) in lines.enumerate() {
            let samples: Vec<Sample> = serde_json::from_slice(line).with_context(|| damaged(number + 2))?;
            let Some(prompt) = self.prompts.get(number).filter(|_| samples.len() == self.samples) else {
                bail!(damaged(number + 2));
            };
            groups.push(Group { samples, ..Group::new(number as u64, prompt.clone()) });
            kept += line.len();
        }
        Ok((kept, groups))
    }
}

/// Cuts a file off behind its first bytes; writing continues there.
fn cut(file: &mut File, bytes: usize) -> io::Result<()> {
    file.set_len(bytes as u64)?;
    file.seek(SeekFrom::Start(bytes as u64)).map(|_| ())
}
