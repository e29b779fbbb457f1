//! Blocks within a budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the blocks in use.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    /// A place for one more block, where fewer than `limit` are in use.
    pub(super) fn take(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let one_more = |used| (used < limit).then_some(used + 1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Place(Arc::clone(self)))
    }
}

/// A place for a block, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Budget>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_up_to_the_limit_and_again_after_they_came_back() {
        let budget = Arc::new(Budget::default());
        let places = [budget.take(2), budget.take(2)];
        assert!(places.iter().all(Option::is_some) && budget.take(2).is_none());
        let [first, _second] = places;
        drop(first);
        assert!(budget.take(1).is_none());
        let third = budget.take(2);
        assert!(third.is_some() && budget.take(2).is_none());
    }
}
