//! Ranks that are threads of one process, for tests and benchmarks.

use crate::{
    error::DistError,
    link::{Link, Watch},
    messenger::Messenger,
    note::{Letter, NOTE},
    world::{EXIT_MISSING_RANK, World},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// All ranks of a world, one for each thread. [`World::abort`] makes the operations of all ranks fail with
/// [`DistError::Aborted`] from then on.
pub fn worlds(size: usize, deadline: Duration) -> Vec<Box<dyn World>> {
    let boxes: Arc<[Mailbox]> = (0..size).map(|_| Mailbox::new(size)).collect();
    let link = |rank| ThreadLink { rank, boxes: Arc::clone(&boxes), seen: AtomicU64::new(0) };
    (0..size).map(|rank| Box::new(Messenger::new(link(rank), deadline)) as Box<dyn World>).collect()
}

/// Runs a function on every rank of a world, each in a thread of its own, and returns the results by rank.
///
/// A rank that returns `Ok` waits for the others; one that returns `Err` ends the others.
///
/// # Panics
///
/// If a rank panics.
pub fn run<T, F>(size: usize, deadline: Duration, rank: F) -> Vec<Result<T, DistError>>
where
    T: Send,
    F: Fn(&dyn World) -> Result<T, DistError> + Sync,
{
    let whole = |world: Box<dyn World>| {
        let value = rank(&*world)?;
        world.finish()?;
        Ok(value)
    };
    std::thread::scope(|scope| {
        let whole = &whole;
        let threads: Vec<_> =
            worlds(size, deadline).into_iter().map(|world| scope.spawn(move || whole(world))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

#[derive(Debug)]
struct ThreadLink {
    rank: usize,
    /// By rank.
    boxes: Arc<[Mailbox]>,
    /// Arrivals in this rank's box that it has looked at.
    seen: AtomicU64,
}

/// What is under way to one rank.
#[derive(Debug)]
struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Letters {
    notes: VecDeque<Letter>,
    /// Data by sender.
    data: Vec<VecDeque<Vec<u8>>>,
    /// The first rank that ended the job, and its code.
    aborted: Option<(usize, i32)>,
    arrivals: u64,
}

/// How long a rank waits for an arrival before it looks at its deadline.
const LOOK: Duration = Duration::from_millis(5);

impl Mailbox {
    fn new(size: usize) -> Self {
        let letters = Letters { data: vec![VecDeque::new(); size], ..Letters::default() };
        Self { letters: Mutex::new(letters), arrived: Condvar::new() }
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: impl FnOnce(&mut Letters)) {
        let mut letters = self.letters();
        put(&mut letters);
        letters.arrivals += 1;
        self.arrived.notify_one();
    }
}

impl ThreadLink {
    /// This rank's letters, all of which count as seen.
    fn mine(&self) -> MutexGuard<'_, Letters> {
        let letters = self.boxes[self.rank].letters();
        self.seen.store(letters.arrivals, Ordering::Relaxed);
        letters
    }

    /// Tells every rank that one has ended the job.
    fn end(&self, rank: usize, code: i32) {
        // Never two locks at a time: box by box, and the first code of each box counts.
        for mailbox in self.boxes.iter() {
            mailbox.put(|letters| {
                letters.aborted.get_or_insert((rank, code));
            });
        }
    }
}

impl Link for ThreadLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.boxes.len()
    }

    fn tell(&self, to: usize, note: &[u8; NOTE]) {
        self.boxes[to].put(|letters| letters.notes.push_back((self.rank, *note)));
    }

    fn hear(&self) -> Result<Option<Letter>, (usize, i32)> {
        let mut letters = self.mine();
        letters.aborted.map_or_else(|| Ok(letters.notes.pop_front()), Err)
    }

    fn transfer(
        &self,
        sends: &[(usize, &[u8])],
        mut receives: Vec<(usize, &mut [u8])>,
        watch: &mut Watch<'_>,
    ) -> Result<(), DistError> {
        for (to, data) in sends {
            let data = data.to_vec();
            self.boxes[*to].put(|letters| letters.data[self.rank].push_back(data));
        }
        while !receives.is_empty() {
            let before = receives.len();
            if let Some((rank, code)) = self.mine().aborted {
                return Err(DistError::Aborted { rank, code, place: watch.place().clone() });
            }
            receives.retain_mut(|(from, room)| {
                let data = self.boxes[self.rank].letters().data[*from].pop_front();
                let Some(data) = data else { return true };
                room.copy_from_slice(&data);
                false
            });
            if receives.len() < before {
                watch.moved();
            } else {
                self.rest(watch.idle(receives.iter().map(|(from, _)| *from))?);
            }
        }
        Ok(())
    }

    fn rest(&self, _nap: Duration) {
        let seen = self.seen.load(Ordering::Relaxed);
        let mailbox = &self.boxes[self.rank];
        // Whether something arrived is looked for by the caller.
        drop(mailbox.arrived.wait_timeout_while(mailbox.letters(), LOOK, |letters| letters.arrivals == seen));
    }

    fn abort(&self, code: i32) {
        self.end(self.rank, code);
    }

    fn fatal(&self, _error: &DistError) {
        // The rank that ended the job may not have reached all boxes yet: its code is the one to pass on.
        let (rank, code) = self.mine().aborted.unwrap_or((self.rank, EXIT_MISSING_RANK));
        self.end(rank, code);
    }

    fn close(&self, _deadline: Duration) {}
}
