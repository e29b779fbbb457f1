//! Ways into parsers that the public interface reaches through a trainer alone, for the fuzz targets in `fuzz/`. No part
//! of the public interface.

use crate::error::TrainerError;
use crate::groups;
use crate::state::State;
use dapo_sampler::SamplerConfig;
use serde_json::Value;
use std::path::Path;

/// Reads `trainer.json` and `groups.safetensors` of a folder and writes the groups into another one. Returns the state as
/// it would be written there.
///
/// # Errors
/// As of a checkpoint.
pub fn rewrite_state(dir: &Path, to: &Path) -> Result<Value, TrainerError> {
    let mut state = State::read(&dir.join("trainer.json"), &SamplerConfig::default())?;
    state.sampler = groups::write(to, &state.sampler)?;
    state.format = crate::state::FORMAT;
    serde_json::to_value(&state).map_err(|error| TrainerError::Io { path: to.into(), source: error.into() })
}
