//! The ranks that train a run together. Rank 0 keeps the run: its folder is the one that the user named, and all files are
//! written there. The others have a scratch folder with as much of it as they need to come to the same decisions.

use crate::folder::RunFolder;
use crate::layers::{Resolved, resolve_text};
use crate::run_error::RunError;
use crate::scratch::Scratch;
use dapo_dist::{World, gather, share};
use dapo_trainer::TrainerError;
use std::convert::Infallible;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Bytes of a file that are sent at a time.
const CHUNK: usize = 32 << 20;
/// How often a rank that computes, reads or writes for long says that it is alive.
const PULSE: Duration = Duration::from_millis(500);

/// Where a rank puts what it lacks.
const INPUTS: &str = "inputs";

/// The rank that keeps the run.
pub(crate) const KEEPER: usize = 0;

/// This process among the ranks of a run.
pub(crate) struct Ranks {
    world: Arc<dyn World>,
    /// The folder of a rank that keeps nothing.
    scratch: Option<Scratch>,
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.world.rank(), self.world.size())
    }
}

impl Ranks {
    /// The ranks of a world.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub(crate) fn of(world: Arc<dyn World>) -> Result<Self, RunError> {
        let rank = world.rank();
        let scratch = (rank != KEEPER).then(|| Scratch::new(rank)).transpose()?;
        Ok(Self { world, scratch })
    }

    pub(crate) fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    pub(crate) fn are_several(&self) -> bool {
        self.world.size() > 1
    }

    /// Whether this rank keeps the run.
    pub(crate) fn keeps(&self) -> bool {
        self.scratch.is_none()
    }

    /// The run's folder on this rank: the one at `dir`, or a new one for as long as the run lives.
    pub(crate) fn folder(&self, dir: &Path) -> RunFolder {
        match &self.scratch {
            None => RunFolder::at(dir),
            Some(scratch) => RunFolder::at(&scratch.path().join("run")),
        }
    }

    /// Where files are put that this rank lacks. There is no such place on the rank that keeps the run.
    pub(crate) fn place(&self, name: &str) -> Option<PathBuf> {
        Some(self.scratch.as_ref()?.path().join(INPUTS).join(name))
    }

    /// Removes these files once they have been read.
    pub(crate) fn forget_inputs(&self) {
        if let Some(scratch) = &self.scratch {
            // At the end they are removed in any case.
            let _ = fs::remove_dir_all(scratch.path().join(INPUTS));
        }
    }

    /// Says what comes next, on all ranks alike.
    pub(crate) fn phase(&self, label: &str) {
        self.world.phase(label);
    }

    /// Says again and again that this rank is alive while `work` takes its time.
    pub(crate) fn alive_during<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.are_several() {
            return work();
        }
        thread::scope(|scope| {
            let (done, is_done) = channel::<()>();
            scope.spawn(move || {
                while is_done.recv_timeout(PULSE) == Err(RecvTimeoutError::Timeout) {
                    self.world.heartbeat();
                }
            });
            let outcome = work();
            drop(done);
            outcome
        })
    }

    /// The outcome on all ranks: an error of one is an error of each.
    ///
    /// # Errors
    /// This rank's own error; [`RunError::Rank`] where another rank failed, or rank 0 in the same way; and
    /// [`RunError::Dist`].
    pub(crate) fn agree<T>(&self, outcome: Result<T, RunError>) -> Result<T, RunError> {
        if !self.are_several() || outcome.as_ref().is_err_and(RunError::is_of_ranks) {
            return outcome;
        }
        let mine = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let all = match (gather(&*self.world, mine.as_bytes()), outcome) {
            (Ok(all), Ok(value)) if all.iter().all(Vec::is_empty) => return Ok(value),
            (Ok(all), Err(error)) if self.keeps() || all[KEEPER] != mine.as_bytes() => return Err(error),
            (Err(_), Err(error)) => return Err(error),
            (Err(error), Ok(_)) => return Err(error.into()),
            (Ok(all), _) => all,
        };
        let failed = all.iter().enumerate().find(|(_, message)| !message.is_empty());
        let (rank, message) = failed.map_or((KEEPER, &[][..]), |(rank, message)| (rank, message));
        Err(RunError::Rank { rank, message: String::from_utf8_lossy(message).into_owned() })
    }

    /// An error that all ranks have: [`RunError::Rank`] where it is that of rank 0.
    pub(crate) fn whose(&self, error: RunError) -> RunError {
        match self.agree(Err::<Infallible, _>(error)) {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    /// What the rank that keeps the run decides.
    ///
    /// # Errors
    /// [`RunError::Dist`].
    pub(crate) fn decide(&self, decision: bool) -> Result<bool, RunError> {
        Ok(self.tell(u64::from(decision))? != 0)
    }

    /// The number that the rank that keeps the run has.
    ///
    /// # Errors
    /// [`RunError::Dist`].
    pub(crate) fn tell(&self, number: u64) -> Result<u64, RunError> {
        let mut bytes = number.to_le_bytes().to_vec();
        self.world.broadcast(KEEPER, &mut bytes)?;
        Ok(bytes.first_chunk().map_or(number, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// The bytes that the rank that keeps the run has.
    ///
    /// # Errors
    /// [`RunError::Dist`].
    pub(crate) fn send(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, RunError> {
        share(&*self.world, KEEPER, &mut bytes)?;
        Ok(bytes)
    }

    /// What every rank has, by rank.
    ///
    /// # Errors
    /// [`RunError::Dist`].
    pub(crate) fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, RunError> {
        Ok(gather(&*self.world, mine)?)
    }

    /// Sends a file of the rank that keeps the run; the others write it to `to` where they want it. One that does not
    /// exist is not written.
    ///
    /// # Errors
    /// When it cannot be read or written, and [`RunError::Dist`].
    pub(crate) fn send_file(&self, from: &Path, to: Option<&Path>) -> Result<(), RunError> {
        let mut source = if self.keeps() { File::open(from).ok() } else { None };
        let mut left = match &source {
            Some(file) => file.metadata().map_err(RunError::io(from))?.len() + 1,
            None => 0,
        };
        left = self.tell(left)?;
        // One more than the bytes; 0 for a file that is not there.
        let Some(mut left) = left.checked_sub(1) else { return Ok(()) };
        let mut target = match to.filter(|_| !self.keeps()) {
            Some(path) => {
                let dir = path.parent().unwrap_or(path);
                fs::create_dir_all(dir).map_err(RunError::io(dir))?;
                Some((path, File::create(path).map_err(RunError::io(path))?))
            }
            None => None,
        };
        while left > 0 {
            let length = left.min(CHUNK as u64);
            let mut bytes = Vec::new();
            if let Some(file) = &mut source {
                bytes.resize(length as usize, 0);
                file.read_exact(&mut bytes).map_err(RunError::io(from))?;
            }
            let bytes = self.send(bytes)?;
            if let Some((path, file)) = &mut target {
                file.write_all(&bytes).map_err(RunError::io(path))?;
            }
            left -= length;
        }
        Ok(())
    }

    /// Sends files of a folder of the rank that keeps the run to the same folder of the others' run, by their names in it.
    ///
    /// # Errors
    /// As [`send_file`](Self::send_file).
    pub(crate) fn send_files(&self, dir: &Path, names: &[String]) -> Result<(), RunError> {
        names.iter().try_for_each(|name| self.send_file(&dir.join(name), Some(&dir.join(name))))
    }

    /// The list of names that the rank that keeps the run has.
    ///
    /// # Errors
    /// [`RunError::Dist`].
    pub(crate) fn send_names(&self, names: &[String]) -> Result<Vec<String>, RunError> {
        let names = self.send(names.join("\n").into_bytes())?;
        Ok(String::from_utf8_lossy(&names).lines().map(str::to_owned).collect())
    }
}

impl RunError {
    /// Whether the ranks do not work together any more, so that nothing can be done together.
    pub fn is_of_ranks(&self) -> bool {
        match self {
            Self::Dist(_) => true,
            Self::Trainer(error) => matches!(**error, TrainerError::Dist(_)),
            Self::Step { source, .. } => source.is_of_ranks(),
            _ => false,
        }
    }

    /// Whether the failure is another rank's, which says so itself, or that of all ranks.
    pub fn is_of_another_rank(&self) -> bool {
        match self {
            Self::Rank { .. } => true,
            Self::Step { source, .. } => source.is_of_another_rank(),
            _ => false,
        }
    }
}

/// Gives all ranks the settings of rank 0, the only one that needs files of settings or a run's folder.
///
/// # Errors
/// [`RunError::Dist`], and when rank 0's settings cannot be written or read.
pub fn share_settings(world: &dyn World, own: Option<Resolved>) -> Result<Resolved, RunError> {
    if world.size() == 1
        && let Some(own) = own
    {
        return Ok(own);
    }
    world.phase("start: settings");
    let mut text = match &own {
        Some(own) if world.rank() == KEEPER => own.to_toml()?.into_bytes(),
        _ => Vec::new(),
    };
    share(world, KEEPER, &mut text)?;
    match own {
        Some(own) if world.rank() == KEEPER => Ok(own),
        _ => Ok(resolve_text(&String::from_utf8_lossy(&text), Path::new(RunFolder::CONFIG))?),
    }
}
