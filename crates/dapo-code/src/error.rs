//! The crate's one error type.

/// Errors of a code reward's configuration, of its toolchain and of the sandbox.
///
/// A program that fails is not an error: its tests do not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// A field of the configuration holds a value outside what is allowed.
    #[error("CodeReward: {field} is {value}, expected {allowed}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// The value found, as text.
        value: String,
        /// What would have been accepted.
        allowed: &'static str,
    },
    /// The problem's tests do not have a shape that a reward of this language reads.
    #[error("column {path} is {found}, expected {expected}")]
    Tests {
        /// The column, and where in it.
        path: String,
        /// What is there.
        found: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A program that the language needs is missing or does not work.
    #[error("{tool} {problem}")]
    Tool {
        /// The program, quoted.
        tool: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// This system lacks one of the sandbox's layers.
    #[error(
        "the sandbox has no {layer} on this system: {reason}; sandbox = \"rlimits-only\" runs programs without \
         namespaces"
    )]
    Refused {
        /// The layer that is missing.
        layer: String,
        /// The system's own words.
        reason: String,
    },
    /// The sandbox's launcher cannot be started or does not answer.
    #[error("the sandbox launcher {launcher} {problem}")]
    Launcher {
        /// The launcher's path, quoted.
        launcher: String,
        /// What is wrong with it.
        problem: String,
    },
}
