//! Signals that ask a training to end: the first one after the present step, a second one at once.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::exit;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

/// A signal after which the command ends, its work saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped {
    number: i32,
}

impl Stopped {
    /// By the signal with this number.
    pub(crate) fn by(number: u8) -> Self {
        Self { number: number.into() }
    }

    /// The signal's number.
    pub(crate) fn number(self) -> u8 {
        self.number as u8
    }

    /// What a shell sees of a process that a signal ended.
    pub(crate) fn exit_code(self) -> u8 {
        128 + self.number as u8
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.number {
            SIGINT => "SIGINT",
            SIGTERM => "SIGTERM",
            _ => "SIGHUP",
        })
    }
}

impl std::error::Error for Stopped {}

/// The signal that has come, if one has.
pub(crate) struct Signals(Arc<AtomicI32>);

impl Signals {
    /// From here on the first SIGINT, SIGTERM or SIGHUP is only noted, and shown to `first`; a second one ends the process,
    /// the terminal restored. A signal that the process was started to ignore, as `nohup` does with SIGHUP, is still ignored.
    pub(crate) fn catch(first: impl Fn(Stopped) + Send + 'static) -> io::Result<Self> {
        let ignored = ignored();
        let caught = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let mut signals = signal_hook::iterator::Signals::new(caught)?;
        let number = Arc::new(AtomicI32::new(0));
        let noted = Arc::clone(&number);
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if noted.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    first(Stopped { number: signal });
                } else {
                    dapo_console::restore();
                    exit(128 + signal);
                }
            }
        })?;
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
