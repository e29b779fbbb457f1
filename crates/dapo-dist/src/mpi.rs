//! Ranks that are processes, connected by MPI. Nothing else knows MPI.
//!
//! Messages are non-blocking and are looked for between naps: MPI's own waiting keeps a core busy, and has no deadline.

use crate::{
    error::DistError,
    link::{Link, Watch},
    messenger::Messenger,
    note::{Letter, NOTE},
    options::Options,
    world::{EXIT_MISSING_RANK, World},
};
use mpi::{
    Tag, Threading,
    environment::Universe,
    point_to_point::{Destination, Source},
    request::{LocalScope, Request, StaticScope, scope},
    topology::{Communicator, SimpleCommunicator},
};
use std::{
    fmt,
    mem::{forget, take},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, channel},
    },
    thread::{self, sleep, yield_now},
    time::{Duration, Instant},
};

const NOTES: Tag = 1;
const DATA: Tag = 2;
/// Bytes of one message. MPI counts in `i32`; smaller pieces show sooner that something moves.
const PIECE: usize = 4 << 20;
/// How long the end of the job may take before this process ends alone.
const ABORT_WITHIN: Duration = Duration::from_secs(1);

/// Starts MPI, once in a process. The world must be dropped on the same thread.
///
/// # Errors
///
/// [`DistError::Mpi`] if MPI was started before, or does not let threads take turns.
pub(crate) fn start(options: Options) -> Result<Box<dyn World>, DistError> {
    let fail = |what: &str| DistError::Mpi { what: what.to_owned() };
    let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
        .ok_or_else(|| fail("was started before in this process, expected once"))?;
    if threading < Threading::Serialized {
        return Err(fail("does not let threads take turns, expected MPI_THREAD_SERIALIZED"));
    }
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let (universe, sending) = (Mutex::new(Some(universe)), Mutex::default());
    let link = MpiLink { rank, size, universe, sending, report: options.report };
    Ok(Box::new(Messenger::new(link, options.deadline)))
}

/// MPI's name and version, up to the first comma.
pub(crate) fn version() -> String {
    let text = mpi::environment::library_version().unwrap_or_else(|error| error.to_string());
    text.split([',', '\n']).next().unwrap_or_default().trim().to_owned()
}

struct MpiLink {
    rank: usize,
    size: usize,
    universe: Mutex<Option<Universe>>,
    sending: Mutex<Vec<Sending>>,
    report: Box<dyn Fn(&DistError) + Send + Sync>,
}

impl fmt::Debug for MpiLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MpiLink").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

/// A note that is being sent. MPI's buffered messages would spare this, but Open MPI waits in them for ranks that are
/// dead.
struct Sending {
    request: Request<'static, [u8], StaticScope>,
    note: *mut [u8; NOTE],
}

// SAFETY: the request and the note belong to nobody else. MPI lets threads take turns (`start` requires it), and all use
// of a `Sending` is under the link's lock.
#[expect(unsafe_code, reason = "MPI's requests are pointers")]
unsafe impl Send for Sending {}

#[expect(unsafe_code, reason = "a note lives until MPI has sent it, which no scope encloses")]
impl Sending {
    fn start(to: usize, note: &[u8; NOTE]) -> Self {
        let note = Box::into_raw(Box::new(*note));
        // SAFETY: the note is allocated, and is neither written nor freed before `unfinished` has seen the request's end.
        let bytes: &'static [u8] = unsafe { &*note };
        let world = SimpleCommunicator::world();
        Self { request: world.process_at_rank(to as i32).immediate_send_with_tag(StaticScope, bytes, NOTES), note }
    }

    /// The same while it is under way.
    fn unfinished(self) -> Option<Self> {
        let note = self.note;
        let under_way = self.request.test().err().map(|request| Self { request, note });
        if under_way.is_none() {
            // SAFETY: it comes from a box, and with the request the only reference to it is gone.
            drop(unsafe { Box::from_raw(note) });
        }
        under_way
    }
}

type Moving<'a, 'b> = (usize, Request<'a, [u8], &'b LocalScope<'a>>);

fn unfinished<'a, 'b>((rank, request): Moving<'a, 'b>) -> Option<Moving<'a, 'b>> {
    request.test().err().map(|request| (rank, request))
}

impl Link for MpiLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn tell(&self, to: usize, note: &[u8; NOTE]) {
        self.sending().push(Sending::start(to, note));
    }

    fn hear(&self) -> Result<Option<Letter>, (usize, i32)> {
        self.forget_sent();
        let world = SimpleCommunicator::world();
        let Some(status) = world.any_process().immediate_probe_with_tag(NOTES) else { return Ok(None) };
        let mut note = [0; NOTE];
        world.process_at_rank(status.source_rank()).receive_into_with_tag(&mut note[..], NOTES);
        Ok(Some((status.source_rank() as usize, note)))
    }

    fn transfer(
        &self,
        sends: &[(usize, &[u8])],
        receives: Vec<(usize, &mut [u8])>,
        watch: &mut Watch<'_>,
    ) -> Result<(), DistError> {
        let world = SimpleCommunicator::world();
        scope(|scope| {
            let mut moving: Vec<Moving<'_, '_>> = Vec::new();
            for (from, room) in receives {
                let process = world.process_at_rank(from as i32);
                let start = |piece| (from, process.immediate_receive_into_with_tag(scope, piece, DATA));
                moving.extend(room.chunks_mut(PIECE).map(start));
            }
            for (to, data) in sends {
                let process = world.process_at_rank(*to as i32);
                let start = |piece| (*to, process.immediate_send_with_tag(scope, piece, DATA));
                moving.extend(data.chunks(PIECE).map(start));
            }
            while !moving.is_empty() {
                let before = moving.len();
                moving = moving.into_iter().filter_map(unfinished).collect();
                if moving.len() < before {
                    watch.moved();
                } else {
                    match watch.idle(moving.iter().map(|(rank, _)| *rank)) {
                        Ok(nap) => self.rest(nap),
                        // MPI still uses the buffers, so there is no way back.
                        Err(error) => self.end(&error),
                    }
                }
            }
        });
        Ok(())
    }

    fn rest(&self, nap: Duration) {
        if nap.is_zero() {
            yield_now();
        } else {
            sleep(nap);
        }
    }

    fn fatal(&self, error: &DistError) {
        self.end(error);
    }

    fn abort(&self, code: i32) {
        abort(code);
    }

    fn close(&self, deadline: Duration) {
        let start = Instant::now();
        while !self.sending().is_empty() && start.elapsed() < deadline {
            self.forget_sent();
            yield_now();
        }
        // All ranks have come to the end, so nobody lacks what is left here.
        forget(take(&mut *self.sending()));
        let universe = self.universe.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Leaving waits for all ranks, in MPI's own way.
        let (left, leaving) = channel::<()>();
        thread::spawn(move || {
            if leaving.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
                std::process::exit(EXIT_MISSING_RANK);
            }
        });
        drop(universe);
        drop(left);
    }
}

impl MpiLink {
    fn sending(&self) -> MutexGuard<'_, Vec<Sending>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_sent(&self) {
        let mut sending = self.sending();
        *sending = take(&mut *sending).into_iter().filter_map(Sending::unfinished).collect();
    }

    fn end(&self, error: &DistError) -> ! {
        (self.report)(error);
        abort(EXIT_MISSING_RANK)
    }
}

/// Also while another thread is within MPI: what may go amiss then is the end of this process, which comes anyway.
fn abort(code: i32) -> ! {
    thread::spawn(move || {
        sleep(ABORT_WITHIN);
        std::process::exit(code);
    });
    SimpleCommunicator::world().abort(code)
}
