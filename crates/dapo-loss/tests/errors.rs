//! Every input that cannot be a loss is refused, by name.
#![allow(missing_docs, clippy::unwrap_used)]

use dapo_loss::{
    AdvantageScale, Advantages, Aggregation, Baseline, ClipRange, Denominator, EmptySequences, ImportanceLevel, Kl,
    KlEstimator, LossBatch, LossConfig, LossError, LossGradients, LossOutput, LossPlan, Outside, PolicyLoss, RejectBy,
    Rejection, RolloutCorrection, StdEstimator, StepCounts, TokenChunk, policy_loss, policy_loss_single,
};

const OLD: [f32; 4] = [-1.0; 4];

fn batch() -> LossBatch<'static> {
    LossBatch::new(&[0, 1, 4], Advantages::PerSequence(&[1.0, -1.0]), &OLD)
}

/// `batch` after `change`.
fn changed<'a>(mut batch: LossBatch<'a>, change: impl FnOnce(&mut LossBatch<'a>)) -> LossBatch<'a> {
    change(&mut batch);
    batch
}

/// The batch with other advantages.
fn with(advantages: Advantages<'_>) -> LossBatch<'_> {
    changed(batch(), |batch| batch.advantages = advantages)
}

fn denominator(config: &LossConfig) -> Denominator {
    Denominator::of_step(config.aggregation, &[1, 3], EmptySequences::Exclude).unwrap()
}

fn run(config: &LossConfig, batch: LossBatch<'_>, logprobs: &[f32]) -> Result<LossOutput, LossError> {
    let mut gradient = vec![0.0; logprobs.len()];
    let chunk = TokenChunk::whole(logprobs);
    policy_loss(config, denominator(config), batch, chunk, gradient.as_mut_slice().into())
}

fn message(config: &LossConfig, batch: LossBatch<'_>, logprobs: &[f32]) -> String {
    run(config, batch, logprobs).unwrap_err().to_string()
}

#[test]
fn lengths_that_disagree_are_named() {
    let config = LossConfig::default();
    let with = |change: fn(&mut LossBatch<'static>)| message(&config, changed(batch(), change), &OLD);
    assert_eq!(with(|b| b.old_logprobs = &[0.0; 7]), "policy_loss: old_logprobs has 7 values, expected 4");
    assert_eq!(with(|b| b.ref_logprobs = Some(&[0.0])), "policy_loss: ref_logprobs has 1 values, expected 4");
    assert_eq!(with(|b| b.rollout_logprobs = Some(&[])), "policy_loss: rollout_logprobs has 0 values, expected 4");
    assert_eq!(with(|b| b.mask = Some(&[1; 5])), "policy_loss: mask has 5 values, expected 4");
    let wrong = "policy_loss: advantages has 3 values, expected ";
    assert_eq!(with(|b| b.advantages = Advantages::PerSequence(&[0.0; 3])), format!("{wrong}2"));
    assert_eq!(with(|b| b.advantages = Advantages::PerToken(&[0.0; 3])), format!("{wrong}4"));
    assert_eq!(with(|b| b.cu_seqlens = &[1, 4]), "policy_loss: cu_seqlens[0] is 1, expected 0");
    assert_eq!(with(|b| b.cu_seqlens = &[]), "policy_loss: cu_seqlens has 0 values, expected 1");
    assert_eq!(
        with(|b| b.cu_seqlens = &[0, 3, 2, 4]),
        "policy_loss: cu_seqlens[2] is 2, expected not less than the offset before it"
    );
    assert_eq!(message(&config, batch(), &OLD[..3]), "policy_loss: logprobs has 3 values, expected 4");
}

#[test]
fn chunks_and_gradients_must_fit() {
    let config = LossConfig::default();
    let plan = LossPlan::new(&config, denominator(&config), batch()).unwrap();
    let run = |start, entropies: Option<&[f32]>, gradient: usize, entropy_gradient: usize| {
        let (mut gradient, mut entropy_gradient) = (vec![0.0; gradient], vec![0.0; entropy_gradient]);
        let gradients = LossGradients::new(&mut gradient).with_entropies(&mut entropy_gradient);
        let mut chunk = TokenChunk::at(start, &OLD[..3]);
        chunk.entropies = entropies;
        plan.evaluate(chunk, gradients).unwrap_err().to_string()
    };
    assert_eq!(run(2, None, 3, 3), "policy_loss: logprobs has 3 values, expected 2");
    assert_eq!(run(9, None, 3, 3), "policy_loss: logprobs has 3 values, expected 0");
    assert_eq!(run(1, None, 2, 3), "policy_loss: gradients.logprobs has 2 values, expected 3");
    assert_eq!(run(1, None, 3, 2), "policy_loss: gradients.entropies has 2 values, expected 3");
    assert_eq!(run(1, Some(&[0.0]), 3, 3), "policy_loss: entropies has 1 values, expected 3");
    let empty = plan.evaluate(TokenChunk::at(4, &[]), LossGradients::from([].as_mut_slice()));
    assert_eq!(empty, Ok(LossOutput::default()));
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    let config = LossConfig {
        kl: Kl { coef: 0.1, ..Kl::default() },
        rollout_correction: Some(RolloutCorrection::default()),
        entropy_coef: 0.1,
        ..LossConfig::default()
    };
    let bad = [0.0, 0.0, f32::NAN, f32::INFINITY];
    let zeros = [0.0; 4];
    let given = batch().with_ref_logprobs(&OLD).with_rollout_logprobs(&OLD);
    let run = |batch: LossBatch<'_>, logprobs: &[f32], entropies: &[f32]| {
        let chunk = TokenChunk::whole(logprobs).with_entropies(entropies);
        let mut gradient = [0.0; 4];
        let plan = LossPlan::new(&config, denominator(&config), batch).unwrap();
        plan.evaluate(chunk, gradient.as_mut_slice().into()).unwrap_err().to_string()
    };
    let at = |array: &str| format!("policy_loss: {array} is NaN in sequence 1 at position 1");
    assert_eq!(run(given, &bad, &zeros), at("logprobs"));
    assert_eq!(run(changed(given, |batch| batch.old_logprobs = &bad), &OLD, &zeros), at("old_logprobs"));
    assert_eq!(run(given.with_ref_logprobs(&bad), &OLD, &zeros), at("ref_logprobs"));
    assert_eq!(run(given.with_rollout_logprobs(&bad), &OLD, &zeros), at("rollout_logprobs"));
    assert_eq!(
        run(changed(given, |batch| batch.advantages = Advantages::PerToken(&bad)), &OLD, &zeros),
        at("advantages")
    );
    assert_eq!(run(given, &OLD, &bad), at("entropies"));
    let infinite = changed(given, |batch| batch.advantages = Advantages::PerSequence(&[1.0, f32::INFINITY]));
    let expected = "policy_loss: advantages is inf in sequence 1 at position 0";
    assert_eq!(run(infinite, &OLD, &zeros), expected);
}

#[test]
fn values_that_are_not_finite_are_found_by_every_loss() {
    for name in ["dapo", "gspo", "cispo", "sapo", "gmpo"] {
        let config = LossConfig::of(name.parse().unwrap());
        let logprobs = [-1.0, -1.0, f32::NEG_INFINITY, -1.0];
        let expected = "policy_loss: logprobs is -inf in sequence 1 at position 1";
        assert_eq!(message(&config, batch(), &logprobs), expected, "{name}");
        let advantages = Advantages::PerSequence(&[f32::NAN, 1.0]);
        let expected = "policy_loss: advantages is NaN in sequence 0 at position 0";
        assert_eq!(message(&config, with(advantages), &OLD), expected, "{name}");
        // Where the mask is 0 nothing is looked at.
        let masked = with(advantages).with_mask(&[0, 1, 0, 1]);
        assert!(run(&config, masked, &logprobs).unwrap().loss.is_finite(), "{name}");
    }
}

#[test]
fn a_loss_too_large_for_floats_is_an_error() {
    let config = LossConfig::default();
    let advantages = Advantages::PerSequence(&[0.0, -1e38]);
    let message = message(&config, with(advantages), &[10.0; 4]);
    assert_eq!(message, "policy_loss: finite inputs give a loss of inf");
}

#[test]
fn what_the_settings_need_must_be_given() {
    let kl = LossConfig { kl: Kl { coef: 0.1, ..Kl::default() }, ..LossConfig::default() };
    assert_eq!(message(&kl, batch(), &OLD), "policy_loss: kl.coef needs ref_logprobs");
    for reject in [None, Some(Rejection::default())] {
        let correction = RolloutCorrection { reject, ..RolloutCorrection::default() };
        let corrected = LossConfig { rollout_correction: Some(correction), ..LossConfig::default() };
        assert_eq!(message(&corrected, batch(), &OLD), "policy_loss: rollout_correction needs rollout_logprobs");
        assert_eq!(corrected.lengths(&batch()).is_err(), reject.is_some());
    }
    let chosen = LossConfig { top_entropy_quantile: 0.2, ..LossConfig::default() };
    assert_eq!(message(&chosen, batch(), &OLD), "policy_loss: top_entropy_quantile needs entropies");
    let plan = LossPlan::new(&chosen, denominator(&chosen), batch()).unwrap();
    let chunk = TokenChunk::whole(&OLD).with_entropies(&[1.0; 4]);
    let error = plan.evaluate(chunk, [0.0; 4].as_mut_slice().into()).unwrap_err().to_string();
    assert_eq!(error, "policy_loss: top_entropy_quantile needs set_entropy_threshold");
    assert!(plan.clone().set_entropies(&[1.0; 3]).is_err());
    let entropy = LossConfig { entropy_coef: 0.1, ..LossConfig::default() };
    assert_eq!(message(&entropy, batch(), &OLD), "policy_loss: entropy_coef needs entropies");
    let gspo = LossConfig::of("gspo".parse().unwrap());
    let plan = LossPlan::new(&gspo, denominator(&gspo), batch()).unwrap();
    assert!(plan.needs_sequence_ratios());
    let error = plan.evaluate(TokenChunk::whole(&OLD), [0.0; 4].as_mut_slice().into()).unwrap_err();
    assert_eq!(error.to_string(), "policy_loss: gspo needs set_sequence_ratios");
    let per_token = with(Advantages::PerToken(&OLD));
    let error = "policy_loss: `gspo` needs one advantage per sequence, got one per token";
    assert_eq!(message(&gspo, per_token, &OLD), error);
}

#[test]
fn the_denominator_must_be_made_for_the_configured_aggregation() {
    let config = LossConfig::default();
    let other = Denominator::of_step(Aggregation::SeqMeanTokenSum, &[1, 3], EmptySequences::Exclude).unwrap();
    let error = LossPlan::new(&config, other, batch()).unwrap_err().to_string();
    let expected = "the step denominator was made for `seq-mean-token-sum`, the loss is configured for `token-mean`";
    assert_eq!(error, expected);
}

#[test]
fn a_denominator_of_a_smaller_step_is_refused() {
    let config = LossConfig::default();
    let small = Denominator::of_step(config.aggregation, &[1], EmptySequences::Exclude).unwrap();
    let expected = "policy_loss: the batch has 4 tokens in the loss, the denominator was made for a step of 1";
    assert_eq!(LossPlan::new(&config, small, batch()).unwrap_err().to_string(), expected);
    let masked = |mask: &'static [u8]| {
        let mut gradient = [0.0; 4];
        let chunk = TokenChunk::whole(&OLD);
        policy_loss(&config, small, batch().with_mask(mask), chunk, gradient.as_mut_slice().into())
    };
    let expected = "policy_loss: the batch has 2 tokens in the loss, the denominator was made for a step of 1";
    assert_eq!(masked(&[1, 0, 0, 1]).unwrap_err().to_string(), expected);
    assert_eq!(masked(&[0, 0, 0, 1]).unwrap().loss, 1.0);
    let local = Denominator::of_micro_batch(&[1], 4).unwrap();
    let config = LossConfig { aggregation: Aggregation::LocalTokenMean, ..config };
    assert!(matches!(LossPlan::new(&config, local, batch()), Err(LossError::BeyondStep { tokens: 4, step: 1, .. })));
}

#[test]
fn one_call_makes_denominator_and_gradients_itself() {
    let logprobs = [-0.5, -1.2, -0.9, -2.0];
    for name in ["dapo", "gspo", "sapo", "gmpo"] {
        let config = LossConfig::of(name.parse().unwrap());
        let single = policy_loss_single(&config, batch(), &logprobs).unwrap();
        let mut gradient = [0.0; 4];
        let chunk = TokenChunk::whole(&logprobs);
        let output =
            policy_loss(&config, denominator(&config), batch(), chunk, gradient.as_mut_slice().into()).unwrap();
        assert_eq!((single.loss, single.metrics), (output.loss, output.metrics));
        assert_eq!((single.gradient.as_slice(), single.entropy_gradient), (gradient.as_slice(), None));
    }
    let error = |batch: LossBatch<'_>, logprobs: &[f32]| {
        policy_loss_single(&LossConfig::default(), batch, logprobs).unwrap_err().to_string()
    };
    let empty = batch().with_mask(&[0; 4]);
    assert_eq!(error(empty, &logprobs), "policy_loss: no token of the batch is in the loss; skip the step");
    assert_eq!(error(batch(), &logprobs[1..]), "policy_loss: logprobs has 3 values, expected 4");
    let short = batch().with_mask(&[1; 3]);
    assert_eq!(error(short, &logprobs), "policy_loss: mask has 3 values, expected 4");
    let entropy = LossConfig { entropy_coef: 0.1, ..LossConfig::default() };
    let error = policy_loss_single(&entropy, batch(), &logprobs).unwrap_err().to_string();
    assert_eq!(error, "policy_loss: entropy_coef needs entropies");
}

#[test]
fn counts_that_no_step_can_have_are_refused() {
    for (tokens, sequences, empty) in [(4, 1, 2), (0, 1, 0), (1, 2, 0), (3, 1, 1), (1, 0, 0)] {
        let error = StepCounts::new(tokens, sequences, empty).unwrap_err().to_string();
        let expected =
            format!("a step cannot have {tokens} tokens in {sequences} sequences of which {empty} are empty");
        assert_eq!(error, expected);
    }
    assert_eq!(StepCounts::new(4, 3, 1), Ok(StepCounts::of_lengths(&[1, 0, 3])));
    assert_eq!(StepCounts::new(0, 2, 2), Ok(StepCounts::of_lengths(&[0, 0])));
}

#[test]
fn settings_outside_their_range_name_field_value_and_what_is_allowed() {
    let error = |config: LossConfig| config.validate().unwrap_err().to_string();
    let dapo = LossConfig::default();
    let ppo = |low, high, dual_clip| {
        let policy_loss = PolicyLoss::Ppo { clip: ClipRange { low, high }, dual_clip };
        error(LossConfig { policy_loss, ..dapo })
    };
    assert_eq!(ppo(1.5, 0.2, None), "policy_loss.clip.low is 1.5, expected a number from 0 to 1");
    assert_eq!(ppo(-0.1, 0.2, None), "policy_loss.clip.low is -0.1, expected a number from 0 to 1");
    assert_eq!(ppo(0.2, -0.1, None), "policy_loss.clip.high is -0.1, expected a finite number >= 0");
    assert_eq!(ppo(0.2, 0.2, Some(1.0)), "policy_loss.dual_clip is 1, expected none, or a finite number > 1");
    let loss = |policy_loss: PolicyLoss| error(LossConfig::of(policy_loss));
    let clip = ClipRange { low: f32::NAN, high: 0.4 };
    let wrong = "policy_loss.clip.low is NaN, expected a";
    assert_eq!(loss(PolicyLoss::Gspo { clip }), format!("{wrong} number from 0 to 1"));
    assert_eq!(loss(PolicyLoss::Cispo { clip }), format!("{wrong} number from 0 to 1"));
    assert_eq!(loss(PolicyLoss::Gmpo { clip }), format!("{wrong} finite number >= 0"));
    let clip = ClipRange { low: 0.4, high: f32::INFINITY };
    let expected = "policy_loss.clip.high is inf, expected a finite number >= 0";
    assert_eq!(loss(PolicyLoss::Gmpo { clip }), expected);
    let sapo = |tau_positive, tau_negative| loss(PolicyLoss::Sapo { tau_positive, tau_negative });
    assert_eq!(sapo(0.0, 1.0), "policy_loss.tau_positive is 0, expected a finite number > 0");
    assert_eq!(sapo(1.0, -1.0), "policy_loss.tau_negative is -1, expected a finite number > 0");
    let norm = Aggregation::SeqMeanTokenSumNorm { max_len: 0 };
    assert_eq!(error(LossConfig { aggregation: norm, ..dapo }), "aggregation.max_len is 0, expected at least 1");
    let gmpo = LossConfig::of("gmpo".parse().unwrap());
    assert_eq!(
        error(LossConfig { aggregation: Aggregation::TokenMean, ..gmpo }),
        "aggregation is token-mean, expected seq-mean-token-mean, the only one of gmpo"
    );
    assert_eq!(
        error(LossConfig { rollout_correction: Some(RolloutCorrection::default()), ..gmpo }),
        "rollout_correction.level is token, expected sequence or off: gmpo has one loss per sequence"
    );
    assert_eq!(
        error(LossConfig { top_entropy_quantile: 0.2, ..gmpo }),
        "top_entropy_quantile is 0.2, expected 1: gmpo has one loss per sequence"
    );
    for (top_entropy_quantile, shown) in [(1.5, "1.5"), (-0.1, "-0.1"), (f64::NAN, "NaN")] {
        let expected = format!("top_entropy_quantile is {shown}, expected a number from 0 to 1");
        assert_eq!(error(LossConfig { top_entropy_quantile, ..dapo }), expected);
    }
    let kl = Kl { coef: -1.0, ..Kl::default() };
    assert_eq!(error(LossConfig { kl, ..dapo }), "kl.coef is -1, expected a finite number >= 0");
    let entropy_coef = f32::INFINITY;
    assert_eq!(error(LossConfig { entropy_coef, ..dapo }), "entropy_coef is inf, expected a finite number >= 0");
    let corrected = |correction| error(LossConfig { rollout_correction: Some(correction), ..dapo });
    let with_band = |low, high| corrected(RolloutCorrection { low, high, ..RolloutCorrection::default() });
    assert_eq!(with_band(0.0, 0.0), "rollout_correction.high is 0, expected a number > 0");
    assert_eq!(with_band(0.0, f32::NAN), "rollout_correction.high is NaN, expected a number > 0");
    assert_eq!(with_band(3.0, 2.0), "rollout_correction.high is 2, expected at least the lower bound");
    assert_eq!(with_band(-1.0, 2.0), "rollout_correction.low is -1, expected a finite number >= 0");
    let reject = |low, high| {
        let reject = Some(Rejection { by: RejectBy::GeometricMean, low, high });
        corrected(RolloutCorrection { reject, outside: Outside::Mask, ..RolloutCorrection::default() })
    };
    let expected = "rollout_correction.reject.high is 0.9, expected at least the lower bound";
    assert_eq!(reject(None, Some(0.9)), expected);
    assert_eq!(
        reject(Some(f32::INFINITY), None),
        "rollout_correction.reject.low is inf, expected a finite number >= 0"
    );
    let norm = dapo_loss::AdvantageNorm { eps: -1.0, ..Default::default() };
    assert_eq!(norm.validate().unwrap_err().to_string(), "eps is -1, expected a finite number >= 0");
    // A plan refuses what validate refuses.
    assert!(LossPlan::new(&LossConfig { kl, ..dapo }, denominator(&dapo), batch()).is_err());
}

#[test]
fn the_limits_of_every_range_are_allowed() {
    let clips = [ClipRange { low: 0.0, high: 0.0 }, ClipRange { low: 1.0, high: 4.0 }];
    for clip in clips {
        for policy_loss in [
            PolicyLoss::Ppo { clip, dual_clip: Some(1.01) },
            PolicyLoss::Gspo { clip },
            PolicyLoss::Cispo { clip },
            PolicyLoss::Gmpo { clip },
        ] {
            assert_eq!(LossConfig::of(policy_loss).validate(), Ok(()));
        }
    }
    let gmpo = LossConfig::of("gmpo".parse().unwrap());
    for level in [ImportanceLevel::Sequence, ImportanceLevel::Off] {
        let correction = RolloutCorrection { level, high: f32::INFINITY, ..Default::default() };
        assert_eq!(LossConfig { rollout_correction: Some(correction), ..gmpo }.validate(), Ok(()));
    }
    for top_entropy_quantile in [0.0, 1.0] {
        assert_eq!(LossConfig { top_entropy_quantile, ..LossConfig::default() }.validate(), Ok(()));
    }
    assert_eq!(dapo_loss::AdvantageNorm { eps: 0.0, ..Default::default() }.validate(), Ok(()));
}

#[test]
fn names_parse_and_print_and_unknown_ones_list_what_exists() {
    for (name, expected) in [
        ("dapo", PolicyLoss::dapo()),
        ("ppo", PolicyLoss::ppo()),
        ("gspo", PolicyLoss::gspo()),
        ("cispo", PolicyLoss::cispo()),
        ("sapo", PolicyLoss::sapo()),
        ("gmpo", PolicyLoss::gmpo()),
    ] {
        let loss: PolicyLoss = name.parse().unwrap();
        assert_eq!((loss, loss.to_string().as_str()), (expected, name));
        assert_eq!(LossConfig::of(loss).validate(), Ok(()));
    }
    for name in
        ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm", "local-token-mean"]
    {
        assert_eq!(Aggregation::from_name(name, 8).unwrap().to_string(), name);
    }
    for (trl, verl) in [
        ("dapo", "token-mean"),
        ("grpo", "seq-mean-token-mean"),
        ("dr_grpo", "seq-mean-token-sum-norm"),
        ("bnpo", "local-token-mean"),
    ] {
        assert_eq!(Aggregation::from_name(trl, 8), Aggregation::from_name(verl, 8));
    }
    for name in ["k1", "k2", "k3", "abs", "k1+", "k3+"] {
        assert_eq!(name.parse::<KlEstimator>().unwrap().to_string(), name);
    }
    for name in ["token", "sequence", "off"] {
        assert_eq!(name.parse::<ImportanceLevel>().unwrap().to_string(), name);
    }
    for name in ["mean", "leave-one-out"] {
        assert_eq!(name.parse::<Baseline>().unwrap().to_string(), name);
    }
    for name in ["truncate", "mask"] {
        assert_eq!(name.parse::<Outside>().unwrap().to_string(), name);
    }
    for name in ["product", "geometric-mean"] {
        assert_eq!(name.parse::<RejectBy>().unwrap().to_string(), name);
    }
    for name in ["group", "batch", "whiten", "none"] {
        assert_eq!(name.parse::<AdvantageScale>().unwrap().to_string(), name);
    }
    for name in ["sample", "population"] {
        assert_eq!(name.parse::<StdEstimator>().unwrap().to_string(), name);
    }
    let unknown = "k4".parse::<KlEstimator>().unwrap_err().to_string();
    assert_eq!(unknown, "unknown KL estimator `k4`, expected one of k1, k2, k3, abs, k1+, k3+");
    assert!(Aggregation::from_name("mean", 8).unwrap_err().to_string().contains("token-mean, seq-mean-token-mean"));
}
