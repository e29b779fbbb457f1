//! Rayon's threads, sharing the pieces of one operation.
//!
//! Each operation shares its work among the threads of the pool it is called in. A pass of many operations runs in
//! [`enter`], which hands it to the pool once and keeps the other threads from falling asleep between two operations.

#![expect(unsafe_code, reason = "pieces of an array are handed out by number")]

use rayon::prelude::*;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::LocalKey;
use std::time::{Duration, Instant};

thread_local! {
    /// Whether this thread has an item of [`for_each_alone`].
    static ALONE: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread is in [`enter`].
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

/// Passes that are under way in this process.
static PASSES: AtomicUsize = AtomicUsize::new(0);

/// How long a pass that begins waits for the other threads to join.
const JOINING: Duration = Duration::from_millis(1);
/// Time without work after which a thread in a pass takes naps. Between two operations there is less. Waking a thread that
/// fell asleep takes longer than a small operation.
const AWAKE: Duration = Duration::from_millis(2);
/// The first nap. Later ones are twice as long each, up to [`LONGEST_NAP`].
const FIRST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// Time without work after which a thread leaves a pass.
const LEAVING: Duration = Duration::from_secs(1);

/// Runs `f`, a pass of many operations, on a thread of the pool. The pool's other threads look for work until it is over,
/// with naps while nothing comes; after a second without work they leave. Of several passes at a time, only the first has
/// such helpers.
pub fn enter<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    if rayon::current_thread_index().is_none() {
        return rayon::scope(|_| enter(f));
    }
    if ENTERED.get() {
        return f();
    }
    let _restored = Restored::set(&ENTERED);
    let pass = Pass::begin();
    let others = rayon::current_num_threads() - 1;
    if others > 0 && pass.is_only {
        let helpers = Arc::clone(&pass.helpers);
        // Nobody waits for these to return: one may have begun another pass in the meantime.
        rayon::spawn_broadcast(move |_| look_for_work(&helpers));
        let begun = Instant::now();
        while pass.helpers.joined.load(Ordering::Relaxed) < others && begun.elapsed() < JOINING {
            std::hint::spin_loop();
        }
        pass.helpers.joined.fetch_or(Helpers::CLOSED, Ordering::Relaxed);
    }
    f()
}

/// A pass, which is over when this is dropped.
struct Pass {
    is_only: bool,
    helpers: Arc<Helpers>,
}

impl Pass {
    fn begin() -> Self {
        Self { is_only: PASSES.fetch_add(1, Ordering::Relaxed) == 0, helpers: Arc::default() }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.helpers.is_over.store(true, Ordering::Relaxed);
        PASSES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The threads that look for work of a pass.
#[derive(Default)]
struct Helpers {
    /// Their number, and whether no more may join.
    joined: AtomicUsize,
    is_over: AtomicBool,
}

impl Helpers {
    const CLOSED: usize = 1 << (usize::BITS - 1);

    /// Takes part, unless the pass has begun its first operation or another pass has begun. In a wait within a part of an
    /// operation, rayon runs whatever job there is, also this one. If the part belongs to this pass, looking for work until
    /// the pass is over would never end; if it belongs to another pass, that pass would have to wait.
    fn join(&self) -> bool {
        if PASSES.load(Ordering::Relaxed) > 1 {
            return false;
        }
        let one_more = |joined| (joined & Self::CLOSED == 0).then_some(joined + 1);
        self.joined.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

/// Works for the pool until the pass is over, in place of rayon's own loop, which soon falls asleep. A thread without work
/// leaves at last: it may wait within an operation that belongs to no pass, and that this pass waits for.
fn look_for_work(helpers: &Helpers) {
    if !helpers.join() {
        return;
    }
    let (mut worked, mut nap) = (Instant::now(), FIRST_NAP);
    while !helpers.is_over.load(Ordering::Relaxed) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            (worked, nap) = (Instant::now(), FIRST_NAP);
        } else if worked.elapsed() < AWAKE {
            (0..20).for_each(|_| std::hint::spin_loop());
        } else if worked.elapsed() > LEAVING {
            return;
        } else {
            std::thread::sleep(nap);
            nap = (2 * nap).min(LONGEST_NAP);
        }
    }
}

/// Runs `f` on every item, each item on one thread. Of several items, the operations that `f` calls stay on the item's
/// thread: threads then meet once, at the end, and not in every operation.
pub fn for_each_alone<T: Send>(items: &mut [T], f: impl Fn(&mut T) + Sync) {
    if let [item] = items {
        return f(item);
    }
    items.par_iter_mut().with_max_len(1).for_each(|item| {
        let _restored = Restored::set(&ALONE);
        f(item);
    });
}

/// Sets a flag of this thread; when this is dropped, the flag is again what it was.
struct Restored(&'static LocalKey<Cell<bool>>, bool);

impl Restored {
    fn set(flag: &'static LocalKey<Cell<bool>>) -> Self {
        Self(flag, flag.replace(true))
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// What code that [`for_each_alone`] may run passes to rayon's `with_min_len`, so that it stays on its thread there.
pub fn least_share() -> usize {
    if ALONE.get() { usize::MAX } else { 1 }
}

/// Number of threads that an operation called here may use.
pub(crate) fn count() -> usize {
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
}

/// Runs `f` for every index below `pieces`, on several threads, and returns when all are done.
pub(crate) fn for_each(pieces: usize, f: impl Fn(usize) + Sync) {
    if pieces < 2 || count() < 2 {
        return (0..pieces).for_each(f);
    }
    (0..pieces).into_par_iter().with_max_len(1).for_each(&f);
}

/// Cuts every array into runs of its own size (the last may be shorter), and runs `f` on the index and the runs of that
/// index, on several threads. The first array says how many runs there are.
pub(crate) fn for_each_chunk<T: Send, const N: usize>(
    arrays: [&mut [T]; N],
    sizes: [usize; N],
    f: impl Fn(usize, [&mut [T]; N]) + Sync,
) {
    let lengths = arrays.each_ref().map(|a| a.len());
    let starts = arrays.map(|a| Start(a.as_mut_ptr()));
    let starts = &starts;
    let pieces = lengths[0].div_ceil(sizes[0].max(1));
    for_each(pieces, |piece| {
        let run = |array: usize| {
            let start = lengths[array].min(piece * sizes[array]);
            let end = lengths[array].min(start + sizes[array]);
            // SAFETY: within the array, whose exclusive borrow this function holds; runs of different pieces are disjoint.
            unsafe { std::slice::from_raw_parts_mut(starts[array].0.add(start), end - start) }
        };
        f(piece, std::array::from_fn(run));
    });
}

/// `f` of every index below `pieces`, in order.
pub(crate) fn map<T: Send + Default + Clone>(pieces: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut results = vec![T::default(); pieces];
    for_each_chunk([&mut results], [1], |piece, [result]| result[0] = f(piece));
    results
}

struct Start<T>(*mut T);

// SAFETY: `for_each_chunk` hands every piece elements of its own.
unsafe impl<T: Send> Sync for Start<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_runs_once_also_when_nested() {
        for pieces in 0..200 {
            let counts = map(pieces, |i| map(i % 5, |j| j + i).into_iter().sum::<usize>());
            let expected: Vec<usize> = (0..pieces).map(|i| (0..i % 5).map(|j| j + i).sum()).collect();
            assert_eq!(counts, expected);
        }
    }

    #[test]
    fn a_pass_ends_while_another_goes_on_and_leaves_no_thread_behind() {
        let (left, exits) = std::sync::mpsc::channel();
        let left = std::sync::Mutex::new(left);
        let exit = move |_| left.lock().unwrap().send(()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).exit_handler(exit).build().unwrap();
        let limit = Duration::from_mins(1);
        let ((began, beginning), (over, end)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        // The second pass begins on the thread that looks for work of the first, and ends after it.
        std::thread::scope(|scope| {
            let pool = &pool;
            let first = scope.spawn(move || {
                pool.install(move || {
                    let sum = |_| map(100, |i| i).into_iter().sum::<usize>();
                    enter(move || {
                        rayon::spawn(move || {
                            enter(move || {
                                began.send(()).unwrap();
                                end.recv_timeout(limit).unwrap();
                            });
                        });
                        // Threads in naps as well.
                        beginning.recv_timeout(limit).unwrap();
                        enter(|| (0..3).map(sum).collect::<Vec<_>>())
                    })
                })
            });
            assert_eq!(first.join().unwrap(), [4950; 3]);
            over.send(()).unwrap();
        });
        drop(pool);
        for _ in 0..2 {
            exits.recv_timeout(limit).unwrap();
        }
    }

    #[test]
    fn a_pass_may_wait_for_an_operation_that_a_helper_has_begun() {
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap());
        let limit = Duration::from_mins(1);
        let channel = std::sync::mpsc::channel::<()>;
        let ((ready, begin), (started, start), (first, waiting)) = (channel(), channel(), channel());
        let ((go, gone), (done, end)) = (channel(), channel());
        let of_pass = Arc::clone(&pool);
        let pass = std::thread::spawn(move || {
            // On a thread of its own, since one that waits would take it up as well.
            of_pass.install(move || {
                ready.send(()).unwrap();
                waiting.recv_timeout(limit).unwrap();
                // By then the other one is in its wait.
                std::thread::sleep(Duration::from_millis(10));
                enter(move || {
                    go.send(()).unwrap();
                    end.recv_timeout(limit).unwrap();
                });
            });
        });
        begin.recv_timeout(limit).unwrap();
        let part = move || {
            started.send(()).unwrap();
            gone.recv_timeout(limit).unwrap();
        };
        let rest = move || {
            start.recv_timeout(limit).unwrap();
            first.send(()).unwrap();
        };
        // One thread has the part; another one has done the rest and waits for it.
        pool.install(|| rayon::join(rest, part));
        done.send(()).unwrap();
        pass.join().unwrap();
    }

    #[test]
    fn passes_of_many_threads_share_a_pool_and_all_end() {
        for threads in [2, 3] {
            let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
            let (done, all) = std::sync::mpsc::channel();
            for _ in 0..4 {
                let (pool, done) = (Arc::clone(&pool), done.clone());
                std::thread::spawn(move || {
                    let passes = 500;
                    for pass in 0..passes {
                        let sums = pool.install(|| {
                            enter(|| (0..5).map(|n| map(64, |i| i + n).into_iter().sum()).collect::<Vec<usize>>())
                        });
                        assert_eq!(sums, [2016, 2080, 2144, 2208, 2272], "{pass}");
                    }
                    done.send(()).unwrap();
                });
            }
            for _ in 0..4 {
                all.recv_timeout(Duration::from_mins(1)).unwrap();
            }
        }
    }

    #[test]
    fn operations_of_several_items_stay_on_the_thread_of_each() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        // Threads on which pieces ran, of rayon's own iterator and of an operation; each piece takes so long that the idle
        // thread would take some.
        let piece = || {
            std::thread::sleep(Duration::from_micros(50));
            rayon::current_thread_index()
        };
        let threads = |items: &mut [Vec<Option<usize>>]| {
            pool.install(|| {
                for_each_alone(items, |seen| {
                    seen.push(rayon::current_thread_index());
                    let shared = (0..100).into_par_iter().with_min_len(least_share()).map(|_| piece());
                    seen.extend(shared.collect::<Vec<_>>());
                    seen.resize(201, None);
                    for_each_chunk([&mut seen[101..]], [1], |_, [seen]| seen[0] = piece());
                    seen.push(Some(count()));
                });
                assert_eq!(count(), 3);
            });
        };
        let mut several = vec![Vec::new(); 2];
        threads(&mut several);
        for seen in several {
            assert!(seen[..201].iter().all(|thread| *thread == seen[0]), "{seen:?}");
            assert_eq!(seen[201], Some(1));
        }
        let mut one = vec![Vec::new()];
        threads(&mut one);
        assert_eq!(one[0][201], Some(3));
    }

    #[test]
    fn runs_cover_arrays_of_different_sizes() {
        let (mut a, mut b) = (vec![0; 10], vec![0; 31]);
        for_each_chunk([&mut a, &mut b], [3, 8], |i, [a, b]| {
            a.fill(i + 1);
            b.fill(10 * (i + 1));
        });
        assert_eq!(a, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4]);
        assert_eq!(b[..9], [10, 10, 10, 10, 10, 10, 10, 10, 20]);
        assert_eq!(b[24..], [40; 7]);
    }
}
