//! Steps whose first update starts from what the rollout kept.

use crate::{config, model, prompts, rewards};
use dapo_loss::{Kl, LossConfig};
use dapo_policy::{LayerMemory, LoraConfig, LoraTarget, activation_bytes};
use dapo_sampler::{GenBatch, PerPrompt, SamplerConfig};
use dapo_trainer::{Trainer, TrainerConfig};

#[derive(Clone, Copy, Default)]
struct Model {
    lora: bool,
    recompute: bool,
}

fn trainer(of: Model, config: TrainerConfig) -> Trainer {
    let (mut policy, tokenizer) = model();
    if of.lora {
        let targets = vec![LoraTarget::Query, LoraTarget::Output, LoraTarget::Down];
        policy = policy.with_lora(&LoraConfig { rank: 4, alpha: 8.0, targets, rslora: false }, 3).unwrap();
    }
    policy.set_layer_memory(if of.recompute { LayerMemory::Recompute } else { LayerMemory::Keep });
    let prompts = prompts(&tokenizer);
    Trainer::new(policy, tokenizer, prompts, rewards(), config).unwrap()
}

/// Metrics of two steps, and the files of the checkpoint after them.
fn two_steps(of: Model, config: &TrainerConfig, keep_activations_bytes: Option<usize>) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut trainer = trainer(of, TrainerConfig { keep_activations_bytes, ..config.clone() });
    let mut step = || {
        let metrics = trainer.step().unwrap().metrics;
        assert_eq!(trainer.policy().kept_tokens(), 0, "nothing outlives the step");
        format!("{metrics:?}")
    };
    let metrics = vec![step(), step()];
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    trainer.save(&checkpoint, "tiny").unwrap();
    let weights = if of.lora { "adapter/adapter_model.safetensors" } else { "model/model.safetensors" };
    let files = ["trainer.json", "optimizer.safetensors", weights];
    (metrics, files.map(|file| std::fs::read(checkpoint.join(file)).unwrap()).to_vec())
}

#[test]
fn a_budget_changes_no_metric_and_no_weight() {
    let surplus = SamplerConfig { train_batch: 3, ..config().sampler };
    let per_prompt = Some(PerPrompt { increment: 2, max_samples: 8 });
    let gspo = LossConfig::of("gspo".parse().unwrap());
    let kl = LossConfig { kl: Kl { coef: 0.1, ..Kl::default() }, ..LossConfig::default() };
    let entropies = LossConfig { top_entropy_quantile: 0.5, entropy_coef: 0.01, ..LossConfig::default() };
    let lora = Model { lora: true, ..Model::default() };
    let recompute = Model { recompute: true, ..Model::default() };
    let base = config();
    let variants: [(&str, Model, TrainerConfig); 8] = [
        ("one update", Model::default(), base.clone()),
        ("small micro-batches", recompute, TrainerConfig { micro_batch_tokens: 90, ..base.clone() }),
        (
            "passes and mini-batches",
            Model::default(),
            TrainerConfig { mini_batches: 2, updates_per_batch: 2, ..base.clone() },
        ),
        ("adapters", lora, TrainerConfig { loss: kl, ..base.clone() }),
        (
            "adapters, recomputed",
            Model { recompute: true, ..lora },
            TrainerConfig { kl_in_reward: 0.05, ..base.clone() },
        ),
        ("carried groups", Model::default(), TrainerConfig { sampler: surplus.clone(), loss: gspo, ..base.clone() }),
        (
            "more rounds",
            recompute,
            TrainerConfig {
                sampler: SamplerConfig { gen_batch: GenBatch::Fixed(2), ..surplus.clone() },
                loss: entropies,
                ..base.clone()
            },
        ),
        (
            "more completions",
            Model::default(),
            TrainerConfig { sampler: SamplerConfig { per_prompt, ..surplus }, ..base.clone() },
        ),
    ];
    let token = activation_bytes(model().0.config(), LayerMemory::Keep);
    for (name, of, config) in variants {
        let without = two_steps(of, &config, Some(0));
        for budget in [Some(100), Some(60 * token), Some(600 * token), None] {
            assert!(two_steps(of, &config, budget) == without, "{name}, a budget of {budget:?}");
        }
    }
}

#[test]
fn a_step_that_fails_keeps_nothing() {
    /// A reward that is no number from its given call on.
    #[derive(Debug)]
    struct Failing(std::sync::atomic::AtomicUsize);
    impl dapo_reward::RewardFn for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }
        fn score(&self, _: &dapo_reward::RewardInput<'_>) -> Result<dapo_reward::Score, dapo_reward::RewardFault> {
            let calls = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(dapo_reward::Score::value(if calls == 10 { f64::NAN } else { calls as f64 }))
        }
    }
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let failing = Box::new(Failing(std::sync::atomic::AtomicUsize::new(0)));
    let rewards = dapo_reward::RewardSum::new(vec![(1.0, failing)]).unwrap();
    let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, config()).unwrap();
    trainer.step().unwrap_err();
    assert_eq!(trainer.policy().kept_tokens(), 0);
    trainer.step().unwrap();
}
