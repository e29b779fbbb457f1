#![allow(clippy::unwrap_used)]

use crate::common::{Checked, Numbers, Tolerance, assert_close, floats, in_every_order, tensor, to_vec};
use candle_core::Result;
use dapo_kernels::attention::{Heads, KvCache};
use dapo_kernels::cuda::attention::{BlockTable, CacheShape, NO_SEQUENCE, append, copy_blocks, decode, scratch_len};
use dapo_kernels::cuda::{Buffer, Gpu};
use dapo_kernels::ops::decode_attention;
use half::bf16;

const LAYERS: usize = 2;
/// Positions after the prompt.
const STEPS: usize = 3;
/// Completions of each prompt.
const GROUP: usize = 2;

/// Two prompts, a group of completions each, as they are decoded: what both sides are given.
struct Rollout<T> {
    heads: Heads,
    block_size: usize,
    prompts: [usize; 2],
    /// `[tokens, row]`, both prompts.
    prompt_rows: Vec<T>,
    /// `[step][sequence, row]`.
    steps: Vec<Vec<T>>,
}

impl<T: Checked> Rollout<T> {
    fn new(heads: Heads, block_size: usize, prompts: [usize; 2], numbers: &mut Numbers) -> Self {
        let row = (heads.query + 2 * heads.key_value) * heads.dim;
        let prompt_rows = numbers.values((prompts[0] + prompts[1]) * row, 2.0);
        let steps = (0..STEPS).map(|_| numbers.values(2 * GROUP * row, 2.0)).collect();
        Self { heads, block_size, prompts, prompt_rows, steps }
    }

    fn row(&self) -> usize {
        (self.heads.query + 2 * self.heads.key_value) * self.heads.dim
    }

    /// Queries, keys and values of rows, apart.
    fn split(&self, rows: &[T]) -> [Vec<f32>; 3] {
        let (q, kv) = (self.heads.query * self.heads.dim, self.heads.key_value * self.heads.dim);
        [(0, q), (q, kv), (q + kv, kv)]
            .map(|(from, len)| rows.chunks_exact(self.row()).flat_map(|row| floats(&row[from..from + len])).collect())
    }

    /// Each step's outputs, by the CPU's cache.
    fn on_cpu(&self) -> Vec<Vec<f32>> {
        let mut caches = Vec::new();
        let mut first = 0;
        for len in self.prompts {
            let [_, k, v] = self.split(&self.prompt_rows[first * self.row()..(first + len) * self.row()]);
            let mut prompt = KvCache::new(self.heads, len);
            prompt.append(&k, &v).unwrap();
            caches.extend((0..GROUP).map(|_| prompt.fork(len + STEPS)));
            first += len;
        }
        let mut outputs = Vec::new();
        for rows in &self.steps {
            let (heads, batch) = (self.heads, caches.len());
            let parts = self.split(rows);
            let [q, k, v] = parts.map(|part| tensor(&part, &[batch, part.len() / batch]));
            outputs.push(to_vec(&decode_attention(&q, &k, &v, heads, &mut caches).unwrap()));
        }
        outputs
    }

    /// The same by the kernels. The completions of a prompt share its whole blocks; blocks are handed out in no order.
    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<Vec<f32>>> {
        let size = self.block_size;
        let max_blocks = (self.prompts[0].max(self.prompts[1]) + STEPS).div_ceil(size) + 1;
        let shape = CacheShape { heads: self.heads, blocks: 6 * max_blocks, block_size: size };
        let mut next = 0;
        let mut allocate = || {
            next += 5;
            (next * 7 % shape.blocks.next_power_of_two()) as u32 % shape.blocks as u32
        };
        let mut used = std::collections::HashSet::new();
        let mut fresh = || loop {
            let block = allocate();
            if used.insert(block) {
                return block;
            }
        };
        // Sequences 0 and 1 are the prompts, then come the completions, which the table of decoding begins with.
        let mut table = vec![u32::MAX; (2 + 2 * GROUP) * max_blocks];
        let mut copies = Vec::new();
        for (prompt, len) in self.prompts.into_iter().enumerate() {
            for block in 0..len.div_ceil(size) {
                table[prompt * max_blocks + block] = fresh();
            }
            for sequence in 2 + prompt * GROUP..2 + (prompt + 1) * GROUP {
                for block in 0..(len + STEPS).div_ceil(size) {
                    let of_prompt = table[prompt * max_blocks + block];
                    let shared = (block + 1) * size <= len;
                    table[sequence * max_blocks + block] = if shared { of_prompt } else { fresh() };
                    if block == len / size && len % size != 0 {
                        copies.extend([of_prompt, table[sequence * max_blocks + block], (len % size) as u32]);
                    }
                }
            }
        }
        let all = gpu.upload(&table)?;
        let prompts_table = BlockTable { blocks: all.view(), max_blocks };
        let table = BlockTable { blocks: all.view().slice(2 * max_blocks..all.len())?, max_blocks };

        // In the last of several layers; the others stay as they are. Unwritten positions hold NaN.
        let layer = shape.layer_len();
        let unset = vec![T::from_f32(f32::NAN); LAYERS * layer];
        let (mut keys, mut values) = (gpu.upload(&unset)?, gpu.upload(&unset)?);
        let last = (LAYERS - 1) * layer..LAYERS * layer;
        let rows = gpu.upload(&self.prompt_rows)?;
        let sequences: Vec<u32> = (0..2).flat_map(|prompt| vec![prompt as u32; self.prompts[prompt]]).collect();
        let positions: Vec<u32> = self.prompts.into_iter().flat_map(|len| 0..len as u32).collect();
        let (sequences, positions) = (gpu.upload(&sequences)?, gpu.upload(&positions)?);
        let (mut k, mut v) = (keys.view_mut(), values.view_mut());
        let (k, v) = (k.slice_mut(last.clone())?, v.slice_mut(last.clone())?);
        append(gpu, shape, rows.view(), Some(sequences.view()), positions.view(), &prompts_table, k, v)?;
        let copies = gpu.upload(&copies)?;
        if !copies.is_empty() {
            copy_blocks(gpu, shape, LAYERS, copies.view(), keys.view_mut(), values.view_mut())?;
        }

        let batch = 2 * GROUP;
        // More than needed, and what scratch held before must not matter.
        let max_len = max_blocks * size;
        let mut scratch = gpu.upload(&vec![f32::NAN; scratch_len(self.heads, batch, max_len)])?;
        let mut outputs = Vec::new();
        for (step, rows) in self.steps.iter().enumerate() {
            let rows = gpu.upload(rows)?;
            let lens: Vec<u32> = (0..batch).map(|i| (self.prompts[i / GROUP] + step) as u32).collect();
            let positions = gpu.upload(&lens)?;
            let lengths: Buffer<u32> = gpu.upload(&lens.iter().map(|len| len + 1).collect::<Vec<_>>())?;
            let (mut k, mut v) = (keys.view_mut(), values.view_mut());
            let (k, v) = (k.slice_mut(last.clone())?, v.slice_mut(last.clone())?);
            append(gpu, shape, rows.view(), None, positions.view(), &table, k, v)?;
            let mut out = gpu.zeros::<T>(batch * self.heads.query * self.heads.dim)?;
            let (k, v) = (keys.view().slice(last.clone())?, values.view().slice(last.clone())?);
            let (qkv, to) = (rows.view(), out.view_mut());
            decode(gpu, shape, qkv, k, v, &table, lengths.view(), max_len, scratch.view_mut(), to)?;
            outputs.push(floats(&gpu.read(out.view())?));
        }
        let first = floats(&gpu.read(keys.view().slice(0..layer)?)?);
        assert!(first.iter().all(|x| x.is_nan()), "another layer was written");
        Ok(outputs)
    }
}

fn decoding_agrees<T: Checked>(tolerance: Tolerance) {
    let mut numbers = Numbers::new(1);
    for dim in [32, 64, 128] {
        for (group, key_value, block_size, prompts) in [
            (1, 2, 16, [1, 33]),
            (2, 2, 32, [64, 255]),
            (3, 1, 64, [63, 300]),
            (8, 1, 64, [128, 517]),
            (12, 1, 256, [254, 20]),
        ] {
            let heads = Heads { query: group * key_value, key_value, dim };
            let rollout = Rollout::<T>::new(heads, block_size, prompts, &mut numbers);
            let results = in_every_order(|gpu| rollout.on_gpu(gpu));
            for (step, (got, expected)) in results.iter().zip(rollout.on_cpu()).enumerate() {
                let name = format!("width {dim}, group {group}, prompts {prompts:?}, step {step}");
                assert_close(&name, got, &expected, tolerance);
            }
        }
    }
}

#[test]
fn decoding_agrees_with_the_cpu() {
    decoding_agrees::<f32>(Tolerance { relative: 1e-5, absolute: 5e-6 });
    decoding_agrees::<bf16>(bf16::TOLERANCE);
}

/// The result of a sequence has the same bits alone and in a batch, and for any bound on the length.
#[test]
fn batch_and_bound_change_no_bit() {
    let heads = Heads { query: 4, key_value: 2, dim: 64 };
    let shape = CacheShape { heads, blocks: 12, block_size: 64 };
    let gpu = crate::gpu();
    let mut numbers = Numbers::new(2);
    let (k, v): (Vec<bf16>, Vec<bf16>) =
        (numbers.values(shape.layer_len(), 2.0), numbers.values(shape.layer_len(), 2.0));
    let qkv: Vec<bf16> = numbers.values(3 * 512, 2.0);
    let table: Vec<u32> = vec![3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 11];
    let run = |sequences: std::ops::Range<usize>, lengths: &[u32], max_len: usize| -> Vec<f32> {
        let (k, v, qkv) = (gpu.upload(&k).unwrap(), gpu.upload(&v).unwrap(), gpu.upload(&qkv).unwrap());
        let (table, lengths) = (gpu.upload(&table).unwrap(), gpu.upload(lengths).unwrap());
        let n = sequences.len();
        let mut scratch = gpu.upload(&vec![f32::NAN; scratch_len(heads, n, max_len)]).unwrap();
        let mut out = gpu.upload(&vec![bf16::NAN; n * 256]).unwrap();
        let blocks = table.view().slice(sequences.start * 6..sequences.end * 6).unwrap();
        let table = BlockTable { blocks, max_blocks: 6 };
        let qkv = qkv.view().slice(sequences.start * 512..sequences.end * 512).unwrap();
        let (lengths, to) = (lengths.view(), out.view_mut());
        decode(&gpu, shape, qkv, k.view(), v.view(), &table, lengths, max_len, scratch.view_mut(), to).unwrap();
        floats(&gpu.read(out.view()).unwrap())
    };
    let all = run(0..3, &[300, 0, 256], 384);
    assert!(all[..256] == run(0..1, &[300], 300));
    assert!(all[256..512].iter().all(|x| *x == 0.0), "a sequence without positions");
    assert!(all[512..] == run(2..3, &[256], 256));
}

#[test]
fn rows_of_no_sequence_are_left_out() {
    let heads = Heads { query: 1, key_value: 1, dim: 64 };
    let shape = CacheShape { heads, blocks: 1, block_size: 16 };
    let gpu = crate::gpu();
    let qkv = gpu.upload(&vec![1.0f32; 2 * 192]).unwrap();
    let (mut k, mut v) = (gpu.zeros(shape.layer_len()).unwrap(), gpu.zeros(shape.layer_len()).unwrap());
    let (sequences, positions) = (gpu.upload(&[NO_SEQUENCE, 0]).unwrap(), gpu.upload(&[2u32, 5]).unwrap());
    let blocks = gpu.upload(&[0u32]).unwrap();
    let table = BlockTable { blocks: blocks.view(), max_blocks: 1 };
    let (rows, places) = (qkv.view(), Some(sequences.view()));
    append(&gpu, shape, rows, places, positions.view(), &table, k.view_mut(), v.view_mut()).unwrap();
    let written: Vec<usize> =
        gpu.read(v.view()).unwrap().chunks(64).map(|row| row.iter().sum::<f32>() as usize).collect();
    assert_eq!(written, [0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn sizes_of_decoding_are_checked() {
    let heads = Heads { query: 1, key_value: 1, dim: 64 };
    let gpu = crate::gpu();
    let blocks = gpu.upload(&[0u32]).unwrap();
    let table = BlockTable { blocks: blocks.view(), max_blocks: 1 };
    let decode_with = |block_size: usize, max_len: usize, scratch: usize| {
        let shape = CacheShape { heads, blocks: 1, block_size };
        let (cache, qkv) = (gpu.zeros::<f32>(shape.layer_len()).unwrap(), gpu.zeros(192).unwrap());
        let (lengths, mut scratch) = (gpu.upload(&[1u32]).unwrap(), gpu.zeros(scratch).unwrap());
        let mut out = gpu.zeros(64).unwrap();
        let (k, v, to) = (cache.view(), cache.view(), out.view_mut());
        decode(&gpu, shape, qkv.view(), k, v, &table, lengths.view(), max_len, scratch.view_mut(), to)
            .unwrap_err()
            .to_string()
    };
    assert!(decode_with(24, 1, 66).contains("blocks of 24 positions, expected 16"));
    assert!(decode_with(32, 33, 66).contains("1 sequences of 33 positions, a table of 1 entries for 32 each"));
    assert!(decode_with(32, 32, 65).contains("scratch has 65 values, expected at least 66"));
}
