//! Which values are refused, under which key; and what a name in a table's place does.

use crate::words;
use dapo_loss::{ClipRange, PolicyLoss};
use dapo_run::RunError;

#[test]
fn every_part_names_the_key_of_what_it_refuses() {
    for (settings, message) in [
        (&["data.validation_split=1"][..], "data.validation_split is 1, expected at least 0 and below 1"),
        (
            &["rollout.group_size=1"],
            "rollout.group_size is 1, expected at least 2: a group of one has no baseline without a critic",
        ),
        (
            &["rollout.group_size=1", "critic={}"],
            "sampler.dynamic is true, expected false with groups of one, which have nothing to differ in",
        ),
        (&["critic.gamma=2"], "critic.gamma is 2, expected from 0 to 1"),
        (&["critic.optimizer.beta1=1"], "critic.optimizer.beta1 is 1, expected at least 0 and below 1"),
        (
            &["critic.layers=shared", "critic.warmup_steps=3"],
            "critic.warmup_steps is 3, expected 0 with shared layers: training the critic alone would change the policy",
        ),
        (
            &["critic={}", "loss.policy_loss=gspo"],
            "loss.policy_loss is gspo, expected one with a ratio for each token: a critic gives each its advantage",
        ),
        (&["rollout.max_new_tokens=0"], "rollout.max_new_tokens is 0, expected at least 1"),
        (&["rollout.temperature=-1"], "rollout.temperature is -1, expected a finite number of at least 0"),
        (
            &["rollout.temperature=0"],
            "rollout.temperature is 0, expected a finite number above 0: greedy completions are all the same",
        ),
        (
            &["rollout.temperature=1e-40"],
            "rollout.temperature is 0.0000000000000000000000000000000000000001, expected 0, which takes the most probable \
             token, or at least 0.000001",
        ),
        (&["rollout.min_p=-1"], "rollout.min_p is -1, expected a number from 0 to 1"),
        (&["rollout.repetition_penalty=0"], "rollout.repetition_penalty is 0, expected a finite number above 0"),
        (&["rollout.stop=['a', '']"], "rollout.stop[1] is \"\", expected a text of at least one character"),
        (&["eval.min_p=1.5"], "eval.min_p is 1.5, expected a number from 0 to 1"),
        (&["eval.repetition_penalty=inf"], "eval.repetition_penalty is inf, expected a finite number above 0"),
        (&["eval.stop=['']"], "eval.stop[0] is \"\", expected a text of at least one character"),
        (&["eval.top_p=2"], "eval.top_p is 2, expected a number above 0 and at most 1"),
        (
            &["sampler.max_age=0"],
            "sampler.max_age is 0, expected at least 1; the surplus policy `discard` carries nothing",
        ),
        (&["sampler.gen_batch=0"], "sampler.gen_batch is 0, expected at least 1"),
        (
            &["sampler.per_prompt.max_samples=8"],
            "sampler.per_prompt.max_samples is 8, expected more than group_size = 8",
        ),
        (&["lora.alpha=0"], "lora.alpha is 0, expected a finite number above 0"),
        (&["rewards.accuracy.correct=nan"], "rewards.accuracy.correct is NaN, expected a finite number"),
        (
            &["rewards.accuracy.grader.profile.rules=[]"],
            "rewards.accuracy.grader.profile.rules is empty, expected at least one rule",
        ),
        (&["rewards.soft_overlong.cache_len=999"], "rewards.soft_overlong.cache_len is 999, expected 1 to max_len"),
        (&["rewards.length.weight=inf"], "rewards.length.weight is inf, expected a finite number"),
        (&["rewards.correct=format"], "rewards.correct is format, expected a reward that judges: accuracy"),
        (
            &["data.system=Hi", "data.fields.system=rule"],
            "data.fields.system is rule, expected unset beside data.system: a problem has one system message",
        ),
        (&["rewards.kl_coef=-1"], "rewards.kl_coef is -1, expected a finite number of at least 0"),
        (&["advantage.eps=-1"], "advantage.eps is -1, expected a finite number >= 0"),
        (&["loss.policy_loss.clip.low=2"], "loss.policy_loss.clip.low is 2, expected a number from 0 to 1"),
        (
            &["loss.policy_loss=gmpo", "loss.aggregation=token-mean"],
            "loss.aggregation is token-mean, expected seq-mean-token-mean, the only one of gmpo",
        ),
        (&["loss.kl.coef=-1"], "loss.kl.coef is -1, expected a finite number >= 0"),
        (&["train.min_mini_batch=2"], "train.min_mini_batch is 2, expected none, or from 0 to 1"),
        (
            &["sampler.train_batch=2", "train.mini_batches=3"],
            "train.mini_batches is 3, expected at most sampler.train_batch = 2: an update needs a group",
        ),
        (&["reference_sync.mixup=2"], "reference_sync.mixup is 2, expected from 0 to 1"),
        (
            &["lora.rank=2", "reference_sync.every=2"],
            "reference_sync.every is 2, expected unset with lora: the reference is the model without its adapters",
        ),
        (&["guards.max_kl=-1"], "guards.max_kl is -1, expected a finite number of at least 0"),
        (&["guards.min_accuracy_share=2"], "guards.min_accuracy_share is 2, expected from 0 to 1"),
        (&["guards.steps=0"], "guards.steps is 0, expected at least 1"),
        (&["optimizer.beta2=1"], "optimizer.beta2 is 1, expected at least 0 and below 1"),
        (&["train.updates_per_batch=0"], "train.updates_per_batch is 0, expected at least 1"),
    ] {
        let error = words(settings).unwrap().config.validate().unwrap_err();
        assert!(matches!(error, RunError::Setting { .. }), "{error}");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn another_name_drops_the_constants_of_the_one_before() {
    let loss = |layers: &[&str]| words(layers).unwrap().config.loss.policy_loss;
    assert_eq!(loss(&["dapo", "loss.policy_loss=gspo"]), PolicyLoss::gspo());
    assert_eq!(loss(&["dapo", "loss.policy_loss=ppo"]), PolicyLoss::ppo());
    assert_eq!(loss(&["verl-dapo", "loss.policy_loss=sapo"]), PolicyLoss::sapo());
    // The same name keeps them.
    let clip = ClipRange { low: 0.2, high: 0.4 };
    let kept = loss(&["loss.policy_loss.clip.high=0.4", "loss.policy_loss=dapo"]);
    assert_eq!(kept, PolicyLoss::Ppo { clip, dual_clip: None });
    let warnings = words(&["verl-dapo", "loss.policy_loss=gspo"]).unwrap().warnings().join("\n");
    assert_eq!(warnings, "command line: loss.policy_loss is gspo instead of dapo, without its dual_clip = 10.0");
}

#[test]
fn constants_of_another_name_are_refused() {
    let error = |layers: &[&str]| words(layers).unwrap_err().to_string();
    assert_eq!(
        error(&["loss.policy_loss={ name = 'gspo', dual_clip = 3 }"]),
        "command line: loss.policy_loss.dual_clip is 3, expected nothing, as loss.policy_loss.name is gspo; only dapo, ppo has it"
    );
    assert_eq!(
        error(&["rewards.accuracy.grader=choice", "rewards.accuracy.grader.precision=3"]),
        "command line: rewards.accuracy.grader.precision is 3, expected nothing, as rewards.accuracy.grader.name is choice; \
         only math has it"
    );
    assert_eq!(
        error(&["rewards.accuracy.grader.profile=boxd"]),
        "command line: rewards.accuracy.grader.profile is \"boxd\" (a string), expected a list of auto, boxed, answer-line, \
         hash, answer-tag, answer-is, last-math, choice, last-number, whole"
    );
}
