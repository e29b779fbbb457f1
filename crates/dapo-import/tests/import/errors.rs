//! Errors name file, line, key, what was found and what was expected.

use std::path::Path;

use dapo_import::import;

/// What ends the import, or the first value that it leaves out.
fn error(text: &str, name: &str) -> String {
    match import(text, Path::new(name), None) {
        Ok(imported) => imported.refused[0].to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn wrong_values_name_everything() {
    let verl = "data:\n  train_batch_size: many\nalgorithm:\n  adv_estimator: grpo\n";
    assert_eq!(error(verl, "a.yaml"), "a.yaml:2: data.train_batch_size is `many`, expected a whole number >= 1");
    let verl =
        "a=1\npython -m verl.trainer.main_ppo \\\n  trainer.nnodes=1 \\\n  actor_rollout_ref.actor.loss_agg_mode=mean";
    assert_eq!(
        error(verl, "a.sh"),
        "a.sh:4: actor_rollout_ref.actor.loss_agg_mode is `mean`, expected one of token-mean, seq-mean-token-sum, \
         seq-mean-token-mean, seq-mean-token-sum-norm"
    );
    let trl = "model_name_or_path: a\nbeta: 0.0\nmask_truncated_completions: maybe\n";
    assert_eq!(error(trl, "a.yaml"), "a.yaml:3: mask_truncated_completions is `maybe`, expected true or false");
    let trl = "model_name_or_path: a\nreward_funcs: [accuracy]\nreward_weights: [1, 2]\n";
    assert_eq!(
        error(trl, "a.yaml"),
        "a.yaml:3: reward_weights is `[1, 2]`, expected as many numbers as reward_funcs: 1"
    );
    let swift = "swift rlhf --rlhf_type dpo \\\n  --beta 0.1";
    assert_eq!(error(swift, "a.sh"), "a.sh:1: rlhf_type is `dpo`, expected one of grpo, ppo");
    let swift = "swift rlhf --rlhf_type grpo \\\n  --loss_type real";
    assert_eq!(
        error(swift, "a.sh"),
        "a.sh:2: loss_type is `real`, expected one of dapo, bnpo, grpo, dr_grpo, cispo, sapo"
    );
}

#[test]
fn settings_that_contradict_each_other_are_errors() {
    let both = "actor_rollout_ref.actor.use_kl_loss=True algorithm.use_kl_in_reward=True";
    assert!(
        error(both, "a").starts_with("a:1: algorithm.use_kl_in_reward is `True`, expected false beside use_kl_loss")
    );
    let critic = "algorithm.adv_estimator=remax";
    assert!(error(critic, "a").contains("`remax`, expected one of grpo"));
    let delta = "model_name_or_path: a\nepsilon_high: 0.28\ndelta: 1.2\n";
    assert!(error(delta, "a.yaml").contains("delta is `1.2`, expected a number above 1 + epsilon_high"));
    let cispo = "model_name_or_path: a\nloss_type: cispo\nepsilon_high: 0.28\n";
    assert!(error(cispo, "a.yaml").contains("epsilon_high is `0.28`, expected a bound above 1"));
    let buffer = "reward_model.overlong_buffer.enable=True";
    assert!(error(buffer, "a").contains("overlong buffer's len"));
}

#[test]
fn syntax_errors_have_lines() {
    for (text, name, line) in [
        ("model_name_or_path: a\n  b: [1\n", "a.yaml", "a.yaml:"),
        ("a: &x 1\nb: *x\n", "a.yaml", "a.yaml:2: found an alias"),
        ("- 1\n- 2\n", "a.yaml", "a.yaml:1: found a list"),
        ("a: 1\n---\nb: 2\n", "a.yaml", "a.yaml:2: found a second document"),
        ("echo 'a\n", "a.sh", "a.sh:1: found `'` without its end"),
        ("x=1\nif true; then\n  y=2\n", "a.sh", "a.sh:2: found `if` without its end"),
        ("x=(1 2\n", "a.sh", "a.sh:1: found `(` without its end"),
        (
            "if true; then\n  python -m verl.trainer.main_ppo trainer.nnodes=1\nfi\n",
            "a.sh",
            "a.sh:2: found the trainer's command inside the `if` of line 1",
        ),
        (
            "trainer.nnodes=1\npython -m verl.trainer.main_ppo trainer.nnodes=1\n",
            "a.sh",
            "a.sh:2: found a second trainer command beside that of line 1",
        ),
    ] {
        let error = error(text, name);
        assert!(error.starts_with(line), "{error}");
    }
}
