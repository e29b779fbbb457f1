//! What host and launcher say to each other: one JSON object per line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Sandbox;

/// The launcher's argument.
pub(crate) const ARGUMENT: &str = "__dapo-sandbox";
/// Set in the launcher's environment: a second guard against being started by accident, and against starting itself.
pub(crate) const VARIABLE: &str = "DAPO_SANDBOX_LAUNCHER";
/// Where a strict sandbox has the program's folder.
pub(crate) const STRICT_HOME: &str = "/box";
/// Where a strict sandbox has the folder for temporary files.
pub(crate) const STRICT_TEMP: &str = "/tmp";

/// What the host asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// First: make a sandbox.
    Open(Setup),
    /// Then: run a command in it, any number of times.
    Run(Step),
}

/// What the launcher answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The sandbox is there.
    Ready,
    /// It cannot be made.
    Refused {
        /// The layer that is missing.
        layer: String,
        /// The system's own words.
        reason: String,
    },
    /// The command has ended.
    Done(Outcome),
}

/// A sandbox to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) sandbox: Sandbox,
    /// Files and folders that a strict sandbox shows besides the system's.
    pub(crate) shown: Vec<Shown>,
    /// The folder of the program, [`STRICT_HOME`] in a strict sandbox, else one on this machine.
    pub(crate) home: PathBuf,
    /// The folder for temporary files, empty at each step.
    pub(crate) temp: PathBuf,
    /// Texts by their paths in `home`.
    pub(crate) files: Vec<(String, String)>,
    /// Size of each folder in MiB.
    pub(crate) disk_mib: u64,
    /// Sandboxes that run at one time.
    pub(crate) peers: u64,
}

/// A file or folder that is shown read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Where it is, without symbolic links.
    pub(crate) source: PathBuf,
    /// Where it is shown.
    pub(crate) target: PathBuf,
}

/// A command to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    /// The program, by its absolute path, and its arguments.
    pub(crate) argv: Vec<String>,
    pub(crate) folder: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    /// What it reads.
    pub(crate) input: String,
    pub(crate) limits: Limits,
    /// Whether the program's folder can be written in.
    pub(crate) builds: bool,
}

/// Limits of a step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Wall-clock milliseconds.
    pub(crate) timeout_ms: u64,
    /// MiB of each process, and of all together.
    pub(crate) memory_mib: u64,
    /// MiB of a file.
    pub(crate) file_mib: u64,
    pub(crate) processes: u64,
    /// KiB of output and error output together.
    pub(crate) output_kib: u64,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// The time ran out.
    OutOfTime,
    /// It wrote more than it may.
    TooMuchOutput,
    /// Its processes used more memory than they may.
    TooMuchMemory,
    /// It had more processes than it may.
    TooManyProcesses,
    /// The sandbox itself ended.
    Lost,
    /// The command could not be started.
    NotStarted(String),
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    /// Its output, with replacement characters where it is not UTF-8.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// An end without output.
    pub(crate) fn without_output(end: End) -> Self {
        Self { end, stdout: String::new(), stderr: String::new() }
    }

    pub(crate) fn is_success(&self) -> bool {
        self.end == End::Exited(0)
    }
}
