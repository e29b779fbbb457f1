//! Copies of a run's figures in the forms that other tools read.
//!
//! They are for people: no checkpoint depends on them, and one that cannot be written is given up, with a warning.

mod crc32c;
mod events;
mod record;
mod table;

use crate::folder::RunFolder;
use crate::settings::Tracker;
use dapo_files::read_file;
use dapo_trainer::{TrainerError, durable};
use record::{Kept, Record};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use table::Addition;

/// The trackers of a run.
#[derive(Debug)]
pub(crate) struct Trackers {
    dir: PathBuf,
    /// Those that can be written.
    on: Vec<Tracker>,
    /// What is still to be said.
    warnings: Vec<String>,
}

impl Tracker {
    const ALL: [Self; 2] = [Self::Tensorboard, Self::Csv];

    /// Its file in the folder of trackers. TensorBoard knows its own by the word in the middle.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Tensorboard => "events.out.tfevents.dapo",
            Self::Csv => "metrics.csv",
        }
    }
}

impl Trackers {
    /// The trackers of a run; nothing is written before the first record.
    pub(crate) fn of(folder: &RunFolder, trackers: &[Tracker]) -> Self {
        let on = Tracker::ALL.into_iter().filter(|tracker| trackers.contains(tracker)).collect();
        Self { dir: folder.path().join(RunFolder::TRACKERS), on, warnings: Vec::new() }
    }

    /// Takes what was written before back to the first `steps` steps, whatever the settings ask for now; `evaluation`: whether
    /// the evaluation after the last of them counts.
    pub(crate) fn rewind(&mut self, steps: u64, evaluation: bool) {
        for tracker in Tracker::ALL {
            if let Err(error) = rewind(&self.dir.join(tracker.file()), tracker, Kept { steps, evaluation }) {
                self.give_up(tracker, &error);
            }
        }
    }

    /// Adds the figures of a step.
    pub(crate) fn add_step(&mut self, step: u64, metrics: &impl Serialize, timings: &impl Serialize) {
        if !self.on.is_empty() {
            self.add(&Record::of_step(step, metrics, timings));
        }
    }

    /// Adds the figures of an evaluation after `step` steps.
    pub(crate) fn add_evaluation(&mut self, step: u64, report: &impl Serialize) {
        if !self.on.is_empty() {
            self.add(&Record::of_evaluation(step, report));
        }
    }

    /// What went wrong since this was last asked.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn add(&mut self, record: &Record) {
        for tracker in self.on.clone() {
            if let Err(error) = add(&self.dir, tracker, record) {
                self.give_up(tracker, &error);
            }
        }
    }

    /// Says once why a tracker is off from here on.
    fn give_up(&mut self, tracker: Tracker, error: &io::Error) {
        if let Some(place) = self.on.iter().position(|on| *on == tracker) {
            self.on.remove(place);
            let file = self.dir.join(tracker.file());
            self.warnings
                .push(format!("output.trackers: {}: {error}; training continues without this tracker", file.display()));
        }
    }
}

fn not_ours(expected: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not written by a run, expected {expected} or no file"))
}

/// The cause alone: a warning names the file.
fn of_trainer(error: TrainerError) -> io::Error {
    match error {
        TrainerError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

fn content(file: &Path) -> io::Result<Vec<u8>> {
    match read_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        content => content,
    }
}

fn add(dir: &Path, tracker: Tracker, record: &Record) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let file = dir.join(tracker.file());
    match tracker {
        Tracker::Tensorboard => {
            let is_new = fs::metadata(&file).map_or(true, |metadata| metadata.len() == 0);
            let header = if is_new { events::header(record.time) } else { Vec::new() };
            append(&file, &[header, events::encode(record)].concat())
        }
        Tracker::Csv => match table::add(&content(&file)?, record) {
            Some(Addition::Append(line)) => append(&file, &line),
            Some(Addition::Replace(table)) => durable::write(&file, &table).map_err(of_trainer),
            None => Err(not_ours("a table of a run")),
        },
    }
}

/// Adds bytes to a file; what cannot be written to its end is taken back.
fn append(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut handle = OpenOptions::new().create(true).append(true).open(file)?;
    let before = handle.metadata()?.len();
    handle.write_all(bytes).inspect_err(|_| {
        let _ = handle.set_len(before);
    })
}

fn rewind(file: &Path, tracker: Tracker, kept: Kept) -> io::Result<()> {
    let text = content(file)?;
    let bytes = match tracker {
        Tracker::Tensorboard => events::kept(&text, kept).ok_or_else(|| not_ours("an event file")),
        Tracker::Csv => table::kept(&text, kept).ok_or_else(|| not_ours("a table of a run")),
    }?;
    if bytes < text.len() {
        OpenOptions::new().write(true).open(file)?.set_len(bytes as u64)?;
    }
    Ok(())
}
