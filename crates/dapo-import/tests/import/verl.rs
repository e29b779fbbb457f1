//! verl.

use dapo_run::RunConfig;

use super::{check_knobs, expect, has_note, imported, imported_file, knob, reason, unset};

fn expect_dapo(config: &RunConfig) {
    expect(config, "data.max_prompt_tokens", 2048);
    expect(config, "rollout.group_size", 16);
    expect(config, "rollout.max_new_tokens", 20480);
    expect(config, "sampler.dynamic", true);
    expect(config, "sampler.metric", "acc");
    expect(config, "sampler.train_batch", 512);
    expect(config, "sampler.gen_batch", 1536);
    expect(config, "sampler.max_gen_rounds", 10);
    expect(config, "sampler.surplus", "discard");
    expect(config, "sampler.on_exhausted", "error");
    expect(config, "rewards.accuracy.grader.name", "dapo");
    expect(config, "rewards.accuracy.correct", 1.0);
    expect(config, "rewards.accuracy.incorrect", -1.0);
    expect(config, "rewards.soft_overlong.weight", 1.0);
    expect(config, "rewards.soft_overlong.max_len", 20480);
    expect(config, "rewards.soft_overlong.cache_len", 4096);
    expect(config, "rewards.soft_overlong.penalty_factor", 1.0);
    expect(config, "rewards.soft_overlong.floor", false);
    expect(config, "advantage.baseline", "mean");
    expect(config, "advantage.scale", "group");
    expect(config, "advantage.std", "sample");
    expect(config, "advantage.eps", 1e-6);
    expect(config, "loss.policy_loss.name", "dapo");
    expect(config, "loss.policy_loss.clip.low", 0.2);
    expect(config, "loss.policy_loss.clip.high", 0.28);
    expect(config, "loss.policy_loss.dual_clip", 10.0);
    expect(config, "loss.aggregation", "token-mean");
    expect(config, "loss.empty_sequences", "exclude");
    expect(config, "loss.kl.coef", 0.0);
    expect(config, "rewards.kl_coef", 0.0);
    expect(config, "optimizer.lr", 1e-6);
    expect(config, "optimizer.warmup_steps", 10);
    expect(config, "optimizer.schedule", "constant");
    expect(config, "optimizer.weight_decay", 0.1);
    expect(config, "optimizer.max_grad_norm", 1.0);
    expect(config, "train.mini_batches", 16);
    expect(config, "train.updates_per_batch", 1);
    expect(config, "train.steps", 200);
    expect(config, "eval.every", 5);
}

#[test]
fn the_script_of_dapo_becomes_its_settings() {
    let imported = imported_file("verl_dapo.sh");
    expect_dapo(&imported.config);
    let config = &imported.config;
    expect(config, "model.path", "/data/verl/models/Qwen2.5-32B");
    expect(config, "data.train", vec!["/data/verl/dapo-math-17k.parquet"]);
    expect(config, "data.validation", vec!["/data/verl/aime-2024.parquet"]);
    expect(config, "rollout.temperature", 1.0);
    unset(config, "rollout.top_k");
    expect(config, "eval.samples", 32);
    expect(config, "eval.temperature", 1.0);
    expect(config, "eval.top_p", 0.7);
    expect(config, "train.micro_batch_tokens", 22528);
    expect(config, "train.layer_memory", "recompute");
    expect(config, "output.checkpoint_every", 20);
}

#[test]
fn the_yaml_of_dapo_becomes_its_settings() {
    let imported = imported_file("verl_dapo.yaml");
    expect_dapo(&imported.config);
    expect(&imported.config, "data.train", vec!["train.parquet"]);
    expect(&imported.config, "data.validation", vec!["aime-2024.parquet", "aime-2025.parquet"]);
    expect(&imported.config, "optimizer.beta2", 0.95);
    assert!(reason(&imported, "defaults").contains("Hydra"));
}

#[test]
fn each_knob_of_the_script_lands_on_its_key_alone() {
    check_knobs(
        "verl_dapo.sh",
        &[
            knob("clip_ratio_low=0.2", "clip_ratio_low=0.1", &[("loss.policy_loss.clip.low", "0.1")]),
            knob("clip_ratio_high=0.28", "clip_ratio_high=0.3", &[("loss.policy_loss.clip.high", "0.3")]),
            knob("clip_ratio_c=10.0", "clip_ratio_c=4", &[("loss.policy_loss.dual_clip", "4.0")]),
            knob(
                "filter_groups.metric=acc",
                "filter_groups.metric=seq_final_reward",
                &[("sampler.metric", "'seq_final_reward'")],
            ),
            knob("filter_groups.metric=acc", "filter_groups.metric=seq_reward", &[("sampler.metric", "'seq_reward'")]),
            knob("filter_groups.metric=acc", "filter_groups.metric=score", &[("sampler.metric", "'score'")]),
            knob("max_num_gen_batches=10", "max_num_gen_batches=3", &[("sampler.max_gen_rounds", "3")]),
            knob("max_num_gen_batches=10", "max_num_gen_batches=-1", &[("sampler.max_gen_rounds", "0")]),
            knob("gen_bsz=$((train_bsz * 3))", "gen_bsz=1024", &[("sampler.gen_batch", "1024")]),
            knob(
                "train_bsz=512",
                "train_bsz=256",
                &[("sampler.train_batch", "256"), ("sampler.gen_batch", "768"), ("train.mini_batches", "8")],
            ),
            knob("ppo_mini_batch_size=32", "ppo_mini_batch_size=64", &[("train.mini_batches", "8")]),
            knob(
                "loss_agg_mode=\"token-mean\"",
                "loss_agg_mode=seq-mean-token-sum",
                &[("loss.aggregation", "'seq-mean-token-sum'")],
            ),
            knob(
                "loss_agg_mode=\"token-mean\"",
                "loss_agg_mode=seq-mean-token-mean",
                &[("loss.aggregation", "'seq-mean-token-mean'")],
            ),
            knob(
                "overlong_buffer.enable=True",
                "overlong_buffer.enable=False",
                &[
                    ("rewards.soft_overlong.weight", "none"),
                    ("rewards.soft_overlong.max_len", "none"),
                    ("rewards.soft_overlong.cache_len", "none"),
                    ("rewards.soft_overlong.penalty_factor", "none"),
                    ("rewards.soft_overlong.floor", "none"),
                ],
            ),
            knob("buffer_len=$((1024 * 4))", "buffer_len=2048", &[("rewards.soft_overlong.cache_len", "2048")]),
            knob("penalty_factor=1.0", "penalty_factor=0.5", &[("rewards.soft_overlong.penalty_factor", "0.5")]),
            knob(
                "reward_manager=dapo",
                "reward_manager=naive",
                &[
                    ("rewards.accuracy.grader.name", "'math'"),
                    ("rewards.accuracy.incorrect", "0.0"),
                    ("rewards.accuracy.grader.precision", "6"),
                    ("rewards.accuracy.grader.profile.after_think", "false"),
                    (
                        "rewards.accuracy.grader.profile.rules",
                        "['boxed', 'answer-line', 'hash', 'answer-tag', 'answer-is', 'last-math', 'whole']",
                    ),
                ],
            ),
            knob("rollout.n=16", "rollout.n=8", &[("rollout.group_size", "8")]),
            knob("rollout.temperature=1.0", "rollout.temperature=0.8", &[("rollout.temperature", "0.8")]),
            knob("rollout.top_p=1.0", "rollout.top_p=0.9", &[("rollout.top_p", "0.9")]),
            knob("rollout.top_k=-1", "rollout.top_k=50", &[("rollout.top_k", "50")]),
            knob("optim.lr=1e-6", "optim.lr=5e-7", &[("optimizer.lr", "5e-7")]),
            knob("lr_warmup_steps=10", "lr_warmup_steps_ratio=0.1", &[("optimizer.warmup_steps", "20")]),
            knob("weight_decay=0.1", "weight_decay=0.01", &[("optimizer.weight_decay", "0.01")]),
            knob("grad_clip=1.0", "grad_clip=0.5", &[("optimizer.max_grad_norm", "0.5")]),
            knob("entropy_coeff=0", "entropy_coeff=0.01", &[("loss.entropy_coef", "0.01")]),
            knob(
                "use_kl_loss=False \\\n    actor_rollout_ref.actor.kl_loss_coef=0.0",
                "use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.01",
                &[("loss.kl.coef", "0.01")],
            ),
            knob("kl_loss_coef=0.0", "kl_loss_coef=0.01", &[]),
            knob(
                "adv_estimator=grpo",
                "adv_estimator=rloo",
                &[("advantage.baseline", "'leave-one-out'"), ("advantage.scale", "'none'")],
            ),
            knob(
                "adv_estimator=grpo",
                "adv_estimator=reinforce_plus_plus_baseline",
                &[("advantage.scale", "'whiten'"), ("advantage.eps", "1e-8")],
            ),
            knob("data.prompt_key=prompt", "data.prompt_key=question", &[("data.fields.prompt", "'question'")]),
            knob("rollout.top_p=1.0", "rollout.min_p=0.1", &[("rollout.min_p", "0.1")]),
            knob("rollout.top_p=1.0", "rollout.repetition_penalty=1.1", &[("rollout.repetition_penalty", "1.1")]),
            knob("rollout.top_p=1.0", "rollout.ignore_eos=True", &[("rollout.ignore_eos", "true")]),
            knob("do_sample=True", "top_k=20", &[("eval.top_k", "20")]),
            knob("test_freq=5", "test_freq=5 trainer.val_before_train=False", &[("eval.at_start", "false")]),
            knob("test_freq=5", "test_freq=-1 trainer.val_before_train=False", &[("eval.every", "none")]),
            knob("total_training_steps=200", "total_training_steps=300", &[("train.steps", "300")]),
            knob("do_sample=True", "do_sample=False", &[("eval.temperature", "0.0")]),
            knob("test_freq=5", "test_freq=-1", &[("eval.every", "none")]),
            knob("save_freq=20", "save_freq=-1", &[("output.checkpoint_every", "0")]),
            knob("gradient_checkpointing=True", "gradient_checkpointing=False", &[("train.layer_memory", "'keep'")]),
            knob("actor.grad_clip=1.0", "actor.ppo_epochs=2", &[("train.updates_per_batch", "2")]),
        ],
    );
}

#[test]
fn the_baseline_of_reinforce_plus_plus_is_whitened() {
    let text = "algorithm.adv_estimator=reinforce_plus_plus_baseline algorithm.norm_adv_by_std_in_grpo=True \
                actor_rollout_ref.rollout.n=4";
    let imported = imported(text, "a");
    expect(&imported.config, "advantage.baseline", "mean");
    expect(&imported.config, "advantage.scale", "whiten");
    assert!(has_note(&imported, "algorithm.adv_estimator", "over tokens"));
    assert!(reason(&imported, "algorithm.norm_adv_by_std_in_grpo").contains("grpo alone"));
}

#[test]
fn columns_of_the_data_are_named() {
    let imported = imported_file("verl_dapo.sh");
    expect(&imported.config, "data.fields.prompt", "prompt");
    expect(&imported.config, "data.fields.answer", "reward_model.ground_truth");
    let other = super::imported("data.reward_fn_key=source", "a");
    assert!(reason(&other, "data.reward_fn_key").contains("one grader"));
    unset(&other.config, "data.fields.answer");
}

#[test]
fn without_filter_groups_every_group_is_trained_on() {
    let text = super::file("verl_dapo.sh").replace("filter=True", "filter=False").replace("* 3", "* 1");
    let imported = imported(&text, "a.sh");
    expect(&imported.config, "sampler.dynamic", false);
    expect(&imported.config, "sampler.train_batch", 512);
    assert_eq!(reason(&imported, "algorithm.filter_groups.metric"), "algorithm.filter_groups.enable is false");
}

#[test]
fn without_filter_groups_a_step_has_all_generated_prompts_as_in_verl() {
    let text = super::file("verl_dapo.sh").replace("filter=True", "filter=False");
    let imported = imported(&text, "a.sh");
    expect(&imported.config, "sampler.train_batch", 1536);
    expect(&imported.config, "train.mini_batches", 48);
    assert!(has_note(&imported, "data.gen_batch_size", "all prompts it generates"));
}

#[test]
fn the_newer_places_of_the_overlong_buffer_are_read() {
    for prefix in ["+reward_model.reward_kwargs", "reward.reward_kwargs"] {
        let text = format!(
            "data.max_response_length=1000 {prefix}.overlong_buffer_cfg.enable=True \
             {prefix}.overlong_buffer_cfg.len=200 {prefix}.overlong_buffer_cfg.penalty_factor=0.5 \
             {prefix}.overlong_buffer_cfg.log=False {prefix}.max_resp_len=900"
        );
        let imported = imported(&text, "overrides.txt");
        expect(&imported.config, "rewards.soft_overlong.cache_len", 200);
        expect(&imported.config, "rewards.soft_overlong.penalty_factor", 0.5);
        expect(&imported.config, "rewards.soft_overlong.max_len", 900);
        expect(&imported.config, "rewards.accuracy.grader.name", "dapo");
    }
}

#[test]
fn one_clip_ratio_is_taken_for_both_sides_and_noted() {
    let imported = imported("actor_rollout_ref.actor.clip_ratio=0.15", "a");
    expect(&imported.config, "loss.policy_loss.clip.low", 0.15);
    expect(&imported.config, "loss.policy_loss.clip.high", 0.15);
    assert!(has_note(&imported, "actor_rollout_ref.actor.clip_ratio", "no effect"));
    expect(&imported.config, "loss.policy_loss.dual_clip", 3.0);
}

#[test]
fn kl_goes_into_the_loss_or_into_the_reward() {
    let in_loss = imported(
        "actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.01 \
         actor_rollout_ref.actor.kl_loss_type=mse",
        "a",
    );
    expect(&in_loss.config, "loss.kl.coef", 0.01);
    expect(&in_loss.config, "loss.kl.estimator", "k2");
    expect(&in_loss.config, "rewards.kl_coef", 0.0);
    let in_reward = imported("algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef=0.02", "a");
    expect(&in_reward.config, "loss.kl.coef", 0.0);
    expect(&in_reward.config, "rewards.kl_coef", 0.02);
    for (name, ours) in [("low_var_kl", "k3"), ("k3", "k3"), ("kl", "k1"), ("abs", "abs")] {
        let text = format!("actor_rollout_ref.actor.use_kl_loss=1 actor_rollout_ref.actor.kl_loss_type={name}");
        let imported = imported(&text, "a");
        expect(&imported.config, "loss.kl.estimator", ours);
        expect(&imported.config, "loss.kl.coef", 0.001);
    }
}

#[test]
fn other_policy_losses_bring_their_own_constants() {
    let loss = "actor_rollout_ref.actor.policy_loss.loss_mode";
    let gspo = imported(
        &format!(
            "{loss}=gspo actor_rollout_ref.actor.clip_ratio_low=3e-4 actor_rollout_ref.actor.clip_ratio_high=4e-4"
        ),
        "a",
    );
    expect(&gspo.config, "loss.policy_loss.name", "gspo");
    expect(&gspo.config, "loss.policy_loss.clip.high", 4e-4);
    assert_eq!(gspo.config.loss.aggregation, dapo_loss::Aggregation::SeqMeanTokenMean);
    unset(&gspo.config, "loss.policy_loss.dual_clip");
    let sapo = imported(&format!("{loss}=sapo actor_rollout_ref.actor.tau_neg=1.2"), "a");
    expect(&sapo.config, "loss.policy_loss.tau_negative", 1.2);
    unset(&sapo.config, "loss.policy_loss.clip.low");
    expect(&imported(&format!("{loss}=geo_mean"), "a").config, "loss.policy_loss.name", "gmpo");
}

#[test]
fn adapters_cover_all_linear_layers_unless_named() {
    let model = "actor_rollout_ref.model";
    let all = imported(&format!("{model}.lora_rank=8 {model}.lora_alpha=32 {model}.target_modules=all-linear"), "a");
    expect(&all.config, "lora.rank", 8);
    expect(&all.config, "lora.alpha", 32.0);
    assert_eq!(all.config.lora.as_ref().unwrap().targets.len(), 7);
    let two = imported(&format!("{model}.lora_rank=8 {model}.target_modules=[q_proj,v_proj]"), "a");
    expect(&two.config, "lora.targets", vec!["q_proj", "v_proj"]);
    expect(&two.config, "lora.alpha", 16.0);
    let none = imported(&format!("{model}.lora_rank=0 {model}.lora_alpha=16"), "a");
    unset(&none.config, "lora.rank");
    assert!(reason(&none, "actor_rollout_ref.model.lora_alpha").contains("lora_rank is 0"));
}

#[test]
fn references_between_keys_are_followed() {
    let imported = imported_file("verl_dapo.yaml");
    assert!(reason(&imported, "actor_rollout_ref.rollout.response_length").contains("counts"));
    let chain = super::imported(
        "data:\n  train_batch_size: 64\n  gen_batch_size: ${.train_batch_size}\n  max_prompt_length: \
         ${oc.select:data.none,77}\n  max_response_length: ${data.none}\n",
        "a.yaml",
    );
    expect(&chain.config, "sampler.gen_batch", 64);
    expect(&chain.config, "data.max_prompt_tokens", 77);
    assert!(chain.toml.contains("# max_new_tokens = … # set this: data.max_response_length"), "{}", chain.toml);
    assert!(has_note(&chain, "data.max_response_length", "set rollout.max_new_tokens"));
    assert!(reason(&chain, "data.max_response_length").contains("${data.none}"));
}

#[test]
fn a_reward_function_in_python_judges_in_the_place_of_the_scorers() {
    let of = |words: &str| {
        imported(&format!("python3 -m verl.trainer.main_ppo algorithm.filter_groups.enable=True {words}"), "a.sh")
    };
    let own = of("algorithm.filter_groups.metric=acc custom_reward_function.path=my/rewards.py \
                  custom_reward_function.name=score custom_reward_function.reward_kwargs.k=1 \
                  reward_model.reward_manager=dapo reward_model.overlong_buffer.enable=True \
                  reward_model.overlong_buffer.len=64");
    expect(&own.config, "rewards.custom.python", "my/rewards.py:score");
    expect(&own.config, "rewards.soft_overlong.cache_len", 64);
    expect(&own.config, "sampler.metric", "custom");
    assert!(own.config.rewards.accuracy.is_none() && own.refused.is_empty());
    assert!(
        own.toml.contains("\n[rewards.custom]\npython = \"my/rewards.py:score\" # custom_reward_function.path"),
        "{}",
        own.toml
    );
    assert!(has_note(&own, "custom_reward_function.path", "rewards.correct = \"custom\""));
    assert!(reason(&own, "custom_reward_function.reward_kwargs.k").contains("arguments of a reward function"));
    assert!(reason(&own, "reward_model.reward_manager").contains("the reward function of the file judges"));
    // Without a name verl calls compute_score; the newer place is the same.
    let newer = of("reward.custom_reward_function.path=/abs/r.py");
    expect(&newer.config, "rewards.custom.python", "/abs/r.py:compute_score");
    let open = of("custom_reward_function.path=$HOME/r.py");
    assert!(has_note(&open, "custom_reward_function.path", "the file does not say what"), "{}", open.toml);
    assert_eq!(of("custom_reward_function.path=pkg://my.rewards").refused.len(), 1);
    assert!(of("custom_reward_function.path=null").config.rewards.accuracy.is_some());
}
