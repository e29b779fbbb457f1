//! Ctrl-C that ends an answer, and not the program.

use signal_hook::consts::SIGINT;
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether SIGINT has come.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// SIGINT ends the process, as ever.
    pub(crate) fn off() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// From here on SIGINT is only noted. A second one that comes before the first was [taken](Self::take) ends the process.
    pub(crate) fn catch() -> io::Result<Self> {
        let interrupt = Self::off();
        // In this order: the second signal finds what the first one set.
        flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&interrupt.0))?;
        flag::register(SIGINT, Arc::clone(&interrupt.0))?;
        Ok(interrupt)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether it has come; the next one is the first again.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}
