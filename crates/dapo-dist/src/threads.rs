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
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// All ranks of a world, one for each thread. [`World::abort`] makes the operations of all ranks fail with
/// [`DistError::Aborted`] from then on.
pub fn worlds(size: usize, deadline: Duration) -> Vec<Box<dyn World>> {
    let board = Arc::new(Board { letters: Mutex::new(Letters::new(size)), arrived: Condvar::new() });
    let link = |rank| ThreadLink { rank, size, board: Arc::clone(&board) };
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
    size: usize,
    board: Arc<Board>,
}

#[derive(Debug)]
struct Board {
    letters: Mutex<Letters>,
    arrived: Condvar,
}

/// What is under way.
#[derive(Debug)]
struct Letters {
    /// Notes by receiver, with their senders.
    notes: Vec<VecDeque<Letter>>,
    /// Data by receiver, then by sender.
    data: Vec<Vec<VecDeque<Vec<u8>>>>,
    aborted: Option<(usize, i32)>,
}

impl Letters {
    fn new(size: usize) -> Self {
        Self { notes: vec![VecDeque::new(); size], data: vec![vec![VecDeque::new(); size]; size], aborted: None }
    }
}

impl ThreadLink {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.board.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link for ThreadLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn tell(&self, to: usize, note: &[u8; NOTE]) {
        self.letters().notes[to].push_back((self.rank, *note));
        self.board.arrived.notify_all();
    }

    fn hear(&self) -> Result<Option<Letter>, (usize, i32)> {
        let mut letters = self.letters();
        letters.aborted.map_or_else(|| Ok(letters.notes[self.rank].pop_front()), Err)
    }

    fn transfer(
        &self,
        sends: &[(usize, &[u8])],
        mut receives: Vec<(usize, &mut [u8])>,
        watch: &mut Watch<'_>,
    ) -> Result<(), DistError> {
        for (to, data) in sends {
            let data = data.to_vec();
            self.letters().data[*to][self.rank].push_back(data);
            self.board.arrived.notify_all();
        }
        while !receives.is_empty() {
            let before = receives.len();
            receives.retain_mut(|(from, room)| {
                let Some(data) = self.letters().data[self.rank][*from].pop_front() else { return true };
                room.copy_from_slice(&data);
                false
            });
            if let Some((rank, code)) = self.letters().aborted {
                return Err(DistError::Aborted { rank, code, place: watch.place().clone() });
            }
            if receives.len() < before {
                watch.moved();
            } else {
                self.rest(watch.idle(receives.iter().map(|(from, _)| *from))?);
            }
        }
        Ok(())
    }

    fn rest(&self, nap: Duration) {
        if nap.is_zero() {
            std::thread::yield_now();
            return;
        }
        // Whether something arrived is looked for by the caller.
        drop(self.board.arrived.wait_timeout(self.letters(), nap));
    }

    fn abort(&self, code: i32) {
        self.letters().aborted.get_or_insert((self.rank, code));
        self.board.arrived.notify_all();
    }

    fn fatal(&self, _error: &DistError) {
        self.abort(EXIT_MISSING_RANK);
    }

    fn close(&self, _deadline: Duration) {}
}
