//! The logs of a run: what is added to them, what a checkpoint says of them, and taking them back to a checkpoint.

use crate::folder::RunFolder;
use crate::run_error::RunError;
use dapo_files::{check_is_file, read_file};
use dapo_trainer::{Digest, Prefix, durable, step_of_name};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The logs of which a checkpoint keeps length and hash.
const HASHED: [&str; 2] = [RunFolder::METRICS, RunFolder::EVALUATIONS];

/// The logs that get a line a step.
const OF_STEP: [&str; 2] = [RunFolder::METRICS, RunFolder::TIMINGS];

/// The logs of a run, and what was written to them.
#[derive(Debug)]
pub(crate) struct Logs {
    folder: RunFolder,
    /// What the logs of [`HASHED`] hold.
    lines: BTreeMap<&'static str, Prefix>,
    /// What the completions files hold, by their steps.
    completions: BTreeMap<u64, Digest>,
    /// Files whose last bytes may not have reached the disk.
    unsynced: BTreeSet<PathBuf>,
    /// What could not be written of finished steps, by the paths in the folder.
    pending: BTreeMap<String, String>,
}

/// What the logs hold at a checkpoint, checked against its manifest where it has one; by default nothing, as before the
/// first step.
#[derive(Default)]
pub(crate) struct LogState {
    lines: BTreeMap<&'static str, Prefix>,
    completions: BTreeMap<u64, Digest>,
    /// Bytes of the timings, which no manifest knows.
    timings: u64,
}

impl Logs {
    /// The logs of a folder in which nothing is written yet.
    pub(crate) fn of(folder: &RunFolder) -> Self {
        Self {
            folder: folder.clone(),
            lines: BTreeMap::new(),
            completions: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Adds a line to one of the logs. A line that cannot be written to its end is taken back.
    pub(crate) fn append(&mut self, name: &'static str, line: &impl Serialize) -> Result<(), RunError> {
        let text = self.text(name, std::iter::once(line))?;
        self.write(name, text.as_bytes())
    }

    /// As [`append`](Self::append); a line that cannot be written is kept for [`write_pending`](Self::write_pending).
    pub(crate) fn append_or_keep(&mut self, name: &'static str, line: &impl Serialize) -> Result<(), RunError> {
        let text = self.text(name, std::iter::once(line))?;
        self.write_or_keep(name.to_owned(), &text)
    }

    /// Writes the completions of a step. Where that fails, they are kept likewise.
    pub(crate) fn write_completions(
        &mut self,
        step: u64,
        lines: impl Iterator<Item = impl Serialize>,
    ) -> Result<(), RunError> {
        let name = completions_name(step);
        let text = self.text(&name, lines)?;
        self.write_or_keep(name, &text)
    }

    /// Writes what a failed step computed with; `None` where there is nothing to write, or that fails, too.
    pub(crate) fn dump(&self, step: u64, lines: impl Iterator<Item = impl Serialize>) -> Option<PathBuf> {
        let file = self.folder.failed_step_file(step);
        let text = self.text(&file.to_string_lossy(), lines).ok().filter(|text| !text.is_empty())?;
        durable::write(&file, text.as_bytes()).ok().map(|()| file)
    }

    fn text(&self, name: &str, lines: impl Iterator<Item = impl Serialize>) -> Result<String, RunError> {
        let unwritten = |error: serde_json::Error| RunError::io(&self.folder.path().join(name))(error.into());
        let mut text = String::new();
        for line in lines {
            text += &serde_json::to_string(&line).map_err(unwritten)?;
            text.push('\n');
        }
        Ok(text)
    }

    fn write_or_keep(&mut self, name: String, text: &str) -> Result<(), RunError> {
        let written = self.write(&name, text.as_bytes());
        if written.is_err() {
            self.pending.entry(name).or_default().push_str(text);
        }
        written
    }

    /// Adds lines to a log, or writes the completions of a step, by their path in the folder.
    fn write(&mut self, name: &str, text: &[u8]) -> Result<(), RunError> {
        let file = self.folder.path().join(name);
        check_is_file(&file).map_err(RunError::io(&file))?;
        if let Some(step) = step_of_completions(name) {
            let mut handle = File::create(&file).map_err(RunError::io(&file))?;
            handle.write_all(text).map_err(RunError::io(&file))?;
            self.completions.insert(step, Digest::of(text));
        } else {
            let mut handle = OpenOptions::new().create(true).append(true).open(&file).map_err(RunError::io(&file))?;
            let before = handle.metadata().map_err(RunError::io(&file))?.len();
            handle.write_all(text).map_err(|error| {
                // What stays is a torn last line, which is cut off when the run is resumed.
                let _ = handle.set_len(before);
                RunError::io(&file)(error)
            })?;
            if let Some(log) = HASHED.into_iter().find(|log| *log == name) {
                self.lines.entry(log).or_default().add(text);
            }
        }
        self.unsynced.insert(file);
        Ok(())
    }

    /// What could not be written of finished steps, by the paths in the folder.
    pub(crate) fn pending(&self) -> &BTreeMap<String, String> {
        &self.pending
    }

    /// Takes over what the checkpoint after `steps` steps says could not be written, and writes it.
    pub(crate) fn complete(&mut self, steps: u64, mut pending: BTreeMap<String, String>) -> Result<(), RunError> {
        pending.retain(|name, _| OF_STEP.contains(&name.as_str()) || step_of_completions(name) == Some(steps));
        self.pending = pending;
        self.write_pending()
    }

    /// Writes what could not be written before.
    pub(crate) fn write_pending(&mut self) -> Result<(), RunError> {
        while let Some((name, text)) = self.pending.pop_first() {
            self.write_or_keep(name, &text)?;
        }
        Ok(())
    }

    /// Has everything that was written reach the disk.
    pub(crate) fn sync(&mut self) -> Result<(), RunError> {
        while let Some(file) = self.unsynced.first() {
            durable::sync_file(file)?;
            self.unsynced.pop_first();
        }
        durable::sync_dir(&self.folder.path().join(RunFolder::COMPLETIONS))?;
        Ok(durable::sync_dir(self.folder.path())?)
    }

    /// What the logs hold after `steps` steps, by their paths in the folder.
    pub(crate) fn digests(&self, steps: u64) -> BTreeMap<String, Digest> {
        digests(&self.lines, self.completions.range(..=steps))
    }

    /// The lines of one of the logs.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, RunError> {
        let file = self.folder.path().join(name);
        let text = read(&file)?;
        let lines = text.split_inclusive(|byte| *byte == b'\n').enumerate();
        let parsed = lines.map(|(index, line)| {
            serde_json::from_slice(line).map_err(|error| {
                let (found, expected) = (format!("damaged ({error})"), "a line as a run writes it".into());
                RunError::Log { path: file.clone(), line: index + 1, found, expected }
            })
        });
        parsed.collect()
    }

    /// Whether the log has an evaluation made after `steps` steps.
    pub(crate) fn has_evaluation(&self, steps: u64) -> Result<bool, RunError> {
        let text = read(&self.folder.path().join(RunFolder::EVALUATIONS))?;
        Ok(text.split(|byte| *byte == b'\n').any(|line| step_of(line).ok() == Some(steps)))
    }

    /// Takes the logs back to a state that [`LogState`] found: what was written later is removed, and of the completions
    /// those files alone that the program writes.
    pub(crate) fn rewind(&mut self, steps: u64, state: LogState) -> Result<(), RunError> {
        for name in HASHED {
            let bytes = state.lines.get(name).map_or(0, Prefix::bytes);
            cut(&self.folder.path().join(name), bytes)?;
        }
        cut(&self.folder.path().join(RunFolder::TIMINGS), state.timings)?;
        for (step, path) in self.folder.completions_files()? {
            if step > steps {
                fs::remove_file(&path).map_err(RunError::io(&path))?;
            }
        }
        (self.lines, self.completions) = (state.lines, state.completions);
        Ok(())
    }
}

impl LogState {
    /// The state after `steps` steps as a checkpoint's manifest says, which the logs must match.
    ///
    /// # Errors
    /// Names the log, and its first line that is at fault where that can be seen.
    pub(crate) fn verified(
        folder: &RunFolder,
        steps: u64,
        logs: &BTreeMap<String, Digest>,
        manifest: &Path,
    ) -> Result<Self, RunError> {
        let mut state = Self { timings: timings(folder, steps)?, ..Self::default() };
        for name in HASHED {
            let Some(digest) = logs.get(name) else { continue };
            let file = folder.path().join(name);
            let prefix = digest.check_prefix(&file, manifest).map_err(|error| {
                // A line that cannot be read says more than a hash.
                let text = read(&file).unwrap_or_default();
                let text = &text[..text.len().min(digest.bytes as usize)];
                lines_until(&file, text, u64::MAX).err().unwrap_or_else(|| error.into())
            })?;
            state.lines.insert(name, prefix);
        }
        for step in 1..=steps {
            if let Some(digest) = logs.get(&completions_name(step)) {
                digest.check_file(&folder.completions_file(step), manifest)?;
                state.completions.insert(step, digest.clone());
            }
        }
        Ok(state)
    }

    /// The state after `steps` steps as the logs themselves say; only a torn last line may be unreadable.
    ///
    /// # Errors
    /// Names the log and the first line at fault.
    pub(crate) fn found(folder: &RunFolder, steps: u64) -> Result<Self, RunError> {
        let mut state = Self { timings: timings(folder, steps)?, ..Self::default() };
        for name in HASHED {
            let file = folder.path().join(name);
            let text = read(&file)?;
            let mut prefix = Prefix::default();
            prefix.add(&text[..lines_until(&file, &text, steps)? as usize]);
            state.lines.insert(name, prefix);
        }
        for (step, path) in folder.completions_files()?.into_iter().filter(|(step, _)| *step <= steps) {
            state.completions.insert(step, Digest::of(&read(&path)?));
        }
        Ok(state)
    }

    /// Leaves the last evaluation out where it was made after `steps` steps; says whether there was one.
    pub(crate) fn drop_evaluation(&mut self, folder: &RunFolder, steps: u64) -> Result<bool, RunError> {
        let Some(prefix) = self.lines.get(RunFolder::EVALUATIONS) else { return Ok(false) };
        let text = read(&folder.path().join(RunFolder::EVALUATIONS))?;
        let lines = text[..prefix.bytes() as usize].strip_suffix(b"\n").unwrap_or_default();
        let start = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let is_of_step = step_of(&lines[start..]).ok() == Some(steps);
        if is_of_step {
            let mut shorter = Prefix::default();
            shorter.add(&text[..start]);
            self.lines.insert(RunFolder::EVALUATIONS, shorter);
        }
        Ok(is_of_step)
    }

    /// Leaves out the timings of the last of `steps` steps where they are among what could not be written: they may have
    /// been written since, and no manifest knows.
    pub(crate) fn drop_pending_timings(
        &mut self,
        folder: &RunFolder,
        steps: u64,
        pending: &BTreeMap<String, String>,
    ) -> Result<(), RunError> {
        if pending.contains_key(RunFolder::TIMINGS) {
            self.timings = timings(folder, steps.saturating_sub(1))?;
        }
        Ok(())
    }

    /// As the manifest of a checkpoint has it.
    pub(crate) fn digests(&self) -> BTreeMap<String, Digest> {
        digests(&self.lines, self.completions.iter())
    }
}

/// What logs hold, by their paths in the folder; an empty one is as good as none.
fn digests<'a>(
    lines: &BTreeMap<&'static str, Prefix>,
    completions: impl Iterator<Item = (&'a u64, &'a Digest)>,
) -> BTreeMap<String, Digest> {
    let lines = lines.iter().filter(|(_, prefix)| prefix.bytes() > 0);
    let lines = lines.map(|(name, prefix)| ((*name).to_owned(), prefix.digest()));
    lines.chain(completions.map(|(step, digest)| (completions_name(*step), digest.clone()))).collect()
}

fn completions_name(step: u64) -> String {
    format!("{}/step-{step}.jsonl", RunFolder::COMPLETIONS)
}

/// The step of the path of a completions file.
fn step_of_completions(name: &str) -> Option<u64> {
    step_of_name(name.strip_prefix(RunFolder::COMPLETIONS)?.strip_prefix('/')?.strip_suffix(".jsonl")?)
}

/// The step of a line of a log.
fn step_of(line: &[u8]) -> Result<u64, serde_json::Error> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
    }
    serde_json::from_slice::<Line>(line).map(|line| line.step)
}

/// A file's bytes; none where it does not exist.
fn read(file: &Path) -> Result<Vec<u8>, RunError> {
    match read_file(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        text => text.map_err(RunError::io(file)),
    }
}

/// Bytes of the timings of the first `steps` steps.
fn timings(folder: &RunFolder, steps: u64) -> Result<u64, RunError> {
    let file = folder.path().join(RunFolder::TIMINGS);
    lines_until(&file, &read(&file)?, steps)
}

/// Bytes of the lines of a log up to a step. What stands behind the last line's end is torn, and is not read.
pub(crate) fn lines_until(file: &Path, text: &[u8], steps: u64) -> Result<u64, RunError> {
    let (mut kept, mut last) = (0, 0);
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        let damaged =
            |found: String, expected: String| RunError::Log { path: file.into(), line: number + 1, found, expected };
        let step = step_of(line).map_err(|error| {
            damaged(format!("damaged ({error})"), "a JSON object with the step; the file was left as it is".into())
        })?;
        if step < last {
            return Err(damaged(
                format!("of step {step}"),
                format!("a step from {last} on; the file was left as it is"),
            ));
        }
        last = step;
        if step <= steps {
            kept += line.len() as u64;
        }
    }
    Ok(kept)
}

/// Cuts a file off behind its first `bytes` bytes.
fn cut(file: &Path, bytes: u64) -> Result<(), RunError> {
    check_is_file(file).map_err(RunError::io(file))?;
    match OpenOptions::new().write(true).open(file) {
        Ok(handle) if handle.metadata().map_err(RunError::io(file))?.len() > bytes => {
            handle.set_len(bytes).and_then(|()| handle.sync_all()).map_err(RunError::io(file))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RunError::io(file)(error)),
    }
}
