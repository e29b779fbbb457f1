//! The decoder with a value head: as a critic, or as a policy that shares its layers with one.

use super::Decoder;
use crate::backend::{LogprobPass, Outputs, ValuePass};
use crate::batch::{Inputs, Loss, TokenBatch};
use crate::check::check_temperature;
use crate::error::PolicyError;
use crate::gradients::Gradients;
use crate::moments::Moments;
use crate::value_head::{ValueHead, ValueLossFn};
use dapo_kernels::adamw::AdamWStep;

impl Decoder {
    /// The value of the state that each of a batch's targets is chosen in, in the targets' order.
    ///
    /// A state that no token follows, as that after a truncated completion, has a value too: append a token, whichever, and
    /// name it as a target.
    ///
    /// # Errors
    /// When the batch is inconsistent, or the head is for hidden states of another size.
    pub fn values(&self, batch: &TokenBatch, head: &ValueHead) -> Result<Vec<f32>, PolicyError> {
        let inputs = self.value_inputs(batch, head)?;
        if inputs.targets.is_empty() {
            return Ok(Vec::new());
        }
        self.backend.values(&inputs, head)
    }

    /// Shows the values of all targets to `loss`; the gradients of what is trained are added to `gradients`, those of the head
    /// to its own. The language-model head is not used, and has no gradient.
    ///
    /// # Errors
    /// As [`Decoder::values`], when the gradients are for another number of tensors, and what `loss` returns.
    pub fn values_backward(
        &self,
        batch: &TokenBatch,
        head: &mut ValueHead,
        gradients: &mut Gradients,
        loss: &mut ValueLossFn<'_>,
    ) -> Result<(), PolicyError> {
        self.check_gradients(gradients)?;
        let inputs = self.value_inputs(batch, head)?;
        let outputs = Outputs { logprobs: None, values: Some(ValuePass { head, loss }) };
        self.backward(&inputs, gradients, outputs)
    }

    /// [`Policy::logprobs_backward`](crate::Policy::logprobs_backward) and [`Decoder::values_backward`] at once, on the same
    /// layers: the gradient is that of the sum of both losses.
    ///
    /// # Errors
    /// As both.
    pub fn logprobs_and_values_backward(
        &self,
        batch: &TokenBatch,
        temperature: f32,
        head: &mut ValueHead,
        gradients: &mut Gradients,
        loss: &mut Loss<'_>,
        value_loss: &mut ValueLossFn<'_>,
    ) -> Result<(), PolicyError> {
        self.check_gradients(gradients)?;
        let inputs = self.value_inputs(batch, head)?;
        check_temperature(temperature)?;
        let logprobs = Some(LogprobPass { temperature, loss });
        self.backward(&inputs, gradients, Outputs { logprobs, values: Some(ValuePass { head, loss: value_loss }) })
    }

    /// [`Decoder::adamw`] of the decoder and of the head together: the norm is that of both gradients.
    ///
    /// # Errors
    /// As [`Decoder::adamw`].
    pub fn adamw_with_head(
        &mut self,
        gradients: &Gradients,
        moments: &mut Moments,
        head: &mut ValueHead,
        step: &AdamWStep,
        max_norm: f64,
    ) -> Result<f64, PolicyError> {
        let norm = self.backend.adamw(gradients, moments, step, max_norm, head.squared_norm())?;
        if norm.is_finite() {
            head.adamw(&AdamWStep { grad_scale: (max_norm / (norm + 1e-6)).min(1.0) as f32, ..*step });
        }
        Ok(norm)
    }

    pub(super) fn backward(
        &self,
        inputs: &Inputs,
        gradients: &mut Gradients,
        outputs: Outputs<'_>,
    ) -> Result<(), PolicyError> {
        if inputs.targets.is_empty() {
            return Ok(());
        }
        self.backend.backward(inputs, self.layer_memory, gradients, outputs)
    }

    pub(super) fn check_gradients(&self, gradients: &Gradients) -> Result<(), PolicyError> {
        let parameters = self.parameters().len();
        if gradients.len() == parameters && parameters > 0 {
            return Ok(());
        }
        Err(PolicyError::Setting {
            field: "gradients".into(),
            found: format!("{} gradients for {parameters} trainable tensors", gradients.len()),
            expected: "one for each, and at least one".into(),
        })
    }

    fn value_inputs(&self, batch: &TokenBatch, head: &ValueHead) -> Result<Inputs, PolicyError> {
        let (found, expected) = (head.hidden_size(), self.config().hidden_size);
        if found == expected {
            return batch.inputs(self.config().vocab_size);
        }
        let found = format!("one for hidden states of {found} values");
        Err(PolicyError::Setting { field: "value head".into(), found, expected: format!("one for {expected}") })
    }
}
