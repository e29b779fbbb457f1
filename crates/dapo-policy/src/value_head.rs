//! A value head: what a critic adds to a decoder.

use crate::check::check_tensor;
use crate::error::PolicyError;
use candle_core::{Device, Tensor};
use dapo_kernels::adamw::{AdamWStep, adamw, squared_norm};
use dapo_kernels::values;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// A loss of values: sees those of all targets and fills in its gradient with respect to them.
pub type ValueLossFn<'a> = dyn FnMut(&[f32], &mut [f32]) -> Result<(), PolicyError> + Send + 'a;

/// A linear head on a decoder's hidden states, with its gradient and AdamW's moments.
///
/// ```text
/// V_t = w·h_t + b
/// ```
///
/// h_t `[H]` is the final norm's output at the token that predicts token t, so V_t is the value of the state that token t
/// is chosen in. The head is on the host in f32, whatever the decoder is on; it starts at 0, and so do all values.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueHead {
    /// w, then b.
    parameters: Vec<f32>,
    gradient: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

const WEIGHT: &str = "value_head.weight";
const BIAS: &str = "value_head.bias";

impl ValueHead {
    /// A head of zeros for hidden states of this size, H.
    pub fn new(hidden_size: usize) -> Self {
        let zeros = || vec![0.0; hidden_size + 1];
        Self { parameters: zeros(), gradient: zeros(), m: zeros(), v: zeros() }
    }

    /// H.
    pub fn hidden_size(&self) -> usize {
        self.parameters.len() - 1
    }

    /// Weight `[1, H]` and bias `[1]` by name, as a token classifier of transformers has them, and the moments: everything
    /// that a training continues from.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>, PolicyError> {
        let width = self.hidden_size();
        let mut tensors = BTreeMap::new();
        for (prefix, values) in [("", &self.parameters), ("m.", &self.m), ("v.", &self.v)] {
            let weight = Tensor::from_slice(&values[..width], (1, width), &Device::Cpu)?;
            tensors.insert(format!("{prefix}{WEIGHT}"), weight);
            tensors.insert(format!("{prefix}{BIAS}"), Tensor::from_slice(&values[width..], 1, &Device::Cpu)?);
        }
        Ok(tensors)
    }

    /// Takes what [`ValueHead::tensors`] gave, bit for bit; moments that are absent are 0.
    ///
    /// # Errors
    /// When weight or bias is missing, or a tensor is of another shape or type; nothing has changed then.
    pub fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
        let width = self.hidden_size();
        let read = |prefix: &str| {
            let (weight, bias) = (format!("{prefix}{WEIGHT}"), format!("{prefix}{BIAS}"));
            if !prefix.is_empty() && !tensors.contains_key(&weight) && !tensors.contains_key(&bias) {
                return Ok(vec![0.0; width + 1]);
            }
            check_tensor(&weight, &[1, width], tensors.get(&weight))?;
            check_tensor(&bias, &[1], tensors.get(&bias))?;
            let mut own = values(&tensors[&weight])?.to_vec();
            own.extend_from_slice(&values(&tensors[&bias])?);
            Ok::<_, PolicyError>(own)
        };
        (self.parameters, self.m, self.v) = (read("")?, read("m.")?, read("v.")?);
        Ok(())
    }

    /// ∂loss/∂w and ∂loss/∂b, as accumulated since [`ValueHead::clear`]: H values and one.
    pub fn gradient(&self) -> (&[f32], f32) {
        let width = self.hidden_size();
        (&self.gradient[..width], self.gradient[width])
    }

    /// Replaces its gradient: H values for the weight and one for the bias.
    ///
    /// # Errors
    /// When there are more values or fewer; nothing has changed then.
    pub fn set_gradient(&mut self, values: &[f32]) -> Result<(), PolicyError> {
        if values.len() == self.gradient.len() {
            self.gradient.copy_from_slice(values);
            return Ok(());
        }
        let (found, expected) = (format!("{} values", values.len()), self.gradient.len().to_string());
        Err(PolicyError::Setting { field: "the value head's gradient".into(), found, expected })
    }

    /// No gradient again.
    pub fn clear(&mut self) {
        self.gradient.fill(0.0);
    }

    /// Σ g² of its gradient.
    pub fn squared_norm(&self) -> f64 {
        squared_norm(&self.gradient)
    }

    /// Whether every parameter is finite.
    pub fn is_finite(&self) -> bool {
        self.parameters.iter().all(|value| value.is_finite())
    }

    /// One step of AdamW; its `grad_scale` is used.
    pub fn adamw(&mut self, step: &AdamWStep) {
        adamw(&mut self.parameters, &self.gradient, &mut self.m, &mut self.v, step);
    }

    /// Values of rows of hidden states, `[N, H]`; sums in f64, in one order.
    pub(crate) fn values(&self, rows: &[f32]) -> Vec<f32> {
        let (weight, bias) = (&self.parameters[..self.hidden_size()], self.parameters[self.hidden_size()]);
        let value = |row: &[f32]| {
            let products = row.iter().zip(weight).map(|(h, w)| f64::from(*h) * f64::from(*w));
            (products.sum::<f64>() + f64::from(bias)) as f32
        };
        rows.par_chunks_exact(weight.len()).map(value).collect()
    }

    /// Shows the rows' values to `loss`, adds up its own gradient, and adds that of the rows to `d_rows`; both `[N, H]`.
    pub(crate) fn backward(
        &mut self,
        rows: &[f32],
        d_rows: &mut [f32],
        loss: &mut ValueLossFn<'_>,
    ) -> Result<(), PolicyError> {
        let (width, values) = (self.hidden_size(), self.values(rows));
        let mut d_values = vec![0.0; values.len()];
        loss(&values, &mut d_values)?;
        let mut sums = vec![0.0f64; width + 1];
        for (row, d) in rows.chunks_exact(width).zip(&d_values) {
            let d = f64::from(*d);
            sums.iter_mut().zip(row).for_each(|(sum, h)| *sum += d * f64::from(*h));
            sums[width] += d;
        }
        self.gradient.iter_mut().zip(sums).for_each(|(gradient, sum)| *gradient = (f64::from(*gradient) + sum) as f32);
        let weight = &self.parameters[..width];
        d_rows.par_chunks_exact_mut(width).zip(d_values).for_each(|(d_row, d)| {
            d_row.iter_mut().zip(weight).for_each(|(sum, w)| *sum += d * w);
        });
        Ok(())
    }
}
