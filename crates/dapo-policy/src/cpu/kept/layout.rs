//! What a row consists of.

use crate::activations::layer_widths;
use crate::config::ModelConfig;

/// Most tokens of a block.
const MOST_TOKENS: usize = 8;
/// Fewest tokens of a block.
const FEWEST_TOKENS: usize = 5;

/// A row of each layer, with its values in the order of [`layer_widths`], and a row of the last layer's output.
#[derive(Debug)]
pub(in crate::cpu) struct Layout {
    layers: usize,
    widths: [usize; 10],
    block_tokens: usize,
}

impl Layout {
    pub(super) fn of(config: &ModelConfig) -> Self {
        let widths = layer_widths(config);
        Self { layers: config.num_hidden_layers, widths, block_tokens: block_tokens(widths.iter().sum()) }
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(&self) -> usize {
        size_of::<f32>() * self.block_tokens * (0..=self.layers).map(|layer| self.width(layer)).sum::<usize>()
    }

    /// Tokens of a block.
    pub(super) fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    pub(super) fn layers(&self) -> usize {
        self.layers
    }

    /// Widths of a layer's values.
    pub(super) fn widths(&self) -> [usize; 10] {
        self.widths
    }

    /// Width of the last layer's output.
    pub(super) fn hidden(&self) -> usize {
        self.widths[0]
    }

    /// Width of a row of this layer; the last layer's output counts as one more layer.
    pub(super) fn width(&self, layer: usize) -> usize {
        if layer < self.layers { self.widths.iter().sum() } else { self.hidden() }
    }
}

/// The number of tokens whose rows of a layer best fill a size that allocators have, for a layer of this width. They have
/// four sizes from a power of two to the next.
fn block_tokens(width: usize) -> usize {
    let used = |tokens: &usize| {
        let bytes = (size_of::<f32>() * tokens * width).max(1);
        let step = (bytes.next_power_of_two() / 8).max(1);
        // Parts in a thousand.
        1000 * bytes / bytes.next_multiple_of(step)
    };
    (FEWEST_TOKENS..=MOST_TOKENS).max_by_key(used).unwrap_or(MOST_TOKENS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_nearly_fill_the_sizes_of_allocators() {
        // SmolLM2-135M: 22.5 KiB a token, so that 7 fill 160 KiB. Of 25 KiB 5 fill 128 KiB, of 32 KiB 8 fill 256.
        assert_eq!([5760, 6400, 8192].map(block_tokens), [7, 5, 8]);
    }
}
