//! Answers that are known: [`Cache`].
//!
//! What is kept under what is an [`Entry`]: [`Scores`] of rewards, and the answers of environments.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dapo_reward::{RewardInput, Score};
use serde::{Deserialize, Serialize};

use crate::append;
use crate::error::ExternalError;

/// What a file keeps.
pub(crate) trait Entry {
    /// What an answer is found by; the file is in its order.
    type Key: Ord + Clone;
    type Answer: Clone;

    /// The training step in which an answer was asked for, 0 outside training.
    fn step(answer: &Self::Answer) -> u64;

    /// A line of the file, without its end.
    fn write(key: &Self::Key, answer: &Self::Answer) -> Vec<u8>;

    /// The answer in a line.
    fn read(line: &[u8]) -> Result<(Self::Key, Self::Answer), String>;
}

/// The scores of a reward.
#[derive(Debug)]
pub(crate) struct Scores;

impl Entry for Scores {
    type Key = Key;
    type Answer = Answer;

    fn step(answer: &Answer) -> u64 {
        answer.step
    }

    fn write(key: &Key, answer: &Answer) -> Vec<u8> {
        crate::wire::to_json(&Line::new(key, answer))
    }

    fn read(line: &[u8]) -> Result<(Key, Answer), String> {
        Line::read(line)
    }
}

/// What an answer is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    draw: u64,
    sample: usize,
    hash: [u8; 32],
}

impl Key {
    /// The key of a sample. The hash covers the prompt too: draws of training and of evaluations have the same numbers.
    pub(crate) fn of(input: &RewardInput<'_>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(input.prompt.len() as u64).to_le_bytes());
        hasher.update(input.prompt.as_bytes());
        hasher.update(input.completion.as_bytes());
        Self { draw: input.draw, sample: input.sample, hash: hasher.finalize().into() }
    }

    /// The keys of samples that are compared: each hash covers all of them.
    pub(crate) fn of_group(group: &[RewardInput<'_>]) -> Vec<Self> {
        let mut all = blake3::Hasher::new();
        for input in group {
            all.update(&Self::of(input).hash);
        }
        let all: [u8; 32] = all.finalize().into();
        let one = |input: &RewardInput<'_>| {
            let key = Self::of(input);
            let mut hasher = blake3::Hasher::new();
            hasher.update(&key.hash).update(&all);
            Self { hash: hasher.finalize().into(), ..key }
        };
        group.iter().map(one).collect()
    }
}

/// What was said about a sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The training step in which it was asked for, 0 outside training.
    pub(crate) step: u64,
    pub(crate) score: Score,
    /// The kind of fault that made the sample abstain.
    pub(crate) fault: Option<String>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    draw: u64,
    sample: usize,
    blake3: String,
    step: u64,
    value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correct: Option<bool>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    log: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Line {
    fn new(key: &Key, answer: &Answer) -> Self {
        let Score { value, correct, log } = answer.score.clone();
        let blake3 = blake3::Hash::from_bytes(key.hash).to_hex().to_string();
        Self {
            draw: key.draw,
            sample: key.sample,
            blake3,
            step: answer.step,
            value,
            correct,
            log,
            fault: answer.fault.clone(),
        }
    }

    fn read(text: &[u8]) -> Result<(Key, Answer), String> {
        let line: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let hash = blake3::Hash::from_hex(&line.blake3).map_err(|error| error.to_string())?;
        let score = Score { value: line.value, correct: line.correct, log: line.log };
        let key = Key { draw: line.draw, sample: line.sample, hash: hash.into() };
        Ok((key, Answer { step: line.step, score, fault: line.fault }))
    }
}

/// A file of answers. Every answer is in it before it is used.
pub(crate) struct Cache<E: Entry> {
    path: PathBuf,
    file: File,
    /// Bytes of whole answers in the file.
    length: u64,
    /// Bytes of answers that were there, or are known elsewhere.
    told: u64,
    answers: BTreeMap<E::Key, E::Answer>,
}

impl<E: Entry> Cache<E> {
    /// How many answers are known.
    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Opens a file, which is created where it is missing. A last line that was not written whole is dropped.
    ///
    /// # Errors
    /// [`ExternalError::Io`], and [`ExternalError::Cache`] for any other line that is no answer.
    pub(crate) fn open(path: PathBuf) -> Result<Self, ExternalError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(ExternalError::io(folder))?;
        }
        let mut file = append_to(&path)?;
        let text = fs::read(&path).map_err(ExternalError::io(&path))?;
        let mut answers = BTreeMap::new();
        let mut length = 0;
        for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let is_torn = !line.ends_with(b"\n");
            match E::read(line) {
                // A group of which a part was lost was asked for again as a whole.
                Ok((key, answer)) => answers.insert(key, answer),
                Err(_) if is_torn => {
                    file.set_len(length).map_err(ExternalError::io(&path))?;
                    break;
                }
                Err(found) => return Err(ExternalError::Cache { path, line: index + 1, found }),
            };
            length += line.len() as u64;
            if is_torn {
                // Only the end of the line is missing.
                file.write_all(b"\n").map_err(ExternalError::io(&path))?;
                length += 1;
            }
        }
        Ok(Self { path, file, length, told: length, answers })
    }

    pub(crate) fn get(&self, key: &E::Key) -> Option<&E::Answer> {
        self.answers.get(key)
    }

    /// Adds answers, to the file first.
    ///
    /// # Errors
    /// [`ExternalError::Io`]; the file then holds what it held before, as far as it can be had.
    pub(crate) fn add(&mut self, answers: impl IntoIterator<Item = (E::Key, E::Answer)>) -> Result<(), ExternalError> {
        let answers: Vec<_> = answers.into_iter().collect();
        let text = lines::<E>(answers.iter().map(|(key, answer)| (key, answer)));
        if let Err(error) = self.file.write_all(&text) {
            // The next line must not be joined to half a line.
            let _ = self.file.set_len(self.length);
            return Err(ExternalError::io(&self.path)(error));
        }
        self.length += text.len() as u64;
        self.answers.extend(answers);
        Ok(())
    }

    /// The lines of the answers that have come since the last call, or since the file was opened or rewritten.
    ///
    /// # Errors
    /// [`ExternalError::Io`].
    pub(crate) fn news(&mut self) -> Result<Vec<u8>, ExternalError> {
        let mut news = vec![0; (self.length - self.told) as usize];
        let mut read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.told))?;
            file.read_exact(&mut news)
        };
        read().map_err(ExternalError::io(&self.path))?;
        self.told = self.length;
        Ok(news)
    }

    /// Takes over the lines of answers that came elsewhere. What is known already stays.
    ///
    /// # Errors
    /// [`ExternalError::Io`], and [`ExternalError::Cache`] for a line that is no answer.
    pub(crate) fn take_over(&mut self, lines: &[u8]) -> Result<(), ExternalError> {
        let mut answers = Vec::new();
        for (index, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let unread = |found| ExternalError::Cache { path: self.path.clone(), line: index + 1, found };
            answers.push(E::read(line).map_err(unread)?);
        }
        answers.retain(|(key, _)| !self.answers.contains_key(key));
        self.add(answers)
    }

    /// Rewrites the file: the answers up to and of this step in the order of their keys, then those of later steps.
    ///
    /// # Errors
    /// [`ExternalError::Io`]; the file is then as it was.
    pub(crate) fn checkpoint(&mut self, step: u64) -> Result<(), ExternalError> {
        let (done, later): (Vec<_>, Vec<_>) = self.answers.iter().partition(|(_, answer)| E::step(answer) <= step);
        let text = lines::<E>(done.into_iter().chain(later));
        let new = self.path.with_extension("jsonl.tmp");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)
        };
        write().map_err(ExternalError::io(&new))?;
        self.file = append_to(&self.path)?;
        self.length = text.len() as u64;
        self.told = self.length;
        Ok(())
    }
}

fn append_to(path: &Path) -> Result<File, ExternalError> {
    append::open(path).map_err(ExternalError::io(path))
}

fn lines<'a, E: Entry + 'a>(answers: impl IntoIterator<Item = (&'a E::Key, &'a E::Answer)>) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, answer) in answers {
        text.extend(E::write(key, answer));
        text.push(b'\n');
    }
    text
}
