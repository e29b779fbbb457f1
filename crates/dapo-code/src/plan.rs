//! How a program of each language is run against a problem's tests.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::compare::same_output;
use crate::config::{CodeReward, PROGRAM};
use crate::error::CodeError;
use crate::problem::{Case, Problem, Project};
use crate::session::{Confinement, Launcher, Session};
use crate::toolchain::{PATH, Tools};
use crate::wire::{End, Limits, Outcome, Step};

/// Memory of compilers in MiB, processes, and KiB of what they print.
const BUILD_MEMORY_MIB: u64 = 4096;
const BUILD_PROCESSES: u64 = 256;
const BUILD_OUTPUT_KIB: u64 = 8192;

/// How many tests there are, and how many passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) total: usize,
}

/// What is needed to run programs.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) config: CodeReward,
    pub(crate) launcher: Launcher,
    pub(crate) confinement: Confinement,
    pub(crate) tools: Tools,
}

/// A command as steps have it, without folder and environment.
struct Call<'a> {
    argv: Vec<String>,
    input: &'a str,
    builds: bool,
}

impl Runner {
    /// Makes a sandbox and starts the language's program in it, so that what is missing is known before the first test.
    pub(crate) fn try_out(&self) -> Result<(), CodeError> {
        let (program, expected) = match &self.tools {
            Tools::Python { .. } => ("print(1 + 1)", "2"),
            Tools::Rust { .. } => ("fn main() { println!(\"{}\", 1 + 1) }", "2"),
            // What a program of an unknown language looks like is unknown: that the sandbox is there must do.
            Tools::Command { .. } => return self.open(Vec::new()).map(drop),
        };
        let case = Case::Output { input: String::new(), output: expected.to_owned() };
        let mut failure = None;
        let tally = self.cases(program, std::slice::from_ref(&case), &mut |outcome| failure = Some(outcome.clone()))?;
        if tally.passed == 1 {
            return Ok(());
        }
        let tool = match &self.tools {
            Tools::Python { python } => python,
            Tools::Rust { rustc, .. } => rustc,
            Tools::Command { argv } => &argv[0],
        };
        let outcome = failure.unwrap_or_else(|| Outcome::without_output(End::Lost));
        let words = outcome.stderr.trim();
        let last = words.lines().last().unwrap_or_default();
        Err(CodeError::Tool {
            tool: format!("{tool:?}"),
            problem: format!("does not work in the sandbox: {:?} {last}", outcome.end).trim_end().to_owned(),
        })
    }

    /// Runs a program against a problem's tests.
    pub(crate) fn run(&self, program: &str, problem: &Problem) -> Result<Tally, CodeError> {
        match problem {
            Problem::Cases(cases) => self.cases(program, cases, &mut |_| {}),
            Problem::Project(project) => self.project(program, project),
        }
    }

    fn open(&self, files: Vec<(String, String)>) -> Result<Session, CodeError> {
        Session::open(&self.launcher, &self.confinement, files)
    }

    fn cases(&self, program: &str, cases: &[Case], on_failure: &mut dyn FnMut(&Outcome)) -> Result<Tally, CodeError> {
        let mut files = vec![("program".to_owned(), program.to_owned())];
        if cases.iter().any(|case| matches!(case, Case::Assert(_))) {
            files.push(("driver".to_owned(), include_str!("driver.py").to_owned()));
        }
        let assertions = cases.iter().enumerate().filter_map(|(index, case)| match case {
            Case::Assert(assertion) => Some((format!("test-{index}"), assertion.clone())),
            Case::Output { .. } => None,
        });
        files.extend(assertions);
        let mut session = self.open(files)?;
        let mut tally = Tally { passed: 0, total: cases.len() };
        if let Tools::Rust { rustc, .. } = &self.tools {
            let options = ["--edition=2024", "-O", "-Ccodegen-units=1", "--cap-lints=allow", "-o", "binary", "program"];
            let argv = std::iter::once(rustc.as_str()).chain(options).map(str::to_owned).collect();
            let built = self.step(&mut session, Call { argv, input: "", builds: true })?;
            if !built.is_success() {
                on_failure(&built);
                return Ok(tally);
            }
        }
        for (index, case) in cases.iter().enumerate() {
            let at = |name: &str| session.home().join(name).to_string_lossy().into_owned();
            let (outcome, is_passed) = match (case, &self.tools) {
                (Case::Assert(_), Tools::Python { python }) => {
                    let token = token()?;
                    let argv = python_argv(python, [at("driver"), at("program"), at(&format!("test-{index}"))]);
                    let outcome = self.step(&mut session, Call { argv, input: &token, builds: false })?;
                    let is_whole = outcome.stdout.lines().any(|line| line == token.trim_end());
                    (outcome, is_whole)
                }
                (Case::Assert(_), _) => (Outcome::without_output(End::Lost), false),
                (Case::Output { input, output }, tools) => {
                    let argv = match tools {
                        Tools::Python { python } => python_argv(python, [at("program")]),
                        Tools::Rust { .. } => vec![at("binary")],
                        Tools::Command { argv } => {
                            argv.iter().map(|part| part.replace(PROGRAM, &at("program"))).collect()
                        }
                    };
                    let outcome = self.step(&mut session, Call { argv, input, builds: false })?;
                    let is_same = same_output(&outcome.stdout, output);
                    (outcome, is_same)
                }
            };
            if is_passed && outcome.is_success() {
                tally.passed += 1;
            } else {
                on_failure(&outcome);
            }
        }
        Ok(tally)
    }

    fn project(&self, program: &str, project: &Project) -> Result<Tally, CodeError> {
        let Tools::Rust { cargo, .. } = &self.tools else { return Ok(Tally::default()) };
        let mut files = project.files.clone();
        files.push((project.program.clone(), program.to_owned()));
        let mut session = self.open(files)?;
        let cargo = |arguments: &[&str]| {
            std::iter::once(cargo.as_str()).chain(arguments.iter().copied()).map(str::to_owned).collect()
        };
        // Integration tests alone: tests in the program's own file are the model's.
        let argv = cargo(&["test", "--offline", "--no-run", "--test", "*", "--message-format=json"]);
        let built = self.step(&mut session, Call { argv, input: "", builds: true })?;
        // Of a project that cannot be built the tests are not known either, so they are counted as they are written.
        let none = Tally { passed: 0, total: project.num_tests(&self.config) };
        if !built.is_success() {
            return Ok(none);
        }
        let clippy = usize::from(self.config.clippy);
        let mut tally = Tally { passed: 0, total: clippy };
        if self.config.clippy {
            let argv = cargo(&["clippy", "--offline", "--quiet", "--", "-Dwarnings"]);
            let clean = self.step(&mut session, Call { argv, input: "", builds: true })?;
            tally.passed += usize::from(clean.is_success());
        }
        for binary in binaries(&built.stdout) {
            let argv = vec![binary.clone(), "--list".to_owned(), "--format=terse".to_owned()];
            let listed = self.step(&mut session, Call { argv, input: "", builds: false })?;
            for name in listed.stdout.lines().filter_map(|line| line.strip_suffix(": test")) {
                let argv = [&binary, "--exact", name, "--test-threads=1"].map(str::to_owned).to_vec();
                let outcome = self.step(&mut session, Call { argv, input: "", builds: false })?;
                let has_passed = outcome.stdout.lines().any(|line| line.starts_with("test result: ok. 1 passed;"));
                tally.total += 1;
                tally.passed += usize::from(outcome.is_success() && has_passed);
            }
        }
        // A project without a single test proves nothing.
        Ok(if tally.total == clippy { none } else { tally })
    }

    fn step(&self, session: &mut Session, call: Call<'_>) -> Result<Outcome, CodeError> {
        let config = &self.config;
        let Call { argv, input, builds } = call;
        let tool = argv.first().cloned().unwrap_or_default();
        let mut limits = Limits {
            timeout_ms: milliseconds(config.timeout_s),
            memory_mib: config.memory_mib,
            file_mib: config.disk_mib,
            processes: config.processes,
            output_kib: config.output_kib,
        };
        if builds {
            limits.timeout_ms = milliseconds(config.build_timeout_s);
            limits.memory_mib = limits.memory_mib.max(BUILD_MEMORY_MIB);
            limits.processes = limits.processes.max(BUILD_PROCESSES);
            limits.output_kib = limits.output_kib.max(BUILD_OUTPUT_KIB);
        }
        let folder = if builds { session.home() } else { session.temp() }.to_owned();
        let env = self.env(session.home(), session.temp());
        let outcome = session.run(Step { argv, folder, env, input: input.to_owned(), limits, builds });
        match outcome.end {
            End::NotStarted(reason) => {
                Err(CodeError::Tool { tool: format!("{tool:?}"), problem: format!("cannot be started: {reason}") })
            }
            _ => Ok(outcome),
        }
    }

    /// All variables that programs see.
    fn env(&self, home: &Path, temp: &Path) -> Vec<(String, String)> {
        let temp = temp.to_string_lossy();
        let mut env = vec![("HOME", temp.to_string()), ("TMPDIR", temp.to_string()), ("LANG", "C.UTF-8".to_owned())];
        match &self.tools {
            Tools::Python { .. } => env.extend([
                ("PATH", PATH.to_owned()),
                // The order of sets is the same in each run.
                ("PYTHONHASHSEED", "0".to_owned()),
                ("PYTHONUTF8", "1".to_owned()),
            ]),
            Tools::Rust { bin, .. } => env.extend([
                ("PATH", format!("{bin}:{PATH}")),
                ("CARGO_HOME", format!("{temp}/cargo")),
                ("CARGO_TARGET_DIR", home.join("target").to_string_lossy().into_owned()),
                ("CARGO_INCREMENTAL", "0".to_owned()),
                ("CARGO_PROFILE_TEST_DEBUG", "0".to_owned()),
                ("CARGO_PROFILE_DEV_DEBUG", "0".to_owned()),
            ]),
            Tools::Command { .. } => env.push(("PATH", PATH.to_owned())),
        }
        env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn python_argv<const N: usize>(python: &str, arguments: [String; N]) -> Vec<String> {
    // No files of compiled code, and no packages of the user.
    [python, "-B", "-s"].map(str::to_owned).into_iter().chain(arguments).collect()
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).ceil() as u64
}

/// A line that no program can know beforehand.
fn token() -> Result<String, CodeError> {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| CodeError::Tool { tool: "\"/dev/urandom\"".to_owned(), problem: error.to_string() })?;
    Ok(format!("{:032x}\n", u128::from_ne_bytes(bytes)))
}

/// The test programs that cargo built, by its messages.
fn binaries(messages: &str) -> Vec<String> {
    let binary = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_test = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "test");
        message["executable"].as_str().filter(|_| is_test).map(str::to_owned)
    };
    let mut found: Vec<_> = messages.lines().filter_map(binary).collect();
    found.sort_unstable();
    found
}
