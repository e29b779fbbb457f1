//! Small exchanges on top of a world: strings of any length, exact sums of counts.

use crate::{
    error::DistError,
    wire,
    world::{Inbox, World},
};
use std::ops::Range;

/// What every rank gives, by rank.
///
/// # Errors
///
/// See [`World`].
pub fn gather(world: &dyn World, mine: &[u8]) -> Result<Vec<Vec<u8>>, DistError> {
    let mut all = vec![Vec::new(); world.size()];
    world.all_gather(mine, &mut all.iter_mut().map(Inbox::Any).collect::<Vec<_>>())?;
    Ok(all)
}

/// Replaces `bytes` on every rank by those of rank `root`, as [`World::broadcast`] does, for large ones: the root sends
/// every byte once, and the others pass parts on to each other.
///
/// # Errors
///
/// See [`World`].
pub fn share(world: &dyn World, root: usize, bytes: &mut Vec<u8>) -> Result<(), DistError> {
    let (rank, size) = (world.rank(), world.size());
    let mut length = (bytes.len() as u64).to_le_bytes().to_vec();
    world.broadcast(root, &mut length)?;
    let Some(length) = wire::take_number(&mut length.as_slice()) else {
        let (found, expected) = (format!("{} bytes", length.len()), "a length of 8 bytes".to_owned());
        return Err(DistError::Content { rank: root, found, expected });
    };
    bytes.resize(length as usize, 0);
    let part = |rank: usize| -> Range<usize> { share_of(bytes.len(), rank, size) };
    let mut mine = if rank == root { bytes[part(rank)].to_vec() } else { Vec::new() };
    let send: Vec<&[u8]> = (0..size).map(|to| if rank == root { &bytes[part(to)] } else { &[] }).collect();
    let mut nothing = vec![Vec::new(); size];
    let mut receive: Vec<_> = nothing.iter_mut().map(Inbox::Any).collect();
    receive[rank] = Inbox::Own;
    if rank != root {
        receive[root] = Inbox::Any(&mut mine);
    }
    world.all_to_all(&send, &mut receive)?;
    let mut receive = Vec::with_capacity(size);
    let mut rest = bytes.as_mut_slice();
    for rank in 0..size {
        let range = share_of(length as usize, rank, size);
        let (own, after) = rest.split_at_mut(range.len());
        receive.push(Inbox::Exact(own));
        rest = after;
    }
    world.all_gather(&mine, &mut receive)
}

/// The part of `items` things that is rank `rank`'s, of `size` ranks: in order, and equal up to one.
pub fn share_of(items: usize, rank: usize, size: usize) -> Range<usize> {
    let start = |rank: usize| (items as u128 * rank as u128 / size.max(1) as u128) as usize;
    start(rank)..start(rank + 1)
}

/// Adds counts over all ranks, entry by entry. Whole numbers have no order of sums.
///
/// # Errors
///
/// - [`DistError::Content`] if a rank has more or fewer counts, or a sum is above 2^64 - 1.
/// - See [`World`].
pub fn sum_counts(world: &dyn World, counts: &[u64]) -> Result<Vec<u64>, DistError> {
    let mine: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let mut sums = vec![0_u64; counts.len()];
    for (rank, theirs) in gather(world, &mine)?.into_iter().enumerate() {
        let wrong = |found: String, expected: &str| DistError::Content { rank, found, expected: expected.to_owned() };
        if theirs.len() != mine.len() {
            return Err(wrong(format!("{} counts", theirs.len() / 8), &format!("{} counts", counts.len())));
        }
        let mut theirs = theirs.as_slice();
        for sum in &mut sums {
            let count = wire::take_number(&mut theirs).unwrap_or_default();
            let total = sum.checked_add(count);
            *sum = total.ok_or_else(|| wrong(format!("a count of {count}"), "a sum of at most 2^64 - 1"))?;
        }
    }
    Ok(sums)
}
