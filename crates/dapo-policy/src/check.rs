//! Checks of what callers pass in and of what files claim.

use crate::error::PolicyError;
use crate::sampling::LOWEST_TEMPERATURE;
use candle_core::{DType, Storage, Tensor};
use dapo_kernels::attention::Segments;
use std::path::Path;

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
    if temperature >= LOWEST_TEMPERATURE && temperature.is_finite() {
        return Ok(());
    }
    let expected = "a finite number of at least 0.000001".into();
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

/// Fails where tensors of these shapes, in f32, need more memory than there is.
pub(crate) fn check_memory<'a>(file: &Path, shapes: impl Iterator<Item = &'a [usize]>) -> Result<(), PolicyError> {
    let bytes = |shape: &[usize]| shape.iter().fold(4_u64, |bytes, size| bytes.saturating_mul(*size as u64));
    let all = shapes.map(bytes).fold(0_u64, u64::saturating_add);
    dapo_files::check_memory(all).map_err(|reason| PolicyError::file(file, format!("its weights do not fit: {reason}")))
}

/// The largest size of a weight that is loaded or saved.
///
/// Weights of published models reach hundreds, and none is above 65,504, the largest number of an f16 file. Products of
/// weights beyond 1e9 overflow f32 within a layer.
pub const LARGEST_WEIGHT: f32 = 1e9;

/// What a tensor's values may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Any finite number, as moments are.
    Finite,
    /// Finite and at most [`LARGEST_WEIGHT`] in size.
    Weight,
}

impl Bound {
    fn largest(self) -> f32 {
        match self {
            Self::Finite => f32::MAX,
            Self::Weight => LARGEST_WEIGHT,
        }
    }

    /// The first of the values that is NaN or beyond the bound.
    pub(crate) fn first_beyond(self, values: &[f32]) -> Option<usize> {
        // Of numbers without a sign, the larger one has the larger bits, and NaN has the largest.
        let size = |value: &f32| (value.to_bits() & 0x7fff_ffff) as i32;
        let (chunk, largest) = (4096, size(&self.largest()));
        let bad = values.chunks(chunk).position(|chunk| chunk.iter().map(size).fold(0, i32::max) > largest)?;
        let within = values[bad * chunk..].iter().position(|value| size(value) > largest)?;
        Some(bad * chunk + within)
    }
}

/// The error for a tensor whose value at `index`, in row-major order, is NaN, infinite or beyond all weights.
pub(crate) fn absurd(file: &Path, name: &str, value: f32, index: usize) -> PolicyError {
    let expected = if value.is_finite() { "at most 1e9 in size" } else { "finite" };
    let expected = format!("{expected}: the weights are damaged, or training has diverged");
    PolicyError::tensor(file, name, format!("{value} at index {index}"), expected)
}

/// Fails where a tensor on the CPU holds a value beyond the bound; names the first.
pub(crate) fn check_values(file: &Path, name: &str, tensor: &Tensor, bound: Bound) -> Result<(), PolicyError> {
    let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { return Ok(()) };
    let values = &storage.as_slice::<f32>()?[layout.start_offset()..][..tensor.elem_count()];
    bound.first_beyond(values).map_or(Ok(()), |at| Err(absurd(file, name, values[at], at)))
}

#[cfg(test)]
mod tests {
    use super::{Bound, LARGEST_WEIGHT};

    #[test]
    fn finds_the_first_value_that_is_not_finite() {
        let mut values = vec![f32::MAX; 10_000];
        values[3] = f32::MIN_POSITIVE / 2.0;
        assert_eq!(Bound::Finite.first_beyond(&values), None);
        for (at, bad) in [(9_999, f32::NEG_INFINITY), (9_000, f32::INFINITY), (4_097, -f32::NAN), (0, f32::NAN)] {
            values[at] = bad;
            assert_eq!(Bound::Finite.first_beyond(&values), Some(at));
        }
        assert_eq!(Bound::Finite.first_beyond(&[]), None);
    }

    #[test]
    fn finds_the_first_weight_beyond_all_weights() {
        let mut values = vec![LARGEST_WEIGHT, -LARGEST_WEIGHT, 0.0];
        assert_eq!(Bound::Weight.first_beyond(&values), None);
        for (at, bad) in [(2, -LARGEST_WEIGHT.next_up()), (1, f32::NAN), (0, 1e30)] {
            values[at] = bad;
            assert_eq!(Bound::Weight.first_beyond(&values), Some(at));
        }
    }
}
