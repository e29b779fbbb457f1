//! What is not known never becomes a default, what is not offered ends no import, and the result is always valid.

use std::{path::Path, time::Instant};

use dapo_import::{ConfigFormat, Imported, import};

use super::{expect, has_note, imported, imported_file, reason, unset};

/// Whether the settings file leaves a key to be filled in.
fn is_open(imported: &Imported, line: &str) -> bool {
    imported.toml.lines().any(|found| found.starts_with(&format!("# {line} = … # set this: ")))
}

fn changes(imported: &Imported, key: &str) -> bool {
    imported.skipped.iter().find(|skipped| skipped.key == key).unwrap().changes_training
}

#[test]
fn arrays_and_variables_that_blocks_change_keep_what_holds_without() {
    let imported = imported_file("verl_blocks.sh");
    let config = &imported.config;
    config.validate().unwrap();
    expect(config, "sampler.train_batch", 256);
    expect(config, "train.mini_batches", 4);
    expect(config, "rollout.max_new_tokens", 2048);
    expect(config, "rollout.group_size", 8);
    expect(config, "rollout.temperature", 0.7);
    expect(config, "loss.kl.coef", 0.002);
    expect(config, "optimizer.lr", 1e-6);
    expect(config, "train.passes", 15.0);
    assert!(imported.refused.is_empty());
    // Line 13 sets the batch, line 14 the length, line 46 a clip range: all for another machine.
    for (variable, line) in [("batch", 13), ("length", 14), ("ACTOR", 46)] {
        assert!(
            imported.notes.iter().any(|note| note.key == variable && note.line == Some(line)),
            "{variable} in {:?}",
            imported.notes
        );
    }
    // What training does not depend on is not worth a note.
    assert!(imported.notes.iter().all(|note| note.key != "devices" && note.key != "EXTRA"));
}

#[test]
fn keys_of_blocks_and_unused_arrays_are_left_out_by_name() {
    let imported = imported_file("verl_blocks.sh");
    let actor = "actor_rollout_ref.actor";
    for (key, changes_training) in [
        (format!("{actor}.clip_ratio_high"), true),
        (format!("{actor}.fsdp_config.param_offload"), false),
        ("data.seed".into(), true),
        (format!("{actor}.entropy_coeff"), true),
    ] {
        assert_eq!(changes(&imported, &key), changes_training, "{key}");
    }
    assert!(reason(&imported, &format!("{actor}.clip_ratio_high")).contains("the `if` of line 45"));
    assert!(reason(&imported, &format!("{actor}.entropy_coeff")).contains("does not get"));
    let weights: Vec<bool> = imported.skipped.iter().map(|skipped| skipped.changes_training).collect();
    assert!(weights.is_sorted_by(|a, b| a >= b), "what changes training comes first");
    let words: Vec<&str> = ["data.shuffle", "trainer.n_gpus_per_node"].to_vec();
    assert!(words.iter().all(|key| imported.skipped.iter().any(|skipped| skipped.key == *key)));
}

#[test]
fn a_key_whose_value_is_unknown_gets_no_default() {
    let run = "python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=4";
    for (key, ours, line) in [
        ("actor_rollout_ref.actor.optim.lr", "optimizer.lr", "lr"),
        ("data.max_response_length", "rollout.max_new_tokens", "max_new_tokens"),
        ("actor_rollout_ref.actor.use_kl_loss", "loss.kl.coef", "coef"),
        ("actor_rollout_ref.actor.loss_agg_mode", "loss.aggregation.name", "name"),
        ("trainer.total_training_steps", "train.steps", "steps"),
        ("trainer.total_epochs", "train.passes", "passes"),
        ("algorithm.norm_adv_by_std_in_grpo", "advantage.scale", "scale"),
        ("data.train_batch_size", "sampler.train_batch", "train_batch"),
        ("data.train_batch_size", "train.mini_batches", "mini_batches"),
        ("trainer.save_freq", "output.checkpoint_every", "checkpoint_every"),
    ] {
        let imported = imported(&format!("{run} {key}=$VALUE"), "a.sh");
        assert!(is_open(&imported, line), "{key}: {}", imported.toml);
        assert!(has_note(&imported, key, ours) && has_note(&imported, key, "$VALUE"), "{key}: {:?}", imported.notes);
        assert!(imported.assumed.iter().all(|assumed| assumed.key != ours), "{key}");
        assert!(changes(&imported, key) && imported.refused.is_empty(), "{key}");
        imported.config.validate().unwrap();
    }
    let passes = imported(&format!("{run} trainer.total_training_steps=$N trainer.total_epochs=3"), "a.sh");
    unset(&passes.config, "train.passes");
}

#[test]
fn what_depends_on_an_unknown_value_stays_open() {
    let text = "model_name_or_path: a\nper_device_train_batch_size: 8\nnum_generations: 8\nmax_steps: 100\n";
    let script = "accelerate launch --num_processes $GPUS grpo.py --per_device_train_batch_size 8 --num_generations 8 \
                  --num_iterations $MU --max_steps 100 --save_steps 10";
    assert!(!is_open(&imported(text, "a.yaml"), "train_batch"));
    let imported = imported(script, "a.sh");
    for line in ["train_batch", "gen_batch", "updates_per_batch", "steps", "checkpoint_every"] {
        assert!(is_open(&imported, line), "{line}: {}", imported.toml);
    }
    assert!(reason(&imported, "per_device_train_batch_size").contains("goes with num_processes"));
}

#[test]
fn an_unknown_loss_or_estimator_leaves_its_key_out_and_the_rest_is_written() {
    let verl = "algorithm.adv_estimator=gpg actor_rollout_ref.actor.policy_loss.loss_mode=dppo_tv \
                actor_rollout_ref.actor.loss_agg_mode=token-sum actor_rollout_ref.rollout.n=4 \
                actor_rollout_ref.actor.use_kl_loss=1 actor_rollout_ref.actor.kl_loss_type=full \
                data.train_batch_size=64 actor_rollout_ref.actor.clip_ratio_high=0.3";
    let verl = imported(verl, "a");
    assert_eq!(verl.refused.len(), 4, "{:?}", verl.refused);
    for line in ["baseline", "name", "estimator"] {
        assert!(is_open(&verl, line), "{line}: {}", verl.toml);
    }
    expect(&verl.config, "sampler.train_batch", 64);
    expect(&verl.config, "loss.policy_loss.clip.high", 0.3);
    let trl = "model_name_or_path: a\nloss_type: vespo\nbeta: 0.01\nlr_scheduler_type: polynomial\n";
    let trl = imported(trl, "a.yaml");
    assert_eq!(trl.refused.len(), 2);
    expect(&trl.config, "loss.kl.coef", 0.01);
    assert!(has_note(&trl, "loss_type", "set loss.policy_loss.name, loss.aggregation.name: it is `vespo`"));
    let swift = imported("rlhf_type: grpo\nadvantage_estimator: reinforce_plus_plus\nbeta: 0.1\n", "a.yaml");
    assert_eq!(swift.refused.len(), 1);
    for imported in [verl, trl, swift] {
        imported.config.validate().unwrap();
    }
}

#[test]
fn the_result_is_always_valid() {
    let trl = |lines: &str| imported(&format!("model_name_or_path: a\n{lines}"), "a.yaml");
    let verl = |words: &str| imported(&format!("algorithm.adv_estimator=grpo {words}"), "a");
    let one = verl("actor_rollout_ref.rollout.n=1");
    assert!(is_open(&one, "group_size") && one.refused.len() == 1);
    assert!(is_open(&verl("data.train_batch_size=8"), "group_size"));
    let wide = verl(
        "actor_rollout_ref.rollout.n=4 actor_rollout_ref.actor.policy_loss.loss_mode=cispo \
         actor_rollout_ref.actor.clip_ratio_low=10 actor_rollout_ref.actor.clip_ratio_high=0.2",
    );
    expect(&wide.config, "loss.policy_loss.clip.low", 1.0);
    assert!(wide.refused.is_empty());
    expect(&trl("epsilon: 10.0\nepsilon_high: 0.3\n").config, "loss.policy_loss.clip.low", 1.0);
    let halves = trl("num_generations: 16\ngeneration_batch_size: 16\nper_device_train_batch_size: 1\n\
         gradient_accumulation_steps: 8\nmax_steps: 200\n");
    expect(&halves.config, "sampler.train_batch", 1);
    expect(&halves.config, "train.mini_batches", 1);
    expect(&halves.config, "train.steps", 200);
    assert!(has_note(&halves, "generation_batch_size", "less than a group"));
    let none = trl("reward_funcs: [my_reward]\nreward_weights: [2.0]\n");
    expect(&none.config, "rewards.accuracy.weight", 1.0);
    assert!(has_note(&none, "reward_funcs", "no reward function has a counterpart"));
    let zero = trl("reward_funcs: [accuracy, my_reward]\nreward_weights: [0.0, 1.0]\n");
    assert_eq!(zero.refused.len(), 1);
    let out_of_range = trl("adam_beta2: 1.5\nlearning_rate: 1e-6\ntop_p: 7\n");
    assert!(is_open(&out_of_range, "beta2") && is_open(&out_of_range, "top_p"), "{}", out_of_range.toml);
    assert_eq!(out_of_range.refused.len(), 2);
    expect(&out_of_range.config, "optimizer.lr", 1e-6);
    for imported in [one, wide, halves, none, zero, out_of_range] {
        imported.config.validate().unwrap();
    }
}

#[test]
fn names_of_layers_may_have_commas() {
    let text = "trl grpo --model_name_or_path a --use_peft --lora_target_modules \"q_proj,\" \"v_proj\"";
    expect(&imported(text, "a.sh").config, "lora.targets", vec!["q_proj", "v_proj"]);
    let other = imported("trl grpo --model_name_or_path a --use_peft --lora_target_modules q_proj gate", "a.sh");
    expect(&other.config, "lora.targets", vec!["q_proj"]);
    assert!(changes(&other, "lora_target_modules[1]"));
    let pattern = imported("trl grpo --model_name_or_path a --use_peft --lora_target_modules '^.*(q|v)_proj$'", "a.sh");
    assert!(is_open(&pattern, "targets") && pattern.refused.len() == 1);
}

#[test]
fn switches_of_yaml_are_read_as_yaml_has_them() {
    for (text, scale) in [("off", "none"), ("no", "none"), ("on", "group"), ("batch", "batch"), ("False", "none")] {
        let text = format!("model_name_or_path: a\nscale_rewards: {text}\n");
        expect(&imported(&text, "a.yaml").config, "advantage.scale", scale);
    }
}

#[test]
fn passes_over_the_data_are_carried_exactly() {
    for (text, name, passes) in [
        ("model_name_or_path: a\nnum_train_epochs: 0.5\nwarmup_ratio: 0.1\n", "a.yaml", 0.5),
        ("model_name_or_path: a\nwarmup_ratio: 0.1\n", "a.yaml", 3.0),
        ("trainer.total_epochs=15 actor_rollout_ref.actor.optim.lr_warmup_steps_ratio=0.1", "a", 15.0),
        ("rlhf_type: grpo\nmax_epochs: 2\nlr_warmup_fraction: 0.1\n", "a.yaml", 2.0),
    ] {
        let imported = imported(text, name);
        expect(&imported.config, "train.passes", passes);
        expect(&imported.config, "optimizer.warmup_ratio", 0.1);
    }
    let steps = imported("model_name_or_path: a\nnum_train_epochs: 2\nmax_steps: 50\n", "a.yaml");
    unset(&steps.config, "train.passes");
    expect(&steps.config, "train.steps", 50);
}

#[test]
fn the_loss_of_bypass_mode_is_reinforce() {
    let text = |rest: &str| {
        format!(
            "algorithm.rollout_correction.bypass_mode=true algorithm.rollout_correction.loss_type=reinforce \
             actor_rollout_ref.rollout.n=4 actor_rollout_ref.actor.clip_ratio_high=0.28 {rest}"
        )
    };
    let weighted = imported(&text("algorithm.rollout_correction.rollout_is=token"), "a");
    expect(&weighted.config, "loss.policy_loss.name", "cispo");
    expect(&weighted.config, "loss.policy_loss.clip.low", 1.0);
    expect(&weighted.config, "loss.policy_loss.clip.high", 1.0);
    unset(&weighted.config, "loss.rollout_correction");
    assert_eq!(reason(&weighted, "actor_rollout_ref.actor.clip_ratio_high"), "REINFORCE does not clip");
    let plain = imported(&text(""), "a");
    expect(&plain.config, "loss.policy_loss.clip.low", 0.0);
    expect(&plain.config, "loss.policy_loss.clip.high", 0.0);
}

#[test]
fn the_asynchronous_trainer_counts_in_mini_batches() {
    let text = "data.train_batch_size=0 data.gen_batch_size=1 async_training.require_batches=4 \
                actor_rollout_ref.actor.ppo_mini_batch_size=32 actor_rollout_ref.rollout.n=8 \
                rollout.total_rollout_steps=51200 trainer.total_epochs=10";
    let imported = imported(text, "a");
    expect(&imported.config, "sampler.train_batch", 128);
    expect(&imported.config, "train.mini_batches", 4);
    expect(&imported.config, "train.steps", 400);
    assert!(imported.refused.is_empty(), "{:?}", imported.refused);
}

#[test]
fn straight_through_estimators_keep_their_value_and_gradient() {
    let of = |name: &str| {
        imported(&format!("actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_type={name}"), "a")
    };
    for (name, ours) in
        [("kl+", "k1+"), ("k1+", "k1+"), ("low_var_kl+", "k3+"), ("k3+", "k3+"), ("mse+", "k2"), ("k2+", "k2")]
    {
        let imported = of(name);
        expect(&imported.config, "loss.kl.estimator", ours);
        assert!(!has_note(&imported, "actor_rollout_ref.actor.kl_loss_type", "gradient of k2"), "{name}");
    }
    let abs = of("abs+");
    expect(&abs.config, "loss.kl.estimator", "k2");
    assert!(has_note(&abs, "actor_rollout_ref.actor.kl_loss_type", "gradient of k2"));
}

#[test]
fn a_python_file_is_read_by_the_command_at_its_head() {
    let text = super::file("trl_docstring.py");
    let imported = import(&text, Path::new("tune.py"), Some(ConfigFormat::Trl)).unwrap();
    expect(&imported.config, "model.path", "org/first");
    expect(&imported.config, "lora.targets", vec!["q_proj", "v_proj"]);
    expect(&imported.config, "train.passes", 2.0);
    let second: Vec<_> = imported.skipped.iter().filter(|skipped| skipped.reason.contains("further")).collect();
    assert_eq!(second.len(), 2, "{second:?}");
    assert_eq!(second[0].line, 17);
    let error = import("echo\n", Path::new("a.sh"), Some(ConfigFormat::Trl)).unwrap_err().to_string();
    assert!(!error.contains("name the format"), "{error}");
}

#[test]
fn notes_without_a_key_have_no_empty_one() {
    let imported = imported("trainer.nnodes=1", "a");
    for note in &imported.notes {
        assert!(!note.to_string().starts_with(':') && !note.to_string().contains(": :"), "{note}");
    }
}

#[test]
fn keys_that_change_training_are_told_from_those_that_do_not() {
    let imported = imported(
        "model_name_or_path: a\nmulti_objective_aggregation: normalize_then_sum\noff_policy_mask_threshold: 0.5\n\
         chat_template: \"{{ x }}\"\ngeneration_kwargs: null\nlogging_steps: 1\nbf16: true\nflux: 1\nflow: false\n",
        "a.yaml",
    );
    for (key, expected) in [
        ("multi_objective_aggregation", true),
        ("off_policy_mask_threshold", true),
        ("chat_template", true),
        ("generation_kwargs", false),
        ("logging_steps", false),
        ("bf16", false),
        ("flux", true),
        ("flow", false),
    ] {
        assert_eq!(changes(&imported, key), expected, "{key}");
    }
}

#[test]
fn large_files_are_refused_and_no_file_takes_long() {
    let long = |text: String, name: &str| {
        let start = Instant::now();
        let _ = import(&text, Path::new(name), Some(ConfigFormat::Verl));
        assert!(start.elapsed().as_secs() < 20, "{name}: {:?}", start.elapsed());
    };
    let error = import(&"a".repeat(10 << 20), Path::new("a.sh"), None).unwrap_err().to_string();
    assert!(error.contains("10485760 bytes"), "{error}");
    let size = 1_000_000;
    let big = "b".repeat(60_000);
    long("a.b=1 ".repeat(size / 6), "words.sh");
    long(format!("x={big}\n{}", "a.b=$x ".repeat(size / 8)), "copies.sh");
    long(format!("x=\"{}\"", "$y".repeat(size / 2)), "variables.sh");
    long(format!("x=1\nif true; then\n{}fi\na.b=$x", "x=2\n".repeat(size / 5)), "doubts.sh");
    long(format!("a.b=\"{}\"", "y".repeat(size)), "line.sh");
    long(format!("{}: {{{}}}", "k".repeat(4000), "a: 1, ".repeat(size / 6)), "keys.yaml");
    long(format!("a: [{}]", "1, ".repeat(size / 3)), "list.yaml");
    let keys: Vec<String> = (0..size / 12).map(|i| format!("  k{i}: 1\n")).collect();
    long("trainer:\n".to_owned() + &keys.concat(), "mapping.yaml");
}
