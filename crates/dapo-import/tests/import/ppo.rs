//! PPO's settings: verl's `gae` and its critic, TRL's `PPOConfig`, ms-swift's `rlhf_type ppo`.

use super::{check_knobs, expect, file, has_note, imported, imported_file, knob, reason, unset};

#[test]
fn the_script_of_verl_has_a_critic() {
    let imported = imported_file("verl_ppo.sh");
    let config = &imported.config;
    expect(config, "critic.layers", "own");
    expect(config, "critic.gamma", 1.0);
    expect(config, "critic.lambda", 0.95);
    expect(config, "critic.clip", 0.4);
    expect(config, "critic.whiten", true);
    // The policy learns from the tenth step on.
    expect(config, "critic.warmup_steps", 9);
    assert!(has_note(&imported, "trainer.critic_warmup", "from step 10 on"));
    expect(config, "critic.optimizer.lr", 1e-5);
    expect(config, "critic.optimizer.warmup_steps", 4);
    expect(config, "critic.optimizer.weight_decay", 0.05);
    expect(config, "critic.optimizer.beta2", 0.95);
    expect(config, "critic.optimizer.max_grad_norm", 0.5);
    expect(config, "optimizer.lr", 1e-6);
    expect(config, "optimizer.beta2", 0.999);
    expect(config, "rewards.kl_coef", 0.001);
    // verl's default is one completion of a prompt.
    expect(config, "rollout.group_size", 1);
    expect(config, "sampler.dynamic", false);
    expect(config, "train.mini_batches", 4);
    for (key, part) in [
        ("critic.model.path", "begins as the policy does"),
        ("critic.ppo_mini_batch_size", "are the policy's"),
        ("critic.ppo_micro_batch_size_per_gpu", "micro_batch_tokens"),
        ("critic.model.fsdp_config.param_offload", "how the critic is computed"),
        ("trainer.max_critic_ckpt_to_keep", "keep_checkpoints"),
    ] {
        assert!(reason(&imported, key).contains(part), "{key}: {}", reason(&imported, key));
    }
    assert!(imported.skipped.iter().all(|skipped| !skipped.changes_training), "{:?}", imported.skipped);
    assert!(imported.refused.is_empty());
}

#[test]
fn each_knob_of_verls_critic_lands_on_its_key_alone() {
    check_knobs(
        "verl_ppo.sh",
        &[
            knob("algorithm.gamma=1.0", "algorithm.gamma=0.99", &[("critic.gamma", "0.99")]),
            knob("algorithm.lam=0.95", "algorithm.lam=0.9", &[("critic.lambda", "0.9")]),
            knob("cliprange_value=0.4", "cliprange_value=0.2", &[("critic.clip", "0.2")]),
            knob("critic_warmup=10", "critic_warmup=1", &[("critic.warmup_steps", "0")]),
            knob("critic.optim.lr=1e-5", "critic.optim.lr=2e-5", &[("critic.optimizer.lr", "2e-5")]),
            knob("optim.lr=1e-6", "optim.lr=2e-6", &[("optimizer.lr", "2e-6")]),
            knob("lr_warmup_steps=4", "lr_warmup_steps_ratio=0.1", &[("critic.optimizer.warmup_steps", "10")]),
            knob("weight_decay=0.05", "weight_decay=0.1", &[("critic.optimizer.weight_decay", "0.1")]),
            knob("[0.9,0.95]", "[0.8,0.95]", &[("critic.optimizer.beta1", "0.8")]),
            knob("grad_clip=0.5", "grad_clip=1.0", &[("critic.optimizer.max_grad_norm", "1.0")]),
            knob(
                "grad_clip=0.5",
                "optim.warmup_style=cosine",
                &[("critic.optimizer.max_grad_norm", "1.0"), ("critic.optimizer.schedule", "'cosine'")],
            ),
            knob("kl_coef=0.001", "kl_coef=0.01", &[("rewards.kl_coef", "0.01")]),
            knob("rollout.name=vllm", "rollout.n=4", &[("rollout.group_size", "4")]),
        ],
    );
}

#[test]
fn what_verls_critic_has_of_its_own_is_named() {
    let text = file("verl_ppo.sh");
    for (from, to, key) in [
        ("critic.model.path=deepseek-ai/deepseek-llm-7b-chat", "critic.model.path=a/reward", "critic.model.path"),
        ("critic.ppo_mini_batch_size=256", "critic.ppo_mini_batch_size=64", "critic.ppo_mini_batch_size"),
        ("critic.ppo_epochs=1", "critic.ppo_epochs=3", "critic.ppo_epochs"),
        ("critic.ppo_epochs=1", "critic.model.lora_rank=8", "critic.model.lora_rank"),
        ("critic.ppo_epochs=1", "critic.loss_agg_mode=seq-mean-token-sum", "critic.loss_agg_mode"),
    ] {
        let imported = imported(&text.replacen(from, to, 1), "a.sh");
        let named: Vec<&str> = imported
            .skipped
            .iter()
            .filter(|skipped| skipped.changes_training)
            .map(|skipped| skipped.key.as_str())
            .collect();
        assert_eq!(named, [key], "{to}");
    }
}

#[test]
fn a_critic_is_verls_default_where_its_settings_are() {
    let of = |text: &str| imported(text, "a");
    let critic = of("data.train_batch_size=8 critic.optim.lr=2e-5");
    expect(&critic.config, "critic.optimizer.lr", 2e-5);
    expect(&critic.config, "critic.lambda", 1.0);
    expect(&critic.config, "critic.clip", 0.5);
    expect(&critic.config, "critic.warmup_steps", 0);
    expect(&critic.config, "critic.optimizer.weight_decay", 0.01);
    let none = of("data.train_batch_size=8 trainer.critic_warmup=0 algorithm.adv_estimator=grpo critic.optim.lr=2e-5");
    unset(&none.config, "critic");
    assert!(reason(&none, "critic.optim.lr").contains("no critic"));
    assert!(reason(&none, "trainer.critic_warmup").contains("no critic"));
}

#[test]
fn the_settings_of_trls_ppo_have_a_critic() {
    let imported = imported_file("trl_ppo.yaml");
    let config = &imported.config;
    expect(config, "model.path", "cleanrl/EleutherAI_pythia-1b-deduped__sft__tldr");
    expect(config, "rollout.group_size", 1);
    expect(config, "rollout.max_new_tokens", 64);
    expect(config, "rollout.temperature", 0.6);
    // 16 completions, 4 times, in each of 2 mini-batches.
    expect(config, "sampler.train_batch", 128);
    expect(config, "train.mini_batches", 2);
    expect(config, "train.updates_per_batch", 3);
    // 1000 / 128, rounded up.
    expect(config, "train.steps", 8);
    expect(config, "rewards.kl_coef", 0.04);
    expect(config, "loss.policy_loss.clip.low", 0.3);
    expect(config, "loss.policy_loss.clip.high", 0.3);
    expect(config, "critic.gamma", 0.99);
    expect(config, "critic.lambda", 0.9);
    expect(config, "critic.clip", 0.15);
    expect(config, "critic.whiten", true);
    for table in ["optimizer", "critic.optimizer"] {
        expect(config, &format!("{table}.lr"), 3e-6);
        expect(config, &format!("{table}.schedule"), "linear");
        expect(config, &format!("{table}.weight_decay"), 0.0);
        expect(config, &format!("{table}.max_grad_norm"), f64::INFINITY);
    }
    for (key, part) in [
        ("model_name_or_path", "tokenizer"),
        ("vf_coef", "optimizer of its own"),
        ("stop_token", "end tokens"),
        ("max_grad_norm", "does not clip"),
        ("local_rollout_forward_batch_size", "cache_mib"),
        ("whiten_rewards", "advantages are whitened"),
    ] {
        assert!(reason(&imported, key).contains(part), "{key}: {}", reason(&imported, key));
    }
    let named: Vec<&str> = imported
        .skipped
        .iter()
        .filter(|skipped| skipped.changes_training)
        .map(|skipped| skipped.key.as_str())
        .collect();
    assert_eq!(named, ["reward_model_path", "missing_eos_penalty"]);
}

#[test]
fn each_knob_of_trls_ppo_lands_on_its_key_alone() {
    check_knobs(
        "trl_ppo.yaml",
        &[
            knob("gamma: 0.99", "gamma: 1.0", &[("critic.gamma", "1.0")]),
            knob("lam: 0.9", "lam: 0.95", &[("critic.lambda", "0.95")]),
            knob("cliprange_value: 0.15", "cliprange_value: 0.2", &[("critic.clip", "0.2")]),
            knob("vf_coef: 0.2", "vf_coef: 0.1", &[]),
            knob("kl_coef: 0.04", "kl_coef: 0.1", &[("rewards.kl_coef", "0.1")]),
            knob("kl_estimator: k1", "kl_estimator: k3", &[]),
            knob("num_ppo_epochs: 3", "logging_steps: 3", &[("train.updates_per_batch", "4")]),
            knob(
                "learning_rate: 3.0e-6",
                "learning_rate: 1.0e-6",
                &[("critic.optimizer.lr", "1e-6"), ("optimizer.lr", "1e-6")],
            ),
            knob("total_episodes: 1000", "num_train_epochs: 2", &[("train.passes", "2.0"), ("train.steps", "100")]),
        ],
    );
    let whitened = imported(&file("trl_ppo.yaml").replace("whiten_rewards: false", "whiten_rewards: true"), "a.yaml");
    let whitened = whitened.skipped.iter().find(|skipped| skipped.key == "whiten_rewards").unwrap();
    assert!(whitened.changes_training);
}

#[test]
fn ms_swifts_ppo_is_trls_with_its_own_defaults() {
    let imported = imported_file("swift_ppo.sh");
    let config = &imported.config;
    expect(config, "model.path", "Qwen/Qwen2.5-1.5B-Instruct");
    expect(config, "rollout.group_size", 1);
    expect(config, "rollout.max_new_tokens", 512);
    expect(config, "rollout.temperature", 0.9);
    expect(config, "sampler.train_batch", 16);
    expect(config, "train.updates_per_batch", 2);
    expect(config, "train.passes", 1.0);
    expect(config, "rewards.kl_coef", 0.02);
    expect(config, "critic.lambda", 0.95);
    expect(config, "optimizer.schedule", "cosine");
    expect(config, "critic.optimizer.warmup_ratio", 0.05);
    let named: Vec<&str> = imported
        .skipped
        .iter()
        .filter(|skipped| skipped.changes_training)
        .map(|skipped| skipped.key.as_str())
        .collect();
    assert_eq!(named, ["reward_model", "missing_eos_penalty", "whiten_rewards"]);
}
