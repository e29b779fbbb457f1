//! A small process in front of each rank, which outlives it.
//!
//! If a rank is killed, a launcher ends the job at once, with that signal's code and before the other ranks notice. Behind
//! a supervisor a killed rank is a silent one: the others report it with step and phase and end the job with code 75.

use crate::{error::DistError, launch::launched, world::EXIT_MISSING_RANK};
use std::time::Duration;

/// Makes this process the supervisor of a rank that runs the same command, if a launcher started several ranks. Call it
/// first in `main`: it returns only in the rank itself, or without a launcher.
///
/// The supervisor passes on SIGHUP, SIGINT, SIGTERM, SIGUSR1 and SIGUSR2, and exits with the rank's code, or with 128 and
/// the signal's number if one of these ended it. If the rank is killed otherwise, the supervisor waits for `grace`, in
/// which the other ranks end the job, and exits with code 75: `grace` is the world's deadline and a second. A rank whose
/// supervisor is killed dies with it (Linux).
///
/// # Errors
///
/// [`DistError::Supervisor`] if the rank cannot be started.
pub fn supervise(grace: Duration) -> Result<(), DistError> {
    if launched(|name| std::env::var(name).ok()).is_none_or(|launch| launch.size <= 1) {
        return Ok(());
    }
    platform::supervise(grace)
}

#[cfg(unix)]
mod platform {
    use super::{DistError, Duration, EXIT_MISSING_RANK};
    use rustix::process::{Pid, Signal, kill_process};
    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2},
        iterator::Signals,
    };
    use std::{
        os::unix::process::{CommandExt, ExitStatusExt},
        process::{Command, exit},
        sync::{
            Arc, Mutex, PoisonError,
            atomic::{AtomicI32, Ordering},
        },
        thread,
    };

    /// Set in the rank: the supervisor's process number.
    const SUPERVISOR: &str = "DAPO_DIST_SUPERVISOR";

    pub(super) fn supervise(grace: Duration) -> Result<(), DistError> {
        if let Some(supervisor) = std::env::var_os(SUPERVISOR) {
            die_with(&supervisor.to_string_lossy());
            return Ok(());
        }
        let fail = |cause: std::io::Error| DistError::Supervisor { cause: cause.to_string() };
        // From here on signals are kept until there is a rank to pass them to.
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2]).map_err(fail)?;
        let mut arguments = std::env::args_os();
        let mut command = Command::new(std::env::current_exe().map_err(fail)?);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // In a process group of its own: what a launcher sends to the group arrives once.
        command.args(arguments).env(SUPERVISOR, std::process::id().to_string()).process_group(0);
        let mut child = command.spawn().map_err(fail)?;
        let rank = Arc::new(Mutex::new(Pid::from_raw(child.id() as i32)));
        let alive = Arc::clone(&rank);
        let passed_on = Arc::new(AtomicI32::new(0));
        let passing_on = Arc::clone(&passed_on);
        thread::spawn(move || {
            for number in signals.forever() {
                passing_on.store(number, Ordering::Relaxed);
                let rank = alive.lock().unwrap_or_else(PoisonError::into_inner);
                match (*rank, Signal::from_named_raw(number)) {
                    // It may have just died; then it is waited for.
                    (Some(rank), Some(signal)) => drop(kill_process(rank, signal)),
                    _ => exit(EXIT_MISSING_RANK),
                }
            }
        });
        let status = child.wait().map_err(fail)?;
        *rank.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(code) = status.code() {
            exit(code);
        }
        let (rank, signal) = (child.id(), status.signal().unwrap_or_default());
        if passed_on.load(Ordering::Relaxed) == signal {
            // As somebody wanted.
            exit(128 + signal);
        }
        eprintln!("error: process {rank} was ended by signal {signal}; the other ranks end the job");
        thread::sleep(grace);
        exit(EXIT_MISSING_RANK)
    }

    #[cfg(target_os = "linux")]
    fn die_with(supervisor: &str) {
        use rustix::process::{getppid, set_parent_process_death_signal};
        // Without it a killed supervisor's rank is ended by the others' deadline.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let parent = getppid().map(|parent| parent.as_raw_nonzero().to_string());
        if parent.as_deref() != Some(supervisor) {
            exit(EXIT_MISSING_RANK);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn die_with(_supervisor: &str) {}
}

#[cfg(not(unix))]
mod platform {
    use super::{DistError, Duration};

    pub(super) fn supervise(_grace: Duration) -> Result<(), DistError> {
        Ok(())
    }
}
