//! Kept rows of one sequence.

use super::layout::{BLOCK_TOKENS, Layout};
use super::pool::{Block, Pool};
use crate::cpu::workspace::Saved;
use crate::generator::Start;
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
    blocks: Vec<Block>,
}

impl KeptRows {
    pub(super) fn new(prompt: Arc<[u32]>, id: (u64, usize)) -> Self {
        Self { prompt, id, token_ids: Vec::new(), blocks: Vec::new() }
    }

    /// No rows yet of a completion that begins.
    pub(in crate::cpu) fn of(start: &Start<'_>) -> Self {
        let request = start.request;
        Self::new(request.prompt_ids.as_slice().into(), (request.draw, request.first_sample + start.sample))
    }

    /// Makes room for `tokens` more tokens; says whether the pool has as much.
    pub(super) fn reserve(&mut self, tokens: usize, pool: &Arc<Pool>, limit: usize) -> bool {
        let needed = (self.token_ids.len() + tokens).div_ceil(BLOCK_TOKENS);
        while self.blocks.len() < needed {
            let Some(block) = pool.take(limit) else { return false };
            self.blocks.push(block);
        }
        true
    }

    /// Takes a layer's values of the next tokens, which are those rows of a batch.
    pub(super) fn write(&mut self, layout: &Layout, layer: usize, saved: &Saved, rows: Range<usize>) {
        for (field, (values, width)) in saved.fields().into_iter().zip(layout.widths()).enumerate() {
            self.copy(layout.field(layer, field), width, values, rows.clone());
        }
    }

    /// Takes the last layer's output of the next tokens, with which their rows are complete.
    pub(super) fn complete(&mut self, layout: &Layout, x: &[f32], token_ids: &[u32], rows: Range<usize>) {
        self.copy(layout.last(), layout.hidden(), x, rows.clone());
        self.token_ids.extend_from_slice(&token_ids[rows]);
    }

    /// Takes back the rows of the last `tokens` tokens.
    pub(in crate::cpu) fn take_back(&mut self, tokens: usize) {
        self.token_ids.truncate(self.token_ids.len().saturating_sub(tokens));
        self.blocks.truncate(self.token_ids.len().div_ceil(BLOCK_TOKENS));
    }

    fn copy(&mut self, place: Range<usize>, width: usize, values: &[f32], rows: Range<usize>) {
        let (mut at, mut row) = (self.token_ids.len(), rows.start);
        while row < rows.end {
            let (block, within) = (at / BLOCK_TOKENS, at % BLOCK_TOKENS);
            let count = (BLOCK_TOKENS - within).min(rows.end - row);
            let to = &mut self.blocks[block].data[place.clone()][within * width..][..count * width];
            to.copy_from_slice(&values[row * width..][..count * width]);
            (at, row) = (at + count, row + count);
        }
    }

    /// Runs of rows of one value, of the first `tokens` tokens.
    pub(super) fn runs(&self, place: Range<usize>, width: usize, tokens: usize) -> impl Iterator<Item = &[f32]> {
        self.blocks.iter().enumerate().map_while(move |(block, of)| {
            let count = tokens.checked_sub(block * BLOCK_TOKENS).filter(|left| *left > 0)?.min(BLOCK_TOKENS);
            Some(&of.data[place.clone()][..count * width])
        })
    }
}
