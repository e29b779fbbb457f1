//! Where problems come from.

use crate::run_error::RunError;
use crate::settings::DataSection;
use dapo_policy::Tokenizer;
use dapo_reward::Grader;
use dapo_trainer::data::{Duplicates, deduplicate, read_distinct, read_problems, split};
use dapo_trainer::tasks::{Split, addition_problems};
use dapo_trainer::{Problem, Prompt, PromptStyle, encode_prompts};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Chains of additions, made by the crate.
pub const ADDITION: &str = "builtin:addition";

const ADDITION_TRAIN: usize = 8192;
const ADDITION_VALIDATION: usize = 512;

/// How many problems were read, and how many of them left out and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ProblemCounts {
    /// Problems to train on.
    pub train: usize,
    /// Problems for evaluation.
    pub validation: usize,
    /// Left out: their prompt occurred before.
    pub duplicates: usize,
    /// Those among them with another answer than the one that was kept.
    pub conflicting: usize,
    /// Left out: their prompt is longer than `data.max_prompt_tokens` or than the model's context allows.
    pub too_long: usize,
    /// Problems whose gold answer the grader cannot read: only the same text is correct, and anything else is not judged.
    pub unreadable: usize,
}

impl ProblemCounts {
    fn add(&mut self, duplicates: Duplicates) {
        self.duplicates += duplicates.dropped;
        self.conflicting += duplicates.conflicting;
    }
}

/// The problems of a run, as the model sees them.
#[derive(Clone, Debug)]
pub struct Problems {
    /// To train on.
    pub train: Vec<Prompt>,
    /// For evaluation.
    pub validation: Vec<Prompt>,
    /// How many there are, and how many were left out.
    pub counts: ProblemCounts,
    /// The first gold answers that the grader cannot read, at most three.
    pub unreadable: Vec<String>,
}

/// Reads, de-duplicates, splits and encodes the problems of a run. Prompts may have `max_prompt_tokens` at most; gold answers
/// that `grader` cannot read are counted.
///
/// # Errors
/// When a file cannot be read, or nothing is left to train on.
pub fn load_problems(
    data: &DataSection,
    seed: u64,
    tokenizer: &Tokenizer,
    style: &PromptStyle,
    max_prompt_tokens: usize,
    grader: &Grader,
) -> Result<Problems, RunError> {
    if data.train.is_empty() {
        let expected = "files of problems with answers, or builtin:addition";
        return Err(RunError::setting("data.train", "not set", expected));
    }
    let mut counts = ProblemCounts::default();
    let mut train = read_all(&data.train, data, &mut counts, || addition_problems(Split::Train, ADDITION_TRAIN, seed))?;
    if let Some(limit) = data.limit {
        train.truncate(limit);
    }
    // The held-out problems are the same for every seed.
    let mut validation =
        read_all(&data.validation, data, &mut counts, || addition_problems(Split::HeldOut, ADDITION_VALIDATION, 1))?;
    if data.validation_split > 0.0 {
        let (rest, held_out) = split(train, data.validation_split, seed)?;
        train = rest;
        validation.extend(held_out);
    }
    let (train, too_long) = encode_prompts(&train, tokenizer, style, max_prompt_tokens)?;
    let (validation, validation_too_long) = encode_prompts(&validation, tokenizer, style, max_prompt_tokens)?;
    counts.too_long = too_long + validation_too_long;
    (counts.train, counts.validation) = (train.len(), validation.len());
    if train.is_empty() && too_long == 0 {
        let expected = "at least one problem to train on beside those that data.validation_split sets apart";
        return Err(RunError::setting("data.train", "left without a problem", expected));
    }
    if train.is_empty() {
        let expected = format!("at least one problem whose prompt has at most {max_prompt_tokens} tokens");
        return Err(RunError::setting("data.train", format!("{too_long} longer problems"), expected));
    }
    let unreadable = unreadable(train.iter().chain(&validation), grader);
    counts.unreadable = unreadable.len();
    let unreadable = unreadable.into_iter().take(3).map(|prompt| prompt.answer.clone()).collect();
    Ok(Problems { train, validation, counts, unreadable })
}

/// The problems whose gold answer the grader cannot read.
fn unreadable<'a>(prompts: impl Iterator<Item = &'a Prompt>, grader: &Grader) -> Vec<&'a Prompt> {
    let prompts: Vec<&Prompt> = prompts.collect();
    prompts.into_par_iter().filter(|prompt| !grader.can_read(&prompt.answer)).collect()
}

fn read_all(
    names: &[String],
    data: &DataSection,
    counts: &mut ProblemCounts,
    addition: impl Fn() -> Vec<Problem>,
) -> Result<Vec<Problem>, RunError> {
    let mut problems = Vec::new();
    for name in names {
        problems.extend(if name == ADDITION {
            addition()
        } else if data.deduplicate {
            // Repeats within a file are dropped while reading: some have each problem a hundred times.
            let (distinct, duplicates) = read_distinct(&file(name)?)?;
            counts.add(duplicates);
            distinct
        } else {
            read_problems(&file(name)?)?
        });
    }
    if data.deduplicate && names.len() > 1 {
        let (distinct, duplicates) = deduplicate(problems);
        counts.add(duplicates);
        problems = distinct;
    }
    Ok(problems)
}

/// A data file on this machine.
fn file(name: &str) -> Result<PathBuf, RunError> {
    if name.starts_with("hf://") { from_hub(name) } else { Ok(name.into()) }
}

#[cfg(not(feature = "hub"))]
fn from_hub(name: &str) -> Result<PathBuf, RunError> {
    Err(RunError::folder(Path::new(name), "a file on the hub", "a file here; hub files need the feature `hub`"))
}

#[cfg(feature = "hub")]
fn from_hub(name: &str) -> Result<PathBuf, RunError> {
    use dapo_policy::hub::{Hub, HubPath};
    match name.parse()? {
        HubPath::DatasetFile { id, revision, path } => {
            Ok(Hub::from_env()?.dataset_file(&id, &revision, &path, &mut |_| ())?)
        }
        HubPath::Model { .. } => {
            let expected = "a file of a data set, hf://datasets/ORG/NAME/FILE";
            Err(RunError::folder(Path::new(name), "a model", expected))
        }
    }
}
