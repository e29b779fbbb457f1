//! Reference numbers from files, and comparisons with them.
#![allow(dead_code, reason = "no test needs all of it")]

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// Reference numbers of a file, by name.
pub(crate) struct Reference(pub(crate) HashMap<String, Tensor>);

impl Reference {
    pub(crate) fn load(path: &Path) -> Result<Self> {
        Ok(Self(candle_core::safetensors::load(path, &Device::Cpu).with_context(|| path.display().to_string())?))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).with_context(|| format!("no tensor {name}"))
    }

    pub(crate) fn floats(&self, name: &str) -> Result<Vec<Vec<f32>>> {
        let tensor = self.get(name)?.to_dtype(DType::F32)?;
        let width = tensor.dims().last().copied().unwrap_or(1);
        Ok(tensor.reshape(((), width))?.to_vec2()?)
    }

    pub(crate) fn ids(&self, name: &str) -> Result<Vec<Vec<u32>>> {
        let rows = self.get(name)?.to_vec2::<i64>()?;
        Ok(rows.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect())
    }

    pub(crate) fn lengths(&self, mask: &str) -> Result<Vec<usize>> {
        Ok(self.ids(mask)?.iter().map(|row| row.iter().sum::<u32>() as usize).collect())
    }
}

/// Fails when an entry differs by more than `tolerance`.
pub(crate) fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f64) -> Result<()> {
    ensure!(found.len() == expected.len(), "{what}: {} values, expected {}", found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*a) - f64::from(*b)).abs();
        ensure!(difference <= tolerance, "{what}[{i}]: {a}, expected {b} (difference {difference:e} > {tolerance:e})");
    }
    Ok(())
}

/// The rows of `ids` that a mask keeps.
pub(crate) fn unpadded(ids: &[Vec<u32>], mask: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let keep = |(ids, mask): (&Vec<u32>, &Vec<u32>)| {
        ids.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(id, _)| *id).collect()
    };
    ids.iter().zip(mask).map(keep).collect()
}
