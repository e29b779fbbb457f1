//! Weights that are no numbers: refused when they are read, and never written.

use crate::{copy, tiny};
use candle_core::{DType, Device, Tensor};
use dapo_policy::{load, load_checkpoint, read_tensors, read_weights, save_checkpoint, write_tensors, write_weights};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Writes a number into the first tensor of a safetensors file, at an index of its values.
fn poison(file: &Path, tensor: &str, index: usize, value: f32) {
    let mut bytes = fs::read(file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = json[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + header + start + 4 * index..][..4].copy_from_slice(&value.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn weights_that_are_not_finite_are_refused_on_load() {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let dir = copy();
        let file = dir.path().join("model.safetensors");
        poison(&file, "model.norm.weight", 9, value);
        poison(&file, "model.norm.weight", 5, value);
        let error = load(dir.path()).unwrap_err().to_string();
        let expected = format!("model.safetensors: tensor model.norm.weight is {shown} at index 5, expected finite");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    let model = load_checkpoint(&tiny()).unwrap();
    let name = "model.norm.weight";
    let size = model.tensors[name].elem_count();
    let mut values = model.tensors[name].to_vec1::<f32>().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let save = |values: &[f32], dtype: DType| {
        let mut tensors = model.tensors.clone();
        let tensor = Tensor::from_slice(values, size, &Device::Cpu).unwrap();
        tensors.insert(name.into(), tensor.to_dtype(dtype).unwrap());
        save_checkpoint(dir.path(), &model.config, &tensors, &model.tokenizer)
    };
    values[3] = f32::NAN;
    let error = save(&values, DType::F32).unwrap_err().to_string();
    assert!(
        error.contains("model.safetensors: tensor model.norm.weight is NaN at index 3, expected finite"),
        "{error}"
    );
    // Too large for the type.
    values[3] = 1e6;
    let error = save(&values, DType::F16).unwrap_err().to_string();
    assert!(error.contains("tensor model.norm.weight is inf at index 3"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
    save(&values, DType::BF16).unwrap();
}

#[test]
fn weights_beyond_all_sense_are_neither_loaded_nor_saved() {
    for (value, shown) in [(1.1e9, "1100000000"), (-1e30, "-1000000000000000000000000000000")] {
        let dir = copy();
        let file = dir.path().join("model.safetensors");
        poison(&file, "model.norm.weight", 5, value);
        let error = load(dir.path()).unwrap_err().to_string();
        let expected =
            format!("model.safetensors: tensor model.norm.weight is {shown} at index 5, expected at most 1e9 in size");
        assert!(error.contains(&expected), "{error}");
        assert!(read_weights(&file).unwrap_err().to_string().contains(&expected));
        // Moments may be of any size.
        let tensors = read_tensors(&file).unwrap();
        let error = write_weights(&file, &tensors).unwrap_err().to_string();
        assert!(error.contains(&expected), "{error}");
        write_tensors(&file, &tensors).unwrap();
        poison(&file, "model.norm.weight", 5, 1e9);
        load(dir.path()).unwrap();
    }
}
