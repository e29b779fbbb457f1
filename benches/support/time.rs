//! Times of short works.

use std::time::{Duration, Instant};

/// Fewest runs that count.
const LEAST_RUNS: usize = 3;

/// The shortest of many runs. One run before them does not count: it takes new memory from the system.
pub(crate) fn best(window: Duration, mut run: impl FnMut()) -> Duration {
    run();
    let (start, mut best, mut runs) = (Instant::now(), Duration::MAX, 0);
    while runs < LEAST_RUNS || start.elapsed() < window {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed());
        runs += 1;
    }
    best
}
