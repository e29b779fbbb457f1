//! Fixed blocks of a long vector: who owns them, and sums that know only them.

use crate::{
    collect::share_of,
    error::DistError,
    world::{Inbox, World},
};
use bytemuck::Pod;
use std::ops::Range;

/// A vector of parameters in blocks of fixed size, the last one shorter. Each rank owns neighbouring blocks. Where
/// a block begins does not depend on the number of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    len: usize,
    block: usize,
}

impl Blocks {
    /// Values in a block by default: 256 KiB of f32.
    pub const VALUES: usize = 1 << 16;

    /// Blocks of a vector of `len` values.
    pub fn new(len: usize) -> Self {
        Self { len, block: Self::VALUES }
    }

    /// Blocks of `block` values each. Norms depend on it.
    ///
    /// # Errors
    ///
    /// [`DistError::Argument`] if `block` is 0.
    pub fn with_size(len: usize, block: usize) -> Result<Self, DistError> {
        if block == 0 {
            let (what, expected) = ("the number of values in a block".to_owned(), "at least 1".to_owned());
            return Err(DistError::Argument { what, found: "0".to_owned(), expected });
        }
        Ok(Self { len, block })
    }

    /// Values of the whole vector.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether the vector has no values.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The number of blocks.
    pub fn count(self) -> usize {
        self.len.div_ceil(self.block)
    }

    /// The values that a rank owns.
    pub fn owned(self, rank: usize, size: usize) -> Range<usize> {
        let blocks = share_of(self.count(), rank, size);
        (blocks.start * self.block).min(self.len)..(blocks.end * self.block).min(self.len)
    }

    /// Checks a vector's length.
    pub(crate) fn check(what: &str, found: usize, expected: usize) -> Result<(), DistError> {
        if found == expected {
            return Ok(());
        }
        let what = format!("the length of {what}");
        Err(DistError::Argument { what, found: found.to_string(), expected: expected.to_string() })
    }

    /// Gives every rank all blocks: each sends those of `values` that it owns and receives the others.
    ///
    /// # Shapes
    ///
    /// `values`: the whole vector.
    ///
    /// # Errors
    ///
    /// [`DistError::Argument`] for a different length; and see [`World`].
    pub fn all_gather<T: Pod>(self, world: &dyn World, values: &mut [T]) -> Result<(), DistError> {
        Self::check("the vector to gather", values.len(), self.len)?;
        self.gather_values(world, values)
    }

    /// Brings all blocks to one rank; the others get nothing.
    ///
    /// # Shapes
    ///
    /// `own`: the values in [`owned`](Self::owned). What the rank `to` gets is the whole vector.
    ///
    /// # Errors
    ///
    /// [`DistError::Argument`] for a different length, or a rank outside the world; and see [`World`].
    pub fn gather(self, world: &dyn World, to: usize, own: &[f32]) -> Result<Option<Vec<f32>>, DistError> {
        let (here, size) = (world.rank(), world.size());
        Self::check("the owned values", own.len(), self.owned(here, size).len())?;
        if to >= size {
            let expected = format!("below {size}");
            return Err(DistError::Argument {
                what: "the rank to gather to".to_owned(),
                found: to.to_string(),
                expected,
            });
        }
        let mut send = vec![&[][..]; size];
        send[to] = bytemuck::cast_slice(own);
        if here != to {
            let mut receive: Vec<_> = (0..size).map(|_| Inbox::Own).collect();
            world.all_to_all(&send, &mut receive)?;
            return Ok(None);
        }
        let mut values = vec![0.0; self.len];
        values[self.owned(here, size)].copy_from_slice(own);
        let (mut receive, mut rest) = (Vec::with_capacity(size), values.as_mut_slice());
        for rank in 0..size {
            let (part, after) = rest.split_at_mut(self.owned(rank, size).len());
            rest = after;
            receive.push(if rank == here { Inbox::Own } else { Inbox::Exact(bytemuck::cast_slice_mut(part)) });
        }
        world.all_to_all(&send, &mut receive)?;
        Ok(Some(values))
    }

    /// The sum of squares of a vector of which each rank has the blocks that it owns: in f64 for each block, and then
    /// over all blocks in their order.
    ///
    /// # Shapes
    ///
    /// `own`: the values in [`owned`](Self::owned).
    ///
    /// # Errors
    ///
    /// [`DistError::Argument`] for a different length; and see [`World`].
    pub fn sum_of_squares(self, world: &dyn World, own: &[f32]) -> Result<f64, DistError> {
        let (here, size) = (world.rank(), world.size());
        Self::check("the owned values", own.len(), self.owned(here, size).len())?;
        let mut sums = vec![0.0_f64; self.count()];
        let mine = share_of(self.count(), here, size);
        for (sum, block) in sums[mine].iter_mut().zip(own.chunks(self.block)) {
            *sum = squares(block);
        }
        Self { len: self.count(), block: 1 }.gather_values(world, &mut sums)?;
        Ok(sums.iter().sum())
    }

    fn gather_values<T: Pod>(self, world: &dyn World, values: &mut [T]) -> Result<(), DistError> {
        let (here, size) = (world.rank(), world.size());
        let (mut receive, mut mine, mut rest) = (Vec::with_capacity(size), &[][..], values);
        for rank in 0..size {
            let (part, after) = rest.split_at_mut(self.owned(rank, size).len());
            rest = after;
            if rank == here {
                mine = bytemuck::cast_slice(part);
                receive.push(Inbox::Own);
            } else {
                receive.push(Inbox::Exact(bytemuck::cast_slice_mut(part)));
            }
        }
        world.all_gather(mine, &mut receive)
    }
}

/// Eight sums side by side, each in order, and then those from left to right.
fn squares(values: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    for values in values.chunks(8) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    let total: f64 = sums.iter().sum();
    if total.is_nan() { f64::NAN } else { total }
}
