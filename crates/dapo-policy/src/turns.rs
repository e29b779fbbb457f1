//! Who speaks between a model's turns, as generation sees them.

use crate::error::PolicyError;
use crate::request::FinishReason;

/// Whoever speaks between a model's turns: an environment, a tool, a user.
///
/// Generation shows it every turn that has ended and continues with others meanwhile. What a completion is depends on its
/// own turns and the answers to them alone, not on when these come.
pub trait Turns: Send {
    /// Is shown a turn that has ended, and takes note of it without waiting for an answer.
    ///
    /// # Errors
    /// Whatever must end generation.
    fn ended(&mut self, turn: EndedTurn<'_>) -> Result<(), PolicyError>;

    /// The answers that have come since, in any order. With `wait` nothing else is left to be generated: there is at least
    /// one turn without an answer, and this returns once one is there.
    ///
    /// # Errors
    /// Whatever must end generation.
    fn answers(&mut self, wait: bool) -> Result<Vec<TurnAnswer>, PolicyError>;
}

/// A turn of a model that has ended.
#[derive(Clone, Copy, Debug)]
pub struct EndedTurn<'a> {
    /// Names the turn until it is answered.
    pub id: usize,
    /// Number of the request.
    pub request: usize,
    /// Number of the sample within its draw.
    pub sample: usize,
    /// Number of the turn, from 1.
    pub turn: usize,
    /// The tokens that were generated in this turn.
    pub token_ids: &'a [u32],
    /// Why the turn ended; [`FinishReason::Length`] where it has used up its own tokens or those of all turns.
    pub finish_reason: FinishReason,
    /// Generated tokens of all turns so far.
    pub generated: usize,
    /// Tokens of others so far.
    pub context: usize,
}

/// What follows a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnAnswer {
    /// The turn's [`id`](EndedTurn::id).
    pub id: usize,
    /// How the completion continues or ends.
    pub then: AfterTurn,
}

/// How a completion continues after a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterTurn {
    /// With these tokens, and then the model's next turn.
    Append(Vec<u32>),
    /// Not at all, for this reason.
    End(FinishReason),
}
