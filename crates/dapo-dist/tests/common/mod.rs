//! Steps that every kind of world must come through with the same bits.
#![allow(dead_code, reason = "each test uses a part")]

use dapo_dist::{Blocks, DistError, Exchange, Shards, TreeSum, World, sum_counts};

/// Gradients by shard.
pub(crate) type Gradients = Vec<Option<Vec<f32>>>;

/// Made gradients of magnitudes from 2^-8 to 2^7, some of the shards absent, with some zeros of either sign.
pub(crate) fn gradients(shards: usize, len: usize) -> Gradients {
    let values = |shard: usize| {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(shard as u64 + 1);
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match state % 50 {
                0 => -0.0,
                1 => 0.0,
                _ => ((state >> 40) as f32 / 8_388_608.0 - 1.0) * 2_f32.powi((state & 15) as i32 - 8),
            }
        };
        (0..len).map(next).collect()
    };
    (0..shards).map(|shard| (shard % 5 != 3).then(|| values(shard))).collect()
}

/// The bits of the total, of its sum of squares, and of counts, after reduce-scatter and all-gather.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) total: Vec<u32>,
    pub(crate) squares: u64,
    pub(crate) counts: Vec<u64>,
}

impl Outcome {
    /// One number for all bits.
    pub(crate) fn hash(&self) -> u64 {
        let words = self.total.iter().map(|bits| u64::from(*bits)).chain([self.squares]).chain(self.counts.clone());
        words.fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ word).wrapping_mul(0x100_0000_01b3))
    }
}

/// One step of an optimizer without the optimizer.
pub(crate) fn step(world: &dyn World, gradients: &Gradients, len: usize, block: usize) -> Result<Outcome, DistError> {
    let (rank, size) = (world.rank(), world.size());
    let shards = Shards::new(gradients.len(), size)?;
    let blocks = Blocks::with_size(len, block)?;
    let mine = shards.of_rank(rank, size);
    let mut local = TreeSum::new(mine.start);
    for shard in mine.clone() {
        local.push_shard(gradients[shard].clone());
    }
    world.phase("step 1: gradients");
    let own = blocks.owned(rank, size);
    let mut total = vec![f32::MAX; len];
    Exchange::new().reduce_scatter(world, shards, blocks, &local, &mut total[own.clone()])?;
    world.phase("step 1: norm");
    let squares = blocks.sum_of_squares(world, &total[own])?.to_bits();
    world.phase("step 1: weights");
    blocks.all_gather(world, &mut total)?;
    let present = gradients[mine.clone()].iter().flatten().count() as u64;
    let counts = sum_counts(world, &[present, mine.len() as u64])?;
    Ok(Outcome { total: total.iter().map(|value| value.to_bits()).collect(), squares, counts })
}
