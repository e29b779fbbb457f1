//! Where the rows of a block lie.

use crate::activations::layer_widths;
use crate::config::ModelConfig;
use std::ops::Range;

/// Tokens of a block.
pub(super) const BLOCK_TOKENS: usize = 8;

/// The order of values in a block: layer after layer, value after value as in [`layer_widths`], row after row; the last
/// layer's output comes at the end.
#[derive(Debug)]
pub(in crate::cpu) struct Layout {
    layers: usize,
    widths: [usize; 10],
}

impl Layout {
    pub(super) fn of(config: &ModelConfig) -> Self {
        Self { layers: config.num_hidden_layers, widths: layer_widths(config) }
    }

    /// Elements of a block.
    pub(super) fn block_len(&self) -> usize {
        BLOCK_TOKENS * (self.layers * self.layer_width() + self.hidden())
    }

    pub(super) fn layers(&self) -> usize {
        self.layers
    }

    pub(super) fn widths(&self) -> [usize; 10] {
        self.widths
    }

    /// Width of the last layer's output.
    pub(super) fn hidden(&self) -> usize {
        self.widths[0]
    }

    /// The rows of one value of a layer.
    pub(super) fn field(&self, layer: usize, field: usize) -> Range<usize> {
        let before: usize = self.widths[..field].iter().sum();
        let start = BLOCK_TOKENS * (layer * self.layer_width() + before);
        start..start + BLOCK_TOKENS * self.widths[field]
    }

    /// The rows of the last layer's output.
    pub(super) fn last(&self) -> Range<usize> {
        self.block_len() - BLOCK_TOKENS * self.hidden()..self.block_len()
    }

    fn layer_width(&self) -> usize {
        self.widths.iter().sum()
    }
}
