//! A child process that answers lines with lines.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::append;
use crate::fault::Fault;
use crate::group;

/// Longest reply, in bytes.
const LONGEST: u64 = 1 << 28;
/// Replies that wait to be read; beyond, the child waits.
const WAITING: usize = 4;
/// Time that a child has to end by itself, once its stdin or its stdout is closed.
const GRACE: Duration = Duration::from_millis(500);

/// The variable by which Python writes each line at once.
const UNBUFFERED: &str = "PYTHONUNBUFFERED";

/// How a worker is started.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// The working directory.
    pub(crate) dir: PathBuf,
    /// The file that stderr is appended to; none: this process's stderr.
    pub(crate) log: Option<PathBuf>,
    /// Whether the program is known to flush every reply.
    pub(crate) flushes: bool,
}

/// A running child. Dropping it ends the child with all that it has started.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    /// To the thread that writes: the child need not read while it is written to.
    requests: Option<Sender<Vec<u8>>>,
    replies: Receiver<Vec<u8>>,
    log: Option<(PathBuf, u64)>,
    flushes: bool,
    is_faulty: bool,
}

impl Worker {
    /// Starts the child.
    ///
    /// # Errors
    /// [`Fault::Start`].
    pub(crate) fn start(start: &Start) -> Result<Self, Fault> {
        Self::spawn(start).map_err(|error| Fault::Start {
            program: start.program.to_string_lossy().into_owned(),
            reason: error.to_string(),
        })
    }

    fn spawn(start: &Start) -> io::Result<Self> {
        let mut command = Command::new(&start.program);
        command.args(&start.args).current_dir(&start.dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        if env::var_os(UNBUFFERED).is_none() {
            command.env(UNBUFFERED, "1");
        }
        let mut log = None;
        if let Some(path) = &start.log {
            let file = append::open(path)?;
            log = Some((path.clone(), file.metadata()?.len()));
            command.stderr(file);
        }
        group::set_apart(&mut command);
        let explained = |error: io::Error| io::Error::new(error.kind(), format!("{error}{}", remedy(&error)));
        let mut child = command.spawn().map_err(explained)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            group::kill(&mut child);
            return Err(io::Error::other("its stdin and stdout are no pipes"));
        };
        let (requests, to_write) = channel();
        let (has_read, replies) = sync_channel(WAITING);
        // Neither thread is waited for: a process that left the group can hold the pipes open.
        thread::spawn(move || write_lines(stdin, &to_write));
        thread::spawn(move || read_lines(stdout, &has_read));
        Ok(Self { child, requests: Some(requests), replies, log, flushes: start.flushes, is_faulty: false })
    }

    /// Sends a line and waits for one.
    ///
    /// # Errors
    /// [`Fault::Timeout`] and [`Fault::Exit`]. The worker is of no use then.
    pub(crate) fn ask(&mut self, line: Vec<u8>, limit: Duration) -> Result<Vec<u8>, Fault> {
        // Where the writer has ended, so have the replies.
        self.requests.as_ref().map(|requests| requests.send(line));
        let reply = match self.replies.recv_timeout(limit) {
            Ok(reply) => Ok(reply),
            Err(RecvTimeoutError::Timeout) => {
                Err(Fault::Timeout { seconds: limit.as_secs_f64(), hint: self.silence() })
            }
            Err(RecvTimeoutError::Disconnected) => Err(Fault::Exit { how: self.ending() }),
        };
        self.is_faulty |= reply.is_err();
        reply
    }

    /// Marks that the worker has said something unexpected: it is not given time to end.
    pub(crate) fn fail(&mut self) {
        self.is_faulty = true;
    }

    /// How a child whose stdout has ended, has ended itself.
    fn ending(&mut self) -> String {
        let has_ended = group::ends_within(&mut self.child, GRACE);
        group::kill(&mut self.child);
        let how = match self.child.wait() {
            Ok(status) if has_ended => format!("ended ({status})"),
            _ => "closed its stdout".to_owned(),
        };
        match self.said() {
            Some(said) => format!("{how}{said},"),
            None => how,
        }
    }

    /// What may explain that there is no reply.
    fn silence(&self) -> String {
        let hint = if self.flushes { "" } else { "; is the output flushed after each line?" };
        self.said().unwrap_or_default() + hint
    }

    /// The last line on stderr since the start.
    fn said(&self) -> Option<String> {
        let (path, from) = self.log.as_ref()?;
        Some(format!(", saying {:?} in {}", last_line(path, *from)?, path.display()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its stdin ends with the writer.
        self.requests = None;
        let end = Instant::now() + GRACE;
        while !self.is_faulty && self.replies.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
        if !self.is_faulty {
            group::ends_within(&mut self.child, end.saturating_duration_since(Instant::now()));
        }
        group::kill(&mut self.child);
        // Nothing can be done about a child that cannot be waited for.
        let _ = self.child.wait();
    }
}

/// What helps where a program cannot be started.
fn remedy(error: &io::Error) -> &'static str {
    /// `ENOEXEC`: neither a binary nor a script with a first line that names its interpreter.
    const NO_FORMAT: i32 = 8;
    if error.kind() == ErrorKind::PermissionDenied || cfg!(unix) && error.raw_os_error() == Some(NO_FORMAT) {
        "; make it executable by chmod +x with its interpreter in the first line, or name the interpreter before it, as in \
         [\"python3\", \"FILE\"]"
    } else {
        ""
    }
}

fn write_lines(mut stdin: ChildStdin, lines: &Receiver<Vec<u8>>) {
    for line in lines {
        if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, lines: &SyncSender<Vec<u8>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match stdout.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            // A part of a line is no reply, but says what is wrong.
            Ok(1..) if lines.send(line).is_ok() => {}
            _ => return,
        }
    }
}

/// The last line that was written to a file beyond `from`, if there is one.
fn last_line(path: &Path, from: u64) -> Option<String> {
    const TAIL: u64 = 4096;
    let length = fs::metadata(path).ok()?.len();
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL)))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail).into_owned();
    let line = tail.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(400).collect())
}
