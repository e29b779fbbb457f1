//! Signals that ask a training to end: the first one after the present step, a second one at once.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A signal after which the command ends, its work saved.
#[derive(Debug)]
pub(crate) struct Stopped {
    number: usize,
}

impl Stopped {
    /// What a shell sees of a process that a signal ended.
    pub(crate) fn exit_code(&self) -> u8 {
        128 + self.number as u8
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.number as i32 {
            SIGINT => "SIGINT",
            SIGTERM => "SIGTERM",
            _ => "SIGHUP",
        })
    }
}

impl std::error::Error for Stopped {}

/// The signal that has come, if one has.
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// From here on the first SIGINT, SIGTERM or SIGHUP is only noted, and a second one ends the process. A signal that the
    /// process was started to ignore, as `nohup` does with SIGHUP, is still ignored.
    pub(crate) fn catch() -> io::Result<Self> {
        let (first, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let ignored = ignored();
        for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
            // In this order: the second signal finds what the first one set.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&first))?;
            flag::register(signal, Arc::clone(&first))?;
            flag::register_usize(signal, Arc::clone(&number), signal as usize)?;
        }
        Ok(Self(number))
    }

    /// The first signal, if one has come.
    pub(crate) fn caught(&self) -> Option<Stopped> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            number => Some(Stopped { number }),
        }
    }
}

/// The signals that the process was started to ignore, as a mask, where the system says.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
