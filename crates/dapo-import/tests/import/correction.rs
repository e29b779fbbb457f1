//! Corrections for a rollout engine that is not quite the behaviour policy.

use std::collections::BTreeSet;

use dapo_import::Imported;

use super::{accounting, expect, has_note, reason, unset};

const KEY: &str = "loss.rollout_correction";

/// An import whose result `config check` accepts.
fn imported(text: &str, name: &str) -> Imported {
    let imported = super::imported(text, name);
    accounting::check(&imported, &BTreeSet::new());
    imported
}

/// Settings of verl's section.
fn verl(settings: &str) -> Imported {
    let words: Vec<_> = settings.split(' ').map(|word| format!("algorithm.rollout_correction.{word}")).collect();
    imported(&format!("algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=4 {}", words.join(" ")), "a")
}

fn trl(lines: &str) -> Imported {
    imported(&format!("model_name_or_path: a\nvllm_importance_sampling_correction: true\n{lines}"), "a.yaml")
}

fn swift(mode: &str, lines: &str) -> Imported {
    imported(&format!("rlhf_type: grpo\nrollout_importance_sampling_mode: {mode}\n{lines}"), "a.yaml")
}

#[track_caller]
fn expect_weights(imported: &Imported, level: &str, outside: &str, low: f64, high: f64) {
    expect(&imported.config, &format!("{KEY}.level"), level);
    expect(&imported.config, &format!("{KEY}.outside"), outside);
    expect(&imported.config, &format!("{KEY}.low"), low);
    expect(&imported.config, &format!("{KEY}.high"), high);
}

#[track_caller]
fn expect_rejection(imported: &Imported, by: &str, low: f64, high: f64) {
    expect(&imported.config, &format!("{KEY}.reject.by"), by);
    expect(&imported.config, &format!("{KEY}.reject.low"), low);
    expect(&imported.config, &format!("{KEY}.reject.high"), high);
}

#[test]
fn weights_of_verl_are_truncated_by_one_threshold_and_masked_by_two() {
    expect_weights(&verl("rollout_is=token rollout_is_threshold=5.0"), "token", "truncate", 0.0, 5.0);
    expect_weights(&verl("rollout_is=sequence"), "sequence", "truncate", 0.0, 2.0);
    expect_weights(&verl("rollout_is=token rollout_is_threshold=0.5_5.0"), "token", "mask", 0.5, 5.0);
    unset(&verl("rollout_is=null rollout_is_threshold=2.0").config, KEY);
    unset(&verl("rollout_is=null rollout_rs=null rollout_rs_threshold=2.0").config, KEY);
    let older = imported("actor_rollout_ref.actor.tis_imp_ratio_cap=3 actor_rollout_ref.rollout.n=4", "a");
    expect_weights(&older, "token", "truncate", 0.0, 3.0);
}

#[test]
fn bounds_of_k1_are_those_of_the_inverse_ratio() {
    let product = verl("rollout_rs=seq_sum_k1 rollout_rs_threshold=0.5_1.25");
    expect(&product.config, &format!("{KEY}.level"), "off");
    expect_rejection(&product, "product", 0.8, 2.0);
    let mean = verl("rollout_is=token rollout_rs=seq_mean_k1 rollout_rs_threshold=1.25");
    expect_weights(&mean, "token", "truncate", 0.0, 2.0);
    expect_rejection(&mean, "geometric-mean", 0.8, 1.25);
    assert!(product.refused.is_empty() && mean.refused.is_empty());
}

#[test]
fn bounds_of_older_versions_are_those_of_the_ratio() {
    let both = verl("rollout_rs=geometric rollout_rs_threshold=1.25 rollout_rs_threshold_lower=0.9");
    expect_rejection(&both, "geometric-mean", 0.9, 1.25);
    expect_rejection(&verl("rollout_rs=sequence rollout_rs_threshold=4"), "product", 0.25, 4.0);
    expect_rejection(&verl("rollout_is=token rollout_is_threshold=5 rollout_rs=sequence"), "product", 0.2, 5.0);
}

#[test]
fn other_rejections_are_refused() {
    for kind in ["token_k1", "seq_mean_k3", "seq_sum_k1,seq_mean_k1"] {
        let imported = verl(&format!("rollout_is=token rollout_rs={kind} rollout_rs_threshold=2"));
        assert_eq!(imported.refused.len(), 1, "{kind}");
        unset(&imported.config, &format!("{KEY}.reject"));
        expect(&imported.config, &format!("{KEY}.level"), "token");
    }
    let unbounded = verl("rollout_rs=seq_sum_k1");
    assert_eq!(unbounded.refused.len(), 1);
    unset(&unbounded.config, KEY);
    let empty = verl("rollout_rs=seq_sum_k1 rollout_rs_threshold=0.9");
    assert_eq!(empty.refused.len(), 1, "{}", empty.toml);
    let normalized = verl("rollout_is=token rollout_is_batch_normalize=true");
    assert!(reason(&normalized, "algorithm.rollout_correction.rollout_is_batch_normalize").contains("not normalized"));
}

#[test]
fn bypass_mode_rejects_by_another_policy() {
    let bypass = verl("bypass_mode=true rollout_rs=seq_sum_k1 rollout_rs_threshold=2");
    unset(&bypass.config, KEY);
    for key in ["rollout_rs", "rollout_rs_threshold"] {
        let key = format!("algorithm.rollout_correction.{key}");
        assert!(reason(&bypass, &key).contains("bypass mode"));
        assert!(bypass.skipped.iter().any(|skipped| skipped.key == key && skipped.changes_training));
    }
    let banded = verl("bypass_mode=true loss_type=reinforce rollout_is=token rollout_is_threshold=0.5_5");
    assert_eq!(banded.refused.len(), 1);
}

#[test]
fn what_the_loss_cannot_weight_is_refused_and_the_rest_is_written() {
    let text = "actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean actor_rollout_ref.rollout.n=4 \
                algorithm.rollout_correction.rollout_is=token data.train_batch_size=64";
    let imported = imported(text, "a");
    assert!(!imported.refused.is_empty());
    unset(&imported.config, KEY);
    expect(&imported.config, "sampler.train_batch", 64);
}

#[test]
fn modes_of_trl_are_carried_over() {
    for (level, outside) in [("token", "truncate"), ("token", "mask"), ("sequence", "truncate"), ("sequence", "mask")] {
        let mode = format!("vllm_importance_sampling_mode: {level}_{outside}\n");
        expect_weights(&trl(&mode), level, outside, 0.0, 3.0);
        let bounds = "vllm_importance_sampling_clip_min: 0.5\nvllm_importance_sampling_clip_max: 4\n";
        let bounded = trl(&format!("{mode}{bounds}"));
        expect_weights(&bounded, level, outside, 0.5, 4.0);
        assert!(bounded.refused.is_empty());
    }
    expect_weights(&trl(""), "sequence", "mask", 0.0, 3.0);
    expect_weights(&trl("vllm_importance_sampling_cap: 4\n"), "token", "truncate", 0.0, 4.0);
    let unbounded = "vllm_importance_sampling_mode: token_mask\nvllm_importance_sampling_clip_min: 0.5\n\
                     vllm_importance_sampling_clip_max: null\n";
    expect_weights(&trl(unbounded), "token", "mask", 0.5, f64::INFINITY);
    // The correction is on unless the file says otherwise.
    let implied = imported("model_name_or_path: a\nvllm_importance_sampling_mode: token_mask\n", "a.yaml");
    expect_weights(&implied, "token", "mask", 0.0, 3.0);
    let off = imported("model_name_or_path: a\nvllm_importance_sampling_correction: false\n", "a.yaml");
    unset(&off.config, KEY);
    unset(&imported("model_name_or_path: a\n", "a.yaml").config, KEY);
}

#[test]
fn sequences_of_ms_swift_are_judged_by_their_geometric_mean() {
    for outside in ["truncate", "mask"] {
        let token = swift(&format!("token_{outside}"), "rollout_importance_sampling_threshold: 3\n");
        expect_weights(&token, "token", outside, 0.0, 3.0);
    }
    let masked = swift("sequence_mask", "rollout_importance_sampling_threshold: 1.5\n");
    expect_weights(&masked, "token", "truncate", 0.0, f64::INFINITY);
    expect_rejection(&masked, "geometric-mean", 0.0, 1.5);
    assert!(has_note(&masked, "rollout_importance_sampling_mode", "weight 0"));
    let truncated = swift("sequence_truncate", "rollout_importance_sampling_threshold: 3\n");
    assert_eq!(truncated.refused.len(), 1);
    assert!(truncated.refused[0].to_string().contains("geometric mean"));
    unset(&truncated.config, KEY);
    assert!(reason(&truncated, "rollout_importance_sampling_threshold").contains("goes with"));
    assert!(has_note(&swift("token_mask", "beta: 0.1\n"), "", "KL term"));
    assert!(!has_note(&swift("token_mask", "beta: 0\n"), "", "KL term"));
}

#[test]
fn a_correction_that_the_file_does_not_tell_stays_open() {
    let level = imported("python -m verl.trainer.main_ppo algorithm.rollout_correction.rollout_is=$LEVEL", "a.sh");
    unset(&level.config, KEY);
    assert!(level.toml.contains("# level = … # set this: ") && level.toml.contains("# high = … # set this: "));
    let rejection = imported(
        "python -m verl.trainer.main_ppo algorithm.rollout_correction.rollout_rs=seq_sum_k1 \
         algorithm.rollout_correction.rollout_rs_threshold=$BAND",
        "a.sh",
    );
    expect(&rejection.config, &format!("{KEY}.reject.by"), "product");
    unset(&rejection.config, &format!("{KEY}.reject.low"));
}
