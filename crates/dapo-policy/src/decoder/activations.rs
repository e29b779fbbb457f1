//! Activations that generation keeps for a backward pass.

use super::Decoder;

impl Decoder {
    /// Tokens of prompts and completions whose activations are kept now: those of completions until a backward pass has used
    /// them, and none once a weight has changed.
    pub fn kept_tokens(&self) -> usize {
        self.backend.kept_tokens()
    }

    /// Gives up what generation has kept ([`GenerationConfig::keep_activations_bytes`](crate::GenerationConfig)) of completions
    /// that are not wanted, by the index of their draw and their number within it. They are computed again where they come to
    /// a backward pass after all.
    pub fn release_activations(&self, is_wanted: &dyn Fn(u64, usize) -> bool) {
        self.backend.release_activations(is_wanted);
    }
}
