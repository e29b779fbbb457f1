//! Messages about what is wrong with settings.

use crate::{Files, words};
use dapo_run::{KeyFault, Layer, SettingsError, resolve};

#[test]
fn all_unknown_keys_of_all_layers_are_reported_at_once() {
    let files = Files::new();
    let text = "sead = 1\n\n[optimizer]\nlearning_rate = 1e-6\n[optimiser]\nlr = 1\neps = 2\n[rollout]\nzzz = 1\n";
    assert_eq!(
        files.error(text),
        "my.toml:1: unknown key sead; did you mean seed?\n\
         my.toml:4: unknown key optimizer.learning_rate; did you mean optimizer.lr?\n\
         my.toml:5: unknown key optimiser; did you mean optimizer?\n\
         my.toml:9: unknown key rollout.zzz"
    );
    let error = words(&["optimizer.leraning_rate=1", "lora.rnk="]).unwrap_err();
    let SettingsError::Keys(errors) = &error else { panic!("{error}") };
    assert_eq!(errors[1].key, "lora.rnk");
    assert_eq!(errors[1].fault, KeyFault::Unknown { nearest: Some("lora.rank".into()) });
    assert!(error.to_string().starts_with("command line: unknown key optimizer.leraning_rate; did you mean"));
}

#[test]
fn values_of_a_wrong_kind_name_place_found_and_expected() {
    let files = Files::new();
    for (text, message) in [
        ("[optimizer]\nlr = 'fast'", "my.toml:2: optimizer.lr is 'fast' (a string), expected a number"),
        ("seed = 1.5", "my.toml:1: seed is 1.5 (a decimal number), expected an integer of at least 0"),
        (
            "[train]\n# Comment.\nsteps = -3",
            "my.toml:3: train.steps is -3 (an integer), expected an integer of at least 0",
        ),
        ("data.deduplicate = 1", "my.toml:1: data.deduplicate is 1 (an integer), expected true or false"),
        ("model.path = true", "my.toml:1: model.path is true (a truth value), expected a string"),
        ("data.train = 1", "my.toml:1: data.train is 1 (an integer), expected a list of strings"),
        ("data.train = ['a', 1]", "my.toml:1: data.train is ['a', 1] (a list), expected a list of strings"),
        (
            "sampler.surplus = \"keep\"",
            "my.toml:1: sampler.surplus is \"keep\" (a string), expected one of carry, discard",
        ),
        (
            "sampler.gen_batch = 'auto'",
            "my.toml:1: sampler.gen_batch is 'auto' (a string), expected an integer of at least 0 or adaptive",
        ),
        ("optimizer = 3", "my.toml:1: optimizer is 3 (an integer), expected a table"),
        ("[[optimizer]]\nlr = 1", "my.toml:1: optimizer is a list of tables, expected a table"),
        ("[optimizer.lr]\nx = 1", "my.toml:1: optimizer.lr is a table, expected a number"),
        ("data.system = 1979-05-27", "my.toml:1: data.system is 1979-05-27 (a date), expected a string"),
    ] {
        assert_eq!(files.error(text), message, "{text}");
    }
    let error = words(&["loss.policy_loss=gpso"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "command line: loss.policy_loss is \"gpso\" (a string), expected one of dapo, ppo, gspo, cispo, sapo, gmpo; \
         did you mean gspo?"
    );
    let error = words(&["optimizer.lr=1e-5x"]).unwrap_err().to_string();
    assert_eq!(error, "command line: optimizer.lr is \"1e-5x\" (a string), expected a number");
}

#[test]
fn a_number_too_large_for_its_key_is_traced_to_its_line() {
    let error = Files::new().error("seed = 1\n[sampler]\nmax_age = 5000000000\n");
    let expected = "expected a whole number of at most 4294967295";
    assert_eq!(error, format!("my.toml:3: sampler.max_age is 5000000000, {expected}"));
}

#[test]
fn broken_toml_names_line_and_column() {
    let files = Files::new();
    for (text, start) in [
        ("seed = 1\nseed = 2\n", "my.toml:2:1: duplicate key"),
        ("[train]\nsteps = 1\n[train]\nepochs = 2\n", "my.toml:3:"),
        ("[train\nsteps = 1\n", "my.toml:1:7: "),
        ("seed = \n", "my.toml:1:8: "),
        ("[data]\ntrain = ['a',\n", "my.toml:"),
    ] {
        let error = files.error(text);
        assert!(error.starts_with(start), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    for word in ["data.train=['a'", "data.system=\"no end", "rewards.format={weight=1"] {
        let error = words(&[word]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("command line: {word}: ")), "{error}");
    }
}

#[test]
fn a_key_under_two_names_in_one_file_is_an_error() {
    let text = "[rewards.soft_overlong]\nweight = 1\n[rewards.soft_overlong_punishment]\nmax_len = 5\nweight = 2\n";
    assert_eq!(
        Files::new().error(text),
        "my.toml:5: rewards.soft_overlong.weight is set a second time, under another name"
    );
}

#[test]
fn missing_files_and_recipes_are_named() {
    let error = words(&["no/such.toml"]).unwrap_err().to_string();
    assert!(error.starts_with("no/such.toml: "), "{error}");
    let error = resolve(&[Layer::Recipe("dappo".into())]).unwrap_err().to_string();
    assert_eq!(error, "there is no recipe \"dappo\"; did you mean dapo?");
    let error = resolve(&[Layer::Override("seed".into())]).unwrap_err().to_string();
    assert_eq!(error, "command line: \"seed\" has no `=`, expected key=value");
}

#[test]
fn very_many_wrong_keys_are_reported_in_time() {
    let files = Files::new();
    let text = (0..200_000).map(|n| format!("k{n} = 1")).collect::<Vec<_>>().join("\n");
    let start = std::time::Instant::now();
    let error = files.error(&text);
    assert!(error.ends_with("my.toml:200000: unknown key k199999"), "{}", &error[error.len() - 100..]);
    // A count of lines for each key would take minutes.
    assert!(start.elapsed().as_secs() < 60);
}
