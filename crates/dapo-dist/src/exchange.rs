//! Sums over all ranks, each of which keeps the blocks that it owns.

use crate::{
    blocks::Blocks,
    error::DistError,
    tree::{Node, Shards, TreeSum},
    world::{Inbox, World},
};

/// Values that are summed at a time: all operands of a tree stay in the cache.
const CHUNK: usize = 4096;

/// Sums gradients over ranks. It keeps its buffers, which hold as many values as a gradient, for each of the subtrees
/// of a rank: one where the number of ranks is a power of two.
#[derive(Debug, Default)]
pub struct Exchange {
    received: Vec<Vec<u8>>,
    sum: TreeSum,
}

impl Exchange {
    /// No buffers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finishes the tree over all shards. Each rank gives the sum of its own shards ([`Shards::of_rank`]) and gets the
    /// total of the blocks that it owns ([`Blocks::owned`]). The bits do not depend on the number of ranks. If all
    /// shards are absent, the total is 0.
    ///
    /// # Shapes
    ///
    /// Vectors of `local`: the whole gradient. `total`: the owned values.
    ///
    /// # Errors
    ///
    /// - [`DistError::Argument`] if `local` is not the sum of this rank's shards, or a length is different.
    /// - [`DistError::Length`] if a rank sends a different number of values.
    /// - See [`World`].
    pub fn reduce_scatter(
        &mut self,
        world: &dyn World,
        shards: Shards,
        blocks: Blocks,
        local: &TreeSum,
        total: &mut [f32],
    ) -> Result<(), DistError> {
        let (here, size) = (world.rank(), world.size());
        Blocks::check("the total", total.len(), blocks.owned(here, size).len())?;
        let nodes: Vec<Vec<Node>> = (0..size).map(|rank| shards.nodes(shards.of_rank(rank, size))).collect();
        check_local(local, &nodes[here], blocks.len())?;

        // One round for each subtree of the rank that has most.
        let rounds = nodes.iter().map(Vec::len).max().unwrap_or_default();
        self.received.resize_with(rounds * size, Vec::new);
        for (round, received) in self.received.chunks_mut(size).enumerate() {
            let values = local.nodes().get(round).and_then(|(_, values)| values.as_deref()).unwrap_or_default();
            let part = |rank: usize| values.get(blocks.owned(rank, size)).unwrap_or_default();
            let send: Vec<&[u8]> = (0..size).map(|rank| bytemuck::cast_slice(part(rank))).collect();
            let mut receive: Vec<_> = received.iter_mut().map(Inbox::Any).collect();
            receive[here] = Inbox::Own;
            world.all_to_all(&send, &mut receive)?;
        }

        let own = blocks.owned(here, size);
        let mut operands = Vec::new();
        for (rank, nodes) in nodes.iter().enumerate() {
            for (round, node) in nodes.iter().enumerate() {
                let values = if rank == here {
                    local.nodes()[round].1.as_ref().map(|values| Operand::Here(&values[own.clone()]))
                } else {
                    let bytes = &self.received[round * size + rank];
                    (!bytes.is_empty()).then_some(Operand::Received(bytes))
                };
                if let Some(Operand::Received(bytes)) = values {
                    Blocks::check(&format!("bytes from rank {rank}"), bytes.len(), size_of_val(total))?;
                }
                operands.push((*node, values));
            }
        }
        for (chunk, total) in total.chunks_mut(CHUNK).enumerate() {
            self.sum.restart(0);
            for (node, values) in &operands {
                let part = values.as_ref().map(|values| {
                    let mut part = self.sum.spare();
                    values.read(chunk * CHUNK, total.len(), &mut part);
                    part
                });
                self.sum.push(*node, part);
            }
            match self.sum.nodes() {
                [(_, Some(values))] => total.copy_from_slice(values),
                _ => total.fill(0.0),
            }
        }
        Ok(())
    }
}

fn check_local(local: &TreeSum, expected: &[Node], len: usize) -> Result<(), DistError> {
    let found: Vec<_> = local.nodes().iter().map(|(node, _)| *node).collect();
    if found != expected {
        let range = |nodes: &[Node]| match (nodes.first(), nodes.last()) {
            (Some(first), Some(last)) => format!("shards {} to {}", first.shards().start, last.shards().end),
            _ => "no shards".to_owned(),
        };
        let (what, found, expected) = ("the local sum".to_owned(), range(&found), range(expected));
        return Err(DistError::Argument { what, found, expected });
    }
    let vectors = local.nodes().iter().filter_map(|(_, values)| values.as_ref());
    vectors.map(Vec::len).try_for_each(|found| Blocks::check("a gradient", found, len))
}

/// Values of one subtree for the blocks of this rank.
enum Operand<'a> {
    Here(&'a [f32]),
    /// As bytes of any alignment.
    Received(&'a [u8]),
}

impl Operand<'_> {
    fn read(&self, start: usize, count: usize, into: &mut Vec<f32>) {
        match self {
            Self::Here(values) => into.extend_from_slice(&values[start..start + count]),
            Self::Received(bytes) => {
                let (values, _) = bytes[4 * start..4 * (start + count)].as_chunks();
                into.extend(values.iter().map(|value| f32::from_ne_bytes(*value)));
            }
        }
    }
}
