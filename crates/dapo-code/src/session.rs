//! The host's side of a sandbox: starting the launcher and talking to it.

use std::env;
use std::io::{BufRead, BufReader, Error, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::config::Sandbox;
use crate::error::CodeError;
use crate::wire::{ARGUMENT, Ask, End, Outcome, Reply, STRICT_HOME, STRICT_TEMP, Setup, Shown, Step, VARIABLE};

/// How long the launcher may take beyond what a step may.
const GRACE: Duration = Duration::from_secs(20);
/// How long the launcher may take to end when the host hangs up.
const FAREWELL: Duration = Duration::from_secs(5);

/// The program that makes sandboxes: it is started anew for each completion, and starts the completion's program in
/// namespaces and limits of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    path: PathBuf,
}

impl Launcher {
    /// The running program, whose `main` must begin with [`run_launcher_if_asked`](crate::run_launcher_if_asked).
    ///
    /// # Errors
    /// When the program's path is unknown.
    pub fn current_exe() -> Result<Self, CodeError> {
        match env::current_exe() {
            Ok(path) => Ok(Self { path }),
            Err(error) => Err(CodeError::Launcher { launcher: "\"\"".to_owned(), problem: error.to_string() }),
        }
    }

    /// Another program that begins so, such as this crate's `dapo-sandbox`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn fault(&self, problem: impl Into<String>) -> CodeError {
        CodeError::Launcher { launcher: format!("{:?}", self.path.display().to_string()), problem: problem.into() }
    }
}

/// What a sandbox is made of, apart from the program.
#[derive(Debug, Clone)]
pub(crate) struct Confinement {
    pub(crate) sandbox: Sandbox,
    pub(crate) shown: Vec<Shown>,
    pub(crate) disk_mib: u64,
    pub(crate) peers: u64,
}

/// A sandbox in which commands are run one after the other.
#[derive(Debug)]
pub(crate) struct Session {
    launcher: Child,
    stream: BufReader<UnixStream>,
    home: PathBuf,
    temp: PathBuf,
    is_lost: bool,
    /// Removed with the session.
    _folder: Option<TempDir>,
}

impl Session {
    /// Makes a sandbox with these files in its home folder.
    pub(crate) fn open(
        launcher: &Launcher,
        confinement: &Confinement,
        files: Vec<(String, String)>,
    ) -> Result<Self, CodeError> {
        if env::var_os(VARIABLE).is_some() {
            return Err(launcher.fault("does not begin with run_launcher_if_asked"));
        }
        let fault = |doing: &str, error: &Error| launcher.fault(format!("cannot {doing}: {error}"));
        let (home, temp, folder) = match confinement.sandbox {
            Sandbox::Strict => (PathBuf::from(STRICT_HOME), PathBuf::from(STRICT_TEMP), None),
            Sandbox::RlimitsOnly => {
                // The programs of root run as another user, who must reach the folder.
                let folder = tempfile::Builder::new()
                    .prefix("dapo-code-")
                    .permissions(std::fs::Permissions::from_mode(0o711))
                    .tempdir()
                    .map_err(|error| fault("make a temporary folder", &error))?;
                (folder.path().join("box"), folder.path().join("tmp"), Some(folder))
            }
        };
        let (stream, end) = UnixStream::pair().map_err(|error| fault("get a socket", &error))?;
        stream.set_read_timeout(Some(GRACE)).map_err(|error| fault("set a limit", &error))?;
        let mut command = Command::new(&launcher.path);
        command.arg(ARGUMENT).env_clear().env(VARIABLE, "1").stdin(OwnedFd::from(end));
        if let Some(libraries) = env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(|error| fault("be started", &error))?;
        // It holds the other end of the socket.
        drop(command);
        let mut session = Self {
            launcher: child,
            stream: BufReader::new(stream),
            home: home.clone(),
            temp: temp.clone(),
            is_lost: false,
            _folder: folder,
        };
        let Confinement { sandbox, shown, disk_mib, peers } = confinement.clone();
        match session.ask(&Ask::Open(Setup { sandbox, shown, home, temp, files, disk_mib, peers })) {
            Some(Reply::Ready) => Ok(session),
            Some(Reply::Refused { layer, reason }) => Err(CodeError::Refused { layer, reason }),
            Some(Reply::Done(_)) | None => {
                Err(launcher.fault("does not answer, expected a program whose main begins with run_launcher_if_asked"))
            }
        }
    }

    /// The folder with the program's files, as the program sees it.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The folder for temporary files, as the program sees it.
    pub(crate) fn temp(&self) -> &Path {
        &self.temp
    }

    /// Runs a command.
    pub(crate) fn run(&mut self, step: Step) -> Outcome {
        let limit = Duration::from_millis(step.limits.timeout_ms) + GRACE;
        let is_limited = self.stream.get_ref().set_read_timeout(Some(limit)).is_ok();
        match self.ask(&Ask::Run(step)) {
            Some(Reply::Done(outcome)) if is_limited => outcome,
            _ => {
                self.is_lost = true;
                Outcome::without_output(End::Lost)
            }
        }
    }

    /// The launcher's answer, if it gives one.
    fn ask(&mut self, ask: &Ask) -> Option<Reply> {
        if self.is_lost {
            return None;
        }
        let mut line = serde_json::to_vec(ask).ok()?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).ok()?;
        line.clear();
        self.stream.read_until(b'\n', &mut line).ok()?;
        serde_json::from_slice(&line).ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // At the end of its input the launcher ends every process; it is killed when it does not come to that.
        let _ = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
        let end = Instant::now() + FAREWELL;
        while !self.is_lost && Instant::now() < end {
            match self.launcher.try_wait() {
                Ok(None) => sleep(Duration::from_micros(500)),
                _ => return,
            }
        }
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}
