//! Python functions that score, in the user's own Python.

use std::path::Path;

use crate::command::{CommandTransport, absolute, find};
use crate::config::PythonReward;
use crate::error::ExternalError;
use crate::wire::TokenIds;
use crate::worker::Start;

/// The script that calls the function for every request.
const HOST: &str = include_str!("host.py");

/// Workers that run the function of a configuration.
///
/// # Errors
/// [`ExternalError::Config`], [`ExternalError::Missing`] when Python or the file is not there, and
/// [`ExternalError::Io`].
pub(crate) fn open(
    config: &PythonReward,
    base_dir: &Path,
    log: Option<&Path>,
) -> Result<CommandTransport, ExternalError> {
    config.validate()?;
    let (file, function) = config.target().unwrap_or_default();
    let file = absolute(&base_dir.join(file))?;
    if !file.is_file() {
        return Err(ExternalError::Missing { setting: "python", file, hint: String::new() });
    }
    let start = Start {
        program: find(&config.python_bin, "python_bin", base_dir)?,
        args: ["-c", HOST, &file.to_string_lossy(), function].map(str::to_owned).to_vec(),
        dir: absolute(base_dir)?,
        log: log.map(absolute).transpose()?,
        flushes: true,
    };
    Ok(CommandTransport::of(start, config.timeout_s, config.workers, TokenIds::Present))
}
