//! Children in a process group of their own.

use std::process::{Child, Command};
use std::time::Duration;

/// Puts the child that the command starts into a group of its own: signals of the terminal do not reach it.
#[cfg(unix)]
pub(crate) fn set_apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
pub(crate) fn set_apart(_: &mut Command) {}

/// Kills the child and what it has started. The child must not have been waited for: its id could be another's.
#[cfg(unix)]
pub(crate) fn kill(child: &mut Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    // The only failure: nothing is left to be killed.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

#[cfg(not(unix))]
pub(crate) fn kill(child: &mut Child) {
    // The only failure: it has ended.
    let _ = child.kill();
}

/// Whether the child ends within this time. Its id stays its own.
#[cfg(unix)]
pub(crate) fn ends_within(child: &mut Child, limit: Duration) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    is_true_within(limit, || matches!(waitid(WaitId::Pid(Pid::from_child(child)), look), Ok(Some(_))))
}

#[cfg(not(unix))]
pub(crate) fn ends_within(child: &mut Child, limit: Duration) -> bool {
    is_true_within(limit, || matches!(child.try_wait(), Ok(Some(_))))
}

fn is_true_within(limit: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    const PAUSE: Duration = Duration::from_millis(2);
    let end = std::time::Instant::now() + limit;
    loop {
        if is_true() {
            return true;
        }
        if std::time::Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}
