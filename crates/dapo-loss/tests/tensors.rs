//! The Candle face gives the numbers of the slice face.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "candle")]

mod common;

use candle_core::{Device, Tensor, Var};
use common::{Case, large_case, losses_and_aggregations};
use dapo_loss::{
    Advantages, Denominator, EmptySequences, Kl, LossConfig, TokenChunk, policy_loss,
    tensor::{self, TensorBatch},
};

fn packed(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

struct Tensors {
    mask: Tensor,
    advantages: Tensor,
    old: Tensor,
    reference: Tensor,
}

impl Tensors {
    fn of(case: &Case) -> Self {
        Self {
            mask: Tensor::from_slice(&case.mask, case.tokens(), &Device::Cpu).unwrap(),
            advantages: packed(&case.advantages),
            old: packed(&case.old),
            reference: packed(&case.reference),
        }
    }

    fn batch<'a>(&'a self, cu_seqlens: &'a [usize]) -> TensorBatch<'a> {
        TensorBatch {
            cu_seqlens: Some(cu_seqlens),
            mask: Some(&self.mask),
            advantages: &self.advantages,
            old_logprobs: &self.old,
            ref_logprobs: Some(&self.reference),
            rollout_logprobs: None,
        }
    }
}

#[test]
fn backward_gives_the_gradients_of_the_slice_face_times_the_upstream_gradient() {
    let case = large_case(9, 200);
    let tensors = Tensors::of(&case);
    for config in losses_and_aggregations() {
        let config = LossConfig { kl: Kl { coef: 0.1, ..Kl::default() }, entropy_coef: 0.01, ..config };
        let denominator = case.denominator(&config).unwrap();
        let logprobs = Var::from_tensor(&packed(&case.logprobs)).unwrap();
        let entropies = Var::from_tensor(&packed(&case.entropies)).unwrap();
        let batch = tensors.batch(&case.cu_seqlens);
        let output = tensor::policy_loss(&config, denominator, &logprobs, Some(&entropies), &batch).unwrap();
        let gradients = (output.loss.affine(2.0, 1.0)).unwrap().backward().unwrap();

        let (expected, gradient, entropy_gradient) = case.evaluate(&config, false).unwrap();
        assert_eq!(output.loss.to_scalar::<f32>().unwrap(), expected.loss as f32);
        assert_eq!(output.metrics, expected.metrics);
        let doubled = |values: &[f32]| values.iter().map(|x| 2.0 * x).collect::<Vec<_>>();
        let of = |var: &Var| gradients.get(var).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(of(&logprobs), doubled(&gradient));
        assert_eq!(of(&entropies), doubled(&entropy_gradient));
    }
}

#[test]
fn gradients_flow_on_through_what_computed_the_logprobs() {
    let scale = Var::new(1.0_f32, &Device::Cpu).unwrap();
    let logprobs = packed(&[-1.0, -2.0]).broadcast_mul(&scale).unwrap();
    let advantages = packed(&[1.0]);
    let batch = TensorBatch {
        cu_seqlens: Some(&[0, 2]),
        mask: None,
        advantages: &advantages,
        old_logprobs: &logprobs,
        ref_logprobs: None,
        rollout_logprobs: None,
    };
    let config = LossConfig::default();
    let denominator = Denominator::of_step(config.aggregation, &[2], EmptySequences::Exclude).unwrap();
    let output = tensor::policy_loss(&config, denominator, &logprobs, None, &batch).unwrap();
    let gradients = output.loss.backward().unwrap();
    assert_eq!(gradients.get(&scale).unwrap().to_scalar::<f32>().unwrap(), 1.5);
}

#[test]
fn a_padded_matrix_is_its_rows_packed_even_when_strided() {
    let (rows, columns) = (3, 4);
    let values: Vec<f32> = (0..12).map(|i| -0.1 * (i + 1) as f32).collect();
    let old: Vec<f32> = values.iter().map(|x| x + 0.1).collect();
    let advantages = [1.0, -1.0, 0.5];
    let transposed = |values: &[f32]| {
        let matrix = Tensor::from_slice(values, (rows, columns), &Device::Cpu).unwrap();
        matrix.t().unwrap().contiguous().unwrap().t().unwrap()
    };
    let config = LossConfig::of("sapo".parse().unwrap());
    let denominator = Denominator::of_step(config.aggregation, &[4, 4, 4], EmptySequences::Exclude).unwrap();
    let logprobs = transposed(&values);
    let batch = TensorBatch {
        cu_seqlens: None,
        mask: None,
        advantages: &packed(&advantages),
        old_logprobs: &transposed(&old),
        ref_logprobs: None,
        rollout_logprobs: None,
    };
    let got = tensor::policy_loss(&config, denominator, &logprobs, None, &batch).unwrap();
    let batch = dapo_loss::LossBatch {
        cu_seqlens: &[0, 4, 8, 12],
        mask: None,
        advantages: Advantages::PerSequence(&advantages),
        old_logprobs: &old,
        ref_logprobs: None,
        rollout_logprobs: None,
    };
    let mut gradient = [0.0; 12];
    let chunk = TokenChunk::whole(&values);
    let expected = policy_loss(&config, denominator, batch, chunk, gradient.as_mut_slice().into()).unwrap();
    assert_eq!(got.loss.to_scalar::<f32>().unwrap(), expected.loss as f32);
}

#[test]
fn advantages_shaped_like_the_logprobs_are_one_a_token() {
    let advantages = [1.0, 2.0, -3.0];
    let logprobs = packed(&[-1.0; 3]);
    let config = LossConfig::default();
    let denominator = Denominator::of_step(config.aggregation, &[2, 1], EmptySequences::Exclude).unwrap();
    let advantages = packed(&advantages);
    let batch = TensorBatch {
        cu_seqlens: Some(&[0, 2, 3]),
        mask: None,
        advantages: &advantages,
        old_logprobs: &logprobs,
        ref_logprobs: None,
        rollout_logprobs: None,
    };
    let logprobs = Var::from_tensor(&logprobs).unwrap();
    let output = tensor::policy_loss(&config, denominator, &logprobs, None, &batch).unwrap();
    let gradient = output.loss.backward().unwrap().get(&logprobs).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(gradient, [-1.0 / 3.0, -2.0 / 3.0, 1.0]);
}

#[test]
fn wrong_shapes_and_dtypes_are_named_and_loss_errors_are_kept() {
    let config = LossConfig::default();
    let denominator = Denominator::of_step(config.aggregation, &[2], EmptySequences::Exclude).unwrap();
    let logprobs = packed(&[-1.0, -2.0]);
    let advantages = packed(&[1.0]);
    let batch = TensorBatch {
        cu_seqlens: Some(&[0, 2]),
        mask: None,
        advantages: &advantages,
        old_logprobs: &logprobs,
        ref_logprobs: None,
        rollout_logprobs: None,
    };
    let run = |logprobs: &Tensor, batch: TensorBatch<'_>| {
        tensor::policy_loss(&config, denominator, logprobs, None, &batch).unwrap_err()
    };
    let message = |logprobs: &Tensor, batch| run(logprobs, batch).to_string();
    let three = packed(&[0.0; 3]);
    assert!(
        message(&logprobs, TensorBatch { old_logprobs: &three, ..batch })
            .contains("old_logprobs has shape [3], expected [2]")
    );
    assert!(message(&logprobs, TensorBatch { mask: Some(&logprobs), ..batch }).contains("mask is F32, expected U8"));
    assert!(
        message(&logprobs, TensorBatch { advantages: &three, ..batch })
            .contains("advantages has shape [3], expected [1]")
    );
    assert!(message(&logprobs, TensorBatch { cu_seqlens: None, ..batch }).contains("expected two dimensions"));
    let matrix = logprobs.unsqueeze(0).unwrap();
    assert!(message(&matrix, batch).contains("expected one dimension"));
    let double = logprobs.to_dtype(candle_core::DType::F64).unwrap();
    assert!(message(&double, batch).contains("logprobs is F64, expected F32"));
    let nan = packed(&[-1.0, f32::NAN]);
    assert!(message(&nan, batch).contains("logprobs is NaN in sequence 0 at position 1"));
    assert!(matches!(run(&nan, batch), candle_core::Error::Wrapped { .. } | candle_core::Error::WithBacktrace { .. }));
}
