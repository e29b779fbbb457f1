//! Settings of older versions mean what they meant.

use crate::{Files, words};
use dapo_loss::{Aggregation, ClipRange, ImportanceLevel, Outside, PolicyLoss, RejectBy, Rejection, RolloutCorrection};
use dapo_reward::{ExtractRule, Grader, TextOptions};
use dapo_run::{Layer, RunConfig, recipes, resolve};
use dapo_sampler::{PerPrompt, SurplusPolicy};

/// What an older version wrote for `tiny dapo` with some changes: every key that it had.
const OLD: &str = include_str!("old.toml");

#[test]
fn a_file_that_an_older_version_wrote_means_what_it_meant() {
    let files = Files::new();
    let resolved = resolve(&[Layer::File(files.write("old.toml", OLD))]).unwrap();
    let config = &resolved.config;
    let mut expected =
        words(&["tiny", "dapo", "train.steps=2", "eval.every=none", "sampler.surplus=discard"]).unwrap().config;
    expected.rewards.kl_coef = 0.1;
    expected.rewards.accuracy.as_mut().unwrap().reward.incorrect = 0.0;
    assert_eq!(*config, expected);
    assert_eq!(config.sampler.surplus, SurplusPolicy::Discard);
    assert_eq!(config.loss.policy_loss, PolicyLoss::dapo(), "ppo meant dapo");
    config.validate().unwrap();
    let warnings = resolved.warnings().join("\n").replace(&format!("{}/", files.0.path().display()), "");
    for warning in [
        "old.toml:9: lora.rank = 0 is deprecated, expected lora = \"none\", or nothing",
        "old.toml:86: loss.clip_low is now loss.policy_loss.clip.low",
        "old.toml:88: loss.policy_loss.dual_clip = 0.0 is deprecated",
        "kl.in_reward is deprecated, expected rewards.kl_coef for a KL in the reward",
        "train.epochs is now train.updates_per_batch: these are not passes over the data",
        "loss.policy_loss = \"ppo\" is read as \"dapo\"",
    ] {
        assert!(warnings.contains(warning), "{warning}\n{warnings}");
    }
    // What is written now has new keys alone.
    let again = resolve(&[Layer::File(files.write("new.toml", &config.to_toml().unwrap()))]).unwrap();
    assert_eq!((&again.config, again.warnings()), (config, &[] as &[String]));
}

#[test]
fn old_keys_set_the_new_ones_in_any_layer() {
    type Check = fn(&RunConfig) -> bool;
    let rows: [(&[&str], Check); 20] = [
        (&["loss.clip_high=0.3"], |c| {
            c.loss.policy_loss == PolicyLoss::Ppo { clip: ClipRange { low: 0.2, high: 0.3 }, dual_clip: None }
        }),
        (&["loss.dual_clip=3"], |c| {
            c.loss.policy_loss == PolicyLoss::Ppo { clip: ClipRange::default(), dual_clip: Some(3.0) }
        }),
        (&["loss.policy_loss=sapo", "loss.tau_positive=2", "loss.clip_low=0.1"], |c| {
            c.loss.policy_loss == PolicyLoss::Sapo { tau_positive: 2.0, tau_negative: 1.05 }
        }),
        (&["loss.tau_negative=2", "loss.policy_loss=sapo"], |c| {
            c.loss.policy_loss == PolicyLoss::Sapo { tau_positive: 1.0, tau_negative: 2.0 }
        }),
        (&["loss.aggregation=dr"], |_| unreachable!("no such name")),
        (&["loss.aggregation=seq-mean-token-sum-norm", "loss.norm_len=7"], |c| {
            c.loss.aggregation == Aggregation::SeqMeanTokenSumNorm { max_len: 7 }
        }),
        (&["loss.norm_len=7"], |c| c.loss.aggregation == Aggregation::TokenMean),
        (&["kl.coef=0.5", "kl.in_reward=true"], |c| (c.loss.kl.coef, c.rewards.kl_coef) == (0.0, 0.5)),
        (&["kl.in_reward=true", "kl.in_reward=false", "kl.coef=0.5"], |c| {
            (c.loss.kl.coef, c.rewards.kl_coef) == (0.5, 0.0)
        }),
        (&["kl.sync_every=3", "kl.sync_mixup=0.5"], |c| {
            (c.reference_sync.every, c.reference_sync.mixup) == (Some(3), 0.5)
        }),
        (&["kl.coef=0.5", "kl.sync_every=3", "kl="], |c| *c == RunConfig::default()),
        (&["sampler.per_prompt_max_samples=9"], |c| {
            c.sampler.per_prompt == Some(PerPrompt { increment: 1, max_samples: 9 })
        }),
        (&["sampler.per_prompt_increment=2"], |c| c.sampler.per_prompt.is_none()),
        (&["rewards.accuracy={ right = 2, wrong = 0, extract = 'boxed' }"], |c| {
            let accuracy = c.accuracy();
            let Grader::Math(math) = &accuracy.grader else { return false };
            (accuracy.correct, accuracy.incorrect) == (2.0, 0.0) && math.profile.rules == [ExtractRule::Boxed]
        }),
        (
            &["rewards.accuracy.grader=text", "rewards.accuracy.ignore_case=false", "rewards.accuracy.extract=hash"],
            |c| c.accuracy().grader == Grader::Text(TextOptions { ignore_case: false, ..TextOptions::default() }),
        ),
        (&["loss.truncated_importance.cap=3", "loss.truncated_importance.level=sequence"], |c| {
            let level = ImportanceLevel::Sequence;
            c.loss.rollout_correction == Some(RolloutCorrection { high: 3.0, level, ..RolloutCorrection::default() })
        }),
        (&["loss.truncated_importance={}"], |c| c.loss.rollout_correction == Some(RolloutCorrection::default())),
        (&["loss.rollout_correction=sequence", "loss.truncated_importance=none"], |c| *c == RunConfig::default()),
        (&["train.epochs=3"], |c| c.train.updates_per_batch == 3),
        (&["optimizer.max_grad_norm=0"], |c| c.optimizer.max_grad_norm == f64::INFINITY),
    ];
    for (row, check) in rows {
        match words(row) {
            Ok(resolved) => assert!(check(&resolved.config), "{row:?}: {:?}", resolved.config),
            Err(error) => assert!(row[0].ends_with("=dr") && error.to_string().contains("token-mean"), "{error}"),
        }
    }
}

#[test]
fn a_table_of_truncated_importance_is_a_rollout_correction_and_says_so() {
    let files = Files::new();
    let resolved = resolve(&[Layer::File(files.write("a.toml", "[loss.truncated_importance]\ncap = 3.0\n"))]).unwrap();
    let expected = RolloutCorrection { high: 3.0, ..RolloutCorrection::default() };
    assert_eq!(resolved.config.loss.rollout_correction, Some(expected));
    let warnings = resolved.warnings().join("\n");
    for warning in [
        "loss.truncated_importance is now loss.rollout_correction",
        "loss.truncated_importance.cap is now loss.rollout_correction.high",
    ] {
        assert!(warnings.contains(warning), "{warning}\n{warnings}");
    }
}

#[test]
fn a_rollout_correction_is_written_as_a_word_or_a_table() {
    let of = |row: &[&str]| words(row).unwrap().config.loss.rollout_correction;
    let default = RolloutCorrection::default();
    let sequence = RolloutCorrection { level: ImportanceLevel::Sequence, ..default };
    assert_eq!(of(&["loss.rollout_correction=sequence"]), Some(sequence));
    assert_eq!(of(&["loss.rollout_correction=sequence", "loss.rollout_correction=none"]), None);
    let ice_pop = RolloutCorrection { outside: Outside::Mask, low: 0.5, high: 5.0, ..default };
    assert_eq!(of(&["loss.rollout_correction={ outside = 'mask', low = 0.5, high = 5 }"]), Some(ice_pop));
    let reject = Some(Rejection { by: RejectBy::GeometricMean, ..Rejection::default() });
    let rejecting =
        [RolloutCorrection { reject, ..default }, RolloutCorrection { reject, level: ImportanceLevel::Off, ..default }];
    assert_eq!(of(&["loss.rollout_correction.reject=geometric-mean"]), Some(rejecting[0]));
    let off = ["loss.rollout_correction=off", "loss.rollout_correction.reject.by=geometric-mean"];
    assert_eq!(of(&off), Some(rejecting[1]));
    assert_eq!(
        of(&[off[0], off[1], "loss.rollout_correction.reject=none"]),
        Some(RolloutCorrection { reject: None, ..rejecting[1] })
    );
    // What cannot run is refused before any rollout.
    for (row, expected) in [
        (
            &["tiny", "loss.policy_loss=gmpo", "loss.rollout_correction=token"][..],
            "loss.rollout_correction.level is token",
        ),
        (&["tiny", "loss.policy_loss=gmpo", "loss.top_entropy_quantile=0.2"], "loss.top_entropy_quantile is 0.2"),
        (&["tiny", "loss.rollout_correction.low=3"], "loss.rollout_correction.high is 2"),
        (&["tiny", "loss.rollout_correction.reject.high=0.1"], "loss.rollout_correction.reject.high is 0.1"),
    ] {
        let error = words(row).unwrap().config.validate().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn zeros_that_meant_unset_still_do() {
    for (zero, word) in [
        ("lora.rank=0", "lora=none"),
        ("data.limit=0", "data.limit=none"),
        ("data.system=''", "data.system="),
        ("rollout.top_k=0", "rollout.top_k=none"),
        ("rollout.cache_mib=0", "rollout.cache_mib=none"),
        ("sampler.gen_batch_min=0", "sampler.gen_batch_min=1"),
        ("sampler.gen_batch_max=0", "sampler.gen_batch_max=none"),
        ("sampler.per_prompt.max_samples=0", "sampler.per_prompt=none"),
        ("rewards.soft_overlong.cache_len=0", "rewards.soft_overlong.cache_len=none"),
        ("loss.policy_loss.dual_clip=0.0", "loss.policy_loss.dual_clip=none"),
        ("reference_sync.every=0", "reference_sync.every=none"),
        ("eval.every=0", "eval.every=none"),
        ("eval.max_new_tokens=0", "eval.max_new_tokens=none"),
        ("eval.limit=0", "eval.limit=none"),
    ] {
        let over = [
            "tiny",
            "lora.rank=8",
            "data.limit=3",
            "data.system=x",
            "rollout.top_k=4",
            "rollout.cache_mib=9",
            "sampler.gen_batch_min=2",
            "sampler.gen_batch_max=40",
            "sampler.per_prompt.max_samples=30",
            "loss.policy_loss.dual_clip=3",
            "reference_sync.every=2",
            "eval.max_new_tokens=5",
        ];
        let (zero, word) =
            (words(&[&over[..], &[zero]].concat()).unwrap(), words(&[&over[..], &[word]].concat()).unwrap());
        assert_eq!(zero.config, word.config);
        assert_ne!(zero.config, words(&over).unwrap().config);
        assert_eq!((zero.warnings().len(), word.warnings().len()), (1, 0), "{:?}", zero.warnings());
    }
}

#[test]
fn no_recipe_has_old_keys() {
    for recipe in recipes() {
        assert_eq!(words(&[recipe.name]).unwrap().warnings(), &[] as &[String], "{}", recipe.name);
    }
}
