//! Blocks of memory within a budget.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Blocks of one size: those in use are counted, those that were given back are used again.
#[derive(Debug)]
pub(super) struct Pool {
    block_len: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    free: Vec<Vec<f32>>,
}

/// A block, which goes back to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) data: Vec<f32>,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn new(block_len: usize) -> Self {
        Self { block_len, state: Mutex::default() }
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(&self) -> usize {
        size_of::<f32>() * self.block_len
    }

    /// A block, where fewer than `limit` are in use. What it holds does not matter.
    pub(super) fn take(self: &Arc<Self>, limit: usize) -> Option<Block> {
        let mut state = self.state();
        if state.used >= limit {
            return None;
        }
        state.used += 1;
        let data = state.free.pop().unwrap_or_else(|| vec![0.0; self.block_len]);
        Some(Block { data, pool: Arc::clone(self) })
    }

    /// Gives up free blocks beyond `limit` blocks in all.
    pub(super) fn trim(&self, limit: usize) {
        let mut state = self.state();
        let most = limit.saturating_sub(state.used);
        state.free.truncate(most);
    }

    /// Blocks in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.state().used
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.used -= 1;
        state.free.push(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_handed_out_up_to_the_limit_and_again_after_they_came_back() {
        let pool = Arc::new(Pool::new(4));
        let blocks = [pool.take(2), pool.take(2)];
        assert!(blocks.iter().all(Option::is_some) && pool.take(2).is_none());
        drop(blocks);
        assert_eq!((pool.used(), pool.state().free.len()), (0, 2));
        let block = pool.take(1);
        assert!(block.is_some() && pool.take(1).is_none());
        pool.trim(1);
        assert_eq!((pool.used(), pool.state().free.len()), (1, 0));
    }
}
