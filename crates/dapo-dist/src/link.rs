//! What carries bytes between two ranks. Deadlines and the order of operations are above it, the same for all links.

use crate::{
    error::{DistError, Place},
    note::{Letter, NOTE},
};
use std::time::{Duration, Instant};

/// Messages between ranks. Notes from one rank arrive in the order in which they were sent, as does data.
pub(crate) trait Link: Send + Sync {
    fn rank(&self) -> usize;

    fn size(&self) -> usize;

    /// Sends a note without waiting.
    fn tell(&self, to: usize, note: &[u8; NOTE]);

    /// The next note that has arrived, and its sender; `Err` with rank and code of the one that ended the job.
    fn hear(&self) -> Result<Option<Letter>, (usize, i32)>;

    /// Sends and receives data of known lengths. No message is empty, and none is to oneself.
    fn transfer(
        &self,
        sends: &[(usize, &[u8])],
        receives: Vec<(usize, &mut [u8])>,
        watch: &mut Watch<'_>,
    ) -> Result<(), DistError>;

    /// Sleeps, or until something arrives.
    fn rest(&self, nap: Duration);

    /// The job cannot continue. Where ranks are processes, they end, and this does not return.
    fn fatal(&self, error: &DistError);

    /// Ends the job. Where ranks are processes, this does not return.
    fn abort(&self, code: i32);

    /// All ranks leave.
    fn close(&self, deadline: Duration);
}

/// Growing naps: a waiting rank hardly uses its core, and a fast answer is not kept waiting.
#[derive(Debug)]
pub(crate) struct Naps {
    since: Instant,
    next: Duration,
    longest: Duration,
}

const SPIN: Duration = Duration::from_micros(200);
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(2);
/// While data is under way: MPI moves nothing during a nap but what the kernel's buffers hold.
const LONGEST_UNDER_WAY: Duration = Duration::from_micros(250);

impl Naps {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), next: SHORTEST, longest: LONGEST }
    }

    fn under_way() -> Self {
        Self { longest: LONGEST_UNDER_WAY, ..Self::new() }
    }

    /// The next nap: none at first, then from 50 µs to 2 ms, or to 250 µs while data is under way.
    pub(crate) fn next(&mut self) -> Duration {
        if self.since.elapsed() < SPIN {
            return Duration::ZERO;
        }
        let nap = self.next;
        self.next = (nap * 2).min(self.longest);
        nap
    }
}

/// Deadline and naps of one transfer.
pub(crate) struct Watch<'a> {
    deadline: Duration,
    place: &'a Place,
    here: usize,
    moved: Instant,
    naps: Naps,
    beat: &'a mut dyn FnMut(),
}

impl<'a> Watch<'a> {
    /// `beat` tells other ranks that this one only waits.
    pub(crate) fn new(deadline: Duration, place: &'a Place, here: usize, beat: &'a mut dyn FnMut()) -> Self {
        Self { deadline, place, here, moved: Instant::now(), naps: Naps::under_way(), beat }
    }

    pub(crate) fn place(&self) -> &Place {
        self.place
    }

    /// A piece has arrived or left.
    pub(crate) fn moved(&mut self) {
        self.moved = Instant::now();
        self.naps = Naps::under_way();
    }

    /// How long to sleep while messages from or to these ranks are under way; an error past the deadline.
    pub(crate) fn idle(&mut self, open: impl Iterator<Item = usize>) -> Result<Duration, DistError> {
        if self.moved.elapsed() <= self.deadline {
            (self.beat)();
            return Ok(self.naps.next());
        }
        let mut ranks: Vec<_> = open.collect();
        ranks.sort_unstable();
        ranks.dedup();
        let (seconds, place) = (self.deadline.as_secs_f64(), self.place.clone());
        Err(DistError::Late { ranks, seconds, place, here: self.here, last: String::new() })
    }
}
