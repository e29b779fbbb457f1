//! Completions that are scored in parts: [`Round`].

use std::sync::atomic::{AtomicUsize, Ordering};

/// What the parts of a round have in common, which are scored as their completions become known.
#[derive(Debug)]
pub struct Round {
    samples: usize,
    failed: AtomicUsize,
}

impl Round {
    /// A round of this many completions.
    pub fn new(samples: usize) -> Self {
        Self { samples, failed: AtomicUsize::new(0) }
    }

    /// Number of completions of all parts.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Counts completions that could not be scored; returns how many there are so far.
    pub fn add_failed(&self, samples: usize) -> usize {
        self.failed.fetch_add(samples, Ordering::Relaxed) + samples
    }
}
