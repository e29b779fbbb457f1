//! Whose settings a file holds.

use std::path::Path;

use dapo_import::{ConfigFormat, import};

use super::{file, imported};

#[test]
fn the_content_tells_the_format() {
    for (name, format) in [
        ("verl_dapo.sh", ConfigFormat::Verl),
        ("verl_dapo.yaml", ConfigFormat::Verl),
        ("verl_overrides.txt", ConfigFormat::Verl),
        ("trl_dapo.yaml", ConfigFormat::Trl),
        ("swift_dapo.sh", ConfigFormat::Swift),
        ("swift_dapo.json", ConfigFormat::Swift),
    ] {
        assert_eq!(imported(&file(name), "settings").source, format, "{name}");
        assert_eq!(imported(&file(name), name).source, format, "{name}");
    }
}

#[test]
fn a_given_format_is_taken() {
    let text = "beta: 0.0\nepsilon_high: 0.28\nloss_type: bnpo\n";
    for format in [ConfigFormat::Trl, ConfigFormat::Swift] {
        assert_eq!(import(text, Path::new("a.yaml"), Some(format)).unwrap().source, format);
    }
}

#[test]
fn what_could_be_either_is_an_error_that_lists_what_was_looked_for() {
    let error = import("beta: 0.0\nepsilon: 0.2\n", Path::new("a.yaml"), None).unwrap_err().to_string();
    for part in ["a.yaml", "no key tells", "actor_rollout_ref", "model_name_or_path", "rlhf_type"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let error = import("echo hello\n", Path::new("a.sh"), None).unwrap_err().to_string();
    for part in ["a.sh", "no command", "main_dapo", "trl grpo", "swift rlhf"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(import("", Path::new("a"), None).is_err());
}
