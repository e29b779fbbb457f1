//! PPO: what a critic changes in a step.

use super::{config, model, prompts, rewards, trainer};
use dapo_loss::{
    Advantages, ClipRange, Denominator, Gae, GaeBatch, Kl, KlEstimator, LossBatch, LossConfig, LossPlan, PolicyLoss,
    TokenChunk, TokenKl, ValueBatch, ValueLoss, ValueOutput, batch_gae, token_rewards, value_loss, whiten,
};
use dapo_policy::{Gradients, LoraConfig, Policy, RowGradients, Rows, TokenGroup, ValueHead};
use dapo_sampler::SamplerConfig;
use dapo_trainer::{CriticConfig, CriticLayers, Group, OptimizerConfig, Sample, Trainer, TrainerConfig};
use std::collections::BTreeMap;
use std::path::Path;

fn critic(layers: CriticLayers) -> CriticConfig {
    let optimizer = OptimizerConfig { lr: 1e-3, warmup_steps: 0, ..OptimizerConfig::default() };
    CriticConfig { layers, optimizer, ..CriticConfig::default() }
}

/// PPO with groups of two.
fn ppo(critic: CriticConfig) -> TrainerConfig {
    let loss = LossConfig {
        policy_loss: PolicyLoss::Ppo { clip: ClipRange { low: 0.2, high: 0.2 }, dual_clip: None },
        ..LossConfig::default()
    };
    TrainerConfig {
        group_size: 2,
        sampler: SamplerConfig { enabled: false, ..config().sampler },
        loss,
        critic: Some(critic),
        ..config()
    }
}

fn weights(trainer: &Trainer) -> BTreeMap<String, Vec<f32>> {
    let tensors = trainer.policy().trainable_tensors().unwrap();
    tensors.into_iter().map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

/// Every file of a folder by its path in it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn without_discounts_values_of_zero_make_the_reward_every_tokens_advantage() {
    for layers in [CriticLayers::Own, CriticLayers::Shared] {
        let mut trainer = trainer(ppo(CriticConfig { whiten: false, ..critic(layers) }));
        let outcome = trainer.step().unwrap();
        let samples = outcome.trained().flat_map(|record| &record.group.samples);
        let mut seen = 0;
        for sample in samples {
            // The value after the last token of a truncated one is 0, too.
            let reward = sample.reward.total.unwrap();
            assert!((f64::from(sample.advantage.unwrap()) - reward).abs() < 1e-6, "{reward} {:?}", sample.advantage);
            seen += 1;
        }
        assert_eq!(seen, 8);
        let figures = outcome.metrics.critic.unwrap();
        assert_eq!((figures.value, figures.clip_fraction), (Some(0.0), Some(0.0)), "before the first update");
        assert!(figures.loss.unwrap() > 0.0 && figures.grad_norm.unwrap() > 0.0);
        let later = trainer.step().unwrap().metrics.critic.unwrap();
        assert_ne!(later.value, Some(0.0), "{layers:?}: the values have moved");
    }
}

#[test]
fn a_critic_that_does_not_learn_stays_at_zero() {
    let frozen = OptimizerConfig { lr: 0.0, weight_decay: 0.0, ..critic(CriticLayers::Own).optimizer };
    let mut trainer = trainer(ppo(CriticConfig { optimizer: frozen, ..critic(CriticLayers::Own) }));
    for _ in 0..3 {
        let figures = trainer.step().unwrap().metrics.critic.unwrap();
        assert_eq!((figures.value, figures.explained_variance), (Some(0.0), Some(0.0)));
    }
}

#[test]
fn the_policy_waits_while_the_critic_warms_up() {
    let mut trainer = trainer(ppo(CriticConfig { warmup_steps: 2, ..critic(CriticLayers::Own) }));
    let before = weights(&trainer);
    for step in 1..=3 {
        let metrics = trainer.step().unwrap().metrics;
        assert!(metrics.critic.unwrap().loss.is_some());
        assert_eq!((metrics.updates > 0, weights(&trainer) != before), (step == 3, step == 3), "step {step}");
    }
}

#[test]
fn groups_of_one_are_enough_for_a_critic() {
    let config = TrainerConfig { group_size: 1, ..ppo(critic(CriticLayers::Own)) };
    let metrics = trainer(config.clone()).step().unwrap().metrics;
    assert_eq!((metrics.dynamic_sampling.trained, metrics.updates), (4, 1));
    let error = TrainerConfig { critic: None, ..config.clone() }.validate().unwrap_err().to_string();
    assert!(error.starts_with("group_size is 1, expected at least 2"), "{error}");
    let sampler = SamplerConfig { enabled: true, ..config.sampler.clone() };
    let error = TrainerConfig { sampler, ..config }.validate().unwrap_err().to_string();
    assert!(error.starts_with("sampler.dynamic is true"), "{error}");
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let error = |config: TrainerConfig| config.validate().unwrap_err().to_string();
    let shared = CriticConfig { warmup_steps: 1, ..critic(CriticLayers::Shared) };
    assert!(error(ppo(shared)).starts_with("critic.warmup_steps is 1, expected 0 with shared layers"));
    let bad = CriticConfig { lambda: 1.5, ..critic(CriticLayers::Own) };
    assert_eq!(error(ppo(bad)), "critic.lambda is 1.5, expected from 0 to 1");
    let loss = LossConfig::of("gspo".parse().unwrap());
    assert!(error(TrainerConfig { loss, ..ppo(critic(CriticLayers::Own)) }).starts_with("loss.policy_loss is gspo"));
}

/// A trainer of this kind at its start.
fn start(config: &TrainerConfig, lora: bool) -> Trainer {
    let (policy, tokenizer) = model();
    let policy =
        if lora { policy.with_lora(&LoraConfig { rank: 2, ..LoraConfig::default() }, 3).unwrap() } else { policy };
    let prompts = prompts(&tokenizer);
    Trainer::new(policy, tokenizer, prompts, rewards(), config.clone()).unwrap()
}

#[test]
fn a_run_resumes_to_the_bit() {
    let own = CriticConfig { gamma: 0.99, lambda: 0.95, ..critic(CriticLayers::Own) };
    let shared = CriticConfig { layers: CriticLayers::Shared, ..own };
    let with_kl = |critic| TrainerConfig { kl_in_reward: 0.05, ..ppo(critic) };
    let in_loss = |critic| {
        let loss = LossConfig { kl: Kl { coef: 0.01, ..Kl::default() }, ..ppo(critic).loss };
        TrainerConfig { loss, mini_batches: 2, updates_per_batch: 2, ..with_kl(critic) }
    };
    for (config, lora) in [(with_kl(own), false), (in_loss(shared), false), (with_kl(own), true), (ppo(shared), true)] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).join("step-3");
        let mut whole = start(&config, lora);
        for _ in 0..2 {
            whole.step().unwrap();
        }
        let kept = folder.path().join("step-2");
        whole.save(&kept, "base").unwrap();
        let expected = whole.step().unwrap();
        std::fs::create_dir_all(at("whole").parent().unwrap()).unwrap();
        whole.save(&at("whole"), "base").unwrap();

        let mut resumed = start(&config, lora);
        resumed.restore(&kept).unwrap();
        let found = resumed.step().unwrap();
        assert_eq!(found.metrics, expected.metrics);
        assert_eq!(found.groups, expected.groups);
        std::fs::create_dir_all(at("resumed").parent().unwrap()).unwrap();
        resumed.save(&at("resumed"), "base").unwrap();
        let (expected, found) = (files(&at("whole")), files(&at("resumed")));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, bytes) in expected {
            assert!(found[&name] == bytes, "{name} differs");
        }
        assert!(found.contains_key("value_head.safetensors"));
    }
}

/// The second step of a run, written out from the library's parts: values, advantages, both losses and their gradients.
#[test]
fn a_step_is_made_of_its_parts() {
    let discounts = Gae { gamma: 0.99, lambda: 0.95 };
    let of_critic = CriticConfig { gamma: 0.99, lambda: 0.95, ..critic(CriticLayers::Own) };
    let config = TrainerConfig { kl_in_reward: 0.05, ..ppo(of_critic) };
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("step-1");
    let mut trainer = start(&config, false);
    trainer.step().unwrap();
    trainer.save(&kept, "base").unwrap();
    let outcome = trainer.step().unwrap();
    let figures = outcome.metrics.critic.clone().unwrap();

    let (policy, _) = dapo_policy::load(&kept.join("model")).unwrap();
    let (base, _) = model();
    let mut critic = base.trainable_copy().unwrap();
    critic.load_trainable(&dapo_policy::read_tensors(&kept.join("critic.safetensors")).unwrap()).unwrap();
    let mut head = ValueHead::new(critic.config().hidden_size);
    head.load(&dapo_policy::read_tensors(&kept.join("value_head.safetensors")).unwrap()).unwrap();
    // One batch of everything; a truncated completion has one token more, whose state is the one after the last.
    let groups: Vec<&Group> = outcome.trained().map(|record| &*record.group).collect();
    let samples: Vec<&Sample> = groups.iter().flat_map(|group| &group.samples).collect();
    let longer: Vec<Vec<u32>> = samples
        .iter()
        .map(|sample| {
            let next = sample.is_truncated().then_some(0);
            sample.completion.token_ids.iter().copied().chain(next).collect()
        })
        .collect();
    assert!(samples.iter().any(|sample| sample.is_truncated()) && samples.iter().any(|sample| !sample.is_truncated()));
    let packed = |tokens: &[Vec<u32>]| {
        let mut tokens = tokens.iter();
        let of: Vec<TokenGroup<'_>> = groups
            .iter()
            .map(|group| {
                let of_group = tokens.by_ref().take(group.samples.len()).map(Vec::as_slice);
                TokenGroup::new(&group.prompt.token_ids, of_group.collect::<Vec<_>>())
            })
            .collect();
        dapo_policy::pack_tokens(&of, usize::MAX).unwrap().remove(0)
    };
    let all = packed(&longer);
    let values_and_next = critic.values(&all.tokens, &head).unwrap();
    let tokens: Vec<Vec<u32>> = samples.iter().map(|sample| sample.completion.token_ids.clone()).collect();
    let batch = packed(&tokens);
    let ends = &batch.cu_seqlens;
    let (mut values, mut bootstraps, mut old) = (vec![], vec![], vec![]);
    for ((number, of), sample) in all.by_completion(&values_and_next).zip(&samples) {
        let length = tokens[number].len();
        values.extend(&of[..length]);
        bootstraps.push(of.get(length).copied().unwrap_or(0.0));
        old.extend(&sample.completion.logprobs);
    }
    let ref_logprobs = base.logprobs(&batch.tokens, 1.0).unwrap().logprobs;
    let totals: Vec<f64> = samples.iter().map(|sample| sample.reward.total.unwrap()).collect();
    let kl = TokenKl { coef: 0.05, estimator: KlEstimator::K1, logprobs: &old, ref_logprobs: &ref_logprobs };
    let rewards = token_rewards(&totals, None, ends, Some(kl)).unwrap();
    let of_gae = GaeBatch { cu_seqlens: ends, mask: None, rewards: &rewards, values: &values, bootstraps: &bootstraps };
    let mut advantages = batch_gae(of_gae, discounts).unwrap();
    let returns: Vec<f32> = advantages.iter().zip(&values).map(|(a, v)| a + v).collect();
    whiten(&mut advantages, None).unwrap();

    // The critic's gradient and loss.
    let lengths: Vec<usize> = ends.windows(2).map(|ends| ends[1] - ends[0]).collect();
    let denominator = Denominator::of_step(config.loss.aggregation, &lengths, config.loss.empty_sequences).unwrap();
    let mut output = ValueOutput::default();
    let mut gradients = Gradients::new(critic.parameters().len());
    head.clear();
    let mut of_values = |now: &[f32], into: &mut [f32]| {
        let of = ValueBatch { cu_seqlens: ends, mask: None, old_values: &values, returns: &returns };
        output += value_loss(&ValueLoss { clip: 0.5 }, denominator, of, now, into).unwrap();
        Ok(())
    };
    critic.values_backward(&batch.tokens, &mut head, &mut gradients, &mut of_values).unwrap();
    let norm = |gradients: &Gradients| -> f64 {
        let of = (0..gradients.len()).filter_map(|i| gradients.get(i));
        of.map(|g| f64::from(g.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap())).sum()
    };
    let close = |what: &str, found: Option<f64>, expected: f64| {
        let found = found.unwrap();
        assert!((found - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{what}: {found}, expected {expected}");
    };
    close("value loss", figures.loss, output.loss);
    close("explained variance", figures.explained_variance, output.metrics.explained_variance());
    close(
        "mean return",
        figures.mean_return,
        returns.iter().map(|r| f64::from(*r)).sum::<f64>() / returns.len() as f64,
    );
    close("critic's norm", figures.grad_norm, (norm(&gradients) + head.squared_norm()).sqrt());

    // The policy's.
    let of_loss = LossBatch::new(ends, Advantages::PerToken(&advantages), &old);
    let plan = LossPlan::new(&config.loss, denominator, of_loss).unwrap();
    let (mut loss, mut gradients) = (0.0, Gradients::new(policy.parameters().len()));
    let mut of_rows = |rows: Rows<'_>, into: RowGradients<'_>| {
        loss += plan.evaluate(TokenChunk::at(rows.start, rows.logprobs), into.logprobs.into()).unwrap().loss;
        into.entropies.fill(0.0);
        Ok(())
    };
    policy.logprobs_backward(&batch.tokens, 1.0, &mut gradients, &mut of_rows).unwrap();
    close("loss", outcome.metrics.loss, loss);
    close("norm", outcome.metrics.grad_norm, norm(&gradients).sqrt());
    for (sample, ends) in samples.iter().zip(ends.windows(2)) {
        let mean = advantages[ends[0]..ends[1]].iter().sum::<f32>() / (ends[1] - ends[0]) as f32;
        close("advantage", sample.advantage.map(f64::from), f64::from(mean));
    }
}

#[test]
fn a_checkpoint_without_a_critic_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("step-1");
    let config = TrainerConfig { critic: None, ..ppo(critic(CriticLayers::Own)) };
    let mut without = start(&config, false);
    without.step().unwrap();
    without.save(&kept, "base").unwrap();
    let error = start(&ppo(critic(CriticLayers::Own)), false).restore(&kept).unwrap_err().to_string();
    assert!(error.contains("value_head.safetensors"), "{error}");
}
