//! Sums in a fixed binary tree, whoever adds.

use crate::{collect::share_of, error::DistError};
use std::ops::Range;

/// The number of virtual shards, V: a power of two. A gradient is the sum over all shards in a binary tree,
/// `((s0 + s1) + (s2 + s3)) + …`, at any number of ranks up to V.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards(usize);

impl Shards {
    /// V shards for a world of `size` ranks.
    ///
    /// # Errors
    ///
    /// [`DistError::Argument`] unless V is a power of two of at least the world's size.
    pub fn new(shards: usize, size: usize) -> Result<Self, DistError> {
        if shards.is_power_of_two() && shards >= size {
            return Ok(Self(shards));
        }
        let expected = format!("a power of two of at least {size}, the number of ranks");
        Err(DistError::Argument { what: "train.shards".to_owned(), found: shards.to_string(), expected })
    }

    /// V.
    pub fn count(self) -> usize {
        self.0
    }

    /// The shards that a rank sums.
    pub fn of_rank(self, rank: usize, size: usize) -> Range<usize> {
        share_of(self.0, rank, size)
    }

    /// Which of `items` things, in order, belong to a shard. It depends on nothing else.
    pub fn items(self, shard: usize, items: usize) -> Range<usize> {
        share_of(items, shard, self.0)
    }

    /// The largest whole subtrees that make up a range of shards, from left to right.
    pub fn nodes(self, shards: Range<usize>) -> Vec<Node> {
        let (mut nodes, mut start) = (Vec::new(), shards.start);
        while start < shards.end {
            let aligned = if start == 0 { usize::BITS - 1 } else { start.trailing_zeros() };
            let level = aligned.min((shards.end - start).ilog2());
            nodes.push(Node { level, index: start >> level });
            start += 1 << level;
        }
        nodes
    }
}

/// A subtree: the sum of the shards from `index * 2^level` up to, and without, `(index + 1) * 2^level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Additions from a leaf to this node; 0 is a shard.
    pub level: u32,
    /// The node's place among those of its level.
    pub index: usize,
}

impl Node {
    /// The shards below this node.
    pub fn shards(self) -> Range<usize> {
        self.index << self.level..(self.index + 1) << self.level
    }

    fn is_left_of(self, other: Self) -> bool {
        self.level == other.level && self.index.is_multiple_of(2) && self.index + 1 == other.index
    }
}

/// Sums nodes from left to right, as far as the tree allows: at most log2(V) + 1 vectors at a time.
///
/// A shard without any gradient is absent. It changes no bits, not even those of -0.0. A sum that is not a number is
/// `f32::NAN`, whichever NaNs went into it: which payload an addition keeps is up to the compiler.
///
/// # Example
///
/// ```
/// use dapo_dist::{Node, TreeSum};
///
/// let mut sum = TreeSum::new(0);
/// for gradient in [Some(vec![1.0, 2.0]), None, Some(vec![10.0, -0.0])] {
///     sum.push_shard(gradient);
/// }
/// // Shards 0 and 1 are summed; shard 2 waits for its neighbour.
/// let first = (Node { level: 1, index: 0 }, Some(vec![1.0, 2.0]));
/// let second = (Node { level: 0, index: 2 }, Some(vec![10.0, -0.0]));
/// assert_eq!(sum.nodes(), [first, second]);
/// sum.push_shard(None);
/// assert_eq!(sum.nodes(), [(Node { level: 2, index: 0 }, Some(vec![11.0, 2.0]))]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct TreeSum {
    nodes: Vec<(Node, Option<Vec<f32>>)>,
    spare: Vec<Vec<f32>>,
    next: usize,
}

impl TreeSum {
    /// A sum whose first shard is `first`.
    pub fn new(first: usize) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// Starts anew with a shard, keeping the allocations.
    pub fn restart(&mut self, first: usize) {
        self.spare.extend(self.nodes.drain(..).filter_map(|(_, values)| values));
        self.next = first;
    }

    /// An empty vector, with the allocation of one that was summed, if there is any.
    pub fn spare(&mut self) -> Vec<f32> {
        let mut spare = self.spare.pop().unwrap_or_default();
        spare.clear();
        spare
    }

    /// Adds the gradient of the next shard.
    pub fn push_shard(&mut self, gradient: Option<Vec<f32>>) {
        self.push(Node { level: 0, index: self.next }, gradient);
    }

    /// Adds the sum of a node. It begins where the one before it ends, and all vectors have one length.
    pub fn push(&mut self, node: Node, sum: Option<Vec<f32>>) {
        self.next = node.shards().end;
        let (mut node, mut right) = (node, sum);
        while let Some((_, left)) = self.nodes.pop_if(|(left, _)| left.is_left_of(node)) {
            right = match (left, right) {
                (Some(mut left), Some(right)) => {
                    add(&mut left, &right);
                    self.spare.push(right);
                    Some(left)
                }
                (left, right) => left.or(right),
            };
            node = Node { level: node.level + 1, index: node.index / 2 };
        }
        self.nodes.push((node, right));
    }

    /// What could not be summed further, from left to right; `None` where all shards are absent.
    pub fn nodes(&self) -> &[(Node, Option<Vec<f32>>)] {
        &self.nodes
    }
}

fn add(left: &mut [f32], right: &[f32]) {
    for (left, right) in left.iter_mut().zip(right) {
        let sum = *left + right;
        *left = if sum.is_nan() { f32::NAN } else { sum };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_made_of_whole_subtrees() {
        let shards = Shards::new(8, 3).unwrap();
        let node = |level, index| Node { level, index };
        assert_eq!(shards.nodes(0..8), [node(3, 0)]);
        assert_eq!(shards.nodes(shards.of_rank(0, 3)), [node(1, 0)]);
        assert_eq!(shards.nodes(shards.of_rank(1, 3)), [node(1, 1), node(0, 4)]);
        assert_eq!(shards.nodes(shards.of_rank(2, 3)), [node(0, 5), node(1, 3)]);
        assert_eq!(shards.nodes(1..8), [node(0, 1), node(1, 1), node(2, 1)]);
        assert_eq!(shards.nodes(3..3), []);
        for size in [1, 2, 4, 8] {
            for rank in 0..size {
                assert_eq!(shards.nodes(shards.of_rank(rank, size)).len(), 1, "{rank} of {size}");
            }
        }
    }

    #[test]
    fn shards_are_powers_of_two_for_all_ranks() {
        assert!(Shards::new(1, 1).is_ok() && Shards::new(8, 5).is_ok());
        for (shards, size) in [(0, 1), (3, 1), (2, 4), (6, 4)] {
            let error = Shards::new(shards, size).unwrap_err().to_string();
            let expected = format!("train.shards is {shards}, expected a power of two of at least {size}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn the_order_of_sums_is_the_trees() {
        // (1e8 + 1) + (-1e8 + 1) is 0 in f32; from left to right it would be 1.
        let mut sum = TreeSum::new(0);
        for value in [1e8, 1.0, -1e8, 1.0] {
            sum.push_shard(Some(vec![value]));
        }
        assert_eq!(sum.nodes(), [(Node { level: 2, index: 0 }, Some(vec![0.0]))]);
    }

    #[test]
    fn payloads_of_nans_are_lost_in_sums() {
        let (quiet, other) = (f32::from_bits(0x7fc0_1234), f32::from_bits(0xffc0_0001));
        for pair in [[quiet, other], [other, quiet], [1.0, quiet], [f32::INFINITY, f32::NEG_INFINITY]] {
            let mut sum = TreeSum::new(0);
            for value in pair {
                sum.push_shard(Some(vec![value; 9]));
            }
            let values = sum.nodes()[0].1.clone().unwrap();
            assert!(values.iter().all(|value| value.to_bits() == f32::NAN.to_bits()));
        }
    }
}
