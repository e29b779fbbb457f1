//! The one error type of the crate.

/// Errors of the numbers and settings handed to this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// A setting is outside what its formula allows.
    #[error("{field} is {value}, expected {allowed}")]
    Config {
        /// Path of the field, for example `policy_loss.clip.low`.
        field: &'static str,
        /// The value it has.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A name that stands for nothing.
    #[error("unknown {kind} `{name}`, expected one of {allowed}")]
    UnknownName {
        /// What was being named, for example `policy loss`.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// All names that exist.
        allowed: String,
    },
    /// Two arrays that must agree in length do not.
    #[error("{function}: {array} has {len} values, expected {expected}")]
    Length {
        /// The function that was called.
        function: &'static str,
        /// The array at fault.
        array: &'static str,
        /// How many values it has.
        len: usize,
        /// How many it needs.
        expected: usize,
    },
    /// The offsets of the packed sequences do not start at 0, or decrease.
    #[error("{function}: cu_seqlens[{index}] is {value}, expected {expected}")]
    Offsets {
        /// The function that was called.
        function: &'static str,
        /// The offending entry.
        index: usize,
        /// The value found.
        value: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// An input that counts is NaN or infinite.
    #[error("{function}: {array} is {value} in sequence {sequence} at position {position}")]
    NonFinite {
        /// The function that was called.
        function: &'static str,
        /// The array at fault.
        array: &'static str,
        /// The first offending sequence.
        sequence: usize,
        /// The first offending position within that sequence.
        position: usize,
        /// What stands there.
        value: f32,
    },
    /// Inputs on a device that count are NaN or infinite; the gradients are of no use.
    #[error("{function}: {tokens} tokens have an input that is not finite")]
    DeviceNotFinite {
        /// The function that was called.
        function: &'static str,
        /// How many tokens.
        tokens: u64,
    },
    /// Inputs are finite, but so large that the loss is not.
    #[error("{function}: finite inputs give a loss of {value}")]
    Overflow {
        /// The function that was called.
        function: &'static str,
        /// What the loss came to.
        value: f64,
    },
    /// An input that these settings need was not given.
    #[error("{function}: {needed_by} needs {array}")]
    Missing {
        /// The function that was called.
        function: &'static str,
        /// The array that is missing.
        array: &'static str,
        /// The setting that needs it.
        needed_by: &'static str,
    },
    /// The denominator was made for a different aggregation from the configured one.
    #[error("the step denominator was made for `{denominator}`, the loss is configured for `{config}`")]
    OtherAggregation {
        /// The aggregation of the denominator.
        denominator: &'static str,
        /// The aggregation of the configuration.
        config: &'static str,
    },
    /// A loss that works on whole sequences was given one advantage per token.
    #[error("{function}: `{policy_loss}` needs one advantage per sequence, got one per token")]
    TokenAdvantages {
        /// The function that was called.
        function: &'static str,
        /// Name of the policy loss.
        policy_loss: &'static str,
    },
    /// A batch has more tokens in the loss than the step that the denominator was made for.
    #[error("{function}: the batch has {tokens} tokens in the loss, the denominator was made for a step of {step}")]
    BeyondStep {
        /// The function that was called.
        function: &'static str,
        /// Tokens in the loss of the batch or chunk.
        tokens: u64,
        /// Tokens in the loss of the step.
        step: u64,
    },
    /// No token of the batch is in the loss: there is nothing to divide by; skip the step.
    #[error("{function}: no token of the batch is in the loss; skip the step")]
    NoTokens {
        /// The function that was called.
        function: &'static str,
    },
    /// Counts that no step can have.
    #[error("a step cannot have {tokens} tokens in {sequences} sequences of which {empty_sequences} are empty")]
    StepCounts {
        /// Tokens in the loss.
        tokens: u64,
        /// Sequences.
        sequences: u64,
        /// Sequences without a token in the loss.
        empty_sequences: u64,
    },
    /// A group with fewer than two rewards has no baseline; drop it.
    #[error("group {group} has {rewards} rewards that did not abstain, expected at least 2")]
    GroupTooSmall {
        /// Index of the group in the batch.
        group: usize,
        /// How many rewards did not abstain.
        rewards: usize,
    },
    /// A reward is NaN or infinite, or so large that its group's statistics are.
    #[error("reward {index} of group {group} is {value}: rewards and their spread must be finite")]
    Reward {
        /// Index of the group in the batch.
        group: usize,
        /// Index of the reward in its group.
        index: usize,
        /// The value found.
        value: f64,
    },
}

/// Fails unless `array` has `expected` values.
pub(crate) fn expect_len(
    function: &'static str,
    array: &'static str,
    len: usize,
    expected: usize,
) -> Result<(), LossError> {
    if len == expected { Ok(()) } else { Err(LossError::Length { function, array, len, expected }) }
}

/// Fails when something needed was not given.
pub(crate) fn expect_given(
    function: &'static str,
    array: &'static str,
    needed_by: &'static str,
    needed: bool,
    given: bool,
) -> Result<(), LossError> {
    if needed && !given { Err(LossError::Missing { function, array, needed_by }) } else { Ok(()) }
}

/// Fails unless `ok`, naming a configuration field.
pub(crate) fn expect_config(
    ok: bool,
    field: &'static str,
    value: impl std::fmt::Display + Copy,
    allowed: &'static str,
) -> Result<(), LossError> {
    if ok { Ok(()) } else { Err(LossError::Config { field, value: value.to_string(), allowed }) }
}

/// Looks `name` up in `table`, or lists the names that exist.
pub(crate) fn lookup<T: Copy>(kind: &'static str, name: &str, table: &[(&str, T)]) -> Result<T, LossError> {
    table.iter().find(|(known, _)| *known == name).map(|&(_, value)| value).ok_or_else(|| {
        let names: Vec<_> = table.iter().map(|(known, _)| *known).collect();
        LossError::UnknownName { kind, name: name.to_owned(), allowed: names.join(", ") }
    })
}
