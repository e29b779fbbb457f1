//! Kept rows of one sequence.

use super::budget::{Budget, Place};
use super::layout::Layout;
use crate::cpu::workspace::Saved;
use std::ops::Range;
use std::sync::Arc;

/// What was computed of a prompt's tokens, or of those that follow it in a completion.
#[derive(Debug)]
pub(in crate::cpu) struct KeptRows {
    /// The prompt.
    pub(super) prompt: Arc<[u32]>,
    /// Index of the draw, and number of the sample within it; of a prompt 0.
    pub(super) id: (u64, usize),
    /// The tokens that rows are complete of.
    pub(super) token_ids: Vec<u32>,
    block_tokens: usize,
    blocks: Vec<Block>,
    /// Blocks that have memory.
    allocated: usize,
}

/// Rows of a few tokens.
#[derive(Debug)]
struct Block {
    /// By layer, one row after another. The last layer's output follows the layers.
    layers: Vec<Vec<f32>>,
    _place: Place,
}

impl KeptRows {
    /// No rows yet.
    pub(super) fn new(prompt: Arc<[u32]>, id: (u64, usize), layout: &Layout) -> Self {
        let block_tokens = layout.block_tokens();
        Self { prompt, id, token_ids: Vec::new(), block_tokens, blocks: Vec::new(), allocated: 0 }
    }

    /// Takes places for `tokens` more tokens; says whether the budget has as many.
    pub(super) fn reserve(&mut self, tokens: usize, budget: &Arc<Budget>, limit: usize) -> bool {
        let needed = (self.token_ids.len() + tokens).div_ceil(self.block_tokens);
        while self.blocks.len() < needed {
            let Some(place) = budget.take(limit) else { return false };
            self.blocks.push(Block { layers: Vec::new(), _place: place });
        }
        true
    }

    /// Allocates the blocks of these sequences that have no memory yet, layer after layer. What lies together is then freed
    /// together, and makes room for the layer's gradients.
    pub(super) fn allocate<'a>(sequences: impl Iterator<Item = &'a mut Self>, layout: &Layout) {
        let mut new: Vec<&mut Block> = Vec::new();
        for rows in sequences.filter(|rows| rows.allocated < rows.blocks.len()) {
            let allocated = std::mem::replace(&mut rows.allocated, rows.blocks.len());
            new.extend(&mut rows.blocks[allocated..]);
        }
        for layer in 0..=layout.layers() {
            for block in &mut new {
                block.layers.push(Vec::with_capacity(layout.block_tokens() * layout.width(layer)));
            }
        }
    }

    /// Takes a layer's values of the next tokens, which are those rows of a batch.
    pub(super) fn write(&mut self, layout: &Layout, layer: usize, saved: &Saved, rows: Range<usize>) {
        self.append(layer, rows, saved.fields(), layout.widths());
    }

    /// Takes the last layer's output of the next tokens, with which their rows are complete.
    pub(super) fn complete(&mut self, layout: &Layout, x: &[f32], token_ids: &[u32], rows: Range<usize>) {
        self.append(layout.layers(), rows.clone(), [x], [layout.hidden()]);
        self.token_ids.extend_from_slice(&token_ids[rows]);
    }

    /// Takes back the rows of the last `tokens` tokens.
    pub(in crate::cpu) fn take_back(&mut self, tokens: usize) {
        self.token_ids.truncate(self.token_ids.len().saturating_sub(tokens));
        self.blocks.truncate(self.token_ids.len().div_ceil(self.block_tokens));
        self.allocated = self.allocated.min(self.blocks.len());
    }

    /// Writes rows of a batch, whose values of each kind have one width, behind the tokens that are complete.
    fn append<const N: usize>(&mut self, layer: usize, rows: Range<usize>, values: [&[f32]; N], widths: [usize; N]) {
        for (at, row) in (self.token_ids.len()..).zip(rows) {
            let to = &mut self.blocks[at / self.block_tokens].layers[layer];
            // Rows that were taken back are written again.
            to.truncate(at % self.block_tokens * widths.iter().sum::<usize>());
            for (values, width) in values.iter().zip(widths) {
                to.extend_from_slice(&values[row * width..][..width]);
            }
        }
    }

    /// Copies rows of a layer, each kind of values to its own place.
    pub(super) fn read<const N: usize>(
        &self,
        layer: usize,
        rows: Range<usize>,
        to: &mut [&mut [f32]; N],
        widths: [usize; N],
    ) {
        let width: usize = widths.iter().sum();
        for (number, row) in rows.enumerate() {
            let mut values =
                &self.blocks[row / self.block_tokens].layers[layer][row % self.block_tokens * width..][..width];
            for (to, width) in to.iter_mut().zip(widths) {
                let (first, rest) = values.split_at(width);
                to[number * width..][..width].copy_from_slice(first);
                values = rest;
            }
        }
    }

    /// Gives a layer's memory up.
    pub(super) fn release(&mut self, layer: usize) {
        self.blocks.iter_mut().for_each(|block| block.layers[layer] = Vec::new());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const HIDDEN: usize = 4;

    /// With blocks of 5 tokens.
    pub(in super::super) fn layout() -> Layout {
        let json = serde_json::json!({"architectures": ["Qwen3ForCausalLM"], "vocab_size": 11, "hidden_size": HIDDEN,
            "intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 2});
        Layout::of(&crate::ModelConfig::from_json(&json, "config.json".as_ref()).unwrap())
    }

    /// Values of a row, different in each kind, for its token.
    fn values(layout: &Layout, layer: usize, tokens: &[u32]) -> Saved {
        let mut saved = Saved::default();
        for ((kind, values), width) in saved.fields_mut().into_iter().enumerate().zip(layout.widths()) {
            let of = |(token, column): (u32, usize)| (1000 * token as usize + 100 * layer + 10 * kind + column) as f32;
            values.extend(tokens.iter().flat_map(|token| (0..width).map(|column| (*token, column))).map(of));
        }
        saved
    }

    /// Keeps tokens as a forward pass would.
    pub(in super::super) fn put(rows: &mut KeptRows, layout: &Layout, tokens: &[u32]) {
        KeptRows::allocate([&mut *rows].into_iter(), layout);
        for layer in 0..layout.layers() {
            rows.write(layout, layer, &values(layout, layer, tokens), 0..tokens.len());
        }
        let last: Vec<f32> = tokens.iter().flat_map(|token| [*token as f32; HIDDEN]).collect();
        rows.complete(layout, &last, tokens, 0..tokens.len());
    }

    /// Values that a layer's blocks have room for.
    pub(in super::super) fn memory(rows: &KeptRows, layer: usize) -> usize {
        rows.blocks.iter().map(|block| block.layers[layer].capacity()).sum()
    }

    fn read(rows: &KeptRows, layout: &Layout, layer: usize) -> Vec<Vec<f32>> {
        let tokens = rows.token_ids.len();
        let mut found = layout.widths().map(|width| vec![0.0; tokens * width]);
        rows.read(layer, 0..tokens, &mut found.each_mut().map(|values| &mut values[..]), layout.widths());
        found.into()
    }

    #[test]
    fn rows_are_read_as_they_were_written_whatever_was_taken_back_between() {
        let (layout, budget) = (layout(), Arc::default());
        let mut rows = KeptRows::new([1, 2].into(), (0, 0), &layout);
        for (tokens, taken_back) in
            [(&[3, 4, 5, 6, 7, 8, 9][..], 0), (&[10, 11, 12], 2), (&[13], 1), (&[14, 15, 16], 0)]
        {
            assert!(rows.reserve(tokens.len(), &budget, 3));
            put(&mut rows, &layout, tokens);
            rows.take_back(taken_back);
        }
        let left = [3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16];
        assert_eq!(rows.token_ids, left);
        for layer in 0..layout.layers() {
            assert_eq!(read(&rows, &layout, layer), values(&layout, layer, &left).fields().map(<[f32]>::to_vec));
        }
        let mut last = vec![0.0; left.len() * HIDDEN];
        rows.read(layout.layers(), 0..left.len(), &mut [&mut last], [HIDDEN]);
        assert!(last.chunks(HIDDEN).zip(left).all(|(row, token)| row == [token as f32; HIDDEN]));
        // All three blocks are in use.
        assert!(!rows.reserve(5, &budget, 3));
    }

    #[test]
    fn a_layer_is_given_up_and_the_others_stay() {
        let (layout, budget) = (layout(), Arc::default());
        let mut rows = KeptRows::new([1].into(), (0, 0), &layout);
        assert!(rows.reserve(9, &budget, 2));
        let tokens: Vec<u32> = (1..10).collect();
        put(&mut rows, &layout, &tokens);
        rows.release(1);
        assert_eq!([0, 1, 2].map(|layer| memory(&rows, layer)), [2 * 5 * layout.width(0), 0, 2 * 5 * HIDDEN]);
        assert_eq!(read(&rows, &layout, 0), values(&layout, 0, &tokens).fields().map(<[f32]>::to_vec));
    }
}
