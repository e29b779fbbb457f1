//! What the memory of this machine gives.

use std::hint::black_box;
use std::time::Duration;

use crate::time::best;

/// Bytes read plus written per second when all threads copy arrays larger than any cache.
pub(crate) fn copy_bandwidth() -> f64 {
    const FLOATS: usize = 1 << 25;
    let source = vec![1.0_f32; FLOATS];
    let mut target = vec![0.0_f32; FLOATS];
    let time = best(Duration::from_millis(500), || {
        let part = FLOATS / rayon::current_num_threads();
        rayon::scope(|scope| {
            for (to, from) in target.chunks_mut(part).zip(source.chunks(part)) {
                scope.spawn(move |_| to.copy_from_slice(from));
            }
        });
        black_box(&mut target);
    });
    (8 * FLOATS) as f64 / time.as_secs_f64()
}
