//! Reading single fields of a `config.json`, each with an error that names it.

use super::Architecture;
use crate::error::PolicyError;
use serde_json::Value;
use std::path::Path;

/// The token ids of a field that may be absent, null, one id or a list of them; a negative id means none.
pub(crate) fn token_ids(json: &Value, field: &str, file: &Path) -> Result<Vec<u32>, PolicyError> {
    let bad = |found: &Value| PolicyError::field(file, field, found.to_string(), "a token id, a list of them, or null");
    let id = |value: &Value| match value.as_i64() {
        Some(id) if id < 0 => Ok(None),
        Some(id) => u32::try_from(id).map(Some).map_err(|_| bad(value)),
        None => Err(bad(value)),
    };
    match json.get(field) {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Array(list)) => list.iter().filter_map(|value| id(value).transpose()).collect(),
        Some(value) => Ok(id(value)?.into_iter().collect()),
    }
}

/// A configuration's fields with the file they come from.
pub(super) struct Fields<'a> {
    pub(super) json: &'a Value,
    pub(super) file: &'a Path,
}

impl Fields<'_> {
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.json.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn error(&self, field: &str, found: &Value, expected: &str) -> PolicyError {
        PolicyError::field(self.file, field, found.to_string(), expected)
    }

    pub(super) fn optional_size(&self, field: &str) -> Result<Option<usize>, PolicyError> {
        let expected = "a whole number above 0";
        self.get(field)
            .map(|value| match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(size) if size > 0 => Ok(size),
                _ => Err(self.error(field, value, expected)),
            })
            .transpose()
    }

    pub(super) fn size(&self, field: &str) -> Result<usize, PolicyError> {
        let missing = || PolicyError::field(self.file, field, "missing", "a whole number above 0");
        self.optional_size(field)?.ok_or_else(missing)
    }

    pub(super) fn number(&self, field: &str) -> Result<Option<f64>, PolicyError> {
        self.get(field).map(|v| v.as_f64().ok_or_else(|| self.error(field, v, "a number"))).transpose()
    }

    pub(super) fn switch(&self, field: &str) -> Result<bool, PolicyError> {
        self.get(field).map_or(Ok(false), |v| v.as_bool().ok_or_else(|| self.error(field, v, "true or false")))
    }

    pub(super) fn architecture(&self) -> Result<Architecture, PolicyError> {
        let (field, name) = match self.get("architectures") {
            Some(list) => ("architectures", list.get(0).unwrap_or(list)),
            None => ("model_type", self.json.get("model_type").unwrap_or(&Value::Null)),
        };
        let known = |a: &Architecture| name == a.class_name() || field == "model_type" && name == a.model_type();
        Architecture::ALL.into_iter().find(known).ok_or_else(|| {
            let names = Architecture::ALL.map(Architecture::class_name).join(", ");
            PolicyError::field(self.file, field, name.to_string(), format!("one of {names}"))
        })
    }

    pub(super) fn check_supported(&self) -> Result<(), PolicyError> {
        if let Some(found) = self.get("hidden_act").filter(|found| *found != "silu") {
            return Err(self.error("hidden_act", found, "\"silu\""));
        }
        if let Some(found) = self.get("quantization_config") {
            let expected = "weights in f32, f16 or bf16, or a GGUF file";
            return Err(self.error("quantization_config", found, expected));
        }
        if let Some(found) = self.get("attention_dropout").filter(|found| found.as_f64() != Some(0.0)) {
            return Err(self.error("attention_dropout", found, "0: dropout is not supported"));
        }
        Ok(())
    }

    pub(super) fn check_full_attention(&self, architecture: Architecture, layers: usize) -> Result<(), PolicyError> {
        if let Some(types) = self.get("layer_types") {
            let full = |list: &Vec<Value>| list.iter().all(|kind| kind == "full_attention");
            return match types.as_array() {
                Some(list) if full(list) => Ok(()),
                _ => Err(self.error("layer_types", types, "full_attention in every layer")),
            };
        }
        // Qwen configurations carry a window size that only counts where it is switched on, and from some layer upwards.
        if architecture != Architecture::Llama && self.switch("use_sliding_window")? {
            let from = self.json.get("max_window_layers").and_then(Value::as_u64).unwrap_or(28) as usize;
            if let Some(found) = self.get("sliding_window").filter(|_| from < layers) {
                return Err(self.error("sliding_window", found, "null: only full attention is supported"));
            }
        }
        Ok(())
    }
}
