//! The launcher: the process that makes a sandbox and runs programs in it.
//!
//! It is a program of its own, started anew for each completion, so that it has one thread and nothing of its host: no
//! memory, no open files, no environment. In a strict sandbox its child is the first process of a process namespace: when
//! that ends, for whatever reason, the kernel ends everything in it.

mod filter;
mod place;
mod privileges;
mod strict;
mod supervisor;
mod sys;
mod tree;

use std::env;
use std::env::consts::ARCH;
use std::fs;
use std::io::{self, BufRead, BufReader, Error};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::exit;

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use crate::config::Sandbox;
use crate::launcher::filter::filter;
use crate::launcher::place::{Place, write_files};
use crate::launcher::strict::{Missing, Side, build_root, enter, hide, missing};
use crate::launcher::supervisor::{Supervisor, answer};
use crate::launcher::sys::{can_filter, close_from};
use crate::launcher::tree::Proc;
use crate::wire::{ARGUMENT, Ask, Reply, Setup, VARIABLE};

/// Becomes the sandbox's launcher if this process was started as one, and then never returns.
///
/// To be called first in `main`, before any thread is started, by a program that is its own
/// [`Launcher`](crate::Launcher).
pub fn run_launcher_if_asked() {
    if env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT) && env::var_os(VARIABLE).is_some() {
        exit(i32::from(launch().is_err()));
    }
}

fn launch() -> io::Result<()> {
    close_from(3)?;
    let host = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut asks = BufReader::new(host.try_clone()?);
    let mut line = String::new();
    asks.read_line(&mut line)?;
    let Ask::Open(setup) = serde_json::from_str(&line)? else { return Err(Error::other("nothing to open")) };
    // The kernel's first choice when memory runs out, here and in all that comes from here.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    match open(&setup, &host) {
        Ok(Some(supervisor)) => {
            answer(&host, &Reply::Ready)?;
            supervisor.serve(asks)
        }
        Ok(None) => Ok(()),
        Err(Missing { layer, reason }) => answer(&host, &Reply::Refused { layer, reason }),
    }
}

/// Makes the sandbox; in the process that stays outside it, waits for its end.
fn open(setup: &Setup, host: &UnixStream) -> Result<Option<Supervisor>, Missing> {
    if fs::read_dir("/proc/self/task").map_err(missing("process table"))?.count() != 1 {
        let reason = "the launcher has several threads; run_launcher_if_asked must come first in main".to_owned();
        return Err(Missing { layer: "launcher of its own".to_owned(), reason });
    }
    let files = "private folder";
    let (proc, place, filter) = match setup.sandbox {
        Sandbox::Strict => match enter()? {
            Side::Outside(child) => {
                let _ = waitpid(Some(child), WaitOptions::empty());
                return Ok(None);
            }
            Side::Inside => {
                let proc = Proc::open().map_err(missing("process table"))?;
                let place = build_root(&setup.shown, setup.disk_mib)?;
                hide()?;
                let layer = "system call filter";
                let filter = filter().ok_or_else(|| missing(layer)(Error::other(format!("unknown on {ARCH}"))))?;
                can_filter().map_err(missing(layer))?;
                (proc, place, Some(filter))
            }
        },
        Sandbox::RlimitsOnly => {
            let orphans = set_child_subreaper(Some(getpid()));
            orphans.map_err(|error| missing("adoption of orphaned processes")(error.into()))?;
            let proc = Proc::open().map_err(missing("process table"))?;
            (proc, Place::folders(&setup.home, &setup.temp).map_err(missing(files))?, None)
        }
    };
    write_files(&setup.home, &setup.files).map_err(missing(files))?;
    let host = host.try_clone().map_err(missing("socket"))?;
    Ok(Some(Supervisor { host, proc, place, is_init: getpid() == Pid::INIT, filter, peers: setup.peers }))
}
