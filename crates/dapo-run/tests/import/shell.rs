//! The part of the shell that is read.

use super::{expect, file, has_note, imported, imported_file, reason};

/// The batch size that `data.train_batch_size` gets from a script.
fn batch(script: &str) -> i64 {
    let imported = imported(&format!("{script}\n"), "a.sh");
    imported.config.sampler.train_batch as i64
}

#[test]
fn variables_arithmetic_and_defaults_are_filled_in() {
    let run = "python3 -m verl.trainer.main_ppo data.train_batch_size";
    for (script, expected) in [
        (format!("a=64\n{run}=$a"), 64),
        (format!("a=64; {run}=\"${{a}}\""), 64),
        (format!("a=$((2 * (3 + 5) - 10 / 5 % 3))\n{run}=$a"), 14),
        (format!("a=3\nb=$(( $a * ${{a}} * a ))\n{run}=$b"), 27),
        (format!("{run}=${{SIZE:-32}}"), 32),
        (format!("SIZE=16\n{run}=${{SIZE:-32}}"), 16),
        (format!("SIZE=\n{run}=${{SIZE:-\"48\"}}"), 48),
        (format!("export a=8 b=9\n{run}=$b"), 9),
        (format!("a=1\na+=2\n{run}=$a"), 12),
        (
            "a=(data.train_batch_size=96 # one\n  trainer.nnodes=1\n)\npython -m verl.trainer.main_ppo \"${a[@]}\""
                .to_owned(),
            96,
        ),
        ("a=\"trainer.nnodes=1 data.train_batch_size=24\"\npython -m verl.trainer.main_ppo $a".to_owned(), 24),
        (format!("{run}=40 # data.train_batch_size=41"), 40),
        (format!("{run}=5'6'"), 56),
        (format!("cat > x <<EOF\n{run}=1\nEOF\n{run}=72 2>&1 | tee log"), 72),
    ] {
        assert_eq!(batch(&script), expected, "{script}");
    }
}

#[test]
fn overrides_may_stand_alone() {
    let imported = imported_file("verl_overrides.txt");
    expect(&imported.config, "sampler.train_batch", 1536);
    expect(&imported.config, "data.train", vec!["a.parquet", "b.parquet"]);
    expect(&imported.config, "rollout.max_new_tokens", 20480);
}

#[test]
fn what_the_script_does_not_tell_stays_in_the_text_and_is_noted() {
    let script = "python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=\"${HOME}/models/$(date +%s)\"";
    let imported = imported(script, "a.sh");
    expect(&imported.config, "model.path", "${HOME}/models/$(date +%s)");
    assert!(has_note(&imported, "actor_rollout_ref.model.path", "${HOME}, $(date +%s)"));
}

#[test]
fn blocks_are_not_followed_and_what_they_set_counts_as_unknown() {
    let script = "path=a\nif [ \"$1\" = x ]; then\n  path=b\n  python3 prepare.py\nfi\n\
                  python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=$path";
    let imported = imported(script, "a.sh");
    expect(&imported.config, "model.path", "$path");
    assert!(has_note(&imported, "actor_rollout_ref.model.path", "$path, set in a block at line 3"));
    assert!(reason(&imported, "if").contains("not followed"));
}

#[test]
fn the_value_of_a_secret_is_not_copied() {
    let imported = imported_file("swift_dapo.sh");
    assert!(file("swift_dapo.sh").contains("hf_abcdef"));
    assert!(!imported.toml.contains("hf_abcdef"));
    assert!(imported.skipped.iter().any(|skipped| skipped.key == "HF_TOKEN" && skipped.value == "…"));
    let imported = super::imported("model_name_or_path: a\nhub_token: hf_abcdef\n", "a.yaml");
    assert!(!imported.toml.contains("hf_abcdef"));
    let imported = super::imported("data.prompt_key=question", "a");
    assert!(imported.toml.contains("data.prompt_key = question"));
}

#[test]
fn unused_variables_and_other_commands_are_reported() {
    let imported = imported_file("verl_dapo.sh");
    assert!(reason(&imported, "unused_port").contains("does not use"));
    assert!(reason(&imported, "set").contains("not the trainer's"));
    assert!(reason(&imported, "launcher").contains("one process"));
}
