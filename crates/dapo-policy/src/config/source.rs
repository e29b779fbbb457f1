//! What a model's configuration files say that this crate does not read.

use serde_json::{Map, Value};

/// Fields that are passed on unread, so that a model that was trained here is used as the one it came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceFields {
    /// Of `config.json`.
    pub config: Map<String, Value>,
    /// Of `generation_config.json`: sampling defaults, above all.
    pub generation: Map<String, Value>,
}

impl SourceFields {
    /// What `json` says beyond the fields that `own` decides.
    pub(super) fn of_config(json: &Value, own: &Map<String, Value>) -> Self {
        // The type of the weights is that of the tensors beside the configuration.
        let known = |name: &str| own.contains_key(name) || matches!(name, "dtype" | "torch_dtype");
        Self { config: others(json, known), generation: Map::new() }
    }

    /// Takes what a `generation_config.json` says, but for the special tokens.
    pub(crate) fn set_generation(&mut self, json: &Value) {
        let known =
            |name: &str| matches!(name, "bos_token_id" | "eos_token_id" | "pad_token_id" | "_from_model_config");
        self.generation = others(json, known);
    }
}

fn others(json: &Value, known: impl Fn(&str) -> bool) -> Map<String, Value> {
    let fields = json.as_object().into_iter().flatten().filter(|(name, _)| !known(name));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}
