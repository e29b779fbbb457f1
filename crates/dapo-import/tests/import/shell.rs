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
fn a_variable_that_a_block_changes_keeps_its_value_and_the_block_is_named() {
    let script = "path=a\nif [ \"$1\" = x ]; then\n  path=b\n  python3 prepare.py\nfi\n\
                  python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=$path";
    let imported = imported(script, "a.sh");
    expect(&imported.config, "model.path", "a");
    let note = imported.notes.iter().find(|note| note.key == "path").unwrap();
    assert_eq!(note.line, Some(3));
    assert!(note.text.contains("the `if` of line 2 may change it") && note.text.contains("model.path"), "{note}");
    assert!(reason(&imported, "if").contains("not followed"));
}

#[test]
fn a_variable_that_blocks_alone_set_is_unknown() {
    for script in [
        "if true; then n=4; else n=8; fi",
        "n=\nif [ -z \"$n\" ]; then n=8; fi",
        "for n in 4 8; do echo; done",
        "n=2\nfor n in 4 8; do echo; done",
    ] {
        let run = "python3 -m verl.trainer.main_ppo actor_rollout_ref.rollout.n=$n";
        let imported = imported(&format!("{script}\n{run}\n"), "a.sh");
        assert!(has_note(&imported, "actor_rollout_ref.rollout.n", "set rollout.group_size"), "{script}");
        assert!(imported.toml.contains("# group_size = … # set this: actor_rollout_ref.rollout.n"), "{script}");
        assert!(imported.refused.is_empty());
    }
}

#[test]
fn doubts_go_through_variables_and_end_at_the_next_assignment() {
    let run = "python3 -m verl.trainer.main_ppo data.train_batch_size=$b";
    let block = "case $x in y) a=8 ;; esac";
    for (script, is_doubtful) in [
        (format!("a=4\n{block}\nb=$((a * 2))\n{run}"), true),
        (format!("a=4\n{block}\nb=$a\n{run}"), true),
        (format!("a=4\nb=$a\n{block}\n{run}"), false),
        (format!("a=4\n{block}\na=6\nb=$a\n{run}"), false),
    ] {
        let imported = imported(&script, "a.sh");
        assert_eq!(imported.notes.iter().any(|note| note.key == "a"), is_doubtful, "{script}");
    }
}

#[test]
fn the_value_of_a_secret_is_not_copied() {
    let imported = imported_file("swift_dapo.sh");
    assert!(file("swift_dapo.sh").contains("hf_abcdef"));
    assert!(!imported.toml.contains("hf_abcdef"));
    assert!(imported.skipped.iter().any(|skipped| skipped.key == "HF_TOKEN" && skipped.value == "…"));
    let imported = super::imported("model_name_or_path: a\nhub_token: hf_abcdef\n", "a.yaml");
    assert!(!imported.toml.contains("hf_abcdef"));
    let imported = super::imported("data.prompt_key=question data.reward_fn_key=source", "a");
    assert!(imported.toml.contains("prompt = \"question\""));
    assert!(imported.toml.contains("data.reward_fn_key = source"));
}

#[test]
fn unused_variables_and_other_commands_are_reported() {
    let imported = imported_file("verl_dapo.sh");
    assert!(reason(&imported, "unused_port").contains("does not use"));
    assert!(reason(&imported, "set").contains("not the trainer's"));
    assert!(reason(&imported, "launcher").contains("one process"));
}
