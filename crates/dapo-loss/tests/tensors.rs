//! The Candle face gives the numbers of the slice face.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "candle")]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{Case, large_case, losses_and_aggregations};
use dapo_loss::{
    Advantages, Denominator, EmptySequences, Kl, KlEstimator, LossConfig, Outside, Rejection, RolloutCorrection,
    TokenChunk, masked_lengths, policy_loss,
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
    rollout: Tensor,
}

impl Tensors {
    fn of(case: &Case) -> Self {
        Self {
            mask: Tensor::from_slice(&case.mask, case.tokens(), &Device::Cpu).unwrap(),
            advantages: packed(&case.advantages),
            old: packed(&case.old),
            reference: packed(&case.reference),
            rollout: packed(&case.rollout),
        }
    }

    fn batch<'a>(&'a self, cu_seqlens: &'a [usize]) -> TensorBatch<'a> {
        TensorBatch::new(&self.advantages, &self.old)
            .with_cu_seqlens(cu_seqlens)
            .with_mask(&self.mask)
            .with_ref_logprobs(&self.reference)
            .with_rollout_logprobs(&self.rollout)
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
fn corrections_and_the_choice_by_entropy_are_those_of_the_slice_face() {
    let case = large_case(9, 60);
    let tensors = Tensors::of(&case);
    let reject = Some(Rejection { high: Some(8.0), low: Some(0.2), ..Rejection::default() });
    let correction = RolloutCorrection { outside: Outside::Mask, low: 0.8, high: 1.3, reject, ..Default::default() };
    let kl = Kl { coef: 0.1, estimator: KlEstimator::K3Plus, times_ratio: false };
    let config = LossConfig {
        rollout_correction: Some(correction),
        top_entropy_quantile: 0.3,
        entropy_coef: 0.01,
        kl,
        ..LossConfig::default()
    };
    let batch = tensors.batch(&case.cu_seqlens);
    let lengths: Vec<usize> = (0..9).map(|i| case.kept_under(&config, i).len()).collect();
    assert_eq!(batch.lengths_under(&config).unwrap(), lengths);
    assert!(lengths.contains(&0) && batch.lengths().unwrap() != lengths, "some are rejected: {lengths:?}");
    let logprobs = Var::from_tensor(&packed(&case.logprobs)).unwrap();
    let entropies = Var::from_tensor(&packed(&case.entropies)).unwrap();
    let output = tensor::policy_loss_single(&config, &logprobs, Some(&entropies), &batch).unwrap();
    let gradients = output.loss.backward().unwrap();
    let (expected, gradient, entropy_gradient) = case.evaluate(&config, false).unwrap();
    assert_eq!((output.loss.to_scalar::<f32>().unwrap(), output.metrics), (expected.loss as f32, expected.metrics));
    let of = |var: &Var| gradients.get(var).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!((of(&logprobs), of(&entropies)), (gradient, entropy_gradient));
    let mut without = batch;
    without.rollout_logprobs = None;
    let error = tensor::policy_loss_single(&config, &logprobs, Some(&entropies), &without).unwrap_err();
    assert!(error.to_string().contains("rollout_correction needs rollout_logprobs"), "{error}");
}

#[test]
fn advantages_that_may_be_either_are_refused_and_a_row_or_a_column_decides() {
    // Three sequences, one of them empty, and three tokens.
    let (logprobs, advantages) = (packed(&[-1.0; 3]), packed(&[1.0, 2.0, -4.0]));
    let gradient = |advantages: &Tensor, cu_seqlens: &[usize]| {
        let batch = TensorBatch::new(advantages, &logprobs).with_cu_seqlens(cu_seqlens);
        let var = Var::from_tensor(&logprobs).unwrap();
        let loss = tensor::policy_loss_single(&LossConfig::default(), &var, None, &batch)?.loss;
        loss.affine(3.0, 0.0)?.backward()?.get(&var).unwrap().to_vec1::<f32>()
    };
    let error = gradient(&advantages, &[0, 2, 2, 3]).unwrap_err().to_string();
    let expected = "advantages has shape [3], expected [3, 1] for one per sequence or [1, 3] for one per token";
    assert!(error.contains(expected), "{error}");
    let (column, row) = (advantages.unsqueeze(1).unwrap(), advantages.unsqueeze(0).unwrap());
    assert_eq!(gradient(&column, &[0, 2, 2, 3]).unwrap(), [-1.0, -1.0, 4.0]);
    assert_eq!(gradient(&row, &[0, 2, 2, 3]).unwrap(), [-1.0, -2.0, 4.0]);
    // With one token each there is no difference.
    assert_eq!(gradient(&advantages, &[0, 1, 2, 3]).unwrap(), [-1.0, -2.0, 4.0]);
}

#[test]
fn gradients_flow_on_through_what_computed_the_logprobs() {
    let scale = Var::new(1.0_f32, &Device::Cpu).unwrap();
    let logprobs = packed(&[-1.0, -2.0]).broadcast_mul(&scale).unwrap();
    let advantages = packed(&[1.0]);
    let batch = TensorBatch::new(&advantages, &logprobs).with_cu_seqlens(&[0, 2]);
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
    let (packed_advantages, transposed_old) = (packed(&advantages), transposed(&old));
    let batch = TensorBatch::new(&packed_advantages, &transposed_old);
    let got = tensor::policy_loss(&config, denominator, &logprobs, None, &batch).unwrap();
    let batch = dapo_loss::LossBatch::new(&[0, 4, 8, 12], Advantages::PerSequence(&advantages), &old);
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
    let batch = TensorBatch::new(&advantages, &logprobs).with_cu_seqlens(&[0, 2, 3]);
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
    let batch = TensorBatch::new(&advantages, &logprobs).with_cu_seqlens(&[0, 2]);
    let run = |logprobs: &Tensor, batch: TensorBatch<'_>| {
        tensor::policy_loss(&config, denominator, logprobs, None, &batch).unwrap_err()
    };
    let message = |logprobs: &Tensor, batch| run(logprobs, batch).to_string();
    let three = packed(&[0.0; 3]);
    assert!(
        message(&logprobs, TensorBatch::new(&advantages, &three).with_cu_seqlens(&[0, 2]))
            .contains("old_logprobs has shape [3], expected [2]")
    );
    assert!(message(&logprobs, batch.with_mask(&logprobs)).contains("mask holds -1, expected 0 or 1"));
    assert!(
        message(&logprobs, TensorBatch::new(&three, &logprobs).with_cu_seqlens(&[0, 2]))
            .contains("advantages has shape [3], expected [1]")
    );
    assert!(message(&logprobs, TensorBatch::new(&advantages, &logprobs)).contains("expected two dimensions"));
    let matrix = logprobs.unsqueeze(0).unwrap();
    assert!(message(&matrix, batch).contains("expected one dimension"));
    let double = logprobs.to_dtype(DType::F64).unwrap();
    assert!(message(&double, batch).contains("logprobs is F64, expected F32, BF16 or F16"));
    let nan = packed(&[-1.0, f32::NAN]);
    assert!(message(&nan, batch).contains("logprobs is NaN in sequence 0 at position 1"));
    assert!(matches!(run(&nan, batch), candle_core::Error::Wrapped { .. } | candle_core::Error::WithBacktrace { .. }));
}

#[test]
fn one_call_makes_the_denominator_itself() {
    let case = large_case(5, 60);
    let tensors = Tensors::of(&case);
    for config in losses_and_aggregations() {
        let batch = tensors.batch(&case.cu_seqlens);
        let logprobs = packed(&case.logprobs);
        let denominator = case.denominator(&config).unwrap();
        assert_eq!(batch.lengths().unwrap(), masked_lengths(&case.cu_seqlens, Some(&case.mask)));
        let expected = tensor::policy_loss(&config, denominator, &logprobs, None, &batch).unwrap();
        let single = tensor::policy_loss_single(&config, &logprobs, None, &batch).unwrap();
        assert_eq!(single.loss.to_scalar::<f32>().unwrap(), expected.loss.to_scalar::<f32>().unwrap());
        assert_eq!(single.metrics, expected.metrics);
    }
    let (advantages, logprobs) = (packed(&[1.0]), packed(&[-1.0, -2.0]));
    let mask = Tensor::zeros(2, DType::U8, &Device::Cpu).unwrap();
    let batch = TensorBatch::new(&advantages, &logprobs).with_cu_seqlens(&[0, 2]).with_mask(&mask);
    let error = tensor::policy_loss_single(&LossConfig::default(), &logprobs, None, &batch).unwrap_err();
    assert!(error.to_string().contains("policy_loss: no token of the batch is in the loss; skip the step"));
    let wrong = TensorBatch::new(&advantages, &logprobs).with_cu_seqlens(&[0, 3]);
    assert!(wrong.lengths().unwrap_err().to_string().contains("old_logprobs has 2 values, expected 3"));
}

#[test]
fn masks_of_any_type_and_columns_of_advantages_are_accepted() {
    let config = LossConfig::default();
    let matrix = |values: &[f32]| Tensor::from_slice(values, (2, 3), &Device::Cpu).unwrap();
    let logprobs = matrix(&[-1.0, -2.0, -0.5, -0.7, -0.2, -3.0]);
    let old = matrix(&[-1.1, -1.5, -0.5, -0.6, -0.4, -2.0]);
    let mask = matrix(&[1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    let bytes = mask.to_dtype(DType::U8).unwrap();
    let advantages = packed(&[1.0, -1.0]);
    let column = advantages.unsqueeze(1).unwrap();
    let loss = |mask: &Tensor, advantages: &Tensor| {
        let batch = TensorBatch::new(advantages, &old).with_mask(mask);
        assert_eq!(batch.lengths().unwrap(), [2, 2]);
        let output = tensor::policy_loss_single(&config, &logprobs, None, &batch).unwrap();
        (output.loss.to_scalar::<f32>().unwrap(), output.metrics)
    };
    let expected = loss(&bytes, &advantages);
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64, DType::U32, DType::I64] {
        assert_eq!(loss(&mask.to_dtype(dtype).unwrap(), &column), expected, "{dtype:?}");
    }
}

#[test]
fn half_precision_is_computed_in_f32_and_gets_gradients_of_its_own_type() {
    let config = LossConfig { kl: Kl { coef: 0.1, ..Kl::default() }, entropy_coef: 0.01, ..LossConfig::default() };
    let case = large_case(4, 40);
    for dtype in [DType::BF16, DType::F16] {
        let rounded = |values: &[f32]| packed(values).to_dtype(dtype).unwrap();
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap();
        let run = |convert: &dyn Fn(&Tensor) -> Tensor| {
            let [logprobs, entropies] =
                [&case.logprobs, &case.entropies].map(|values| Var::from_tensor(&convert(&rounded(values))).unwrap());
            let [old, reference] = [&case.old, &case.reference].map(|values| convert(&rounded(values)));
            let advantages = convert(&rounded(&case.advantages));
            let batch =
                TensorBatch::new(&advantages, &old).with_cu_seqlens(&case.cu_seqlens).with_ref_logprobs(&reference);
            let output = tensor::policy_loss_single(&config, &logprobs, Some(&entropies), &batch).unwrap();
            let gradients = output.loss.backward().unwrap();
            let of = |var: &Var| gradients.get(var).unwrap().clone();
            (output.loss.to_scalar::<f32>().unwrap(), output.metrics, of(&logprobs), of(&entropies))
        };
        let (loss, metrics, gradient, entropy_gradient) = run(&Tensor::clone);
        let (expected, expected_metrics, wide_gradient, wide_entropy_gradient) = run(&wide);
        assert_eq!((loss, metrics), (expected, expected_metrics));
        for (got, wide) in [(gradient, wide_gradient), (entropy_gradient, wide_entropy_gradient)] {
            assert_eq!(got.dtype(), dtype);
            let values = |tensor: Tensor| tensor.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(got), values(wide.to_dtype(dtype).unwrap()));
        }
    }
}
