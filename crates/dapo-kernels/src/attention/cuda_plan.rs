//! What the kernels of packed attention need to know of a batch: its segments, and lists of work.

use super::{Buffer, Gpu};
use crate::attention::{Heads, Segment, Segments};
use candle_core::{Result, bail};
use std::cmp::Reverse;

/// Rows (queries times the heads of a group) of a block of the forward and of the queries' gradients; as `ROWS` in
/// tile.cuh.
const ROWS: usize = 128;
/// Keys of a block of the keys' gradients; as `KEYS` in tile.cuh.
const KEYS: usize = 64;

/// A batch's segments and lists of work on the device. Made once for a batch, used by every layer and by both
/// directions.
///
/// Blocks are listed longest first, so that no multiprocessor is left with a long one at the end. The lists do not bear
/// on results.
#[derive(Debug)]
pub struct Plan {
    pub(super) heads: Heads,
    pub(super) tokens: usize,
    /// Start, length, parent's start and length of each segment.
    pub(super) segments: Buffer<i32>,
    /// Segment and first row.
    pub(super) rows: Buffer<i32>,
    /// Segment and first key.
    pub(super) keys: Buffer<i32>,
    /// Where each segment's children begin in `children`, and their end.
    pub(super) children_begin: Buffer<i32>,
    /// The segments that continue another, by this other.
    pub(super) children: Buffer<i32>,
}

impl Plan {
    /// Plans attention over these segments.
    ///
    /// # Errors
    /// When there are no segments, heads do not divide, the head width is not one of [`HEAD_WIDTHS`], or the batch is
    /// so long that its row numbers overflow: a segment times the square of query heads per key-value head from 2³⁰ on.
    pub fn new(gpu: &Gpu, segments: &Segments, heads: Heads) -> Result<Self> {
        check_heads("attention", heads)?;
        let (list, group) = (segments.list(), heads.per_key_value());
        let longest = list.iter().map(|segment| segment.len).max().unwrap_or(0);
        if longest == 0 {
            bail!("attention: a batch without segments");
        }
        if longest * group * group >= 1 << 30 {
            bail!("attention: a segment of {longest} tokens is too long for {group} query heads a key-value head");
        }
        let mut children = vec![Vec::new(); list.len()];
        for (index, segment) in list.iter().enumerate() {
            if let Some(parent) = segment.parent {
                children[parent].push(index as i32);
            }
        }
        let begin: Vec<i32> = std::iter::once(0)
            .chain(children.iter().scan(0, |end, children| {
                *end += children.len() as i32;
                Some(*end)
            }))
            .collect();
        let flat = children.concat();
        // Arrays on a device are not empty.
        let flat = if flat.is_empty() { vec![0] } else { flat };
        Ok(Self {
            heads,
            tokens: segments.total(),
            segments: gpu.upload(&describe(segments))?,
            rows: gpu.upload(&row_blocks(segments, group))?,
            keys: gpu.upload(&key_blocks(segments, group, &children))?,
            children_begin: gpu.upload(&begin)?,
            children: gpu.upload(&flat)?,
        })
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Heads it was made for.
    pub fn heads(&self) -> Heads {
        self.heads
    }
}

/// Widths of heads for which there are kernels.
pub const HEAD_WIDTHS: [usize; 3] = [32, 64, 128];

/// Fails unless there are kernels for these heads.
pub(super) fn check_heads(op: &str, heads: Heads) -> Result<()> {
    if heads.key_value == 0 || heads.query == 0 || !heads.query.is_multiple_of(heads.key_value) {
        bail!("{op}: {} query heads do not divide among {} key-value heads", heads.query, heads.key_value);
    }
    if !HEAD_WIDTHS.contains(&heads.dim) {
        bail!("{op}: heads of width {}, expected 32, 64 or 128", heads.dim);
    }
    Ok(())
}

fn before(segments: &Segments, segment: &Segment) -> usize {
    segments.parent(segment).map_or(0, |parent| parent.len)
}

fn describe(segments: &Segments) -> Vec<i32> {
    let one = |segment: &Segment| {
        let (parent_start, parent_len) = segments.parent(segment).map_or((0, 0), |p| (p.start, p.len));
        [segment.start, segment.len, parent_start, parent_len].map(|x| x as i32)
    };
    segments.list().iter().flat_map(one).collect()
}

/// Sorts (segment, first, cost) by falling cost; equal ones stay in order.
fn longest_first(mut blocks: Vec<(usize, usize, usize)>) -> Vec<i32> {
    blocks.sort_by_key(|block| Reverse(block.2));
    blocks.into_iter().flat_map(|(segment, first, _)| [segment as i32, first as i32]).collect()
}

fn row_blocks(segments: &Segments, group: usize) -> Vec<i32> {
    let of = |(index, segment): (usize, &Segment)| {
        let (rows, before) = (segment.len * group, before(segments, segment));
        let block = move |first: usize| (index, first, before + (rows.min(first + ROWS) - 1) / group + 1);
        (0..rows).step_by(ROWS).map(block).collect::<Vec<_>>()
    };
    longest_first(segments.list().iter().enumerate().flat_map(of).collect())
}

fn key_blocks(segments: &Segments, group: usize, children: &[Vec<i32>]) -> Vec<i32> {
    let list = segments.list();
    let of = |(index, segment): (usize, &Segment)| {
        let (len, later) = (segment.len, children[index].iter().map(|child| list[*child as usize].len).sum::<usize>());
        let block = move |first: usize| (index, first, (len - first + later) * group);
        (0..len).step_by(KEYS).map(block).collect::<Vec<_>>()
    };
    longest_first(list.iter().enumerate().flat_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_blocks_come_first() {
        let segments = Segments::new([(70, None), (40, Some(0)), (300, None)]).expect("valid");
        let rows = row_blocks(&segments, 2);
        // Rows of the last segment: 600; its last block sees 300 keys. The child's 80 rows see 70 + 40.
        assert_eq!(rows[..10], [2, 512, 2, 384, 2, 256, 2, 128, 1, 0]);
        assert_eq!(rows.len(), 2 * (2 + 1 + 5));
        let keys = key_blocks(&segments, 2, &[vec![1], vec![], vec![]]);
        assert_eq!(keys[..6], [2, 0, 2, 64, 2, 128]);
        assert_eq!(keys.len(), 2 * (2 + 1 + 5));
        assert_eq!(describe(&segments)[4..8], [70, 40, 0, 70]);
    }
}
