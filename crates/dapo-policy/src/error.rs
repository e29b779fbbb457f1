//! Errors of a model, its files and its use.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that should be JSON is not, or has another layout.
    #[error("{}: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// A file is cut short, damaged or of another kind.
    #[error("{}: {message}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A field of a configuration file is missing, malformed, or asks for something that is not supported.
    #[error("{}: {field} is {found}, expected {expected}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The field, dotted where it is nested.
        field: String,
        /// What the file has there.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// A tensor is missing, unexpected, or of the wrong shape or type.
    #[error("{}: tensor {tensor} is {found}, expected {expected}", file.display())]
    Tensor {
        /// The file or folder.
        file: PathBuf,
        /// The tensor's name as this crate knows it.
        tensor: String,
        /// What was found.
        found: String,
        /// What the configuration asks for.
        expected: String,
    },
    /// The tokenizer could not be built, or could not encode or decode.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template does not parse, or refused the conversation.
    #[error("chat template: {0}")]
    Template(String),
    /// A value given to this crate is not allowed.
    #[error("{field} is {found}, expected {expected}")]
    Setting {
        /// The argument or configuration field.
        field: String,
        /// The value found.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// The model's logits are NaN or infinite, so that no token can be drawn from them.
    #[error(
        "the model's logits are NaN or infinite at token {position} of sample {sample} of draw {draw}, expected finite \
         numbers: its weights are damaged, or training has diverged"
    )]
    Logits {
        /// Index of the draw.
        draw: u64,
        /// Number of the sample within the draw, from 0.
        sample: usize,
        /// Position of the token within the completion, from 0.
        position: usize,
    },
    /// Something this crate relies on about itself does not hold.
    #[error("internal error: {0}")]
    Internal(String),
    /// A loss refused what it was shown.
    #[error(transparent)]
    Loss(Box<dyn std::error::Error + Send + Sync>),
    /// Whoever speaks between the turns of completions cannot answer.
    #[error(transparent)]
    Turns(Box<dyn std::error::Error + Send + Sync>),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl PolicyError {
    pub(crate) fn io(file: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { file: file.into(), source }
    }

    pub(crate) fn json(file: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json { file: file.into(), source }
    }

    pub(crate) fn file(file: &Path, message: impl Into<String>) -> Self {
        Self::File { file: file.into(), message: message.into() }
    }

    pub(crate) fn field(
        file: &Path,
        field: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Field { file: file.into(), field: field.into(), found: found.into(), expected: expected.into() }
    }

    pub(crate) fn tensor(
        file: &Path,
        tensor: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Tensor { file: file.into(), tensor: tensor.into(), found: found.into(), expected: expected.into() }
    }
}

/// What a tensor library's error says, without the stack trace it may carry.
pub(crate) fn reason(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => inner.to_string(),
        other => other.to_string(),
    }
}

/// The error for gradients or moments that another backend made.
pub(crate) fn elsewhere(field: &str) -> PolicyError {
    let expected = "of the device on which the decoder is".into();
    PolicyError::Setting { field: field.into(), found: "of another device".into(), expected }
}
