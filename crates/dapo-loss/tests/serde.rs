//! Settings as they are written in configuration files.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "serde")]

use dapo_loss::{
    AdvantageNorm, AdvantageScale, Aggregation, ClipRange, EmptySequences, ImportanceLevel, KlEstimator, LossConfig,
    PolicyLoss,
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
        "truncated_importance": {"level": "sequence"}
    }"#;
    let config: LossConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.policy_loss, PolicyLoss::Gspo { clip: ClipRange { low: 0.001, high: 0.002 } });
    assert_eq!(config.aggregation, Aggregation::SeqMeanTokenSumNorm { max_len: 64 });
    assert_eq!(config.empty_sequences, EmptySequences::Count);
    assert_eq!((config.kl.coef, config.kl.estimator, config.kl.times_ratio), (0.04, KlEstimator::K2, false));
    let importance = config.truncated_importance.unwrap();
    assert_eq!((importance.cap, importance.level), (2.0, ImportanceLevel::Sequence));
    let norm: AdvantageNorm = serde_json::from_str(r#"{"scale": "none"}"#).unwrap();
    assert_eq!(norm.scale, AdvantageScale::None);
    let back: LossConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(back, config);
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
