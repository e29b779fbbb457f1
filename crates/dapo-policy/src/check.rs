//! Checks of what callers pass in.

use crate::error::PolicyError;
use candle_core::{DType, Tensor};
use dapo_kernels::attention::Segments;

/// Fails where an id is outside the vocabulary.
pub(crate) fn check_ids(field: &str, ids: &[u32], vocab: usize) -> Result<(), PolicyError> {
    match ids.iter().position(|id| *id as usize >= vocab) {
        None => Ok(()),
        Some(i) => Err(PolicyError::Setting {
            field: format!("{field}[{i}]"),
            found: ids[i].to_string(),
            expected: format!("an id below the vocabulary size, {vocab}"),
        }),
    }
}

/// Fails when the tokens do not fill the segments.
pub(crate) fn check_total(token_ids: &[u32], segments: &Segments) -> Result<(), PolicyError> {
    if token_ids.len() == segments.total() {
        return Ok(());
    }
    Err(PolicyError::Setting {
        field: "token_ids".into(),
        found: format!("{} tokens", token_ids.len()),
        expected: format!("the segments' {}", segments.total()),
    })
}

/// Fails where logits cannot be divided by it.
pub(crate) fn check_temperature(temperature: f32) -> Result<(), PolicyError> {
    if temperature > 0.0 && temperature.is_finite() {
        return Ok(());
    }
    let expected = "a finite number above 0".into();
    Err(PolicyError::Setting { field: "temperature".into(), found: temperature.to_string(), expected })
}

/// Fails unless the tensor is there, of the shape and in f32.
pub(crate) fn check_tensor(name: &str, shape: &[usize], found: Option<&Tensor>) -> Result<(), PolicyError> {
    let found = match found {
        None => "nothing".to_owned(),
        Some(tensor) if tensor.dims() != shape => format!("a tensor of shape {:?}", tensor.dims()),
        Some(tensor) if tensor.dtype() != DType::F32 => format!("a tensor of type {:?}", tensor.dtype()),
        Some(_) => return Ok(()),
    };
    let expected = format!("an f32 tensor of shape {shape:?}");
    Err(PolicyError::Setting { field: name.to_owned(), found, expected })
}
