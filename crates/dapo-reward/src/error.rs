//! The crate's one error type.

/// What can be wrong with a reward's configuration.
///
/// Grading itself never fails: it answers with a [`Verdict`](crate::Verdict) or abstains.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// A field of a configuration holds a value outside what is allowed.
    #[error("{owner}: {field} is {value}, allowed: {allowed}")]
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
