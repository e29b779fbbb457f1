//! Where samples are sent to be scored: [`Transport`].

use dapo_reward::{RewardInput, Score};

use crate::counters::Tally;
use crate::fault::Fault;
use crate::reply::ReplyId;

/// The samples of one request.
#[derive(Debug, Clone)]
pub struct Batch<'a, 'b> {
    /// The request's number, from 1 on.
    pub id: u64,
    /// The training step, from 1 on; 0 outside training.
    pub step: u64,
    /// The samples.
    pub samples: Vec<&'a RewardInput<'b>>,
}

/// Takes requests to whatever answers them.
pub trait Transport: Send + Sync {
    /// Requests that can be under way at once.
    fn lanes(&self) -> usize;

    /// Whether a score depends on the samples that its draw is scored with. A batch then holds these, and an answer is known
    /// for the same ones alone.
    fn compares(&self) -> bool {
        false
    }

    /// Asks for the scores of a batch, in its order. `lane` is below [`lanes`](Self::lanes).
    ///
    /// # Errors
    /// When there is not one finite score per sample.
    fn ask(&self, lane: usize, batch: &Batch<'_, '_>, tally: &Tally) -> Result<Vec<Score>, Fault>;
}

/// What reads a reply.
pub(crate) type Read<'a> = dyn FnMut(&[u8]) -> Result<(), Fault> + 'a;

/// Takes texts to whatever answers them, whatever they say.
pub(crate) trait Exchange: Send + Sync {
    /// Texts that can be under way at once.
    fn lanes(&self) -> usize;

    /// Whether replies must say which request they belong to.
    fn reply_id(&self) -> ReplyId;

    /// Sends a line and hands the reply to `read`, whose faults count as those of the other side.
    ///
    /// # Errors
    /// When there is no reply, and what `read` returns.
    fn exchange(&self, lane: usize, line: Vec<u8>, tally: &Tally, read: &mut Read<'_>) -> Result<(), Fault>;
}
