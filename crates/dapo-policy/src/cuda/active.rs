//! A sequence that is generated on the device.

use crate::stop_strings::Tail;

/// An active sequence.
pub(super) struct Active {
    /// Number of its request.
    pub(super) number: usize,
    pub(super) prompt_len: usize,
    /// Blocks of this sequence alone.
    pub(super) own: Vec<u32>,
    /// Tokens drawn when the host last looked.
    pub(super) length: usize,
    /// Those of them that were drawn in earlier turns.
    pub(super) before: usize,
    /// Tokens of others.
    pub(super) context: usize,
    /// Whether its turn has ended, and the next has not begun.
    pub(super) is_parked: bool,
    /// What the stop strings have seen of the turn, and of how many tokens.
    pub(super) tail: Tail,
    pub(super) searched: usize,
}

impl Active {
    /// Tokens of the sequence when the host last looked.
    pub(super) fn len(&self) -> usize {
        self.prompt_len + self.context + self.length
    }
}
