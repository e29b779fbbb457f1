//! A PPO step against torch: token rewards, advantages, values, both losses and the gradient of every parameter.
//!
//! Runs over every folder of `testdata/ppo/`, and of `$DAPO_PPO_DIR` when that is set. A folder holds a model as
//! transformers saved it and `ppo.safetensors`: one step with a value head on that model. Tolerances are those of
//! `parity.rs`.
#![allow(clippy::unwrap_used)]

mod common;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use common::{Reference, close, unpadded};
use dapo::{loss, policy};
use loss::{
    Advantages, Aggregation, ClipRange, Denominator, EmptySequences, Gae, GaeBatch, KlEstimator, LossBatch, LossConfig,
    LossPlan, PolicyLoss, TokenChunk, TokenKl, ValueBatch, ValueLoss, ValueOutput, batch_gae, token_rewards,
    value_loss, whiten,
};
use policy::{
    AdamWStep, Decoder, Gradients, LayerMemory, Moments, Policy, PolicyError, Segments, TokenBatch, ValueHead,
    ValueLossFn,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOGPROB: f64 = 3e-5;
const GRADIENT: f64 = 1.5e-5;
/// The reference's constants.
const DISCOUNTS: Gae = Gae { gamma: 0.99, lambda: 0.95 };
const VALUE_LOSS: ValueLoss = ValueLoss { clip: 0.5 };
const VALUE_COEF: f64 = 0.5;
const KL_COEF: f32 = 0.05;

/// A step of the reference, packed.
struct Case {
    policy: Decoder,
    head: ValueHead,
    reference: Reference,
    batch: TokenBatch,
    cu_seqlens: Vec<usize>,
}

impl Case {
    fn load(path: &Path) -> Result<Self> {
        let reference = Reference::load(&path.join("ppo.safetensors"))?;
        let prompts = unpadded(&reference.ids("prompt_ids")?, &reference.ids("prompt_mask")?);
        let completions = unpadded(&reference.ids("completion_ids")?, &reference.ids("completion_mask")?);
        let (mut token_ids, mut lengths, mut targets, mut cu_seqlens) = (vec![], vec![], vec![], vec![0]);
        for (prompt, completion) in prompts.iter().zip(&completions) {
            lengths.push((prompt.len(), None));
            lengths.push((completion.len(), Some(lengths.len() - 1)));
            token_ids.extend(prompt);
            targets.extend(token_ids.len()..token_ids.len() + completion.len());
            token_ids.extend(completion);
            cu_seqlens.push(targets.len());
        }
        let (policy, _) = policy::load(path)?;
        let width = policy.config().hidden_size;
        let mut head = ValueHead::new(width);
        head.load(&BTreeMap::from([
            ("value_head.weight".to_owned(), reference.get("value_head.weight")?.reshape((1, width))?),
            ("value_head.bias".to_owned(), reference.get("value_head.bias")?.clone()),
        ]))?;
        let batch = TokenBatch { token_ids, segments: Arc::new(Segments::new(lengths)?), targets };
        Ok(Self { policy, head, reference, batch, cu_seqlens })
    }

    /// The tokens of a padded array.
    fn packed(&self, name: &str) -> Result<Vec<f32>> {
        let lengths = self.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]);
        let rows = self.reference.floats(name)?;
        Ok(rows.iter().zip(lengths).flat_map(|(row, length)| row[..length].to_vec()).collect())
    }

    fn number(&self, name: &str) -> Result<f64> {
        Ok(f64::from(self.reference.get(name)?.to_vec1::<f32>()?[0]))
    }

    fn denominator(&self) -> Result<Denominator> {
        let lengths: Vec<usize> = self.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).collect();
        Denominator::of_step(Aggregation::TokenMean, &lengths, EmptySequences::Exclude).context("tokens")
    }

    /// Policy loss and value loss of the step; their gradients are added to those given.
    fn whole_pass(&self, head: &mut ValueHead, gradients: &mut Gradients) -> Result<(f64, ValueOutput)> {
        let (advantages, old) = (self.packed("whitened")?, self.packed("old_logprobs")?);
        let policy_loss = PolicyLoss::Ppo { clip: ClipRange { low: 0.2, high: 0.2 }, dual_clip: None };
        let config = LossConfig { policy_loss, ..LossConfig::default() };
        let batch = LossBatch::new(&self.cu_seqlens, Advantages::PerToken(&advantages), &old);
        let plan = LossPlan::new(&config, self.denominator()?, batch)?;
        let (mut policy_loss, mut output) = (0.0, ValueOutput::default());
        let targets = (self.packed("old_values")?, self.packed("returns")?);
        let mut value_loss = value_pass(self, &targets, VALUE_COEF, &mut output)?;
        let mut of_logprobs = |rows: policy::Rows<'_>, into: policy::RowGradients<'_>| {
            let chunk = TokenChunk::at(rows.start, rows.logprobs);
            let output = plan.evaluate(chunk, into.logprobs.into());
            policy_loss += output.map_err(|error| PolicyError::Loss(error.into()))?.loss;
            into.entropies.fill(0.0);
            Ok(())
        };
        let (batch, of_values) = (&self.batch, value_loss.as_mut());
        let policy = &self.policy;
        policy.logprobs_and_values_backward(batch, 1.0, head, gradients, &mut of_logprobs, of_values)?;
        drop(value_loss);
        Ok((policy_loss, output))
    }

    /// Fails where a gradient differs from the reference's.
    fn check_gradients(&self, gradients: &Gradients, head: &ValueHead) -> Result<()> {
        let largest = |expected: &[f32]| expected.iter().fold(0.0f64, |m, g| m.max(f64::from(g.abs())));
        for (index, (name, _)) in self.policy.parameters().into_iter().enumerate() {
            let expected = self.reference.get(&format!("grad.{name}"))?.flatten_all()?.to_vec1::<f32>()?;
            let found = gradients.get(index).with_context(|| format!("no gradient for {name}"))?;
            close(name, &found.flatten_all()?.to_vec1()?, &expected, GRADIENT * largest(&expected))?;
        }
        let (weight, bias) = head.gradient();
        let expected = self.reference.get("grad.value_head.weight")?.flatten_all()?.to_vec1::<f32>()?;
        close("value_head.weight", weight, &expected, GRADIENT * largest(&expected))?;
        close("value_head.bias", &[bias], &self.reference.get("grad.value_head.bias")?.to_vec1::<f32>()?, GRADIENT)
    }
}

fn for_each_case(check: impl Fn(&mut Case) -> Result<()>) {
    let mut roots = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/ppo")];
    roots.extend(std::env::var_os("DAPO_PPO_DIR").map(PathBuf::from));
    let mut count = 0;
    for root in roots {
        let entries = std::fs::read_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        // The variable may name a case or a folder of cases.
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).chain([root]).collect();
        folders.retain(|path| path.join("ppo.safetensors").is_file());
        folders.sort();
        for path in folders {
            println!("PPO: {}", path.display());
            let result = Case::load(&path).and_then(|mut case| check(&mut case));
            result.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
            count += 1;
        }
    }
    assert!(count >= 1, "no folder");
}

#[test]
fn token_rewards_advantages_and_returns_are_those_of_torch() {
    for_each_case(|case| {
        let (old, reference) = (case.packed("old_logprobs")?, case.packed("ref_logprobs")?);
        let scores: Vec<f64> = case.reference.get("score")?.to_vec1::<f32>()?.into_iter().map(f64::from).collect();
        let kl = TokenKl { coef: KL_COEF, estimator: KlEstimator::K1, logprobs: &old, ref_logprobs: &reference };
        let rewards = token_rewards(&scores, None, &case.cu_seqlens, Some(kl))?;
        close("token rewards", &rewards, &case.packed("token_rewards")?, 1e-6)?;
        let (values, bootstraps) = (case.packed("old_values")?, vec![0.0; scores.len()]);
        let batch = GaeBatch {
            cu_seqlens: &case.cu_seqlens,
            mask: None,
            rewards: &rewards,
            values: &values,
            bootstraps: &bootstraps,
        };
        let mut advantages = batch_gae(batch, DISCOUNTS)?;
        close("advantages", &advantages, &case.packed("advantages")?, 2e-6)?;
        let returns: Vec<f32> = advantages.iter().zip(&values).map(|(a, v)| a + v).collect();
        close("returns", &returns, &case.packed("returns")?, 2e-6)?;
        whiten(&mut advantages, None)?;
        close("whitened", &advantages, &case.packed("whitened")?, 5e-6)
    });
}

#[test]
fn values_are_those_of_torch() {
    for_each_case(|case| {
        close("values", &case.policy.values(&case.batch, &case.head)?, &case.packed("values")?, LOGPROB)
    });
}

/// What a value loss sees and gives: its output, added up, and the gradient times a coefficient.
fn value_pass<'a>(
    case: &'a Case,
    targets: &'a (Vec<f32>, Vec<f32>),
    coef: f64,
    output: &'a mut ValueOutput,
) -> Result<Box<ValueLossFn<'a>>> {
    let denominator = case.denominator()?;
    Ok(Box::new(move |values: &[f32], gradient: &mut [f32]| {
        let (old_values, returns) = targets;
        let batch = ValueBatch { cu_seqlens: &case.cu_seqlens, mask: None, old_values, returns };
        let of_batch = value_loss(&VALUE_LOSS, denominator, batch, values, gradient);
        *output += of_batch.map_err(|error| PolicyError::Loss(error.into()))?;
        for g in gradient {
            *g = (f64::from(*g) * coef) as f32;
        }
        Ok(())
    }))
}

#[test]
fn losses_and_the_gradient_of_every_parameter_are_those_of_torch() {
    for_each_case(|case| {
        for memory in [LayerMemory::Keep, LayerMemory::Recompute] {
            case.policy.set_layer_memory(memory);
            let mut gradients = Gradients::new(case.policy.parameters().len());
            let mut head = case.head.clone();
            let (policy_loss, output) = case.whole_pass(&mut head, &mut gradients)?;
            ensure!((policy_loss - case.number("policy_loss")?).abs() < 1e-6, "policy loss {policy_loss}");
            ensure!((output.loss - case.number("value_loss")?).abs() < 1e-6, "value loss {}", output.loss);
            case.check_gradients(&gradients, &head)?;
        }
        Ok(())
    });
}

/// The whole update: AdamW by torch's formula in f64 on torch's gradients, clipped by the norm of all of them.
#[test]
fn the_weights_after_an_update_are_those_of_torch() {
    for_each_case(|case| {
        // With a large eps, the first step is a smooth function of the gradient.
        let (lr, eps, decay, max_norm) = (1e-2, 1e-2, 0.1, 0.05);
        let step =
            AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-2, weight_decay: 0.1, step: 1, grad_scale: 1.0 };
        let names: Vec<String> = case.policy.parameters().iter().map(|(name, _)| (*name).to_owned()).collect();
        let flat = |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.flatten_all()?.to_vec1()?) };
        let mut before = BTreeMap::new();
        // Its other tensors are the moments.
        let of_head = |head: &ValueHead| -> Result<BTreeMap<String, Tensor>> {
            let tensors = head.tensors()?;
            Ok(tensors.into_iter().filter(|(name, _)| name.starts_with("value_head")).collect())
        };
        for (name, tensor) in case.policy.trainable_tensors()?.iter().chain(&of_head(&case.head)?) {
            before.insert(name.clone(), flat(tensor)?);
        }
        let mut of_torch = BTreeMap::new();
        for name in before.keys() {
            of_torch.insert(name.clone(), flat(case.reference.get(&format!("grad.{name}"))?)?);
        }
        let squares = of_torch.values().flatten().map(|g| f64::from(*g).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        let scale = (max_norm / (norm + 1e-6)).min(1.0);
        ensure!(scale < 1.0, "the norm is to be clipped: {norm}");

        let (mut gradients, mut head) = (Gradients::new(names.len()), case.head.clone());
        let (found, output) = {
            let (_, output) = case.whole_pass(&mut head, &mut gradients)?;
            let mut moments = Moments::zeros(&case.policy)?;
            (case.policy.adamw_with_head(&gradients, &mut moments, &mut head, &step, max_norm)?, output)
        };
        ensure!((found - norm).abs() < 1e-5 * norm, "norm {found}, expected {norm}");
        ensure!(output.metrics.tokens > 0);
        let after = case.policy.trainable_tensors()?;
        for (name, tensor) in after.iter().chain(&of_head(&head)?) {
            let moved = |(weight, gradient): (&f32, &f32)| {
                let gradient = f64::from(*gradient) * scale;
                let decayed = f64::from(*weight) * (1.0 - lr * decay);
                // The first moments without their bias are the gradient and its square.
                (decayed - lr * gradient / (gradient.abs() + eps)) as f32
            };
            let expected: Vec<f32> = before[name].iter().zip(&of_torch[name]).map(moved).collect();
            close(name, &flat(tensor)?, &expected, 1e-6)?;
            ensure!(expected != before[name], "{name} stays");
        }
        Ok(())
    });
}

#[test]
fn the_gradient_of_a_critic_is_that_of_finite_differences() {
    for_each_case(|case| {
        let targets = (case.packed("old_values")?, case.packed("returns")?);
        let (mut gradients, mut head) = (Gradients::new(case.policy.parameters().len()), case.head.clone());
        let mut output = ValueOutput::default();
        {
            let mut of_values = value_pass(case, &targets, 1.0, &mut output)?;
            case.policy.values_backward(&case.batch, &mut head, &mut gradients, of_values.as_mut())?;
        }
        let loss = |case: &Case, head: &ValueHead| -> Result<f64> {
            let values = case.policy.values(&case.batch, head)?;
            let batch =
                ValueBatch { cu_seqlens: &case.cu_seqlens, mask: None, old_values: &targets.0, returns: &targets.1 };
            Ok(value_loss(&VALUE_LOSS, case.denominator()?, batch, &values, &mut vec![0.0; values.len()])?.loss)
        };
        ensure!((loss(case, &case.head)? - output.loss).abs() < 1e-7, "the passes disagree");
        // Along the gradient of each tensor, where a step changes the loss the most.
        let original = case.policy.trainable_tensors()?;
        let original: BTreeMap<String, Tensor> =
            original.into_iter().map(|(name, tensor)| Ok((name, tensor.copy()?))).collect::<Result<_>>()?;
        let names: Vec<String> = case.policy.parameters().iter().map(|(name, _)| (*name).to_owned()).collect();
        for (index, name) in names.iter().enumerate() {
            let gradient = gradients.get(index).with_context(|| format!("no gradient for {name}"))?.copy()?;
            let norm = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
            ensure!(norm > 0.0, "{name}: dead gradient");
            let step = 1e-2 / norm.max(1.0);
            let mut at = |sign: f64| -> Result<f64> {
                let moved = (&original[name] + (&gradient * (sign * step / norm))?)?;
                let mut tensors = original.clone();
                tensors.insert(name.clone(), moved);
                case.policy.load_trainable(&tensors)?;
                loss(case, &case.head)
            };
            let slope = (at(1.0)? - at(-1.0)?) / (2.0 * step);
            ensure!((slope - norm).abs() < 0.02 * norm + 1e-4, "{name}: slope {slope}, gradient {norm}");
        }
        case.policy.load_trainable(&original)?;
        // The head: the loss is piecewise quadratic in it.
        let (weight, bias) = head.gradient();
        let norm = head.squared_norm().sqrt();
        let mut along: Vec<f32> = weight.to_vec();
        along.push(bias);
        let at = |sign: f64| -> Result<f64> {
            let tensors = case.head.tensors()?;
            let width = weight.len();
            let mut moved = ValueHead::new(width);
            let direction = Tensor::from_slice(&along[..width], (1, width), &Device::Cpu)?;
            let bias = Tensor::from_slice(&along[width..], 1, &Device::Cpu)?;
            let scale = sign * 1e-3 / norm;
            moved.load(&BTreeMap::from([
                ("value_head.weight".to_owned(), (&tensors["value_head.weight"] + (direction * scale)?)?),
                ("value_head.bias".to_owned(), (&tensors["value_head.bias"] + (bias * scale)?)?),
            ]))?;
            loss(case, &moved)
        };
        let slope = (at(1.0)? - at(-1.0)?) / 2e-3;
        ensure!((slope - norm).abs() < 0.02 * norm, "value head: slope {slope}, gradient {norm}");
        Ok(())
    });
}

#[test]
fn a_value_head_is_kept_to_the_bit_and_refuses_another_size() {
    for_each_case(|case| {
        let mut copy = ValueHead::new(case.head.hidden_size());
        copy.load(&case.head.tensors()?)?;
        ensure!(copy == case.head);
        let other = ValueHead::new(7);
        let error = case.policy.values(&case.batch, &other).unwrap_err().to_string();
        ensure!(error == "value head is one for hidden states of 7 values, expected one for 128", "{error}");
        let mut other = other;
        ensure!(other.load(&case.head.tensors()?).is_err_and(|error| error.to_string().contains("value_head.weight")));
        ensure!(other == ValueHead::new(7));
        let _ = case.policy.logprobs(&case.batch, 1.0)?;
        Ok(())
    });
}
