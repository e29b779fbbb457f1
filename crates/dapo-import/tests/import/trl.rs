//! TRL and open-r1.

use super::{check_knobs, expect, file, has_note, imported, imported_file, knob, reason, unset};

#[test]
fn the_recipe_of_dapo_becomes_its_settings() {
    let imported = imported_file("trl_dapo.yaml");
    let config = &imported.config;
    expect(config, "model.path", "Qwen/Qwen3-0.6B");
    expect(config, "data.train", vec!["problems.jsonl"]);
    expect(config, "data.system", "Think first.\nThen answer.");
    expect(config, "data.max_prompt_tokens", 512);
    expect(config, "rollout.group_size", 8);
    expect(config, "rollout.max_new_tokens", 2048);
    expect(config, "rollout.temperature", 0.7);
    // 4 completions a device, 8 times, in groups of 8.
    expect(config, "sampler.train_batch", 4);
    expect(config, "sampler.gen_batch", 4);
    expect(config, "sampler.dynamic", false);
    expect(config, "rewards.accuracy.weight", 1.0);
    expect(config, "rewards.accuracy.correct", 1.0);
    expect(config, "rewards.accuracy.incorrect", 0.0);
    expect(config, "rewards.format.weight", 0.5);
    expect(config, "rewards.format.pattern", "think-answer");
    expect(config, "rewards.tag_count.weight", 0.25);
    expect(config, "rewards.soft_overlong.weight", 2.0);
    expect(config, "rewards.soft_overlong.max_len", 2048);
    expect(config, "rewards.soft_overlong.cache_len", 512);
    expect(config, "rewards.soft_overlong.floor", true);
    expect(config, "overlong.filter", "mask");
    expect(config, "advantage.eps", 1e-4);
    expect(config, "advantage.scale", "group");
    expect(config, "loss.policy_loss.name", "dapo");
    expect(config, "loss.policy_loss.clip.low", 0.2);
    expect(config, "loss.policy_loss.clip.high", 0.28);
    unset(config, "loss.policy_loss.dual_clip");
    expect(config, "loss.aggregation", "token-mean");
    expect(config, "loss.empty_sequences", "count");
    expect(config, "loss.kl.coef", 0.0);
    expect(config, "optimizer.lr", 1e-6);
    expect(config, "optimizer.schedule", "cosine");
    expect(config, "optimizer.min_lr_ratio", 0.1);
    expect(config, "optimizer.weight_decay", 0.0);
    // 400 updates in steps of 2; a tenth of 200 steps; 50 updates between checkpoints.
    expect(config, "train.steps", 200);
    expect(config, "train.updates_per_batch", 2);
    expect(config, "train.mini_batches", 1);
    expect(config, "optimizer.warmup_steps", 20);
    expect(config, "output.checkpoint_every", 25);
    expect(config, "output.keep_checkpoints", 3);
    expect(config, "train.layer_memory", "recompute");
    expect(config, "seed", 7);
    assert!(has_note(&imported, "loss_type", "own tokens"));
    assert!(reason(&imported, "torch_dtype").contains("f32"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn each_knob_of_the_recipe_lands_on_its_key_alone() {
    check_knobs(
        "trl_dapo.yaml",
        &[
            knob("beta: 0.0", "beta: 0.04", &[("loss.kl.coef", "0.04")]),
            knob("epsilon: 0.2\n", "epsilon: 0.1\n", &[("loss.policy_loss.clip.low", "0.1")]),
            knob("epsilon_high: 0.28", "epsilon_high: 0.3", &[("loss.policy_loss.clip.high", "0.3")]),
            knob(
                "epsilon_high: 0.28",
                "epsilon_high: null",
                &[("loss.policy_loss.name", "'ppo'"), ("loss.policy_loss.clip.high", "0.2")],
            ),
            knob("loss_type: \"bnpo\"", "loss_type: dapo", &[]),
            knob("loss_type: \"bnpo\"", "loss_type: grpo", &[("loss.aggregation", "'seq-mean-token-mean'")]),
            knob("loss_type: \"bnpo\"", "loss_type: dr_grpo", &[("loss.aggregation", "'seq-mean-token-sum-norm'")]),
            knob(
                "mask_truncated_completions: true",
                "mask_truncated_completions: false",
                &[("overlong.filter", "'off'")],
            ),
            knob("- 2.0", "- 0.5", &[("rewards.soft_overlong.weight", "0.5")]),
            knob(
                "- tag_count",
                "- repetition_penalty",
                &[
                    ("rewards.tag_count.weight", "none"),
                    ("rewards.repetition.weight", "0.25"),
                    ("rewards.repetition.ngram_size", "3"),
                    ("rewards.repetition.max_penalty", "-1.0"),
                ],
            ),
            knob("max_completion_len: 2048", "max_completion_len: 1024", &[("rewards.soft_overlong.max_len", "1024")]),
            knob("soft_punish_cache: 512", "soft_punish_cache: 256", &[("rewards.soft_overlong.cache_len", "256")]),
            knob(
                "num_generations: 8",
                "num_generations: 16",
                &[("rollout.group_size", "16"), ("sampler.train_batch", "2"), ("sampler.gen_batch", "2")],
            ),
            knob(
                "gradient_accumulation_steps: 8",
                "gradient_accumulation_steps: 16",
                &[("sampler.train_batch", "8"), ("sampler.gen_batch", "8")],
            ),
            knob("max_completion_length: 2048", "max_completion_length: 4096", &[("rollout.max_new_tokens", "4096")]),
            knob("temperature: 0.7", "temperature: 1.0", &[("rollout.temperature", "1.0")]),
            knob(
                "temperature: 0.7",
                "temperature: 0.7\ntop_k: 20\ntop_p: 0.8",
                &[("rollout.top_k", "20"), ("rollout.top_p", "0.8")],
            ),
            knob("temperature: 0.7", "temperature: 0.7\ndelta: 4.0", &[("loss.policy_loss.dual_clip", "4.0")]),
            knob("temperature: 0.7", "temperature: 0.7\nscale_rewards: false", &[("advantage.scale", "'none'")]),
            knob("temperature: 0.7", "temperature: 0.7\nscale_rewards: batch", &[("advantage.scale", "'batch'")]),
            knob("temperature: 0.7", "temperature: 0.7\nmax_grad_norm: 0.2", &[("optimizer.max_grad_norm", "0.2")]),
            knob("temperature: 0.7", "temperature: 0.7\nweight_decay: 0.1", &[("optimizer.weight_decay", "0.1")]),
            knob("temperature: 0.7", "temperature: 0.7\nadam_beta2: 0.95", &[("optimizer.beta2", "0.95")]),
            knob("temperature: 0.7", "temperature: 0.7\nentropy_coef: 0.01", &[("loss.entropy_coef", "0.01")]),
            knob("temperature: 0.7", "temperature: 0.7\nmin_p: 0.1", &[("rollout.min_p", "0.1")]),
            knob(
                "temperature: 0.7",
                "temperature: 0.7\nrepetition_penalty: 1.1",
                &[("rollout.repetition_penalty", "1.1")],
            ),
            knob(
                "temperature: 0.7",
                "temperature: 0.7\ngeneration_kwargs:\n  min_p: 0.1\n  repetition_penalty: 1.1\n  stop: [\"</answer>\"]",
                &[("rollout.min_p", "0.1"), ("rollout.repetition_penalty", "1.1"), ("rollout.stop", "['</answer>']")],
            ),
            knob(
                "temperature: 0.7",
                "temperature: 0.7\ntop_entropy_quantile: 0.2",
                &[("loss.top_entropy_quantile", "0.2")],
            ),
            knob(
                "temperature: 0.7",
                "temperature: 0.7\ndataset_prompt_column: problem",
                &[("data.fields.prompt", "'problem'")],
            ),
            knob("temperature: 0.7", "temperature: 0.7\neval_on_start: true", &[]),
            knob("learning_rate: 1.0e-06", "learning_rate: 2.0e-05", &[("optimizer.lr", "2e-5")]),
            knob("min_lr_rate: 0.1", "min_lr: 2e-07", &[("optimizer.min_lr_ratio", "0.2")]),
            knob("warmup_ratio: 0.1", "warmup_steps: 30", &[("optimizer.warmup_steps", "15")]),
            knob("max_steps: 400", "max_steps: 401", &[("train.steps", "201"), ("optimizer.warmup_steps", "21")]),
            knob(
                "num_iterations: 2",
                "num_iterations: 1",
                &[
                    ("train.updates_per_batch", "1"),
                    ("train.steps", "400"),
                    ("optimizer.warmup_steps", "40"),
                    ("output.checkpoint_every", "50"),
                ],
            ),
            knob(
                "num_iterations: 2",
                "num_iterations: 1\nsteps_per_generation: 16",
                &[
                    ("train.updates_per_batch", "1"),
                    ("train.mini_batches", "2"),
                    ("sampler.train_batch", "8"),
                    ("sampler.gen_batch", "8"),
                ],
            ),
            knob(
                "num_iterations: 2",
                "num_iterations: 1\ngeneration_batch_size: 64",
                &[
                    ("train.updates_per_batch", "1"),
                    ("train.mini_batches", "2"),
                    ("sampler.train_batch", "8"),
                    ("sampler.gen_batch", "8"),
                ],
            ),
        ],
    );
}

#[test]
fn rewards_without_a_counterpart_are_named_and_left_out() {
    let text = file("trl_dapo.yaml").replace("- tag_count", "- reasoning_steps");
    let imported = imported(&text, "a.yaml");
    assert_eq!(imported.config.rewards.tag_count, None);
    assert!(reason(&imported, "reward_funcs[2]").contains("no such reward"));
    expect(&imported.config, "rewards.soft_overlong.weight", 2.0);
}

#[test]
fn the_cosine_reward_keeps_its_four_values() {
    let text = "model_name_or_path: a\nreward_funcs: [accuracy, cosine]\ncosine_min_value_wrong: -0.9\n\
                cosine_max_value_wrong: -0.4\ncosine_min_value_correct: 0.6\ncosine_max_value_correct: 0.8\n\
                cosine_max_len: 3000\n";
    let imported = imported(text, "a.yaml");
    let length = imported.config.rewards.length.unwrap();
    assert_eq!((length.reward.min_incorrect, length.reward.max_incorrect), (-0.9, -0.4));
    assert_eq!((length.reward.min_correct, length.reward.max_correct, length.reward.max_len), (0.6, 0.8, 3000));
    expect(&super::imported(text, "a.yaml").config, "rewards.length.unit", "characters");
}

#[test]
fn sequence_level_ratios_are_gspo() {
    let text = "model_name_or_path: a\nloss_type: grpo\nimportance_sampling_level: sequence\nepsilon: 3e-4\nepsilon_high: 4e-4\n";
    let config = imported(text, "a.yaml").config;
    expect(&config, "loss.policy_loss.name", "gspo");
    expect(&config, "loss.policy_loss.clip.low", 3e-4);
    expect(&config, "loss.policy_loss.clip.high", 4e-4);
}

#[test]
fn the_absolute_bound_of_cispo_becomes_a_distance_from_1() {
    let config = imported("model_name_or_path: a\nloss_type: cispo\nepsilon_high: 5.0\n", "a.yaml").config;
    expect(&config, "loss.policy_loss.name", "cispo");
    expect(&config, "loss.policy_loss.clip.low", 1.0);
    expect(&config, "loss.policy_loss.clip.high", 4.0);
}

#[test]
fn the_reference_is_synchronised_in_rollout_steps() {
    let text = "model_name_or_path: a\nbeta: 0.01\nsync_ref_model: true\nref_model_sync_steps: 64\nref_model_mixup_alpha: 0.5\n\
                num_iterations: 4\n";
    let imported = imported(text, "a.yaml");
    expect(&imported.config, "loss.kl.coef", 0.01);
    expect(&imported.config, "reference_sync.every", 16);
    expect(&imported.config, "reference_sync.mixup", 0.5);
    assert!(has_note(&imported, "ref_model_sync_steps", "16 rollout steps"));
}

#[test]
fn adapters_need_use_peft() {
    let on = imported(
        "model_name_or_path: a\nuse_peft: true\nlora_r: 4\nlora_alpha: 8\nlora_target_modules: [q_proj]\n",
        "a.yaml",
    );
    expect(&on.config, "lora.rank", 4);
    expect(&on.config, "lora.alpha", 8.0);
    expect(&on.config, "lora.targets", vec!["q_proj"]);
    let off = imported("model_name_or_path: a\nlora_r: 4\n", "a.yaml");
    unset(&off.config, "lora.rank");
    assert_eq!(reason(&off, "lora_r"), "use_peft is not true");
}

#[test]
fn adapters_may_be_scaled_by_the_root_of_the_rank() {
    let on = imported("model_name_or_path: a\nuse_peft: true\nuse_rslora: true\n", "a.yaml");
    expect(&on.config, "lora.rslora", true);
    let off = imported("model_name_or_path: a\nuse_rslora: true\n", "a.yaml");
    unset(&off.config, "lora");
    assert_eq!(reason(&off, "use_rslora"), "use_peft is not true");
}

#[test]
fn generation_kwargs_take_the_place_of_options() {
    let text =
        "model_name_or_path: a\nmin_p: 0.2\ntop_k: 10\ngeneration_kwargs:\n  min_p: 0.1\n  top_k: 20\n  seed: 3\n";
    let imported = imported(text, "a.yaml");
    expect(&imported.config, "rollout.min_p", 0.1);
    expect(&imported.config, "rollout.top_k", 20);
    assert!(reason(&imported, "min_p").contains("generation_kwargs"));
    assert!(reason(&imported, "generation_kwargs.seed").contains("not offered"));
    let line = "trl grpo --model_name_or_path a --generation_kwargs '{\"stop\": [\"</answer>\"], \"min_p\": 0.1}'";
    let line = super::imported(line, "a.sh");
    expect(&line.config, "rollout.stop", vec!["</answer>"]);
    expect(&line.config, "rollout.min_p", 0.1);
}

#[test]
fn evaluation_draws_as_rollouts_do_and_starts_where_the_file_says() {
    let text = "model_name_or_path: a\neval_strategy: steps\neval_steps: 10\ntop_k: 20\nmin_p: 0.1\n\
                repetition_penalty: 1.1\n";
    let later = imported(text, "a.yaml");
    expect(&later.config, "eval.at_start", false);
    expect(&later.config, "eval.top_k", 20);
    expect(&later.config, "eval.min_p", 0.1);
    expect(&later.config, "eval.repetition_penalty", 1.1);
    expect(&imported(&format!("{text}eval_on_start: true\n"), "a.yaml").config, "eval.at_start", true);
    let none = imported("model_name_or_path: a\neval_on_start: true\n", "a.yaml");
    assert!(reason(&none, "eval_on_start").contains("eval.every"));
    assert!(has_note(&later, "repetition_penalty", "cpu"));
    let all = imported("model_name_or_path: a\neval_strategy: steps\neval_steps: 10\n", "a.yaml");
    unset(&all.config, "eval.top_k");
}

#[test]
fn arguments_of_the_command_line_are_read_too() {
    let text = "accelerate launch --num_processes 4 --config_file zero3.yaml \\\n  src/open_r1/grpo.py --model_name_or_path a/b \\\n\
                --per_device_train_batch_size=8 --num_generations 16 --reward_funcs accuracy format --bf16 --beta 0.0";
    let imported = imported(text, "run.sh");
    expect(&imported.config, "model.path", "a/b");
    expect(&imported.config, "sampler.train_batch", 2);
    expect(&imported.config, "rewards.format.weight", 1.0);
    assert!(reason(&imported, "launcher").contains("one process"));
}

#[test]
fn what_the_file_leaves_open_gets_trls_defaults() {
    let imported = imported("model_name_or_path: a\n", "a.yaml");
    let config = &imported.config;
    expect(config, "rollout.temperature", 1.0);
    expect(config, "rollout.max_new_tokens", 512);
    expect(config, "optimizer.schedule", "linear");
    expect(config, "optimizer.weight_decay", 0.0);
    expect(config, "loss.policy_loss.clip.high", 0.2);
    expect(config, "sampler.dynamic", false);
    expect(config, "seed", 42);
    for key in ["rollout.temperature", "optimizer.schedule", "loss.policy_loss.clip.high", "sampler.dynamic"] {
        assert!(imported.assumed.iter().any(|assumed| assumed.key == key), "{key}");
    }
}

#[test]
fn functions_that_are_named_by_their_module_are_carried_over() {
    let text = "model_name_or_path: a\nreward_funcs: [my_lib.rewards.brevity, soft_overlong_punishment, other]\n\
                reward_weights: [0.5, 1.0, 2.0]\n";
    let imported = imported(text, "a.yaml");
    expect(&imported.config, "rewards.brevity.python", "my_lib/rewards.py:brevity");
    expect(&imported.config, "rewards.brevity.weight", 0.5);
    expect(&imported.config, "rewards.soft_overlong.weight", 1.0);
    assert!(imported.config.rewards.accuracy.is_none(), "{}", imported.toml);
    assert!(has_note(&imported, "reward_funcs", "my_lib.rewards.brevity: its module is taken for a file"));
    assert!(reason(&imported, "reward_funcs[2]").contains("no such reward"));
    imported.config.validate().unwrap();
    // The names of ours are not free.
    let taken = super::imported("model_name_or_path: a\nreward_funcs: [mine.length, accuracy]\n", "a.yaml");
    expect(&taken.config, "rewards.own_length.python", "mine.py:length");
    expect(&taken.config, "rewards.accuracy.weight", 1.0);
}
