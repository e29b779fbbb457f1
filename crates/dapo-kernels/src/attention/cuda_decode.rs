//! The cache of keys and values in blocks, and attention of one new token per sequence over it.
//!
//! Shapes: B sequences, n rows, Hq and Hk query and key-value heads, d their width.

use super::{Element, Gpu, In, Kernel, Launch, Out, check_heads, expect_len, row_len, scale};
use crate::attention::Heads;
use candle_core::{Result, bail};

/// Positions of a split: each is read by blocks of threads of its own. As `SPLIT` in decode.cuh.
const SPLIT: usize = 256;
/// In the place of a sequence's number: a row that is not appended.
pub const NO_SEQUENCE: u32 = u32::MAX;

/// The shape of a layer's cache of keys; another of the same shape holds the values.
///
/// `[blocks, Hk, block size, d]`. Sequences name their blocks in a [`BlockTable`], so that those of a group share the
/// whole blocks of their prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Heads.
    pub heads: Heads,
    /// Number of blocks.
    pub blocks: usize,
    /// Positions of a block: 16, 32, 64, 128 or 256.
    pub block_size: usize,
}

impl CacheShape {
    /// Elements of a layer's keys.
    pub fn layer_len(&self) -> usize {
        self.blocks * self.heads.key_value * self.block_size * self.heads.dim
    }

    fn block_shift(&self) -> usize {
        self.block_size.trailing_zeros() as usize
    }

    fn check(&self, op: &str, layers: usize, k_len: usize, v_len: usize) -> Result<()> {
        check_heads(op, self.heads)?;
        if !self.block_size.is_power_of_two() || self.block_size < 16 || self.block_size > SPLIT {
            bail!("{op}: blocks of {} positions, expected 16, 32, 64, 128 or 256", self.block_size);
        }
        expect_len(op, "k_cache", k_len, layers * self.layer_len())?;
        expect_len(op, "v_cache", v_len, layers * self.layer_len())
    }

    /// Pieces of 16 bytes in a head's row.
    fn head_len<T>(&self) -> usize {
        self.heads.dim * size_of::<T>() / 16
    }
}

/// Where sequences have their positions: position p of sequence s is in block
/// `blocks[s · max_blocks + p / block size]`.
///
/// The kernels trust its entries: those for positions in use must be below [`CacheShape::blocks`].
#[derive(Clone, Debug)]
pub struct BlockTable<'a> {
    /// `[sequences, max_blocks]`.
    pub blocks: In<'a, u32>,
    /// Entries of a sequence.
    pub max_blocks: usize,
}

/// Writes the keys and values of new tokens into the cache, after their rotation: one row a sequence when decoding,
/// many in prefill.
///
/// Row i is position `positions[i]` of sequence `sequences[i]`, or of sequence i where `sequences` is `None`; rows of
/// [`NO_SEQUENCE`] are left out. No two rows may have the same place.
///
/// # Shapes
/// qkv `[n, (Hq + 2·Hk) · d]`, positions and sequences `[n]`, caches [`CacheShape::layer_len`].
///
/// # Errors
/// When sizes disagree.
#[expect(clippy::needless_pass_by_value, reason = "views are passed by value throughout")]
pub fn append<T: Element>(
    gpu: &Gpu,
    shape: CacheShape,
    qkv: In<'_, T>,
    sequences: Option<In<'_, u32>>,
    positions: In<'_, u32>,
    table: &BlockTable<'_>,
    k_cache: Out<'_, T>,
    v_cache: Out<'_, T>,
) -> Result<()> {
    shape.check("cache append", 1, k_cache.len(), v_cache.len())?;
    let (heads, rows) = (shape.heads, positions.len());
    expect_len("cache append", "qkv", qkv.len(), rows * row_len(heads))?;
    if let Some(sequences) = &sequences {
        expect_len("cache append", "sequences", sequences.len(), rows)?;
    } else if table.blocks.len() < rows * table.max_blocks {
        bail!("cache append: {rows} rows, and a table of {} entries", table.blocks.len());
    }
    let keys = heads.query * heads.dim;
    let (k, v) = (qkv.slice(keys..qkv.len())?, qkv.slice(keys + heads.key_value * heads.dim..qkv.len())?);
    let (head_len, stride) = (shape.head_len::<T>(), row_len(heads) * size_of::<T>() / 16);
    let launch = Launch::new(gpu, Kernel::new("attention", "attention_cache_append")).input(k).input(v);
    let launch = launch.optional_input(sequences).input(positions).input(table.blocks.clone());
    let launch = launch.output(k_cache).output(v_cache).int(rows).int(heads.key_value).int(head_len).int(stride);
    launch.int(stride).int(table.max_blocks).int(shape.block_shift()).run(
        [(rows * heads.key_value * head_len).div_ceil(256), 1, 1],
        [256, 1, 1],
        0,
    )
}

/// Copies the first positions of blocks to other blocks, in all layers: what a new continuation of a prompt needs of
/// the prompt's last, partial block. No block may be written that is read.
///
/// # Shapes
/// copies `[n, 3]`: from, to, positions; caches of all layers, `layers` times [`CacheShape::layer_len`].
///
/// # Errors
/// When sizes disagree.
pub fn copy_blocks<T: Element>(
    gpu: &Gpu,
    shape: CacheShape,
    layers: usize,
    copies: In<'_, u32>,
    k_cache: Out<'_, T>,
    v_cache: Out<'_, T>,
) -> Result<()> {
    shape.check("cache copy", layers, k_cache.len(), v_cache.len())?;
    if !copies.len().is_multiple_of(3) {
        bail!("cache copy: copies has {} values, expected whole triples", copies.len());
    }
    let blocks = copies.len() / 3 * layers * shape.heads.key_value;
    let launch = Launch::new(gpu, Kernel::new("attention", "attention_cache_copy_blocks"));
    let launch = launch.output(k_cache).output(v_cache).input(copies).int(layers).int(shape.heads.key_value);
    let launch = launch.int(shape.head_len::<T>()).int(shape.block_shift());
    launch.long((shape.layer_len() * size_of::<T>() / 16) as u64).run([blocks, 1, 1], [256, 1, 1], 0)
}

/// Length of the scratch of [`decode`], in f32, for sequences of at most `max_len` positions.
pub fn scratch_len(heads: Heads, sequences: usize, max_len: usize) -> usize {
    sequences * heads.query * max_len.div_ceil(SPLIT) * (heads.dim + 2)
}

/// Attention of one token per sequence over the positions in its cache, its own among them: [`append`] comes first.
///
/// A sequence of length 0 reads nothing and gets zeros. Lengths above `max_len` are cut there; a larger `max_len` than
/// needed costs little and changes no bit.
///
/// # Shapes
/// qkv `[B, (Hq + 2·Hk) · d]` (its keys and values are not read), lengths `[B]`, caches [`CacheShape::layer_len`],
/// scratch at least [`scratch_len`], out `[B, Hq · d]`.
///
/// # Errors
/// When sizes disagree, or `max_len` is more than the table holds.
pub fn decode<T: Element>(
    gpu: &Gpu,
    shape: CacheShape,
    qkv: In<'_, T>,
    k_cache: In<'_, T>,
    v_cache: In<'_, T>,
    table: &BlockTable<'_>,
    lengths: In<'_, u32>,
    max_len: usize,
    mut scratch: Out<'_, f32>,
    out: Out<'_, T>,
) -> Result<()> {
    shape.check("decode attention", 1, k_cache.len(), v_cache.len())?;
    let (heads, sequences, group) = (shape.heads, lengths.len(), shape.heads.per_key_value());
    expect_len("decode attention", "qkv", qkv.len(), sequences * row_len(heads))?;
    expect_len("decode attention", "out", out.len(), sequences * heads.query * heads.dim)?;
    if table.blocks.len() < sequences * table.max_blocks || max_len > table.max_blocks * shape.block_size {
        let (entries, most) = (table.blocks.len(), table.max_blocks * shape.block_size);
        bail!(
            "decode attention: {sequences} sequences of {max_len} positions, a table of {entries} entries for {most} each"
        );
    }
    let splits = max_len.div_ceil(SPLIT);
    let needed = scratch_len(heads, sequences, max_len);
    if scratch.len() < needed {
        bail!("decode attention: scratch has {} values, expected at least {needed}", scratch.len());
    }
    // Heads that a block of threads serves.
    let served = group.next_power_of_two().min(8);
    let kernel = match served {
        1 => pick!(T, heads.dim, "attention_decode", "_h1"),
        2 => pick!(T, heads.dim, "attention_decode", "_h2"),
        4 => pick!(T, heads.dim, "attention_decode", "_h4"),
        _ => pick!(T, heads.dim, "attention_decode", "_h8"),
    };
    let stages = (3 * 64 * heads.dim * size_of::<T>()).max(128 * 8 * served * 4);
    let shared = stages + (heads.dim + SPLIT) * served * 4;
    let parts = group.div_ceil(served);
    let launch = Launch::new(gpu, kernel).input(qkv).input(k_cache).input(v_cache);
    let launch = launch.input(table.blocks.clone()).input(lengths.clone()).output(scratch.reborrow());
    let launch = launch.int(heads.key_value).int(group).int(row_len(heads)).int(table.max_blocks);
    launch.int(shape.block_shift()).int(splits).float(scale(heads.dim) * std::f32::consts::LOG2_E).run(
        [parts * heads.key_value * splits, sequences, 1],
        [128, 1, 1],
        shared,
    )?;
    let launch =
        Launch::new(gpu, pick!(T, heads.dim, "attention_combine")).input(scratch.view()).input(lengths).output(out);
    launch.int(sequences).int(heads.query).int(splits).run(
        [(sequences * heads.query).div_ceil(4), 1, 1],
        [128, 1, 1],
        0,
    )
}
