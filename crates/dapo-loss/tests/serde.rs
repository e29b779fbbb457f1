//! Settings as they are written in configuration files.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "serde")]

use dapo_loss::{
    AdvantageNorm, AdvantageScale, Aggregation, ClipRange, EmptySequences, ImportanceLevel, KlEstimator, LossConfig,
    Outside, PolicyLoss, RejectBy, Rejection, RolloutCorrection,
};

#[test]
fn an_empty_object_is_dapo() {
    assert_eq!(serde_json::from_str::<LossConfig>("{}").unwrap(), LossConfig::default());
    assert_eq!(serde_json::from_str::<AdvantageNorm>("{}").unwrap(), AdvantageNorm::default());
}

#[test]
fn names_and_defaults_are_those_of_the_parser() {
    for name in ["dapo", "ppo", "gspo", "cispo", "sapo", "gmpo"] {
        let read: PolicyLoss = serde_json::from_str(&format!(r#"{{"name": "{name}"}}"#)).unwrap();
        assert_eq!(read, name.parse().unwrap());
    }
    let text = r#"{
        "policy_loss": {"name": "gspo", "clip": {"low": 0.001, "high": 0.002}},
        "aggregation": {"seq-mean-token-sum-norm": {"max_len": 64}},
        "empty_sequences": "count",
        "kl": {"coef": 0.04, "estimator": "k2"},
        "top_entropy_quantile": 0.2,
        "rollout_correction": {"level": "sequence", "reject": "geometric-mean"}
    }"#;
    let config: LossConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.policy_loss, PolicyLoss::Gspo { clip: ClipRange { low: 0.001, high: 0.002 } });
    assert_eq!(config.aggregation, Aggregation::SeqMeanTokenSumNorm { max_len: 64 });
    assert_eq!(config.empty_sequences, EmptySequences::Count);
    assert_eq!((config.kl.coef, config.kl.estimator, config.kl.times_ratio), (0.04, KlEstimator::K2, false));
    let reject = Some(Rejection { by: RejectBy::GeometricMean, low: None, high: None });
    let correction = RolloutCorrection { level: ImportanceLevel::Sequence, reject, ..RolloutCorrection::default() };
    assert_eq!((config.rollout_correction, config.top_entropy_quantile), (Some(correction), 0.2));
    let norm: AdvantageNorm = serde_json::from_str(r#"{"scale": "none"}"#).unwrap();
    assert_eq!(norm.scale, AdvantageScale::None);
    let back: LossConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(back, config);
}

#[test]
fn a_name_alone_is_enough() {
    let read = |text: &str| serde_json::from_str::<LossConfig>(text).unwrap();
    for name in ["dapo", "ppo", "gspo", "cispo", "sapo", "gmpo"] {
        let config = read(&format!(r#"{{"policy_loss": "{name}"}}"#));
        assert_eq!(config, LossConfig::of(name.parse().unwrap()), "the aggregation follows the policy loss");
        assert_eq!(config.policy_loss.name(), name);
        let back: LossConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(back, config);
    }
    for name in ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "local-token-mean"] {
        let config = read(&format!(r#"{{"aggregation": "{name}"}}"#));
        assert_eq!(config.aggregation, Aggregation::from_name(name, 0).unwrap());
        assert_eq!(serde_json::to_value(config.aggregation).unwrap(), name);
    }
}

#[test]
fn a_rollout_correction_is_a_level_or_a_table() {
    let read = |text: &str| serde_json::from_str::<LossConfig>(&format!(r#"{{"rollout_correction": {text}}}"#));
    let of = |text: &str| read(text).unwrap().rollout_correction;
    let default = RolloutCorrection::default();
    assert_eq!((of("null"), of("{}"), of(r#""token""#)), (None, Some(default), Some(default)));
    assert_eq!(of(r#""sequence""#), Some(RolloutCorrection { level: ImportanceLevel::Sequence, ..default }));
    let ice_pop = RolloutCorrection { outside: Outside::Mask, low: 0.5, high: 5.0, ..default };
    assert_eq!(of(r#"{"outside": "mask", "low": 0.5, "high": 5}"#), Some(ice_pop));
    let reject = Some(Rejection { high: Some(3.0), ..Rejection::default() });
    let off = RolloutCorrection { level: ImportanceLevel::Off, reject, ..default };
    assert_eq!(of(r#"{"level": "off", "reject": {"high": 3}}"#), Some(off));
    for (text, expected) in [
        (r#""words""#, "unknown importance level `words`, expected one of token, sequence, off"),
        (r#"{"reject": "mean"}"#, "unknown rejection ratio `mean`, expected one of product, geometric-mean"),
        (r#"{"cap": 2}"#, "unknown field `cap`"),
        (r#"{"outside": "clip"}"#, "unknown variant `clip`"),
        ("2", "expected the level of a rollout correction, or a table of its fields"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    for name in ["k1+", "k3+"] {
        let estimator: KlEstimator = serde_json::from_str(&format!("{name:?}")).unwrap();
        assert_eq!((estimator.name(), serde_json::to_value(estimator).unwrap()), (name, name.into()));
    }
}

#[test]
fn ppo_is_symmetric_and_dapo_is_not() {
    let read = |text: &str| serde_json::from_str::<PolicyLoss>(text).unwrap();
    assert_eq!(read(r#""ppo""#), PolicyLoss::Ppo { clip: ClipRange::symmetric(0.2), dual_clip: None });
    assert_eq!(read(r#""dapo""#), PolicyLoss::Ppo { clip: ClipRange { low: 0.2, high: 0.28 }, dual_clip: None });
}

#[test]
fn fields_that_are_left_out_keep_the_values_of_the_paper() {
    let read = |text: &str| serde_json::from_str::<PolicyLoss>(text).unwrap();
    let clip = ClipRange { low: 0.2, high: 0.3 };
    assert_eq!(read(r#"{"clip": {"high": 0.3}}"#), PolicyLoss::Ppo { clip, dual_clip: None });
    assert_eq!(read(r#"{"name": "ppo", "clip": {"high": 0.3}}"#), PolicyLoss::Ppo { clip, dual_clip: None });
    let clip = ClipRange { low: 3e-4, high: 0.3 };
    assert_eq!(read(r#"{"name": "gspo", "clip": {"high": 0.3}}"#), PolicyLoss::Gspo { clip });
    let sapo = PolicyLoss::Sapo { tau_positive: 1.0, tau_negative: 2.0 };
    assert_eq!(read(r#"{"name": "sapo", "tau_negative": 2.0}"#), sapo);
    let dual = PolicyLoss::Ppo { clip: ClipRange::default(), dual_clip: Some(3.0) };
    assert_eq!(read(r#"{"dual_clip": 3.0}"#), dual);
    assert_eq!(serde_json::from_str::<ClipRange>(r#"{"high": 0.3}"#).unwrap(), ClipRange { low: 0.2, high: 0.3 });
}

#[test]
fn the_length_of_a_norm_may_stand_beside_its_name_or_be_set_later() {
    let read = |text: &str| serde_json::from_str::<Aggregation>(text).unwrap();
    let expected = Aggregation::SeqMeanTokenSumNorm { max_len: 64 };
    assert_eq!(read(r#"{"name": "seq-mean-token-sum-norm", "max_len": 64}"#), expected);
    let named = read(r#""seq-mean-token-sum-norm""#);
    let config = LossConfig { aggregation: named, ..LossConfig::default() };
    assert_eq!(config.validate().unwrap_err().to_string(), "aggregation.max_len is 0, expected at least 1");
    assert_eq!(named.or_max_len(64), expected);
    assert_eq!(expected.or_max_len(32), expected);
    assert_eq!(read(r#"{"name": "token-mean"}"#).or_max_len(32), Aggregation::TokenMean);
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |text: &str| serde_json::from_str::<LossConfig>(text).unwrap_err().to_string();
    for (text, expected) in [
        (r#"{"policy_loss": "reinforce"}"#, "unknown policy loss `reinforce`, expected one of dapo, ppo, gspo"),
        (r#"{"policy_loss": {"name": "sapo", "clip": {}}}"#, "the policy loss `sapo` has no field `clip`"),
        (r#"{"policy_loss": {"name": "gspo", "dual_clip": 2}}"#, "the policy loss `gspo` has no field `dual_clip`"),
        (r#"{"policy_loss": {"tau_positive": 2}}"#, "the policy loss `dapo` has no field `tau_positive`"),
        (r#"{"policy_loss": {"name": "gmpo", "tau_negative": 2}}"#, "no field `tau_negative`"),
        (r#"{"policy_loss": 3}"#, "expected the name of a policy loss, or a table of its fields"),
        (r#"{"aggregation": "mean"}"#, "unknown aggregation `mean`, expected one of token-mean"),
        (r#"{"aggregation": {"name": "token-mean", "max_len": 3}}"#, "`token-mean` has no field `max_len`"),
        (r#"{"aggregation": {"max_len": 3}}"#, "expected the `name` of an aggregation"),
        (r#"{"aggregation": null, "beta": 1}"#, "unknown field `beta`"),
    ] {
        assert!(error(text).contains(expected), "{text}: {}", error(text));
    }
}

#[test]
fn misspelt_fields_are_refused() {
    for text in [
        r#"{"aggregatoin": "token-mean"}"#,
        r#"{"kl": {"beta": 1.0}}"#,
        r#"{"policy_loss": {"name": "ppo", "epsilon": 0.2}}"#,
    ] {
        assert!(serde_json::from_str::<LossConfig>(text).is_err(), "{text}");
    }
}
