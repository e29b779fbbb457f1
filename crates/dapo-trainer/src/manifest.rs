//! The manifest of a checkpoint: the size and hash of each of its files, and what of its run belongs to it.

use crate::durable;
use crate::error::TrainerError;
use dapo_files::{open_file, read_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Bytes that are hashed at a time.
const CHUNK: usize = 1 << 20;

/// The format that is written.
const FORMAT: u32 = 1;

/// Length and hash of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// How many bytes there are.
    pub bytes: u64,
    /// Their BLAKE3 hash, in hexadecimal.
    pub blake3: String,
}

/// Bytes that are hashed as they come.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Prefix {
    /// The first bytes of a file; all of it where it is shorter.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_file(file: &Path, bytes: u64) -> io::Result<Self> {
        let mut reader = open_file(file)?.take(bytes);
        let (mut prefix, mut chunk) = (Self::default(), vec![0; CHUNK]);
        loop {
            match reader.read(&mut chunk)? {
                0 => return Ok(prefix),
                read => prefix.add(&chunk[..read]),
            }
        }
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Length and hash so far.
    pub fn digest(&self) -> Digest {
        Digest { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() }
    }
}

impl Digest {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        let mut prefix = Prefix::default();
        prefix.add(bytes);
        prefix.digest()
    }

    /// Checks the first bytes of a file, which may be longer, and gives them.
    ///
    /// # Errors
    /// [`TrainerError::Io`], and [`TrainerError::Checkpoint`] where the bytes are others; `manifest` is what says so.
    pub fn check_prefix(&self, file: &Path, manifest: &Path) -> Result<Prefix, TrainerError> {
        let found = match Prefix::of_file(file, self.bytes) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.bytes == 0 => Prefix::default(),
            Err(source) => return Err(TrainerError::Io { path: file.into(), source }),
        };
        let expected = |what: String| format!("{what} as {} says", manifest.display());
        if found.bytes() < self.bytes {
            let least = expected(format!("{} bytes", self.bytes));
            return Err(wrong(file, format!("{} bytes long", found.bytes()), least));
        }
        let digest = found.digest();
        if digest != *self {
            let found = format!("damaged: the BLAKE3 hash of its first {} bytes is {}", self.bytes, digest.blake3);
            return Err(wrong(file, found, expected(self.blake3.clone())));
        }
        Ok(found)
    }

    /// Checks a whole file.
    ///
    /// # Errors
    /// As [`check_prefix`](Self::check_prefix).
    pub fn check_file(&self, file: &Path, manifest: &Path) -> Result<(), TrainerError> {
        let length = fs::metadata(file).map_err(|source| TrainerError::Io { path: file.into(), source })?.len();
        if length != self.bytes {
            let expected = format!("{} bytes as {} says", self.bytes, manifest.display());
            return Err(wrong(file, format!("{length} bytes long"), expected));
        }
        self.check_prefix(file, manifest).map(|_| ())
    }
}

/// What of a run belongs to one of its checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Hash of the settings that a run cannot change.
    pub settings: String,
    /// Number and fingerprint of the problems for evaluation.
    pub validation: String,
    /// Whether a signal, an error or the clock asked for the checkpoint, and not the schedule.
    pub unscheduled: bool,
    /// Whether the run ended here: all its steps were made, or its policy had mastered the data. Left out where it did not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// What the logs hold when the checkpoint is made, by their path in the run folder.
    pub logs: BTreeMap<String, Digest>,
    /// What could not be written of the step before the checkpoint, by its path in the run folder: lines of logs, and its
    /// completions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<String, String>,
}

/// The manifest of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// Steps made.
    pub step: u64,
    /// Every file but this one, by its path in the checkpoint.
    pub files: BTreeMap<String, Digest>,
    /// What of its run belongs to it; `None` for a checkpoint outside a run folder.
    pub run: Option<RunState>,
    /// BLAKE3 hash of the manifest without this field's value.
    seal: String,
}

impl Manifest {
    /// Its file's name.
    pub const FILE: &str = "manifest.json";

    /// The manifest of what a checkpoint's folder holds.
    ///
    /// # Errors
    /// [`TrainerError::Io`] names what cannot be read.
    pub fn of(dir: &Path, step: u64, run: Option<RunState>) -> Result<Self, TrainerError> {
        let mut files = BTreeMap::new();
        add_files(dir, "", &mut files)?;
        Ok(Self { format: FORMAT, step, files, run, seal: String::new() })
    }

    /// Its text, with the seal.
    fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut sealed = Self { seal: String::new(), ..self.clone() };
        sealed.seal = Digest::of(&serde_json::to_vec_pretty(&sealed)?).blake3;
        let mut text = serde_json::to_vec_pretty(&sealed)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Writes it into a checkpoint's folder.
    ///
    /// # Errors
    /// [`TrainerError::Io`] names the file.
    pub fn write(&self, dir: &Path) -> Result<(), TrainerError> {
        let file = dir.join(Self::FILE);
        let text = self.text().map_err(|error| TrainerError::Io { path: file.clone(), source: error.into() })?;
        durable::write(&file, &text)
    }

    /// Reads the manifest of a checkpoint; `None` where it has none. A folder named `step-N` must be that of step N.
    ///
    /// # Errors
    /// [`TrainerError::Io`], and [`TrainerError::Checkpoint`] for a manifest that is not as it was written, or not that
    /// of this folder.
    pub fn read(dir: &Path) -> Result<Option<Self>, TrainerError> {
        let file = dir.join(Self::FILE);
        let text = match read_file(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TrainerError::Io { path: file, source }),
        };
        let expected = "a manifest as it was written, with its own hash";
        let damaged = |error: serde_json::Error| wrong(&file, error.to_string(), expected.into());
        let manifest: Self = serde_json::from_slice(&text).map_err(damaged)?;
        if manifest.format != FORMAT {
            return Err(wrong(&file, format!("format {}", manifest.format), format!("format {FORMAT}")));
        }
        if manifest.text().map_err(damaged)? != text {
            return Err(wrong(&file, "damaged: its hash is another".into(), expected.into()));
        }
        check_name(dir, manifest.step, &file)?;
        Ok(Some(manifest))
    }

    /// Checks the files of a checkpoint whose path passes.
    ///
    /// # Errors
    /// Names the first file that is missing, or has another size or hash.
    pub fn check_files(&self, dir: &Path, which: impl Fn(&str) -> bool) -> Result<(), TrainerError> {
        let manifest = dir.join(Self::FILE);
        self.files.iter().filter(|(name, _)| which(name)).try_for_each(|(name, digest)| {
            // A path from a manifest with a valid seal; it must not lead out of the folder all the same.
            if name.split('/').any(|part| part == ".." || part.is_empty()) {
                return Err(wrong(&manifest, format!("the file name {name:?}"), "names inside the folder".into()));
            }
            digest.check_file(&dir.join(name), &manifest)
        })
    }
}

/// A folder named `step-N` must be that of step N.
pub(crate) fn check_name(dir: &Path, step: u64, file: &Path) -> Result<(), TrainerError> {
    match dir.file_name().and_then(|name| name.to_str()).and_then(step_of_name) {
        Some(named) if named != step => {
            Err(wrong(file, format!("that of step {step}"), format!("that of step {named}, as its folder is named")))
        }
        _ => Ok(()),
    }
}

/// N of the name `step-N`, spelled as the program writes it.
pub fn step_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    digits.parse().ok().filter(|step: &u64| step.to_string() == digits)
}

fn wrong(file: &Path, found: String, expected: String) -> TrainerError {
    TrainerError::Checkpoint { path: file.into(), found, expected }
}

fn add_files(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Digest>) -> Result<(), TrainerError> {
    let io = |source| TrainerError::Io { path: dir.into(), source };
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (path, name) = (entry.path(), format!("{prefix}{}", entry.file_name().to_string_lossy()));
        if path.is_dir() {
            add_files(&path, &format!("{name}/"), files)?;
        } else if name != Manifest::FILE {
            let all = Prefix::of_file(&path, u64::MAX).map_err(|source| TrainerError::Io { path, source })?;
            files.insert(name, all.digest());
        }
    }
    Ok(())
}
