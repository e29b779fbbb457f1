//! Training by the built command that dies, or whose disk fails, at the system calls that change its folder, or at any
//! time. What then continues must end as if nothing had happened.
//!
//! Without a C compiler the tests at system calls are skipped. The suite takes a share of the cases; a soak takes more:
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `DAPO_FAULT_STRIDE` | every n-th system call is tried; 1 tries all | 31 |
//! | `DAPO_FAULT_KILLS` | kills at random times | 8 |

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod calls;
mod kills;
mod processes;
mod tmpfs;

use dapo_trainer::{Manifest, step_of_name};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Settings small enough for thousands of runs: three checkpoints, the first of which goes.
const SMALL: [&str; 10] = [
    "tiny",
    "seed=3",
    "sampler.train_batch=2",
    "sampler.gen_batch=2",
    "rollout.group_size=6",
    "optimizer.lr=1e-4",
    "train.steps=3",
    "eval.every=2",
    "eval.limit=4",
    "output.checkpoint_every=1",
];

/// What is trained, and how.
struct Kind {
    name: &'static str,
    settings: &'static [&'static str],
    /// A file that shows that the run is of the kind.
    has: &'static str,
}

const FULL: Kind = Kind { name: "all weights", settings: &[], has: "checkpoints/step-3/model/model.safetensors" };
const LORA: Kind =
    Kind { name: "LoRA", settings: &["lora.rank=2"], has: "checkpoints/step-3/adapter/adapter_model.safetensors" };
const KL: Kind = Kind {
    name: "KL with a reference that follows",
    settings: &["loss.kl.coef=0.1", "reference_sync.every=1", "reference_sync.mixup=0.5"],
    has: "checkpoints/step-3/reference.safetensors",
};
const CARRIED: Kind =
    Kind { name: "carried groups", settings: &["sampler.gen_batch=8"], has: "checkpoints/step-3/groups.safetensors" };

fn of_environment(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
}

fn dapo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dapo"));
    // Many short processes: starting threads would cost more than they bring.
    command.env("RAYON_NUM_THREADS", "1").stdin(Stdio::null());
    command
}

impl Kind {
    fn start(&self, dir: &Path) -> Command {
        let mut command = dapo();
        command.arg("train").args(SMALL).args(self.settings).arg("--out").arg(dir);
        command
    }

    /// The run in a folder that nothing disturbs, and where it is.
    fn whole(&self) -> (TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        success(&mut self.start(&dir), self.name);
        assert!(dir.join(self.has).exists(), "{}: no {}", self.name, self.has);
        (temp, dir)
    }

    /// What continues the run of a folder: one of the two must always work.
    fn proceed(&self, dir: &Path) -> Command {
        if dir.join("config.resolved.toml").exists() { resume(dir) } else { self.start(dir) }
    }

    /// Continues the run of a folder, which must end as the whole one.
    fn finish(&self, dir: &Path, whole: &Path, what: &str) {
        let end = success(&mut self.proceed(dir), what);
        assert_same(whole, dir, what);
        let model = String::from_utf8(end.stdout).unwrap();
        assert!(Path::new(model.trim_end()).exists(), "{what}: {model}");
        let beside: Vec<_> = fs::read_dir(dir.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(beside, [dir], "{what}");
    }
}

fn resume(dir: &Path) -> Command {
    let mut command = dapo();
    command.args(["train", "--resume"]).arg(dir);
    command
}

fn success(command: &mut Command, what: &str) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Files of a run by their path in it, without what may differ between repetitions.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if !(name.starts_with("log") || name == "timings.jsonl" || name == ".lock") {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn assert_same(one: &Path, other: &Path, what: &str) {
    let (one, other) = (content(one), content(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{what}");
    for (name, bytes) in &one {
        assert!(*bytes == other[name], "{what}: {} differs", name.display());
    }
}

/// What has the name of a checkpoint is one.
fn assert_whole_checkpoints(dir: &Path, what: &str) {
    let Ok(entries) = fs::read_dir(dir.join("checkpoints")) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if step_of_name(path.file_name().unwrap().to_str().unwrap()).is_some() {
            let manifest = Manifest::read(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
            let manifest = manifest.unwrap_or_else(|| panic!("{what}: {} has no manifest", path.display()));
            manifest.check_files(&path, |_| true).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}
