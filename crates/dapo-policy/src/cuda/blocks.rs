//! Blocks of the cache of keys and values: which are free, and how many fit.

use super::compute::Compute;
use super::model::Model;
use crate::error::PolicyError;
use crate::request::{GenerationConfig, Request};

/// Positions of a block.
pub(super) const BLOCK_SIZE: usize = 32;

/// Blocks that nobody uses.
#[derive(Debug)]
pub(super) struct FreeBlocks(Vec<u32>);

impl FreeBlocks {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count as u32).rev().collect())
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

/// Blocks of its own that a completion of a prompt of `len` tokens needs for `new` tokens: the prompt's whole blocks
/// are shared.
pub(super) fn of_completion(len: usize, new: usize) -> usize {
    (len + new).div_ceil(BLOCK_SIZE) - len / BLOCK_SIZE
}

impl<T: Compute> Model<T> {
    /// How many blocks the cache gets: within the budget and the memory that is free, and no more than all completions need.
    pub(super) fn plan_blocks(&self, requests: &[Request], config: &GenerationConfig) -> Result<usize, PolicyError> {
        let c = &self.config;
        let bytes = 2 * c.num_hidden_layers * c.num_key_value_heads * BLOCK_SIZE * c.head_dim * size_of::<T>();
        let needs = |r: &Request| {
            (of_prompt(r.prompt_ids.len()), of_completion(r.prompt_ids.len(), config.max_tokens_after_prompt()))
        };
        let busy = || requests.iter().filter(|r| r.samples > 0);
        let least = busy().map(needs).map(|(prompt, own)| prompt + own).max().unwrap_or(0);
        let most: usize = busy().map(|r| needs(r).0 + needs(r).1 * r.samples).sum();
        let mut free = self.free_memory()?;
        let budget = config.cache_bytes.unwrap_or(usize::MAX);
        if free < budget.min(most * bytes) {
            // What training passes keep for the next one is given up, where it is in the way.
            drop(self.take_workspace());
            free = self.free_memory()?;
        }
        let blocks = (budget.min(free) / bytes).min(most);
        if blocks < least {
            return Err(PolicyError::Setting {
                field: "cache_bytes".into(),
                found: budget.min(free).to_string(),
                expected: format!(
                    "at least {}, the keys and values of one sequence, and as much free memory",
                    least * bytes
                ),
            });
        }
        Ok(blocks)
    }

    /// Bytes that a cache may take. A tenth of what is free is left for the pass's own arrays.
    fn free_memory(&self) -> Result<usize, PolicyError> {
        // What has been given back is free once the stream has come that far.
        self.gpu.synchronize()?;
        let info = self.gpu.info()?;
        // The emulation has no memory of its own.
        Ok(if info.total_memory == 0 { usize::MAX } else { info.free_memory / 10 * 9 })
    }
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
        assert_eq!(free.take(3).map(|blocks| blocks.len()), Some(3));
    }
}
