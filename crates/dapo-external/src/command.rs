//! Commands that score over lines of JSON.

use std::env;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dapo_reward::Score;

use crate::config::CommandReward;
use crate::counters::Tally;
use crate::error::ExternalError;
use crate::fault::Fault;
use crate::reply::ReplyId;
use crate::transport::{Batch, Exchange, Read, Transport};
use crate::wire::{self, TokenIds};
use crate::worker::{Start, Worker};

/// Workers that a command is started for.
#[derive(Debug)]
pub(crate) struct CommandTransport {
    start: Start,
    timeout: Duration,
    token_ids: TokenIds,
    lanes: Vec<Mutex<Lane>>,
}

/// A place for a worker.
#[derive(Debug, Default)]
struct Lane {
    worker: Option<Worker>,
    was_started: bool,
}

impl CommandTransport {
    /// Workers of a configuration, which are started at their first request.
    ///
    /// # Errors
    /// [`ExternalError::Config`], [`ExternalError::Missing`] when the program is not there, and [`ExternalError::Io`].
    pub(crate) fn open(config: &CommandReward, base_dir: &Path, log: Option<&Path>) -> Result<Self, ExternalError> {
        config.validate()?;
        let (program, args) = config.command.split_first().map_or(("", &[][..]), |(p, args)| (p.as_str(), args));
        let start = Start {
            program: find(program, "command", base_dir)?,
            args: args.to_vec(),
            dir: absolute(base_dir)?,
            log: log.map(absolute).transpose()?,
            flushes: false,
        };
        Ok(Self::of(start, config.timeout_s, config.workers, TokenIds::Absent))
    }

    pub(crate) fn of(start: Start, timeout_s: f64, workers: usize, token_ids: TokenIds) -> Self {
        let lanes = (0..workers).map(|_| Mutex::default()).collect();
        Self { start, timeout: Duration::from_secs_f64(timeout_s), token_ids, lanes }
    }
}

impl Exchange for CommandTransport {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn reply_id(&self) -> ReplyId {
        ReplyId::Required
    }

    fn exchange(&self, lane: usize, line: Vec<u8>, tally: &Tally, read: &mut Read<'_>) -> Result<(), Fault> {
        let mut lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
        let mut worker = if let Some(worker) = lane.worker.take() {
            worker
        } else {
            let worker = Worker::start(&self.start)?;
            if std::mem::replace(&mut lane.was_started, true) {
                tally.restart();
            }
            worker
        };
        let result = worker.ask(line, self.timeout).and_then(|reply| read(&reply));
        // One that reports a failure is in order; any other is replaced.
        if matches!(result, Ok(()) | Err(Fault::Reported { .. })) {
            lane.worker = Some(worker);
        } else {
            worker.fail();
        }
        result
    }
}

impl Transport for CommandTransport {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn ask(&self, lane: usize, batch: &Batch<'_, '_>, tally: &Tally) -> Result<Vec<Score>, Fault> {
        let mut scores = Vec::new();
        self.exchange(lane, wire::request(batch, self.token_ids), tally, &mut |reply| {
            scores = wire::scores(reply, batch, self.reply_id())?;
            Ok(())
        })?;
        Ok(scores)
    }
}

/// The program: a path relative to `base_dir`, or a name that the system looks up.
///
/// # Errors
/// [`ExternalError::Missing`] and [`ExternalError::Io`].
pub(crate) fn find(program: &str, setting: &'static str, base_dir: &Path) -> Result<PathBuf, ExternalError> {
    let is_path = program.contains(['/', MAIN_SEPARATOR]);
    let missing =
        |file: &Path, hint: &str| ExternalError::Missing { setting, file: file.to_owned(), hint: hint.to_owned() };
    if is_path {
        let path = absolute(&base_dir.join(program))?;
        return if path.exists() { Ok(path) } else { Err(missing(&path, "")) };
    }
    let is_found = |dir: PathBuf| dir.join(program).is_file() || dir.join(format!("{program}.exe")).is_file();
    match env::var_os("PATH") {
        Some(paths) if !env::split_paths(&paths).any(is_found) => {
            Err(missing(Path::new(program), ", in no folder of PATH"))
        }
        _ => Ok(program.into()),
    }
}

/// # Errors
/// [`ExternalError::Io`] when there is no working directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, ExternalError> {
    // The folder of a file that is named without one.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    std::path::absolute(path).map_err(ExternalError::io(path))
}
