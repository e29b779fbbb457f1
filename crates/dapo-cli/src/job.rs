//! The processes that train as one, as `mpirun` or `srun` starts them: ranks. Without a launcher there is one.

use crate::failed_step::once;
use crate::signals::Stopped;
use crate::talk::Talk;
use anyhow::Result;
use dapo_dist::{Binding, DistError, Options, World, gather, handshake, launched, supervise, widen};
use dapo_run::RunError;
use dapo_trainer::Prefix;
use std::cell::Cell;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

/// How long a killed rank's supervisor waits beyond the deadline for the others to end the job.
const GRACE: Duration = Duration::from_secs(1);
/// How long rank 0 may take to save what is finished after the ranks have lost each other.
const LAST_SAVE: Duration = Duration::from_secs(5);

/// A start that is refused: nothing was done, and the command is to be changed.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl Refused {
    fn because(error: &DistError) -> anyhow::Error {
        Self(error.to_string()).into()
    }
}

/// This process and the others.
pub(crate) struct Job {
    world: Arc<dyn World>,
    talk: Talk,
    binding: Option<Binding>,
    /// Whether all ranks know of the failure, and can end together.
    is_known: Cell<bool>,
    /// Whether another rank tells of the failure.
    is_told: Cell<bool>,
}

impl Job {
    /// Finds the other ranks. A rank that gives no sign of life for `timeout` ends the job.
    ///
    /// Where a launcher started several processes, this one returns in a child of itself.
    ///
    /// # Errors
    /// [`Refused`] where the processes do not find each other, or were not started alike.
    pub(crate) fn open(timeout: Duration, talk: Talk) -> Result<Self> {
        let several = launched(|name| std::env::var(name).ok()).is_some_and(|launch| launch.size > 1);
        let binding = several.then(|| prepare(timeout)).transpose()?;
        let report = move |error: &DistError| {
            dapo_console::restore();
            talk.error(error);
        };
        let options = Options { deadline: timeout, report: Box::new(report) };
        let world: Arc<dyn World> = Arc::from(dapo_dist::open(options).map_err(|error| Refused::because(&error))?);
        let talk = if world.rank() == 0 { talk } else { talk.of_rank(world.rank()) };
        Ok(Self { world, talk, binding, is_known: Cell::new(false), is_told: Cell::new(false) })
    }

    /// The ranks.
    pub(crate) fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    /// What this rank may say: rank 0 all, the others what is wrong, with their rank.
    pub(crate) fn talk(&self) -> Talk {
        self.talk
    }

    /// Whether this is rank 0, which keeps the run and says what happens.
    pub(crate) fn leads(&self) -> bool {
        self.world.rank() == 0
    }

    /// The number of ranks, and where there are several, the cores that this one may use.
    pub(crate) fn describe(&self) -> Option<String> {
        let binding = self.binding?;
        Some(format!("{} ranks; threads of rank 0: {}; {binding}", self.world.size(), binding.threads()))
    }

    /// Checks that all ranks are the same program with the same arguments.
    ///
    /// # Errors
    /// [`Refused`] on all ranks, if they are not.
    pub(crate) fn check_alike(&self) -> Result<()> {
        if self.world.size() == 1 {
            return Ok(());
        }
        self.world.phase("start: program and arguments");
        let program = std::env::current_exe().and_then(|program| Prefix::of_file(&program, u64::MAX));
        let program = program.map_or_else(|error| error.to_string(), |program| program.digest().blake3);
        let arguments: Vec<String> =
            std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
        let items = [("the command line", arguments.join(" ")), ("the program's BLAKE3 hash", program)];
        handshake(&*self.world, &items).map_err(|error| match error {
            DistError::Differs { .. } => Refused::because(&error),
            error => RunError::from(error).into(),
        })
    }

    /// A signal that any rank has got, and the first such rank.
    ///
    /// # Errors
    /// When a rank does something else.
    pub(crate) fn signal(&self, caught: Option<Stopped>) -> Result<Option<(usize, Stopped)>, RunError> {
        if self.world.size() == 1 {
            return Ok(caught.map(|signal| (0, signal)));
        }
        self.world.phase("between two steps");
        let all = gather(&*self.world, &[caught.map_or(0, Stopped::number)])?;
        let signals = all.iter().map(|bytes| bytes.first().copied().unwrap_or_default()).enumerate();
        Ok(signals.filter(|(_, number)| *number > 0).map(|(rank, number)| (rank, Stopped::by(number))).next())
    }

    /// The error of something that all ranks do, and fail in together.
    pub(crate) fn failed(&self, error: RunError) -> anyhow::Error {
        self.is_known.set(!error.is_of_ranks());
        self.is_told.set(error.is_of_another_rank());
        once(error)
    }

    /// Ends the job: together where all ranks know the outcome, else at once, on all ranks.
    pub(crate) fn end(self, outcome: Result<()>) -> ExitCode {
        let Self { world, talk, is_known, is_told, .. } = self;
        let error = outcome.as_ref().err();
        let is_refused = error.is_some_and(anyhow::Error::is::<Refused>);
        let is_stopped = error.is_some_and(anyhow::Error::is::<Stopped>);
        let of_run = error.and_then(|error| error.downcast_ref::<RunError>());
        // A handshake has the same result on all ranks.
        let is_difference =
            matches!(of_run, Some(RunError::Dist(error)) if matches!(**error, DistError::Differs { .. }));
        let is_alike = is_refused || is_difference;
        let is_known = error.is_none_or(crate::is_broken_pipe) || is_alike || is_stopped || is_known.get();
        let is_lost = of_run.is_some_and(RunError::is_of_ranks);
        let is_silent = world.rank() > 0 && (is_told.get() || is_alike);
        let code = if is_silent { crate::exit_code(&outcome) } else { crate::finish(outcome, talk) };
        if world.size() > 1 {
            if is_known {
                match world.finish() {
                    Ok(()) => return ExitCode::from(code),
                    Err(error) => talk.error(error),
                }
            }
            if is_lost && world.rank() > 0 {
                sleep(LAST_SAVE);
            }
            world.abort(code.into());
        }
        ExitCode::from(code)
    }
}

/// Makes this process a rank, with its share of the machine's cores.
fn prepare(timeout: Duration) -> Result<Binding> {
    supervise(timeout + GRACE).map_err(|error| Refused::because(&error))?;
    let binding = widen();
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // There are no threads yet.
        rayon::ThreadPoolBuilder::new().num_threads(binding.threads()).build_global()?;
    }
    Ok(binding)
}
