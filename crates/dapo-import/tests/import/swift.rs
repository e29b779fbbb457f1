//! ms-swift.

use super::{check_knobs, expect, has_note, imported, imported_file, knob, reason, unset};

#[test]
fn the_arguments_of_dapo_become_its_settings() {
    let imported = imported_file("swift_dapo.sh");
    let config = &imported.config;
    expect(config, "model.path", "Qwen/Qwen2.5-1.5B-Instruct");
    unset(config, "lora.rank");
    expect(config, "data.train", vec!["hf://datasets/AI-MO/NuminaMath-TIR"]);
    expect(config, "data.limit", 1000);
    expect(config, "data.max_prompt_tokens", 1024);
    expect(config, "data.system", "Put the answer in \\boxed{}.");
    expect(config, "rollout.group_size", 8);
    expect(config, "rollout.max_new_tokens", 4096);
    // 4 completions on each of 2 processes, 4 times, in groups of 8.
    expect(config, "sampler.train_batch", 4);
    expect(config, "sampler.gen_batch", 4);
    expect(config, "sampler.dynamic", true);
    expect(config, "sampler.metric", "seq_reward");
    expect(config, "sampler.max_gen_rounds", 3);
    expect(config, "sampler.surplus", "discard");
    expect(config, "sampler.on_exhausted", "keep-zero-std");
    expect(config, "rewards.accuracy.weight", 1.0);
    expect(config, "rewards.accuracy.incorrect", 0.0);
    expect(config, "rewards.soft_overlong.weight", 0.5);
    expect(config, "rewards.soft_overlong.max_len", 2048);
    expect(config, "rewards.soft_overlong.cache_len", 512);
    expect(config, "rewards.soft_overlong.floor", false);
    expect(config, "overlong.filter", "mask");
    expect(config, "advantage.eps", 1e-4);
    expect(config, "loss.policy_loss.clip.low", 0.2);
    expect(config, "loss.policy_loss.clip.high", 0.28);
    expect(config, "loss.aggregation", "token-mean");
    expect(config, "loss.empty_sequences", "count");
    expect(config, "loss.kl.coef", 0.0);
    expect(config, "optimizer.lr", 1e-6);
    expect(config, "optimizer.schedule", "cosine");
    expect(config, "optimizer.min_lr_ratio", 0.1);
    expect(config, "optimizer.warmup_steps", 5);
    expect(config, "optimizer.beta2", 0.95);
    expect(config, "optimizer.weight_decay", 0.1);
    expect(config, "train.steps", 100);
    expect(config, "output.checkpoint_every", 20);
    expect(config, "output.completions", true);
    assert!(has_note(&imported, "loss_type", "own tokens"));
    assert!(has_note(&imported, "dynamic_sample", "first round"));
}

#[test]
fn each_knob_of_the_arguments_lands_on_its_key_alone() {
    check_knobs(
        "swift_dapo.sh",
        &[
            knob(
                "--dynamic_sample true",
                "--dynamic_sample false",
                &[
                    ("sampler.dynamic", "false"),
                    ("sampler.metric", "'acc'"),
                    ("sampler.max_gen_rounds", "10"),
                    ("sampler.surplus", "'carry'"),
                    ("sampler.on_exhausted", "'train-short'"),
                ],
            ),
            knob("--max_resample_times 3", "--max_resample_times 7", &[("sampler.max_gen_rounds", "7")]),
            knob("--overlong_filter true", "--overlong_filter false", &[("overlong.filter", "'off'")]),
            knob("--soft_max_length 2048", "--soft_max_length 1024", &[("rewards.soft_overlong.max_len", "1024")]),
            knob("--soft_max_length 2048 \\\n", "", &[("rewards.soft_overlong.max_len", "4096")]),
            knob("--soft_cache_length 512", "--soft_cache_length 256", &[("rewards.soft_overlong.cache_len", "256")]),
            knob("--reward_weights 1.0 0.5", "--reward_weights 1.0 2.0", &[("rewards.soft_overlong.weight", "2.0")]),
            knob(
                "accuracy soft_overlong",
                "accuracy repetition",
                &[
                    ("rewards.soft_overlong.weight", "none"),
                    ("rewards.soft_overlong.max_len", "none"),
                    ("rewards.soft_overlong.cache_len", "none"),
                    ("rewards.soft_overlong.penalty_factor", "none"),
                    ("rewards.soft_overlong.floor", "none"),
                    ("rewards.repetition.weight", "0.5"),
                    ("rewards.repetition.ngram_size", "3"),
                    ("rewards.repetition.max_penalty", "-1.0"),
                ],
            ),
            knob("--epsilon 0.2", "--epsilon 0.1", &[("loss.policy_loss.clip.low", "0.1")]),
            knob("--epsilon_high 0.28", "--epsilon_high 0.3", &[("loss.policy_loss.clip.high", "0.3")]),
            knob("--loss_type bnpo", "--loss_type grpo", &[("loss.aggregation", "'seq-mean-token-mean'")]),
            knob("--beta 0.0", "--beta 0.001", &[("loss.kl.coef", "0.001")]),
            knob("--beta 0.0 \\\n", "", &[("loss.kl.coef", "0.04")]),
            knob("--temperature 1.0 \\\n", "", &[("rollout.temperature", "0.9")]),
            knob("NPROC_PER_NODE=2", "NPROC_PER_NODE=4", &[("sampler.train_batch", "8"), ("sampler.gen_batch", "8")]),
            knob(
                "--learning_rate 1e-6",
                "--learning_rate 2e-6",
                &[("optimizer.lr", "2e-6"), ("optimizer.min_lr_ratio", "0.05")],
            ),
            knob("--max_length 1024", "--max_length 512", &[("data.max_prompt_tokens", "512")]),
            knob(
                "--tuner_type full",
                "--tuner_type lora --lora_rank 4 --target_modules q_proj",
                &[("lora.rank", "4"), ("lora.alpha", "32.0"), ("lora.rslora", "false"), ("lora.targets", "['q_proj']")],
            ),
            knob(
                "--tuner_type full",
                "--tuner_type lora --lora_rank 4 --target_modules q_proj --use_rslora true",
                &[("lora.rank", "4"), ("lora.alpha", "32.0"), ("lora.rslora", "true"), ("lora.targets", "['q_proj']")],
            ),
            knob("--tuner_type full", "--tuner_type full --use_rslora true", &[]),
            knob("--beta 0.0", "--beta 0.0 --stop_words '</answer>'", &[("rollout.stop", "['</answer>']")]),
            knob("--beta 0.0", "--beta 0.0 --min_p 0.1", &[("rollout.min_p", "0.1")]),
            knob("--beta 0.0", "--beta 0.0 --top_entropy_quantile 0.2", &[("loss.top_entropy_quantile", "0.2")]),
            knob(
                "--beta 0.0",
                "--beta 0.0 --columns '{\"problem\": \"query\", \"final\": \"solution\"}'",
                &[("data.fields.prompt", "'problem'"), ("data.fields.answer", "'final'")],
            ),
            knob(
                "--beta 0.0",
                "--beta 0.01 --advantage_estimator rloo",
                &[
                    ("advantage.baseline", "'leave-one-out'"),
                    ("advantage.scale", "'none'"),
                    ("rewards.kl_coef", "0.01"),
                ],
            ),
        ],
    );
}

#[test]
fn json_and_yaml_say_the_same_as_arguments() {
    let json = imported_file("swift_dapo.json");
    expect(&json.config, "sampler.max_gen_rounds", 5);
    expect(&json.config, "lora.rank", 16);
    expect(&json.config, "lora.alpha", 64.0);
    // Without a soft_max_length it is the longest completion; without a learning rate, that of adapters.
    expect(&json.config, "rewards.soft_overlong.max_len", 1024);
    expect(&json.config, "optimizer.lr", 1e-4);
    let arguments = "swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-1.5B-Instruct --loss_type dapo --epsilon_high 0.28 \
                     --dynamic_sample true --max_resample_times 5 --overlong_filter false --reward_funcs accuracy \
                     soft_overlong --soft_cache_length 256 --max_completion_length 1024 --lora_rank 16 --lora_alpha 64 \
                     --target_modules all-linear";
    let arguments = imported(&format!("NPROC_PER_NODE=2 {arguments}"), "a.sh");
    assert_eq!(json.config, arguments.config);
    let yaml = "ENV:\n  NPROC_PER_NODE: 2\nrlhf_type: grpo\nmodel: Qwen/Qwen2.5-1.5B-Instruct\nloss_type: dapo\n\
                epsilon_high: 0.28\ndynamic_sample: true\nmax_resample_times: 5\noverlong_filter: false\n\
                reward_funcs: [accuracy, soft_overlong]\nsoft_cache_length: 256\nmax_completion_length: 1024\n\
                lora_rank: 16\nlora_alpha: 64\ntarget_modules: [all-linear]\n";
    assert_eq!(imported(yaml, "a.yaml").config, json.config);
}

#[test]
fn columns_are_a_mapping_or_its_text() {
    for columns in [
        "'{\"task\": \"query\", \"hint\": \"system\", \"old\": \"response\", \"pic\": \"images\"}'",
        "\n  task: query\n  hint: system\n  old: response\n  pic: images",
    ] {
        let imported = imported(&format!("rlhf_type: grpo\ncolumns: {columns}\n"), "a.yaml");
        expect(&imported.config, "data.fields.prompt", "task");
        expect(&imported.config, "data.fields.system", "hint");
        unset(&imported.config, "data.fields.answer");
        for (key, changes_training) in [("columns.old", false), ("columns.pic", true)] {
            let skipped = imported.skipped.iter().find(|skipped| skipped.key == key).unwrap();
            assert_eq!(skipped.changes_training, changes_training, "{key}");
        }
    }
}

#[test]
fn lengths_of_the_cosine_reward_are_tokens() {
    let text = "rlhf_type: grpo\nreward_funcs: cosine\nmax_completion_length: 900\ncosine_min_len_value_correct: 0.9\n\
                cosine_max_len_value_correct: 0.4\ncosine_min_len_value_wrong: -0.7\ncosine_max_len_value_wrong: -0.1\n";
    let imported = imported(text, "a.yaml");
    let length = imported.config.rewards.length.clone().unwrap();
    assert_eq!((length.reward.max_correct, length.reward.min_correct), (0.9, 0.4));
    assert_eq!((length.reward.min_incorrect, length.reward.max_incorrect), (-0.7, -0.1));
    assert_eq!(length.reward.max_len, 900);
    expect(&imported.config, "rewards.length.unit", "tokens");
    expect(&imported.config, "rewards.accuracy.weight", 0.0);
}

#[test]
fn megatron_names_the_product_of_its_batch() {
    let text = "megatron rlhf --rlhf_type grpo --global_batch_size 128 --steps_per_generation 4 --num_generations 8 \
                --lr 1e-6 --train_iters 100 --lr_decay_style constant --lr_warmup_fraction 0.1";
    let imported = imported(text, "a.sh");
    expect(&imported.config, "sampler.train_batch", 64);
    expect(&imported.config, "train.mini_batches", 4);
    expect(&imported.config, "train.steps", 25);
    expect(&imported.config, "optimizer.lr", 1e-6);
    expect(&imported.config, "optimizer.warmup_steps", 3);
}

#[test]
fn a_weight_for_a_reward_model_is_left_out() {
    let text = "swift rlhf --rlhf_type grpo --reward_funcs accuracy --reward_model some/model --reward_weights 1 0.5";
    let imported = imported(text, "a.sh");
    expect(&imported.config, "rewards.accuracy.weight", 1.0);
    assert!(reason(&imported, "reward_weights[1]").contains("reward models"));
    assert!(has_note(&imported, "reward_model", "reward models"));
}

#[test]
fn functions_of_a_plugin_are_carried_over() {
    let of = |words: &str| imported(&format!("swift rlhf --rlhf_type grpo --model a {words}"), "a.sh");
    let own = of("--external_plugins plugin/plugin.py --reward_funcs external_math format --reward_weights 2 1");
    expect(&own.config, "rewards.external_math.python", "plugin/plugin.py:external_math");
    expect(&own.config, "rewards.external_math.weight", 2.0);
    expect(&own.config, "rewards.format.weight", 1.0);
    assert!(own.config.rewards.accuracy.is_none() && own.refused.is_empty(), "{}", own.toml);
    assert!(has_note(&own, "reward_funcs", "external_math: the function of this name in the plugin"));
    assert!(own.carried.iter().any(|carried| carried.source_key == "external_plugins"));
    own.config.validate().unwrap();
    let several = of("--external_plugins a.py b.py --reward_funcs accuracy external_math");
    assert!(has_note(&several, "external_plugins", "set rewards.NAME.python"));
    assert!(reason(&several, "reward_funcs[1]").contains("no such reward"));
    let unused = of("--external_plugins a.py --reward_funcs accuracy toolbench");
    assert!(reason(&unused, "external_plugins").contains("names no function of it"));
    assert!(reason(&unused, "reward_funcs[1]").contains("no such reward"));
}
