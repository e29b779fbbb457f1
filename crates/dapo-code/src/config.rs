//! The settings of a code reward.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

use crate::error::CodeError;

/// The language of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Language {
    /// Python 3.
    #[default]
    Python,
    /// Rust, edition 2024, built with the `rustc` and `cargo` found on the path.
    Rust,
    /// Any other: `command` runs the program's file.
    Command,
}

/// How programs are confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Sandbox {
    /// Own namespaces without network, a file system of read-only system folders, no privileges, limits on resources.
    #[default]
    Strict,
    /// No privileges and limits on resources alone. The program reads and writes what its user may, and has a network.
    RlimitsOnly,
}

/// A reward that runs a completion's program against the problem's tests: the share of tests passed.
///
/// # Example
/// ```
/// use dapo_code::{CodeReward, Language};
///
/// let reward = CodeReward { language: Language::Rust, timeout_s: 2.0, ..CodeReward::default() };
/// assert!(reward.validate().is_ok());
/// let error = CodeReward { memory_mib: 1, ..reward }.validate().unwrap_err().to_string();
/// assert_eq!(error, "CodeReward: memory_mib is 1, expected at least 16");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CodeReward {
    /// The language of the programs.
    pub language: Language,
    /// How programs are confined.
    pub sandbox: Sandbox,
    /// The data column with the problem's tests.
    pub column: String,
    /// Wall-clock limit of one test, in seconds.
    pub timeout_s: f64,
    /// Wall-clock limit of one build (Rust), in seconds.
    pub build_timeout_s: f64,
    /// Memory of a test in MiB: of each process, and of all its processes together.
    pub memory_mib: u64,
    /// Size in MiB of each of a program's two private folders, and of any one file.
    pub disk_mib: u64,
    /// Processes and threads that a test may have at one time.
    pub processes: u64,
    /// Output and error output of a test together, in KiB; beyond it the test ends and has failed.
    pub output_kib: u64,
    /// Completions that are judged at one time; by default the number of cores.
    pub workers: Option<usize>,
    /// Further files and folders that programs may read: absolute paths.
    pub read: Vec<PathBuf>,
    /// The Python interpreter: a path, or a name on the path.
    pub python: String,
    /// With `language = "command"`: the command that runs a program, in which `{program}` is the program's file.
    pub command: Vec<String>,
    /// With `language = "command"`: tags of the code blocks that hold programs. None: any block.
    pub tags: Vec<String>,
    /// Whether a Rust project without a warning of Clippy passes one further test.
    pub clippy: bool,
}

impl Default for CodeReward {
    fn default() -> Self {
        Self {
            language: Language::default(),
            sandbox: Sandbox::default(),
            column: "tests".to_owned(),
            timeout_s: 5.0,
            build_timeout_s: 60.0,
            memory_mib: 512,
            disk_mib: 256,
            processes: 64,
            output_kib: 1024,
            workers: None,
            read: Vec::new(),
            python: "python3".to_owned(),
            command: Vec::new(),
            tags: Vec::new(),
            clippy: true,
        }
    }
}

/// The placeholder of the program's file in `command`.
pub(crate) const PROGRAM: &str = "{program}";

impl CodeReward {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`CodeError::Config`] for:
    /// - a time limit that is not above 0 and at most a day, or a limit below its least value;
    /// - an empty column or interpreter, or a relative path in `read`;
    /// - a `command` without `{program}`, and `command` or `tags` with another language.
    pub fn validate(&self) -> Result<(), CodeError> {
        let fault = |field, value: String, allowed| Err(CodeError::Config { field, value, allowed });
        for (field, value) in [("timeout_s", self.timeout_s), ("build_timeout_s", self.build_timeout_s)] {
            if !(value > 0.0 && value <= 86_400.0) {
                return fault(field, value.to_string(), "above 0 and at most 86400");
            }
        }
        let most = 1 << 40;
        for (field, value, least, allowed) in [
            ("memory_mib", self.memory_mib, 16, "at least 16"),
            ("disk_mib", self.disk_mib, 1, "at least 1"),
            ("processes", self.processes, 1, "at least 1"),
            ("output_kib", self.output_kib, 1, "at least 1"),
            ("workers", self.workers.map_or(1, |workers| workers as u64), 1, "at least 1"),
        ] {
            if value < least {
                return fault(field, value.to_string(), allowed);
            }
            if value > most {
                return fault(field, value.to_string(), "at most 2^40");
            }
        }
        for (field, value) in [("column", &self.column), ("python", &self.python)] {
            if value.is_empty() {
                return fault(field, format!("{value:?}"), "a name");
            }
        }
        if let Some(path) = self.read.iter().find(|path| !path.is_absolute()) {
            return fault("read", format!("{:?}", path.display().to_string()), "absolute paths");
        }
        let is_command = self.language == Language::Command;
        if is_command && !self.command.iter().skip(1).any(|part| part.contains(PROGRAM)) {
            return fault("command", format!("{:?}", self.command), "a program and arguments, one with {program}");
        }
        if !is_command && !self.command.is_empty() {
            return fault("command", format!("{:?}", self.command), "none unless language is \"command\"");
        }
        if !is_command && !self.tags.is_empty() {
            return fault("tags", format!("{:?}", self.tags), "none unless language is \"command\"");
        }
        Ok(())
    }

    /// How many completions are judged at one time.
    pub fn num_workers(&self) -> usize {
        self.workers.unwrap_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        let default = CodeReward::default();
        assert_eq!(default.validate(), Ok(()));
        let message = |config: CodeReward| config.validate().unwrap_err().to_string();
        assert_eq!(
            message(CodeReward { timeout_s: f64::NAN, ..default.clone() }),
            "CodeReward: timeout_s is NaN, expected above 0 and at most 86400"
        );
        assert_eq!(
            message(CodeReward { workers: Some(0), ..default.clone() }),
            "CodeReward: workers is 0, expected at least 1"
        );
        assert_eq!(
            message(CodeReward { read: vec!["data".into()], ..default.clone() }),
            "CodeReward: read is \"data\", expected absolute paths"
        );
        assert_eq!(
            message(CodeReward { language: Language::Command, command: vec!["node".into()], ..default.clone() }),
            "CodeReward: command is [\"node\"], expected a program and arguments, one with {program}"
        );
        assert_eq!(
            message(CodeReward { tags: vec!["js".into()], ..default }),
            "CodeReward: tags is [\"js\"], expected none unless language is \"command\""
        );
    }

    #[test]
    fn settings_are_read_by_name_and_unknown_ones_refused() {
        let read = |text| serde_json::from_str::<CodeReward>(text);
        let config = read(r#"{"language": "rust", "sandbox": "rlimits-only", "workers": 3}"#).unwrap();
        assert_eq!((config.language, config.sandbox, config.num_workers()), (Language::Rust, Sandbox::RlimitsOnly, 3));
        assert!(read(r#"{"timeout": 3}"#).unwrap_err().to_string().contains("unknown field `timeout`"));
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(read(&again).unwrap(), config);
    }
}
