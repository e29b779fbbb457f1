//! What the recipes set, against the published values.

use crate::words;
use dapo_loss::{AdvantageScale, Aggregation, Baseline, ClipRange, PolicyLoss, StdEstimator};
use dapo_policy::LayerMemory;
use dapo_reward::{ExtractRule, Grader, OverlongFilter};
use dapo_run::{RunConfig, recipes};
use dapo_sampler::{FilterMetric, GenBatch, OnExhausted, SurplusPolicy};
use dapo_trainer::{CriticConfig, Schedule};
use std::collections::BTreeSet;
use std::path::Path;

fn config(names: &[&str]) -> RunConfig {
    words(names).unwrap().config
}

#[test]
fn every_file_is_embedded_and_starts_with_its_summary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let recipe = recipes().iter().find(|recipe| recipe.name == name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(recipe.text, text, "{name}");
            assert_eq!(Some(recipe.summary), text.lines().next().unwrap().strip_prefix("# "), "{name}");
            assert!((20..120).contains(&recipe.summary.len()), "{name}");
            files.insert(name);
        }
    }
    assert_eq!(files.len(), recipes().len());
}

#[test]
fn every_recipe_is_named_in_the_readme() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/README.md")).unwrap();
    for recipe in recipes() {
        assert!(readme.contains(&format!("| [{0}]({0}.toml) |", recipe.name)), "{}", recipe.name);
    }
}

/// A rung: ε_high, weight of the soft punishment, aggregation, filter, dynamic sampling.
type Rung = (&'static str, f32, f64, &'static str, OverlongFilter, bool);

/// The paper's ladder (its Table 1), and the preset to use.
const LADDER: [Rung; 7] = [
    ("grpo", 0.2, 0.0, "seq-mean-token-mean", OverlongFilter::Off, false),
    ("overlong-filter", 0.2, 0.0, "seq-mean-token-mean", OverlongFilter::Mask, false),
    ("clip-higher", 0.28, 0.0, "seq-mean-token-mean", OverlongFilter::Mask, false),
    ("soft-overlong", 0.28, 1.0, "seq-mean-token-mean", OverlongFilter::Mask, false),
    ("token-loss", 0.28, 1.0, "token-mean", OverlongFilter::Mask, false),
    ("dynamic-sampling", 0.28, 1.0, "token-mean", OverlongFilter::Mask, true),
    ("dapo", 0.28, 1.0, "token-mean", OverlongFilter::Off, true),
];

fn check_rung(config: &RunConfig, (name, high, soft, aggregation, filter, dynamic): Rung) {
    let RunConfig { loss, advantage, sampler, overlong, rewards, .. } = config;
    assert_eq!(loss.policy_loss, PolicyLoss::Ppo { clip: ClipRange { low: 0.2, high }, dual_clip: None }, "{name}");
    assert_eq!(loss.aggregation.name(), aggregation, "{name}");
    assert_eq!((loss.entropy_coef, loss.kl.coef, rewards.kl_coef), (0.0, 0.0, 0.0), "{name}");
    assert_eq!((advantage.baseline, advantage.scale), (Baseline::Mean, AdvantageScale::Group), "{name}");
    assert_eq!((advantage.std, advantage.eps), (StdEstimator::Sample, 1e-6), "{name}");
    assert_eq!((overlong.filter, sampler.enabled), (filter, dynamic), "{name}");
    assert_eq!((&sampler.metric, sampler.tolerance), (&FilterMetric::Acc, 0.0), "{name}");
    assert_eq!((sampler.per_prompt, config.critic), (None, None), "{name}");
    let overlong = rewards.soft_overlong.as_ref().unwrap();
    assert_eq!((overlong.weight, overlong.reward.penalty_factor, overlong.reward.floor), (soft, 1.0, true), "{name}");
    let accuracy = rewards.accuracy.as_ref().unwrap();
    assert_eq!((accuracy.weight, accuracy.reward.correct, accuracy.reward.incorrect), (1.0, 1.0, -1.0), "{name}");
}

#[test]
fn the_ladder_is_the_papers_whatever_it_is_layered_over() {
    let names: Vec<&str> = recipes().iter().map(|recipe| recipe.name).collect();
    let strange = [
        "loss.policy_loss=gspo",
        "loss.dual_clip=3",
        "loss.aggregation=seq-mean-token-sum",
        "loss.entropy_coef=0.1",
        "kl.coef=0.1",
        "kl.in_reward=true",
        "advantage.baseline=leave-one-out",
        "advantage.scale=none",
        "advantage.std=population",
        "overlong.filter=drop",
        "sampler.metric=score",
        "sampler.tolerance=0.5",
        "sampler.per_prompt_max_samples=32",
        "rewards.accuracy={ wrong = 0.0, weight = 2 }",
        "critic.lambda=0.9",
        "rewards.soft_overlong={ weight = 9.0, floor = false, penalty_factor = 3.0 }",
    ];
    for rung in LADDER {
        check_rung(&config(&[rung.0]), rung);
        check_rung(&config(&[&strange[..], &[rung.0]].concat()), rung);
        for name in &names {
            check_rung(&config(&[name, rung.0]), rung);
        }
        // Sizes, model and data stay those of the layer below.
        let over = config(&["dapo-paper", rung.0]);
        let paper = config(&["dapo-paper"]);
        assert_eq!((over.rollout, over.data, over.model), (paper.rollout, paper.data, paper.model));
        assert_eq!((over.train, over.eval, over.optimizer), (paper.train, paper.eval, paper.optimizer));
        assert_eq!(over.sampler.gen_batch, GenBatch::Fixed(1536));
        assert_eq!(over.rewards.soft_overlong.unwrap().reward.cache_len, Some(4096));
    }
}

#[test]
fn other_algorithms_are_the_published_ones_whatever_they_are_layered_over() {
    for under in recipes().iter().map(|recipe| recipe.name) {
        let config = |name| config(&[under, name]);
        for name in ["ppo", "rloo", "reinforce-plus-plus"] {
            let RunConfig { loss, sampler, overlong, rewards, .. } = config(name);
            assert_eq!(loss.policy_loss, PolicyLoss::ppo(), "{name} over {under}");
            assert_eq!((loss.entropy_coef, loss.kl.coef), (0.0, 0.0), "{name} over {under}");
            assert_eq!((sampler.enabled, sampler.per_prompt, overlong.filter), (false, None, OverlongFilter::Off));
            assert_eq!(rewards.soft_overlong.unwrap().weight, 0.0, "{name} over {under}");
        }
        let ppo = config("ppo");
        assert_eq!(ppo.critic, Some(CriticConfig::default()), "ppo over {under}");
        assert_eq!((ppo.loss.aggregation, ppo.rewards.kl_coef), (Aggregation::TokenMean, 0.0));
        // TRL's RLOO: a completion is one action.
        let rloo = config("rloo");
        assert_eq!((rloo.advantage.baseline, rloo.advantage.scale), (Baseline::LeaveOneOut, AdvantageScale::None));
        assert_eq!((rloo.loss.aggregation, rloo.rewards.kl_coef), (Aggregation::SeqMeanTokenSum, 0.05));
        let reinforce = config("reinforce-plus-plus");
        assert_eq!((reinforce.advantage.baseline, reinforce.advantage.scale), (Baseline::Mean, AdvantageScale::Whiten));
        assert_eq!((reinforce.loss.aggregation, reinforce.rewards.kl_coef), (Aggregation::TokenMean, 0.01));
        assert_eq!((rloo.critic, reinforce.critic), (None, None));
    }
}

#[test]
fn whole_runs_train_by_dapo_where_they_say_nothing_else() {
    for name in ["tiny", "smollm2-cpu", "qwen3-0.6b-one-gpu", "qwen3-4b-lora", "dapo-paper"] {
        let config = config(&[name]);
        // Unset clips and aggregation are those of the policy loss: 0.2, 0.28, token-mean.
        assert_eq!(config.loss, RunConfig::default().loss, "{name}");
        assert_eq!(config.loss, dapo_loss::LossConfig::default(), "{name}");
        assert_eq!(config.advantage, RunConfig::default().advantage, "{name}");
        assert_eq!(
            (config.overlong.filter, config.sampler.enabled, config.loss.kl.coef),
            (OverlongFilter::Off, true, 0.0)
        );
        let overlong = config.rewards.soft_overlong.unwrap();
        assert_eq!((overlong.weight, overlong.reward.floor), (1.0, true), "{name}");
    }
    let loss = dapo_loss::LossConfig::default();
    let expected = dapo_loss::PolicyLoss::Ppo { clip: dapo_loss::ClipRange { low: 0.2, high: 0.28 }, dual_clip: None };
    assert_eq!((loss.policy_loss, loss.aggregation), (expected, dapo_loss::Aggregation::TokenMean));
}

/// What all runs at the paper's size have in common.
fn check_paper_size(config: &RunConfig) {
    let RunConfig { data, rollout, sampler, optimizer, train, eval, rewards, loss, .. } = config;
    assert_eq!(
        (sampler.train_batch, rollout.group_size, train.mini_batches, train.updates_per_batch),
        (512, 16, 16, 1)
    );
    // 16 updates of 512 sequences.
    assert_eq!(sampler.train_batch * rollout.group_size / train.mini_batches, 512);
    let overlong = rewards.soft_overlong.as_ref().unwrap();
    assert_eq!(
        (rollout.max_new_tokens, overlong.reward.cache_len, overlong.reward.penalty_factor),
        (20_480, Some(4096), 1.0)
    );
    assert_eq!((overlong.reward.max_len, overlong.weight), (None, 1.0));
    assert_eq!((data.max_prompt_tokens, data.deduplicate), (2048, true));
    let (temperature, top_p, top_k, min_p, repetition_penalty) = (1.0, 1.0, None, 0.0, 1.0);
    let sampling = dapo_policy::SamplingConfig { temperature, top_p, top_k, min_p, repetition_penalty };
    assert_eq!((rollout.sampling, &rollout.stop), (sampling, &Vec::new()));
    assert_eq!((eval.samples, eval.temperature, eval.top_p), (32, 1.0, 0.7));
    assert_eq!((optimizer.lr, optimizer.schedule, optimizer.weight_decay), (1e-6, Schedule::Constant, 0.1));
    assert_eq!((optimizer.beta1, optimizer.beta2, optimizer.eps), (0.9, 0.999, 1e-8));
    assert_eq!((optimizer.max_grad_norm, loss.kl.coef), (1.0, 0.0));
    assert_eq!(
        rewards.accuracy.as_ref().unwrap().reward,
        dapo_reward::Accuracy { correct: 1.0, incorrect: -1.0, grader: Grader::Dapo }
    );
    assert_eq!((train.micro_batch_tokens, train.layer_memory), (2048 + 20_480, LayerMemory::Recompute));
    assert_eq!(config.overlong.filter, OverlongFilter::Off);
}

#[test]
fn the_papers_run_has_the_papers_values() {
    let config = config(&["dapo-paper"]);
    check_paper_size(&config);
    let sampler = &config.sampler;
    assert_eq!((sampler.gen_batch, sampler.max_gen_rounds), (GenBatch::Fixed(3 * 512), 10));
    assert_eq!(sampler.surplus, SurplusPolicy::Discard);
    assert_eq!((config.optimizer.warmup_steps, config.loss.policy_loss), (20, PolicyLoss::dapo()));
}

#[test]
fn verls_runs_differ_from_the_papers_as_its_scripts_do() {
    for (name, dynamic, aggregation) in [
        ("verl-dapo", true, Aggregation::TokenMean),
        ("verl-dapo-wo-ds", false, Aggregation::TokenMean),
        ("verl-dapo-early", false, Aggregation::SeqMeanTokenMean),
    ] {
        let config = config(&[name]);
        check_paper_size(&config);
        assert_eq!((config.sampler.enabled, config.loss.aggregation), (dynamic, aggregation), "{name}");
        let clip = ClipRange { low: 0.2, high: 0.28 };
        assert_eq!(config.loss.policy_loss, PolicyLoss::Ppo { clip, dual_clip: Some(10.0) }, "{name}");
        assert_eq!(config.optimizer.warmup_steps, 10, "{name}");
        assert_eq!((config.eval.every, config.output.checkpoint_every), (Some(5), 25), "{name}");
        assert!(!config.rewards.soft_overlong.unwrap().reward.floor, "{name}");
        if dynamic {
            let sampler = config.sampler;
            assert_eq!((sampler.gen_batch, sampler.max_gen_rounds), (GenBatch::Fixed(1536), 10));
            assert_eq!((sampler.surplus, sampler.on_exhausted), (SurplusPolicy::Discard, OnExhausted::Error));
        }
    }
}

#[test]
fn the_small_runs_are_the_ones_whose_results_are_known() {
    let tiny = config(&["tiny"]);
    assert_eq!((tiny.model.path.as_str(), tiny.data.train), ("builtin:tiny", vec!["builtin:addition".to_owned()]));
    assert_eq!((tiny.rollout.max_new_tokens, tiny.rollout.group_size, tiny.sampler.train_batch), (72, 8, 16));
    assert_eq!(tiny.rewards.soft_overlong.unwrap().reward.cache_len, Some(8));
    assert_eq!((tiny.optimizer.lr, tiny.optimizer.warmup_steps), (1e-4, 5));
    assert_eq!((tiny.train.steps, tiny.train.mini_batches), (80, 2));
    assert_eq!(
        (tiny.eval.every, tiny.eval.limit, tiny.eval.samples, tiny.eval.temperature),
        (Some(20), Some(256), 1, 0.0)
    );

    let smollm2 = config(&["smollm2-cpu"]);
    assert_eq!((smollm2.rollout.max_new_tokens, smollm2.rollout.group_size), (32, 8));
    assert_eq!((smollm2.rollout.sampling.temperature, smollm2.sampler.train_batch), (0.8, 8));
    assert_eq!(smollm2.rewards.soft_overlong.unwrap().reward.cache_len, Some(8));
    assert_eq!((smollm2.optimizer.lr, smollm2.optimizer.warmup_steps), (1e-5, 5));
    assert_eq!((smollm2.train.steps, smollm2.train.mini_batches), (40, 2));
    assert_eq!((smollm2.data.limit, smollm2.data.validation_split), (Some(240), 0.2));
    assert_eq!(smollm2.data.style.suffix, " Answer with just the number.");
    let Grader::Math(math) = smollm2.rewards.accuracy.unwrap().reward.grader else { panic!("another grader") };
    assert_eq!(math.profile.rules, [ExtractRule::LastNumber]);

    let lora = config(&["qwen3-4b-lora"]);
    assert_eq!(lora.lora.map(|lora| (lora.rank, lora.targets.len())), Some((32, 7)));
}
