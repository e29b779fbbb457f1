//! Sequences that a backend generates, as the scheduler sees them.
//!
//! A generator holds prompts, by the number of their request, and active sequences, by their place. It computes and draws;
//! when a prompt is computed, where a sequence goes and when either is released is the scheduler's business.

use crate::error::PolicyError;
use crate::request::{Completion, Request};

/// What a generator has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Places: sequences that are active at a time.
    pub(crate) places: usize,
    /// Blocks of the cache of keys and values.
    pub(crate) blocks: usize,
    /// Prompt tokens that are computed in one batch.
    pub(crate) prefill_tokens: usize,
    /// What sequences do with their prompt's part of the cache.
    pub(crate) prompts: PromptCache,
}

/// How a sequence continues its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PromptCache {
    /// With a copy of its keys and values: the prompt can go when the last of them has started.
    Copied,
    /// On top of its blocks: the prompt has to stay until the last of them has ended.
    #[cfg_attr(not(any(test, feature = "cuda", feature = "emulate")), expect(dead_code, reason = "GPUs do"))]
    Shared,
    /// With a copy, and the prompt may be continued again later: it stays, in blocks of its own, until nobody asks for more.
    Kept,
}

/// A sequence that begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    pub(crate) place: usize,
    /// Number of the request, whose prompt has been computed.
    pub(crate) number: usize,
    pub(crate) request: &'a Request,
    /// Counted from the request's first.
    pub(crate) sample: usize,
}

/// A sequence that has ended; its place and its part of the cache are its own until it is released.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) place: usize,
    pub(crate) ending: Ending,
}

/// How a sequence ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By the stopping rule, with what was drawn since it began or was continued.
    Finished(Completion),
    /// The token at this position of the completion could not be drawn: a logit is not finite.
    NotFinite(usize),
}

/// The sequences of one call on a device.
pub(crate) trait Generator {
    fn room(&self) -> Room;

    /// Keeps prompts beyond the start of their last sequence, where it can and has the room: more sequences may be asked for.
    /// Called before everything else, [`room`](Generator::room) included.
    fn keep_prompts(&mut self) {}

    /// Blocks that a prompt of `tokens` tokens takes, beside those of its sequences.
    fn prompt_blocks(&self, tokens: usize) -> usize;

    /// Blocks of its own that a sequence needs which continues a prompt of `prompt_tokens` tokens until its limit.
    fn sequence_blocks(&self, prompt_tokens: usize) -> usize;

    /// Computes prompts in one batch. Sequences of all prompts that were computed before have started.
    fn prefill(&mut self, prompts: &[(usize, &Request)]) -> Result<(), PolicyError>;

    /// Begins sequences at places that are free, and draws their first tokens. Those that have ended with these are reported
    /// here or by the next [`advance`](Generator::advance).
    fn start(&mut self, starts: &[Start<'_>], ended: &mut Vec<Ended>) -> Result<(), PolicyError>;

    /// Draws the next tokens of every active sequence, of each at least one unless it ends before; reports those that have
    /// ended. There is at least one. `ended` has room for every place.
    fn advance(&mut self, ended: &mut Vec<Ended>) -> Result<(), PolicyError>;

    /// Keeps the place and the cache of a sequence whose turn has ended, for [`append`](Generator::append). Until then it does
    /// not advance. For completions of several turns alone.
    fn park(&mut self, place: usize) -> Result<(), PolicyError>;

    /// Computes tokens on top of sequences that are parked, which are active again, and draws the first tokens of their next
    /// turns. Those that have ended with these are reported here or by the next [`advance`](Generator::advance).
    fn append(&mut self, turns: &[(usize, Vec<u32>)], ended: &mut Vec<Ended>) -> Result<(), PolicyError>;

    /// Tokens that [`advance`](Generator::advance) is taken to draw of a sequence until it has ended and its tokens are
    /// counted. Where guesses come true it draws more.
    fn tokens_an_advance(&self) -> usize {
        1
    }

    /// The tokens that an active sequence had when [`start`](Generator::start) or [`advance`](Generator::advance) returned
    /// last.
    fn tokens(&self, place: usize) -> Result<Vec<u32>, PolicyError>;

    /// Gives up the place and the cache of a sequence that has ended.
    fn release(&mut self, place: usize);

    /// Gives up a prompt that nobody continues any more.
    fn release_prompt(&mut self, number: usize);
}

/// The error of asking for a sequence that is not there.
pub(crate) fn not_active(place: usize) -> PolicyError {
    PolicyError::Internal(format!("no sequence is active at place {place}"))
}
