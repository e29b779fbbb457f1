//! The backward of a layer, written out: gradients go straight to where they are accumulated.
//!
//! Shapes as in the forward; d_x is the gradient of x.

use super::forward::{Attend, Context};
use super::gradients::CpuGradients;
use super::kept::Assembly;
use super::model::Model;
use super::parameter::Parameter;
use super::workspace::{Saved, Scratch, Workspace};
use crate::backend::Trained;
use crate::error::PolicyError;
use dapo_kernels::attention::{self, AttentionGradients, Segments};
use dapo_kernels::buffer::sized;
use dapo_kernels::rope::Normed;
use dapo_kernels::{RotaryTable, rms_norm, rope, swiglu};

impl Model {
    /// One layer: turns the gradient `d_x` of its output into that of its input, and adds up those of its parameters. Uses up
    /// what was saved. Where the input's gradient is not wanted, `d_x` is left in between.
    fn layer_backward(
        &self,
        index: usize,
        table: &RotaryTable,
        segments: &Segments,
        saved: &mut Saved,
        scratch: &mut Scratch,
        d_x: &mut [f32],
        want_input: bool,
        gradients: &mut CpuGradients,
    ) -> Result<(), PolicyError> {
        let (layer, heads, eps) = (&self.layers[index], self.heads(), self.eps());
        let trained = self.spec.trained;
        let Scratch { normed, projected: d_normed, activated, d_attended, d_queries, d_keys, d_values } = scratch;

        layer.down.backward_input(d_x, false, activated)?;
        swiglu::backward(&mut saved.gate, &mut saved.up, activated);
        let (d_gate, d_up) = (&saved.gate, &saved.up);
        layer.down.backward_weights(activated, d_x, trained, gradients)?;
        let weight = layer.mlp_norm.values()?;
        let normed = sized(normed, d_x.len());
        rms_norm::forward(&saved.middle, &weight, eps, normed);
        layer.gate.backward_weights(normed, d_gate, trained, gradients)?;
        layer.up.backward_weights(normed, d_up, trained, gradients)?;
        layer.gate.backward_input(d_gate, false, d_normed)?;
        layer.up.backward_input(d_up, true, d_normed)?;
        norm_backward(&saved.middle, &layer.mlp_norm, d_normed, eps, d_x, trained, gradients)?;

        layer.output.backward_weights(&saved.attended, d_x, trained, gradients)?;
        layer.output.backward_input(d_x, false, d_attended)?;
        let q = sized(d_queries, saved.queries.len());
        let (k, v) = (sized(d_keys, saved.keys.len()), sized(d_values, saved.values.len()));
        let forward = attention::Saved { q: &saved.queries, k: &saved.keys, v: &saved.values, out: &saved.attended };
        attention::backward(forward, d_attended, heads, segments, AttentionGradients { q, k, v });
        rotate_backward(&saved.plain_queries, layer.query_norm.as_ref(), eps, table, d_queries, trained, gradients)?;
        rotate_backward(&saved.plain_keys, layer.key_norm.as_ref(), eps, table, d_keys, trained, gradients)?;

        rms_norm::forward(&saved.input, &layer.input_norm.values()?, eps, normed);
        layer.query.backward_weights(normed, d_queries, trained, gradients)?;
        layer.key.backward_weights(normed, d_keys, trained, gradients)?;
        layer.value.backward_weights(normed, d_values, trained, gradients)?;
        if !want_input {
            return Ok(());
        }
        layer.query.backward_input(d_queries, false, d_normed)?;
        layer.key.backward_input(d_keys, true, d_normed)?;
        layer.value.backward_input(d_values, true, d_normed)?;
        norm_backward(&saved.input, &layer.input_norm, d_normed, eps, d_x, trained, gradients)
    }

    /// All layers of a forward that kept what a backward needs, or of which generation kept it: turns the gradient of
    /// the last one's output, in the workspace's `x`, into that of the first one's input, which gets one only where the
    /// embeddings are trained.
    pub(super) fn layers_backward(
        &self,
        context: Context<'_>,
        segments: &Segments,
        mut kept: Option<Assembly<'_>>,
        workspace: &mut Workspace,
        gradients: &mut CpuGradients,
    ) -> Result<(), PolicyError> {
        let Workspace { saved, assembled, scratch, inputs, x: d_x, .. } = workspace;
        // What the forward has computed: all of the batch, or what is not kept of it.
        let missing = kept.as_mut().map(|kept| std::mem::take(&mut kept.missing.segments));
        let computed = missing.as_ref().unwrap_or(segments);
        let table = missing.as_ref().map(|missing| self.rotary_table(&missing.positions()));
        let forward = Context { table: table.as_ref().unwrap_or(context.table), ..context };
        for index in (0..self.layers.len()).rev() {
            let is_first = self.trains_own() && !gradients.has_memory(self.layers[index].mlp_norm.index);
            let of_layer = if let Some(input) = inputs.get_mut(index) {
                let saved = &mut saved[0];
                std::mem::swap(&mut saved.input, input);
                self.layer_forward(index, forward, &mut Attend::Packed(computed), saved, scratch, None)?;
                Some(saved)
            } else {
                saved.get_mut(index).filter(|_| computed.total() > 0)
            };
            let of_layer = match (&mut kept, of_layer) {
                (Some(kept), computed) => {
                    kept.layer(index, computed.as_deref(), assembled);
                    &mut *assembled
                }
                (None, Some(of_layer)) => of_layer,
                (None, None) => return Err(PolicyError::Internal(format!("nothing is saved of layer {index}"))),
            };
            let want_input = index > 0 || self.trains_own();
            self.layer_backward(index, context.table, segments, of_layer, scratch, d_x, want_input, gradients)?;
            if is_first && inputs.is_empty() {
                // Its memory serves for the gradients of the layers before it.
                saved.get_mut(index).map(std::mem::take);
            }
        }
        Ok(())
    }

    /// Adds the gradient of the final norm's input to `d_x`, and that of its weight where it is trained.
    pub(super) fn final_norm_backward(
        &self,
        x: &[f32],
        d_normed: &[f32],
        d_x: &mut [f32],
        gradients: &mut CpuGradients,
    ) -> Result<(), PolicyError> {
        norm_backward(x, &self.norm, d_normed, self.eps(), d_x, self.spec.trained, gradients)
    }
}

/// Adds the gradient of a norm's input to `d_x`, and that of its weight where it is trained.
fn norm_backward(
    x: &[f32],
    norm: &Parameter,
    d_normed: &[f32],
    eps: f32,
    d_x: &mut [f32],
    trained: Trained,
    gradients: &mut CpuGradients,
) -> Result<(), PolicyError> {
    let weight = norm.values()?;
    if trained == Trained::Base {
        return norm.add(gradients, |dw| rms_norm::backward(x, &weight, d_normed, eps, d_x, Some(dw)));
    }
    rms_norm::backward(x, &weight, d_normed, eps, d_x, None);
    Ok(())
}

/// Undoes the rotation and QK-norm of a gradient, in place.
fn rotate_backward(
    plain: &[f32],
    norm: Option<&Parameter>,
    eps: f32,
    table: &RotaryTable,
    grad: &mut [f32],
    trained: Trained,
    gradients: &mut CpuGradients,
) -> Result<(), PolicyError> {
    let Some(norm) = norm else {
        rope::backward(None, grad, table, None);
        return Ok(());
    };
    let weight = norm.values()?;
    let normed = Some(Normed { x: plain, weight: &weight, eps });
    if trained == Trained::Base {
        return norm.add(gradients, |dw| rope::backward(normed, grad, table, Some(dw)));
    }
    rope::backward(normed, grad, table, None);
    Ok(())
}
