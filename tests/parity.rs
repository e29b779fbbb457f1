//! The policy and its training step against transformers and torch.
//!
//! Runs over every folder of `testdata/parity/`, and of `$DAPO_PARITY_DIR` when that is set. A folder holds a model as
//! transformers saved it, `parity.safetensors` (logits, log-probs, entropies, greedy tokens) and `dapo.safetensors`
//! (one loss with the gradient of every parameter, and five AdamW steps). Tolerances are about five times the
//! difference between torch in f32 and in f64.
#![allow(clippy::unwrap_used)]

mod common;

use anyhow::{Context, Result, ensure};
use common::{Reference, close, unpadded};
use dapo::{loss, policy, trainer};
use loss::{Denominator, EmptySequences, LossConfig};
use policy::{
    Decoder, GenerationConfig, Gradients, LayerMemory, Policy, Request, SamplingConfig, Segments, StopTokens,
    TokenBatch,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trainer::{AdamW, OptimizerConfig, TrainingGroup, TrainingSequence, Update, accumulate, pack};

const LOGPROB: f64 = 3e-5;
/// Of the mean size of a token's loss: the loss is a sum of terms of either sign, and errs as they do.
const LOSS: f64 = 1e-6;
/// Of the largest entry of the same tensor.
const GRADIENT: f64 = 1.5e-5;
const ADAMW_LOSS: f64 = 1e-5;
const GRAD_NORM: f64 = 5e-4;
const FINAL_LOGPROB: f64 = 7.5e-3;

struct Case {
    name: String,
    path: PathBuf,
    policy: Decoder,
    parity: Reference,
    dapo: Reference,
}

/// Runs `check` on every folder; names each one.
fn for_each_case(check: impl Fn(&Case) -> Result<()>) {
    let mut roots = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/parity")];
    roots.extend(std::env::var_os("DAPO_PARITY_DIR").map(PathBuf::from));
    let mut count = 0;
    for root in roots {
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
            .unwrap_or_else(|e| panic!("{}: {e}", root.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("config.json").is_file())
            .collect();
        folders.sort();
        for path in folders {
            println!("parity: {}", path.display());
            let result = load(&path).and_then(|case| check(&case).with_context(|| case.name.clone()));
            result.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} folders");
}

fn load(path: &Path) -> Result<Case> {
    let (policy, _) = policy::load(path)?;
    Ok(Case {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        path: path.into(),
        policy,
        parity: Reference::load(&path.join("parity.safetensors"))?,
        dapo: Reference::load(&path.join("dapo.safetensors"))?,
    })
}

fn one_sequence(len: usize) -> Arc<Segments> {
    Arc::new(Segments::new([(len, None)]).unwrap())
}

#[test]
fn logits_hidden_states_log_probs_and_entropies_are_those_of_transformers() {
    for_each_case(|case| {
        let logits = case.parity.get("full.logits")?;
        let (logprobs, entropies) = (case.parity.floats("full.logprobs")?, case.parity.floats("full.entropy")?);
        for (row, ids) in case.parity.ids("full.input_ids")?.iter().enumerate() {
            let found = case.policy.logits(ids, &one_sequence(ids.len()))?.flatten_all()?.to_vec1::<f32>()?;
            close("logits", &found, &logits.get(row)?.flatten_all()?.to_vec1::<f32>()?, 5.0 * LOGPROB)?;
            let targets = (1..ids.len()).collect();
            let batch = TokenBatch { token_ids: ids.clone(), segments: one_sequence(ids.len()), targets };
            let scored = case.policy.logprobs(&batch, 1.0)?;
            close("logprobs", &scored.logprobs, &logprobs[row], LOGPROB)?;
            close("entropies", &scored.entropies, &entropies[row], LOGPROB)?;
        }
        let ids = &case.parity.ids("full.input_ids")?[0];
        for (i, state) in case.policy.hidden_states(ids, &one_sequence(ids.len()))?.iter().enumerate() {
            let name = format!("full.hidden.{i}");
            let expected = case.parity.get(&name)?.flatten_all()?.to_vec1::<f32>()?;
            close(&name, &state.flatten_all()?.to_vec1::<f32>()?, &expected, 10.0 * LOGPROB)?;
        }
        Ok(())
    });
}

#[test]
fn packed_completions_score_as_padded_ones_do_in_transformers_at_several_temperatures() {
    for_each_case(|case| {
        let reference = &case.parity;
        let prompts = unpadded(&reference.ids("padded.prompt_ids")?, &reference.ids("padded.prompt_mask")?);
        let completions = unpadded(&reference.ids("padded.completion_ids")?, &reference.ids("padded.completion_mask")?);
        // Every sequence whole, and every prompt as a parent of its completion: all in one batch.
        for shared in [false, true] {
            let (mut token_ids, mut lengths, mut targets) = (Vec::new(), Vec::new(), Vec::new());
            for (prompt, completion) in prompts.iter().zip(&completions) {
                if shared {
                    lengths.push((prompt.len(), None));
                    lengths.push((completion.len(), Some(lengths.len() - 1)));
                } else {
                    lengths.push((prompt.len() + completion.len(), None));
                }
                token_ids.extend(prompt);
                targets.extend(token_ids.len()..token_ids.len() + completion.len());
                token_ids.extend(completion);
            }
            let batch = TokenBatch { token_ids, segments: Arc::new(Segments::new(lengths)?), targets };
            for temperature in ["1.0", "0.7"] {
                let scored = case.policy.logprobs(&batch, temperature.parse()?)?;
                let cut = |name: &str| -> Result<Vec<f32>> {
                    let rows = reference.floats(&format!("padded.{name}.t{temperature}"))?;
                    Ok(rows.iter().zip(&completions).flat_map(|(row, c)| row[..c.len()].to_vec()).collect())
                };
                close("logprobs", &scored.logprobs, &cut("logprobs")?, LOGPROB)?;
                close("entropies", &scored.entropies, &cut("entropy")?, LOGPROB)?;
            }
        }
        Ok(())
    });
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for_each_case(|case| {
        let expected = case.parity.ids("greedy.output_ids")?;
        let requests: Vec<Request> = case
            .parity
            .ids("greedy.prompt_ids")?
            .into_iter()
            .map(|prompt_ids| Request { prompt_ids, samples: 1, first_sample: 0, draw: 0 })
            .collect();
        let sampling = SamplingConfig::GREEDY;
        let config = GenerationConfig {
            max_new_tokens: expected[0].len(),
            sampling,
            ..GenerationConfig::new(StopTokens::none())
        };
        let found = case.policy.generate(&requests, &config)?;
        for (found, expected) in found.iter().zip(&expected) {
            ensure!(&found[0].token_ids == expected, "{:?}, expected {expected:?}", found[0].token_ids);
        }
        Ok(())
    });
}

/// The reference batch as groups: two prompts with four completions each.
fn dapo_groups(reference: &Reference) -> Result<Vec<TrainingGroup>> {
    let prompts = unpadded(&reference.ids("prompt_ids")?, &reference.ids("prompt_mask")?);
    let completions = unpadded(&reference.ids("completion_ids")?, &reference.ids("completion_mask")?);
    let old = reference.floats("old_logprobs")?;
    let advantages = reference.get("advantages")?.to_vec1::<f32>()?;
    let mut groups: Vec<TrainingGroup> = Vec::new();
    for (i, (prompt, completion)) in prompts.into_iter().zip(completions).enumerate() {
        let sequence = TrainingSequence {
            old_logprobs: old[i][..completion.len()].to_vec(),
            token_ids: completion,
            advantage: advantages[i],
            in_loss: true,
            ..TrainingSequence::default()
        };
        match groups.last_mut() {
            Some(group) if group.prompt_ids == prompt => group.sequences.push(sequence),
            _ => groups.push(TrainingGroup {
                draw: 0,
                prompt_ids: prompt,
                sequences: vec![sequence],
                on_policy: true,
                ..TrainingGroup::default()
            }),
        }
    }
    Ok(groups)
}

fn loss_and_gradients(
    policy: &Decoder,
    groups: &[TrainingGroup],
    micro_batch_tokens: usize,
) -> Result<(Update, Gradients)> {
    let config = LossConfig::default();
    let lengths: Vec<usize> = groups.iter().flat_map(|g| g.sequences.iter().map(|s| s.token_ids.len())).collect();
    let denominator = Denominator::of_step(config.aggregation, &lengths, EmptySequences::Exclude).context("tokens")?;
    let mut gradients = Gradients::new(policy.parameters().len());
    let mut update = Update::default();
    for batch in pack(groups, micro_batch_tokens)? {
        accumulate(policy, &batch, 1.0, &config, denominator, &mut gradients, &mut update)?;
    }
    Ok((update, gradients))
}

/// The mean absolute loss of a token; 0 where the reference masks it.
fn mean_term(case: &Case) -> Result<f64> {
    let terms = case.dapo.floats("per_token_loss")?;
    let tokens: usize = case.dapo.lengths("completion_mask")?.iter().sum();
    Ok(terms.iter().flatten().map(|term| f64::from(term.abs())).sum::<f64>() / tokens as f64)
}

#[test]
fn loss_and_the_gradient_of_every_parameter_are_those_of_torch() {
    for_each_case(|case| {
        let groups = dapo_groups(&case.dapo)?;
        ensure!(groups.len() == 2, "{} groups", groups.len());
        let mut policy = policy::load(&case.path)?.0;
        // In one batch, in several, and with layers computed again.
        for (budget, memory) in [(4096, LayerMemory::Keep), (40, LayerMemory::Keep), (4096, LayerMemory::Recompute)] {
            policy.set_layer_memory(memory);
            let (update, gradients) = loss_and_gradients(&policy, &groups, budget)?;
            close("loss", &[update.loss as f32], &case.dapo.get("loss")?.to_vec1::<f32>()?, LOSS * mean_term(case)?)?;
            for (name, found) in [("low", update.metrics.clip_low()), ("high", update.metrics.clip_high())] {
                let expected = case.dapo.get(&format!("clip_ratio.{name}_mean"))?.to_vec1::<f32>()?;
                close(name, &[found as f32], &expected, 1e-6)?;
            }
            for (index, (name, _)) in policy.parameters().into_iter().enumerate() {
                let expected = case.dapo.get(&format!("grad.{name}"))?.flatten_all()?.to_vec1::<f32>()?;
                let found = gradients.get(index).with_context(|| format!("no gradient for {name}"))?;
                let found = found.flatten_all()?.to_vec1::<f32>()?;
                ensure!(
                    found.iter().all(|g| g.is_finite()) && found.iter().any(|g| *g != 0.0),
                    "{name}: dead gradient"
                );
                let largest = expected.iter().fold(0.0f64, |m, g| m.max(f64::from(g.abs())));
                close(name, &found, &expected, GRADIENT * largest)?;
            }
            let extra = case.dapo.0.keys().filter(|k| k.starts_with("grad.") && *k != "grad.logprobs").count();
            ensure!(extra == policy.parameters().len(), "{extra} reference gradients");
        }
        Ok(())
    });
}

#[test]
fn five_clipped_adamw_steps_follow_torch() {
    for_each_case(|case| {
        let groups = dapo_groups(&case.dapo)?;
        let mut policy = policy::load(&case.path)?.0;
        let config = OptimizerConfig { lr: 1e-3, warmup_steps: 0, weight_decay: 0.01, ..Default::default() };
        let mut optimizer = AdamW::new(&policy, config)?;
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let (update, gradients) = loss_and_gradients(&policy, &groups, 4096)?;
            norms.push(optimizer.update(&mut policy, &gradients, config.lr)? as f32);
            losses.push(update.loss as f32);
        }
        close("losses", &losses, &case.dapo.get("adamw.losses")?.to_vec1::<f32>()?, ADAMW_LOSS)?;
        close("norms", &norms, &case.dapo.get("adamw.grad_norms")?.to_vec1::<f32>()?, GRAD_NORM)?;
        let batch = &pack(&groups, 4096)?[0];
        let expected = case.dapo.floats("adamw.final_logprobs")?;
        let lengths = case.dapo.lengths("completion_mask")?;
        let expected: Vec<f32> = expected.iter().zip(lengths).flat_map(|(row, n)| row[..n].to_vec()).collect();
        close("final log-probs", &policy.logprobs(&batch.tokens, 1.0)?.logprobs, &expected, FINAL_LOGPROB)
    });
}
