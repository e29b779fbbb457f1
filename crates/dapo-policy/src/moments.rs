//! AdamW's moments, and the update of a decoder's parameters.

use crate::engine::DeviceMoments;
use crate::{Decoder, Gradients, PolicyError};
use dapo_kernels::adamw::{AdamWStep, adamw};
use dapo_kernels::with_slice;

/// First and second moments of every parameter, where the decoder that they belong to computes.
#[derive(Debug)]
pub struct Moments(Place);

#[derive(Debug)]
enum Place {
    Host(Vec<(Vec<f32>, Vec<f32>)>),
    Device(DeviceMoments),
}

impl Moments {
    /// Zeros for every parameter of a decoder.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn zeros(policy: &Decoder) -> Result<Self, PolicyError> {
        if let Some(engine) = policy.engine() {
            return Ok(Self(Place::Device(engine.new_moments()?)));
        }
        let zeros = |n| (vec![0.0; n], vec![0.0; n]);
        Ok(Self(Place::Host(policy.parameters().iter().map(|(_, var)| zeros(var.elem_count())).collect())))
    }

    /// The moments of one parameter.
    ///
    /// # Errors
    /// When the device fails, or they belong to a decoder elsewhere.
    pub fn read(&self, policy: &Decoder, index: usize) -> Result<(Vec<f32>, Vec<f32>), PolicyError> {
        match (&self.0, policy.engine()) {
            (Place::Host(moments), None) => Ok(moments[index].clone()),
            (Place::Device(moments), Some(engine)) => engine.read_moments(moments, policy.trained_id(index)),
            _ => Err(elsewhere("moments")),
        }
    }

    /// Takes the moments of one parameter.
    ///
    /// # Errors
    /// As [`Moments::read`], and when a length differs.
    pub fn write(&mut self, policy: &Decoder, index: usize, m: &[f32], v: &[f32]) -> Result<(), PolicyError> {
        match (&mut self.0, policy.engine()) {
            (Place::Host(moments), None) => {
                let of = &mut moments[index];
                for (name, values, len) in [("m", m, of.0.len()), ("v", v, of.1.len())] {
                    if values.len() != len {
                        return Err(PolicyError::Setting {
                            field: name.into(),
                            found: format!("{} values", values.len()),
                            expected: len.to_string(),
                        });
                    }
                }
                *of = (m.to_vec(), v.to_vec());
                Ok(())
            }
            (Place::Device(moments), Some(engine)) => engine.write_moments(moments, policy.trained_id(index), m, v),
            _ => Err(elsewhere("moments")),
        }
    }
}

fn elsewhere(field: &str) -> PolicyError {
    let expected = "of the device on which the decoder is".into();
    PolicyError::Setting { field: field.into(), found: "of another device".into(), expected }
}

impl Decoder {
    /// Clips the gradients by their global norm, updates every parameter that has one in place, and returns the norm before
    /// clipping. Where that is not finite, nothing has changed.
    ///
    /// The factor is `max_norm / (norm + 1e-6)` where that is below 1, as torch's `clip_grad_norm_`; `step.grad_scale` is not used.
    ///
    /// # Errors
    /// When gradients or moments belong to a decoder elsewhere, or the device fails.
    pub fn adamw(
        &mut self,
        gradients: &Gradients,
        moments: &mut Moments,
        step: &AdamWStep,
        max_norm: f64,
    ) -> Result<f64, PolicyError> {
        if let Some(engine) = self.engine_mut() {
            let (Some(gradients), Place::Device(moments)) = (gradients.on_device(), &mut moments.0) else {
                return Err(elsewhere("gradients or moments"));
            };
            return engine.adamw(gradients, moments, step, max_norm as f32);
        }
        let Place::Host(moments) = &mut moments.0 else { return Err(elsewhere("moments")) };
        let norm = gradients.norm()?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        let step = AdamWStep { grad_scale: (max_norm / (norm + 1e-6)).min(1.0) as f32, ..*step };
        self.update(|index, _, values| {
            let (m, v) = &mut moments[index];
            if let Some(gradient) = gradients.get(index) {
                with_slice(gradient, |g| {
                    adamw(values, g, m, v, &step);
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        Ok(norm)
    }
}
