//! The crate's one error type.

/// Errors of a reward's configuration, of a sum of rewards, and of the functions in it.
///
/// Grading itself never fails: it answers with a [`Verdict`](crate::Verdict) or abstains.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// A field of a configuration holds a value outside what is allowed.
    #[error("{owner}: {field} is {value}, expected {allowed}")]
    Config {
        /// The configuration struct.
        owner: &'static str,
        /// The field's name.
        field: &'static str,
        /// The value found, as text.
        value: String,
        /// What would have been accepted.
        allowed: &'static str,
    },
    /// A component's weight is NaN or infinite.
    #[error("the weight of reward {component:?} is {weight}, expected a finite number")]
    Weight {
        /// Name of the reward function.
        component: String,
        /// The weight found.
        weight: f64,
    },
    /// Two components of a sum have one name; metrics would mix them.
    #[error("two rewards are named {component:?}, expected distinct names")]
    DuplicateName {
        /// The name.
        component: String,
    },
    /// No component of a sum has a weight, so that the total would always be 0.
    #[error("the weights of the rewards {components:?} are all 0, expected at least one other")]
    NoWeight {
        /// Names of the reward functions.
        components: Vec<String>,
    },
    /// The component that should judge what is correct does not.
    #[error("the judge of what is correct is {name:?}, expected a reward that judges: {}", judges.join(", "))]
    Judge {
        /// The name given.
        name: String,
        /// Names of the components that judge.
        judges: Vec<String>,
    },
    /// A reward function gave a number to log under a name that is taken.
    #[error("reward {component:?} logs a number as {name:?}, expected another name: metrics have its own mean there")]
    LogName {
        /// Name of the reward function.
        component: String,
        /// The name of the number.
        name: &'static str,
    },
    /// A reward function could not score.
    #[error("reward {component:?} failed: {reason}")]
    Failed {
        /// Name of the reward function.
        component: String,
        /// The function's own error.
        reason: String,
    },
    /// A reward function panicked.
    #[error("reward {component:?} panicked: {message}")]
    Panicked {
        /// Name of the reward function.
        component: String,
        /// The panic's message.
        message: String,
    },
    /// A reward function gave more or fewer results than there are completions.
    #[error("reward {component:?} gave {got} results, expected {expected}")]
    Count {
        /// Name of the reward function.
        component: String,
        /// Results given.
        got: usize,
        /// Completions to be scored.
        expected: usize,
    },
    /// A reward function gave NaN or an infinite value, or one to log.
    #[error(
        "reward {component:?} of draw {draw}, sample {sample} is {value}, expected a finite number or an abstention"
    )]
    NotFinite {
        /// Name of the reward function.
        component: String,
        /// Draw index of the completion's prompt.
        draw: u64,
        /// Position of the completion in its group.
        sample: usize,
        /// The value.
        value: f64,
    },
}

impl RewardError {
    pub(crate) fn config(
        owner: &'static str,
        field: &'static str,
        value: impl std::fmt::Display,
        allowed: &'static str,
    ) -> Self {
        Self::Config { owner, field, value: value.to_string(), allowed }
    }
}
