//! Every key of the source is carried over or left out with a reason, and the output says the same as the settings.

use std::{collections::BTreeSet, io::Write, path::Path};

use dapo_import::{ConfigFormat, ImportError, Imported, import};
use dapo_run::{Layer, resolve};
use proptest::prelude::*;

use super::{file, imported_file};

/// The source's keys that the import accounts for; items of lists are beside them.
fn accounted(imported: &Imported) -> (BTreeSet<String>, BTreeSet<String>) {
    let carried = imported.carried.iter().map(|carried| carried.source_key.clone()).collect();
    let skipped = imported.skipped.iter().map(|skipped| skipped.key.clone()).collect();
    (carried, skipped)
}

pub(super) fn check(imported: &Imported, keys: &BTreeSet<String>) {
    let (carried, skipped) = accounted(imported);
    for key in keys {
        assert!(carried.contains(key) != skipped.contains(key), "{key}: carried {carried:?}, left out {skipped:?}");
    }
    assert!(imported.skipped.iter().all(|skipped| !skipped.reason.is_empty()));
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(imported.toml.as_bytes()).unwrap();
    let mut again = resolve(&[Layer::File(file.path().to_owned())]).unwrap();
    // Relative paths begin in the folder of the file that was read.
    for (name, own) in &mut again.config.rewards.own.0 {
        let of_source = &imported.config.rewards.own.0[name];
        assert_eq!(own.dir.is_some(), of_source.dir.is_some(), "{name}");
        own.dir.clone_from(&of_source.dir);
    }
    assert_eq!(again.config, imported.config);
    again.config.validate().unwrap();
    assert_eq!(again.warnings(), &[] as &[String], "{}", imported.toml);
}

/// Keys as they stand in a script or YAML file of the test data, told apart from the importer's own reading.
fn keys_of(name: &str) -> BTreeSet<String> {
    let text = file(name);
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if Path::new(name).extension().is_some_and(|extension| extension == "yaml") {
            let Some((key, value)) = trimmed.split_once(':').filter(|_| !trimmed.starts_with(['#', '-'])) else {
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            path.retain(|&(depth, _)| depth < indent);
            path.push((indent, key.to_owned()));
            let next_is_nested = value.split('#').next().unwrap_or_default().trim().is_empty()
                && !text.contains(&format!("{line}\n- "))
                && !text.contains(&format!("{line}\n  - "));
            if !next_is_nested {
                keys.insert(path.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join("."));
            }
        } else {
            for word in trimmed.split_whitespace() {
                if let Some(option) = word.strip_prefix("--").filter(|_| name.starts_with("swift")) {
                    let is_dict = option == "lr_scheduler_kwargs";
                    keys.insert(if is_dict { "lr_scheduler_kwargs.min_lr".into() } else { option.to_owned() });
                } else if let Some((key, _)) =
                    word.split_once('=').filter(|(key, _)| key.contains('.') && !key.contains('/'))
                {
                    keys.insert(key.trim_start_matches('+').to_owned());
                }
            }
        }
    }
    keys
}

#[test]
fn every_key_of_the_test_files_is_accounted_for() {
    for (name, least) in [
        ("verl_dapo.sh", 45),
        ("verl_dapo.yaml", 30),
        ("verl_overrides.txt", 4),
        ("trl_dapo.yaml", 34),
        ("swift_dapo.sh", 33),
        ("verl_ppo.sh", 33),
        ("trl_ppo.yaml", 28),
        ("swift_ppo.sh", 22),
    ] {
        let keys = keys_of(name);
        assert!(keys.len() >= least, "{name}: {} keys: {keys:?}", keys.len());
        check(&imported_file(name), &keys);
    }
}

#[test]
fn unknown_keys_are_left_out_as_unknown() {
    let imported =
        import("model_name_or_path: a\nflux: 1\nnested:\n  deep: [1, 2]\n", Path::new("a.yaml"), None).unwrap();
    for key in ["flux", "nested.deep"] {
        assert_eq!(super::reason(&imported, key), "not known to this importer");
    }
}

#[test]
fn every_line_of_the_output_says_where_it_came_from() {
    for name in ["verl_dapo.sh", "verl_dapo.yaml", "trl_dapo.yaml", "swift_dapo.sh", "swift_dapo.json"] {
        let imported = imported_file(name);
        for line in imported.toml.lines() {
            let is_setting = line.contains(" = ") && !line.starts_with('#') && !line.ends_with("\"\"\"");
            assert!(!is_setting || line.contains(" # "), "{name}: {line}");
        }
        for carried in &imported.carried {
            let origin = format!("{}, line {}", carried.source_key, carried.line);
            let (_, key) = carried.key.rsplit_once('.').unwrap_or(("", &carried.key));
            let value = carried.value.lines().next_back().unwrap();
            let found = imported.toml.lines().any(|line| line.contains(&origin) && line.contains(value));
            assert!(found, "{name}: {key} from {origin}");
        }
    }
}

#[test]
fn a_key_that_is_set_twice_counts_the_last_time() {
    let text = "data.train_batch_size=8 data.train_batch_size=16";
    let imported = import(text, Path::new("a"), None).unwrap();
    assert_eq!(imported.config.sampler.train_batch, 16);
    assert_eq!(imported.skipped.iter().filter(|skipped| skipped.key == "data.train_batch_size").count(), 1);
}

#[test]
fn a_python_reward_is_accounted_for() {
    let imported = import("reward_funcs: a.a\n", Path::new("a.yaml"), Some(ConfigFormat::Trl)).unwrap();
    assert!(imported.config.rewards.own.0.contains_key("a"));
    check(&imported, &BTreeSet::from(["reward_funcs".to_owned()]));
}

/// Keys that mean something to some format, and values that fit some of them.
fn key() -> impl Strategy<Value = String> {
    let files = ["trl_dapo.yaml", "swift_dapo.sh"];
    let known: Vec<String> = files.iter().flat_map(|name| keys_of(name)).filter(|key| !key.contains('.')).collect();
    prop_oneof![4 => prop::sample::select(known), 1 => "[a-z_]{1,12}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (-3_i64..5000).prop_map(|number| number.to_string()),
        1 => prop_oneof![Just(i64::MAX), Just(i64::MIN)].prop_map(|number| number.to_string()),
        2 => prop_oneof![-1.0_f64..2.0, Just(1e300), Just(f64::MAX)].prop_map(|number| number.to_string()),
        2 => prop::sample::select(vec!["true", "false", "null", "grpo", "dapo", "steps", "[accuracy, format]", "[1.0]", "\"a # b\\n\\\"c\\u0007\""])
            .prop_map(str::to_owned),
        1 => "[a-zA-Z./_-]{1,12}",
    ]
}

fn is_an_error_with_a_place(error: &ImportError) -> bool {
    match error {
        ImportError::Value { line, key, .. } => *line > 0 && !key.is_empty(),
        ImportError::Syntax { line, .. } => *line > 0,
        ImportError::Format { .. } => true,
        _ => false,
    }
}

/// A line of each format with its keys; every choice of them is a whole file.
fn lines(name: &str) -> Vec<String> {
    let text = file(name);
    let own_lines = text.lines().filter(|line| match name {
        // Nested and listed values need their first line.
        "trl_dapo.yaml" => !line.starts_with([' ', '-', '#']) && !line.ends_with(':'),
        "swift_dapo.sh" => line.trim().starts_with("--") && !line.contains("reward") && !line.contains("kwargs"),
        // Without its len, an overlong buffer is an error.
        _ => {
            line.trim().contains('=')
                && line.contains('.')
                && !line.contains(['$', '[', '-'])
                && !line.contains("buffer.enable")
        }
    });
    own_lines.map(|line| line.trim().trim_end_matches('\\').trim().to_owned()).collect()
}

fn check_part(name: &str, format: ConfigFormat, part: &[String], strange: &str) {
    let (text, keys): (String, BTreeSet<String>) = match name {
        "trl_dapo.yaml" => {
            let keys = part.iter().map(|line| line.split(':').next().unwrap().to_owned());
            (part.join("\n") + &format!("\nzz_{strange}: 1\n"), keys.chain([format!("zz_{strange}")]).collect())
        }
        "swift_dapo.sh" => {
            let keys = part.iter().map(|line| line[2..].split(' ').next().unwrap().to_owned());
            (format!("--zz_{strange} 1 {}", part.join(" \\\n")), keys.chain([format!("zz_{strange}")]).collect())
        }
        _ => {
            let keys = part.iter().map(|line| line.split('=').next().unwrap().to_owned());
            (format!("zz.{strange}=1 {}", part.join(" \\\n")), keys.chain([format!("zz.{strange}")]).collect())
        }
    };
    check(&import(&text, Path::new("settings"), Some(format)).unwrap(), &keys);
}

proptest! {
    #[test]
    fn any_part_of_a_file_is_imported_whole(
        (name, format, part) in prop::sample::select(vec![
            ("trl_dapo.yaml", ConfigFormat::Trl),
            ("swift_dapo.sh", ConfigFormat::Swift),
            ("verl_dapo.sh", ConfigFormat::Verl),
        ]).prop_flat_map(|(name, format)| {
            let lines = lines(name);
            (Just(name), Just(format), prop::sample::subsequence(lines.clone(), 0..=lines.len()).prop_shuffle())
        }),
        strange in "[a-z]{1,8}",
    ) {
        check_part(name, format, &part, &strange);
    }

    #[test]
    fn any_keys_and_values_are_accounted_for_or_refused_with_a_place(
        settings in prop::collection::btree_map(key(), value(), 0..12),
        format in prop::sample::select(vec![ConfigFormat::Trl, ConfigFormat::Swift]),
    ) {
        let text = settings.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join("\n");
        match import(&text, Path::new("a.yaml"), Some(format)) {
            Ok(imported) => check(&imported, &settings.keys().cloned().collect()),
            Err(error) => prop_assert!(is_an_error_with_a_place(&error), "{error:?}"),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(
        text in "([a-z]{1,3}=|\\$\\{|\\$\\(\\(|\\$\\(|\\}|\\)|\\(|[a-z0-9.]{1,4}| |\n|\"|'|\\\\|#|;|\\||&|<|>|if |fi|do |done|\\[@\\]|:-|`|-m main_ppo |a\\.b=|--c ){0,40}",
        name in prop::sample::select(vec!["a.sh", "a.yaml", "a"]),
        format in prop::sample::select(vec![None, Some(ConfigFormat::Verl), Some(ConfigFormat::Trl), Some(ConfigFormat::Swift)]),
    ) {
        match import(&text, Path::new(name), format) {
            Ok(imported) => check(&imported, &BTreeSet::new()),
            Err(error) => prop_assert!(is_an_error_with_a_place(&error), "{error:?}"),
        }
    }
}
