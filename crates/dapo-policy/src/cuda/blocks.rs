//! Blocks of the cache of keys and values: which are free, and how many fit.

/// Positions of a block.
pub(super) const BLOCK_SIZE: usize = 32;

/// Blocks that nobody uses.
#[derive(Debug)]
pub(super) struct FreeBlocks(Vec<u32>);

impl FreeBlocks {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count as u32).rev().collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes `count` blocks; `None` where there are fewer.
    pub(super) fn take(&mut self, count: usize) -> Option<Vec<u32>> {
        let rest = self.0.len().checked_sub(count)?;
        Some(self.0.split_off(rest))
    }

    pub(super) fn give_back(&mut self, blocks: Vec<u32>) {
        self.0.extend(blocks);
    }
}

/// Blocks of a prompt of `len` tokens.
pub(super) fn of_prompt(len: usize) -> usize {
    len.div_ceil(BLOCK_SIZE)
}

/// Blocks of its own that a completion of a prompt of `len` tokens needs for `new` tokens: the prompt's whole blocks are shared.
pub(super) fn of_completion(len: usize, new: usize) -> usize {
    (len + new).div_ceil(BLOCK_SIZE) - len / BLOCK_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_shares_the_prompts_whole_blocks_only() {
        assert_eq!((of_prompt(32), of_completion(32, 1)), (1, 1));
        assert_eq!((of_prompt(33), of_completion(33, 31)), (2, 1));
        assert_eq!((of_prompt(31), of_completion(31, 33)), (1, 2));
    }

    #[test]
    fn blocks_are_taken_whole_or_not_at_all() {
        let mut free = FreeBlocks::new(3);
        let two = free.take(2).expect("there are three");
        assert!(free.take(2).is_none());
        free.give_back(two);
        assert_eq!(free.count(), 3);
    }
}
