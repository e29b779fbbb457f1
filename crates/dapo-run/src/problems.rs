//! Where problems come from.

use crate::keys::nearest_of;
use crate::run_error::RunError;
use crate::rust_problems::{RUST, rust_problems};
use crate::settings::RunConfig;
use crate::unanswered::Unanswered;
use dapo_data::tasks::{Split, addition_problems};
use dapo_data::{Duplicates, LeftOut, ReadOptions, deduplicate, overlap, read, split};
use dapo_data::{Problem, Prompt, encode_prompts};
use dapo_policy::Tokenizer;
use dapo_reward::{Grader, RewardSum};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Chains of additions, made by the crate.
pub const ADDITION: &str = "builtin:addition";

/// Whether a name stands for problems that the crate makes.
pub(crate) fn is_builtin(name: &str) -> bool {
    [ADDITION, RUST].contains(&name)
}

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
    /// Those among them whose answer differs from the one that was kept.
    pub conflicting: usize,
    /// Left out: their prompt is longer than `data.max_prompt_tokens` or than the model's context allows.
    pub too_long: usize,
    /// Problems whose gold answer a reward cannot read: only the same text is correct, and anything else is not judged.
    pub unreadable: usize,
    /// Left out: entries that are no problems.
    pub left_out: LeftOut,
    /// Problems for evaluation that are also trained on.
    pub overlap: usize,
}

impl ProblemCounts {
    fn add(&mut self, duplicates: Duplicates) {
        self.duplicates += duplicates.dropped;
        self.conflicting += duplicates.conflicting;
    }
}

/// A folder of `data.train` or `data.validation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// As the settings have it.
    pub name: String,
    /// Names of the files that were read, in order.
    pub files: Vec<String>,
}

/// The problems of a run, as its files state them.
#[derive(Clone, Debug, Default)]
pub struct ProblemFiles {
    /// To train on.
    pub train: Vec<Problem>,
    /// For evaluation.
    pub validation: Vec<Problem>,
    /// How many there are, and how many were left out, but for what takes a tokenizer to know.
    pub counts: ProblemCounts,
    /// The folders among the files.
    pub folders: Vec<Folder>,
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
    /// The first gold answers that a reward cannot read, at most three.
    pub unreadable: Vec<String>,
    /// Those without a gold answer, where a reward may miss it.
    pub unanswered: Option<Unanswered>,
    /// The folders among the files.
    pub folders: Vec<Folder>,
}

/// Reads, de-duplicates and splits the problems of a run. They need no answer where no reward does.
///
/// # Errors
/// When a file cannot be read.
pub fn read_files(config: &RunConfig, rewards: &RewardSum) -> Result<ProblemFiles, RunError> {
    let (data, seed) = (&config.data, config.seed);
    if data.train.is_empty() {
        let expected = "files of problems, builtin:addition or builtin:rust";
        return Err(RunError::setting("data.train", "not set", expected));
    }
    // `proof` may be an answer among words and labels.
    let has_words = matches!(config.accuracy().grader, Grader::Text(_) | Grader::Choice);
    let options = ReadOptions {
        fields: data.fields.clone(),
        needs_answer: rewards.needs_answer(),
        on_bad_line: data.on_bad_line,
        leave_out_placeholders: !has_words,
        deduplicate: data.deduplicate,
    };
    let mut found = ProblemFiles::default();
    let mut train = read_all("data.train", &data.train, &options, &mut found, || {
        addition_problems(Split::Train, ADDITION_TRAIN, seed)
    })?;
    if let Some(limit) = data.limit {
        train.truncate(limit);
    }
    // The held-out problems are the same for every seed.
    let held_out = || addition_problems(Split::HeldOut, ADDITION_VALIDATION, 1);
    let mut validation = read_all("data.validation", &data.validation, &options, &mut found, held_out)?;
    if data.validation_split > 0.0 {
        let (rest, held_out) = split(train, data.validation_split, seed)?;
        train = rest;
        validation.extend(held_out);
    }
    found.counts.overlap = overlap(&train, &validation);
    (found.counts.train, found.counts.validation) = (train.len(), validation.len());
    Ok(ProblemFiles { train, validation, ..found })
}

/// Reads the problems of a run as [`read_files`] does, and encodes them. Prompts may have `max_prompt_tokens` at most; gold
/// answers that a reward cannot read are counted.
///
/// # Errors
/// When a file cannot be read, or nothing is left to train on.
pub fn load_problems(
    config: &RunConfig,
    rewards: &RewardSum,
    tokenizer: &Tokenizer,
    max_prompt_tokens: usize,
) -> Result<Problems, RunError> {
    let ProblemFiles { train, validation, mut counts, folders } = read_files(config, rewards)?;
    let style = &config.data.style;
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
    let unreadable = unreadable(train.iter().chain(&validation), rewards);
    counts.unreadable = unreadable.len();
    let unreadable = unreadable.into_iter().take(3).map(|prompt| prompt.answer.clone()).collect();
    let unanswered = Unanswered::among(train.iter().chain(&validation), config);
    Ok(Problems { train, validation, counts, unreadable, unanswered, folders })
}

/// The problems whose gold answer a reward cannot read.
fn unreadable<'a>(prompts: impl Iterator<Item = &'a Prompt>, rewards: &RewardSum) -> Vec<&'a Prompt> {
    let prompts: Vec<&Prompt> = prompts.collect();
    let cannot_read = |prompt: &&Prompt| {
        let answers: Vec<&str> = prompt.answers().collect();
        !answers.is_empty() && !rewards.can_read(&answers)
    };
    prompts.into_par_iter().filter(cannot_read).collect()
}

fn read_all(
    key: &str,
    names: &[String],
    options: &ReadOptions,
    found: &mut ProblemFiles,
    addition: impl Fn() -> Vec<Problem>,
) -> Result<Vec<Problem>, RunError> {
    let mut problems = Vec::new();
    for name in names {
        if name == ADDITION {
            problems.extend(addition());
            continue;
        }
        if name == RUST {
            problems.extend(rust_problems());
            continue;
        }
        // Repeats within a file are dropped while reading: some have each problem a hundred times.
        let path = file(name)?;
        if !path.exists() {
            return Err(missing(key, name));
        }
        let reading = read(&path, options)?;
        found.counts.add(reading.duplicates);
        found.counts.left_out += reading.left_out;
        problems.extend(reading.problems);
        if path.is_dir() {
            let file_name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
            let files = reading.files.iter().filter_map(file_name).collect();
            found.folders.push(Folder { name: name.clone(), files });
        }
    }
    if options.deduplicate && names.len() > 1 {
        let (distinct, duplicates) = deduplicate(problems);
        found.counts.add(duplicates);
        problems = distinct;
    }
    Ok(problems)
}

/// The error of a data file that is not there, with the file beside it that has the most similar name.
fn missing(key: &str, name: &str) -> RunError {
    let path = Path::new(name);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let beside: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    let nearest = nearest_of(&wanted, beside.iter().map(String::as_str));
    let hint = nearest.map_or(String::new(), |nearest| format!("; did you mean {nearest}?"));
    RunError::setting(key, format!("{name:?}, which is not there"), format!("a file or a folder of problems{hint}"))
}

/// A data file on this machine.
pub(crate) fn file(name: &str) -> Result<PathBuf, RunError> {
    if name.starts_with("hf://") { from_hub(name) } else { Ok(name.into()) }
}

#[cfg(not(feature = "hub"))]
fn from_hub(name: &str) -> Result<PathBuf, RunError> {
    Err(RunError::folder(Path::new(name), "a file on the hub", "a file here; hub files need the feature `hub`"))
}

#[cfg(feature = "hub")]
fn from_hub(name: &str) -> Result<PathBuf, RunError> {
    use dapo_hub::{Hub, HubPath};
    match name.parse()? {
        HubPath::DatasetFile { id, revision, path } => {
            Ok(Hub::from_env()?.dataset_file(&id, &revision, &path, &mut crate::downloads::report)?)
        }
        HubPath::Model { .. } => {
            let expected = "a file of a data set, hf://datasets/ORG/NAME/FILE";
            Err(RunError::folder(Path::new(name), "a model", expected))
        }
    }
}
