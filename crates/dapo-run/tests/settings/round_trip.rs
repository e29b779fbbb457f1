//! Settings written and read again are the same settings.

use crate::Files;
use dapo_run::{Kind, Layer, RunConfig, keys, recipes, resolve};
use proptest::prelude::*;

/// A value of a key, as TOML.
fn value(kind: &Kind) -> BoxedStrategy<String> {
    let integer = || prop_oneof![Just(0u32), 1..100u32, any::<u32>()].prop_map(|x| x.to_string());
    let text = || {
        let texts = prop_oneof![any::<String>(), "[a-z/. ]{0,12}", Just("a\"b\\c\n\u{7}#=é".to_owned())];
        texts.prop_map(|text| toml::Value::String(text).to_string())
    };
    match kind {
        Kind::Flag => any::<bool>().prop_map(|x| x.to_string()).boxed(),
        Kind::Integer => integer().boxed(),
        // Numbers of 32 bits are numbers of 64 bits, too.
        Kind::Number => prop_oneof![any::<f32>().prop_filter("finite", |x| x.is_finite()), 0f32..2.0]
            .prop_map(|x| toml::Value::Float(f64::from(x)).to_string())
            .boxed(),
        Kind::Text => text().boxed(),
        Kind::Texts => prop::collection::vec(text(), 0..4).prop_map(|list| format!("[{}]", list.join(", "))).boxed(),
        Kind::Choice(names) => prop::sample::select(names.clone()).prop_map(|name| format!("{name:?}")).boxed(),
        Kind::IntegerOr(names) => {
            let names = prop::sample::select(names.clone()).prop_map(|name| format!("{name:?}"));
            prop_oneof![names, integer()].boxed()
        }
    }
}

/// Any settings: each key is set or not.
fn settings() -> impl Strategy<Value = RunConfig> {
    let of_keys: Vec<_> = keys()
        .iter()
        .map(|key| prop::option::of(value(&key.kind)).prop_map(|value| Some(format!("{} = {}\n", key.path, value?))))
        .collect();
    of_keys.prop_map(|lines| toml::from_str(&lines.into_iter().flatten().collect::<String>()).unwrap())
}

fn read(files: &Files, text: &str) -> RunConfig {
    resolve(&[Layer::File(files.write("a.toml", text))]).unwrap().config
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_settings_survive_writing_and_reading(config in settings()) {
        let files = Files::new();
        let text = config.to_toml().unwrap();
        let back = read(&files, &text);
        prop_assert_eq!(&back, &config);
        prop_assert_eq!(back.to_toml().unwrap(), text);
    }
}

#[test]
fn extreme_numbers_survive() {
    let mut config = RunConfig { seed: u64::MAX, ..RunConfig::default() };
    config.optimizer.max_grad_norm = f64::INFINITY;
    config.optimizer.eps = f64::MIN_POSITIVE;
    config.optimizer.lr = 0.1 + 0.2;
    config.rollout.temperature = f32::MIN_POSITIVE;
    config.rollout.top_p = 1.0 - f32::EPSILON;
    config.kl.coef = -0.0;
    assert_eq!(read(&Files::new(), &config.to_toml().unwrap()), config);
}

#[test]
fn a_written_file_names_every_key_once_in_the_order_of_the_list() {
    for recipe in recipes() {
        let config = resolve(&[Layer::Recipe(recipe.name.into())]).unwrap().config;
        let text = config.to_toml().unwrap();
        let mut table = String::new();
        let mut found = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                table = format!("{}.", name.trim_end_matches(']'));
            } else if let Some((name, _)) = line.split_once(" = ") {
                found.push(format!("{table}{name}"));
            } else if let Some(name) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set"))
                && !name.starts_with('[')
            {
                found.push(format!("{table}{name}"));
            }
        }
        let absent =
            |path: &str| text.contains(&format!("# [{}] is not set", path.rsplit_once('.').unwrap_or_default().0));
        let expected: Vec<&str> = keys().iter().map(|key| key.path.as_str()).filter(|path| !absent(path)).collect();
        assert_eq!(found, expected, "{}", recipe.name);
    }
}
