//! The programs that a language needs, found once and shown to the sandbox.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::config::{CodeReward, Language, Sandbox};
use crate::error::CodeError;
use crate::wire::Shown;

/// A language's programs, by absolute paths.
#[derive(Debug, Clone)]
pub(crate) enum Tools {
    Python {
        python: String,
    },
    Rust {
        rustc: String,
        cargo: String,
        /// The folder of both.
        bin: String,
    },
    Command {
        /// The command, its program by its path.
        argv: Vec<String>,
    },
}

/// Folders that a strict sandbox always has.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"];
/// Folders of the sandbox's own, which hide what the machine has there.
const OWN: [&str; 4] = ["/box", "/tmp", "/dev", "/proc"];
/// Where programs are looked for within the sandbox.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Finds the language's programs, and what must be shown for them to run.
pub(crate) fn find(config: &CodeReward) -> Result<(Tools, Vec<Shown>), CodeError> {
    let mut shown = Vec::new();
    for path in &config.read {
        let source = path.canonicalize().map_err(|error| tool(path.display(), format!("cannot be read: {error}")))?;
        shown.push(Shown { source, target: path.clone() });
    }
    let tools = match config.language {
        Language::Python => {
            let places = "import sys\nfor place in (sys.executable, sys.prefix, sys.base_prefix, sys.exec_prefix, \
                          sys.base_exec_prefix): print(place)";
            let places = ask(&config.python, &["-c", places], "needed to run programs in Python")?;
            let mut places = places.lines();
            let python = places.next().unwrap_or_default().to_owned();
            for place in places {
                show(Path::new(place), &config.python, &mut shown)?;
            }
            // An environment's interpreter is a link to that of the installation.
            is_reachable(Path::new(&python), &shown)?;
            Tools::Python { python }
        }
        Language::Rust => {
            let root = ask("rustc", &["--print", "sysroot"], "needed to build programs in Rust")?;
            let root = PathBuf::from(root.trim());
            show(&root, "rustc", &mut shown)?;
            let bin = root.join("bin");
            let program = |name: &str| match bin.join(name) {
                path if path.is_file() => Ok(path.to_string_lossy().into_owned()),
                path => {
                    Err(tool(path.display(), "is missing, expected a Rust toolchain with cargo and clippy".to_owned()))
                }
            };
            if config.clippy {
                program("cargo-clippy")?;
                program("clippy-driver")?;
            }
            let (rustc, cargo) = (program("rustc")?, program("cargo")?);
            Tools::Rust { rustc, cargo, bin: bin.to_string_lossy().into_owned() }
        }
        Language::Command => {
            let (name, arguments) = config.command.split_first().map_or(("", &[][..]), |(name, rest)| (name, rest));
            let path = on_path(name).ok_or_else(|| tool(name, "is not found on the path".to_owned()))?;
            is_reachable(&path, &shown)?;
            let argv = std::iter::once(path.to_string_lossy().into_owned()).chain(arguments.iter().cloned());
            Tools::Command { argv: argv.collect() }
        }
    };
    let is_hidden = |shown: &&Shown| OWN.iter().any(|own| shown.target.starts_with(own));
    if let Some(Shown { target, .. }) = shown.iter().find(is_hidden).filter(|_| config.sandbox == Sandbox::Strict) {
        let problem =
            format!("cannot be shown in a strict sandbox, which has folders of its own at {}", OWN.join(", "));
        return Err(tool(target.display(), problem));
    }
    Ok((tools, shown))
}

fn tool(name: impl std::fmt::Display, problem: String) -> CodeError {
    CodeError::Tool { tool: format!("{:?}", name.to_string()), problem }
}

/// What a trusted program of this machine prints.
fn ask(program: &str, arguments: &[&str], purpose: &str) -> Result<String, CodeError> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| tool(program, format!("is {purpose} and cannot be started: {error}")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(tool(program, format!("is {purpose} and fails: {}", words.trim())));
    }
    String::from_utf8(output.stdout).map_err(|_| tool(program, "prints a path that is not UTF-8".to_owned()))
}

/// Adds the folder that a program was installed in. It must not hold the home folder.
fn show(folder: &Path, program: &str, shown: &mut Vec<Shown>) -> Result<(), CodeError> {
    let fault = |problem: String| tool(program, format!("is installed in {}, {problem}", folder.display()));
    let source = folder.canonicalize().map_err(|error| fault(format!("which cannot be read: {error}")))?;
    let home = env::home_dir().map(|home| home.canonicalize().unwrap_or(home));
    if source == Path::new("/") || home.is_some_and(|home| home.starts_with(&source)) {
        return Err(fault("which holds the home folder, expected a folder of its own".to_owned()));
    }
    for target in [folder, &source] {
        let is_shown = |path: &Path| SYSTEM.iter().any(|system| path.starts_with(system));
        let is_known = shown.iter().any(|known| target.starts_with(&known.target));
        if !is_shown(target) && !is_known {
            shown.push(Shown { source: source.clone(), target: target.to_owned() });
        }
    }
    Ok(())
}

/// Checks that a program and what its links lead to are shown.
fn is_reachable(program: &Path, shown: &[Shown]) -> Result<(), CodeError> {
    let real = program.canonicalize().map_err(|error| tool(program.display(), error.to_string()))?;
    for path in [program, &real] {
        let is_shown = SYSTEM.iter().any(|system| path.starts_with(system))
            || shown.iter().any(|known| path.starts_with(&known.target));
        if !is_shown {
            let problem = format!("leads to {}, which programs may not read: add its folder to `read`", path.display());
            return Err(tool(program.display(), problem));
        }
    }
    Ok(())
}

fn on_path(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| std::path::absolute(name).ok()).flatten();
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}
