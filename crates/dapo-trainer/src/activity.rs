//! What a trainer is doing, for those who watch it.

/// Is shown what a trainer or a run is doing, each time that this has changed: up to some thousand times a second, and from
/// any thread.
pub type Observer<'a> = dyn FnMut(Activity) + Send + 'a;

/// What a trainer or a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// Completions are generated.
    Rollout(RolloutProgress),
    /// Completions are scored by the rewards.
    Scoring {
        /// How many.
        completions: usize,
    },
    /// Log-probs of finished completions are computed: old ones where rollouts differ from training, and those of the
    /// reference.
    LogProbs,
    /// Gradients are computed.
    Update(UpdateProgress),
    /// Held-out problems are completed.
    Evaluation {
        /// Problems whose completions have all ended.
        done: usize,
        /// All of them.
        problems: usize,
        /// Tokens generated.
        tokens: u64,
    },
    /// A checkpoint is written.
    Checkpoint,
}

/// How far the rollouts of a step are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutProgress {
    /// The round, from 1.
    pub round: u64,
    /// Groups generated in the step.
    pub groups: u64,
    /// Groups drawn in the step, those of this round included.
    pub drawn: u64,
    /// Groups with a signal before this round, carried ones included.
    pub kept: usize,
    /// Groups with a signal that make a full batch.
    pub needed: usize,
    /// Tokens generated in the step.
    pub tokens: u64,
}

/// How far the updates of a step are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateProgress {
    /// The update, from 1.
    pub update: usize,
    /// Updates of the step.
    pub updates: usize,
    /// Micro-batches of the update whose gradients are there.
    pub done: usize,
    /// Micro-batches of the update.
    pub micro_batches: usize,
}
