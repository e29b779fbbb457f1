//! What a rank can do with the others.

use crate::error::DistError;

/// Exit code of a job that ended because a rank was missing: it can be started again and resumed.
pub const EXIT_MISSING_RANK: i32 = 75;

/// Processes that work as one, numbered from 0. It moves bytes and knows nothing of what they mean.
///
/// Every operation must be called by all ranks in the same order. It begins with a roll call: each rank tells all
/// others what it is about to do, in which phase and with how many bytes. So no operation returns before all ranks
/// have begun it, and ranks that do different things notice.
///
/// # Deadlines
///
/// An operation waits until a rank has been silent for the world's deadline, and then fails with [`DistError::Late`].
/// A rank that computes for longer calls [`heartbeat`](Self::heartbeat) meanwhile.
///
/// # Errors
///
/// After an error of an operation the ranks no longer agree: [`abort`](Self::abort) is what is left. Common to all
/// operations:
///
/// - [`DistError::Late`] when a rank is silent. Where ranks are processes, the job has ended instead: the error was
///   reported, and all processes exit with code 75 ([`EXIT_MISSING_RANK`]).
/// - [`DistError::Aborted`] when another rank ended the job.
/// - [`DistError::Astray`] when a rank is in a different operation or phase.
/// - [`DistError::Length`] when a message and the place for it differ in size.
/// - [`DistError::Argument`] for a list that has not one entry per rank, or a root outside the world.
///
/// A world that is dropped without [`finish`](Self::finish) ends the job as `abort` with code 75 does: a rank that
/// fails never leaves the others waiting.
pub trait World: Send + Sync {
    /// This process's number, from 0 to `size - 1`.
    fn rank(&self) -> usize;

    /// The number of processes, at least 1.
    fn size(&self) -> usize;

    /// Sets the label of what comes next, such as `step 12: gradients`. It must be the same on all ranks.
    fn phase(&self, label: &str);

    /// Tells the other ranks that this one is alive. Cheap at any rate: more than is needed is not sent.
    ///
    /// It may be called from any thread.
    fn heartbeat(&self);

    /// Sends `send[r]` to rank r, and receives into `receive[r]` what rank r sends to this one.
    ///
    /// # Errors
    ///
    /// See [`World`].
    fn all_to_all(&self, send: &[&[u8]], receive: &mut [Inbox<'_>]) -> Result<(), DistError>;

    /// Sends `mine` to every rank, and receives into `receive[r]` what rank r gives.
    ///
    /// # Errors
    ///
    /// See [`World`].
    fn all_gather(&self, mine: &[u8], receive: &mut [Inbox<'_>]) -> Result<(), DistError>;

    /// Replaces `bytes` on every rank by those of rank `root`.
    ///
    /// # Errors
    ///
    /// See [`World`].
    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<(), DistError>;

    /// Returns when all ranks have called it.
    ///
    /// # Errors
    ///
    /// See [`World`].
    fn barrier(&self) -> Result<(), DistError>;

    /// Ends the job on all ranks with an exit code. Where ranks are processes, it does not return.
    fn abort(&self, code: i32);

    /// Waits for all ranks, after which they leave the world without ending the others. Afterwards only dropping the
    /// world is left, on the thread that opened it.
    ///
    /// # Errors
    ///
    /// See [`World`].
    fn finish(&self) -> Result<(), DistError>;
}

/// Where a message of one rank goes.
#[derive(Debug)]
pub enum Inbox<'a> {
    /// The message has exactly this many bytes.
    Exact(&'a mut [u8]),
    /// The message has any length, and replaces what is here. The allocation is kept.
    Any(&'a mut Vec<u8>),
    /// This rank's own message, which it need not be given. Only for the rank itself.
    Own,
}

impl<'a> From<&'a mut Vec<u8>> for Inbox<'a> {
    fn from(bytes: &'a mut Vec<u8>) -> Self {
        Self::Any(bytes)
    }
}
