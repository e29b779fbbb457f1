//! `dapo recipes` and `dapo config`: from nothing to a run.

use crate::{dapo, file, folder, path};
use serde_json::Value;
use std::fs;

#[test]
fn recipes_are_listed_and_printed() {
    let list = dapo(&["recipes"]).success().stdout;
    for name in
        ["tiny", "grpo", "dapo", "dapo-paper", "verl-dapo", "qwen3-0.6b-one-gpu", "qwen3-4b-lora", "smollm2-cpu"]
    {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(name)), "no {name} in {list}");
    }
    let recipe = dapo(&["recipes", "tiny"]).success().stdout;
    // A printed recipe is a settings file.
    let mine = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(mine.path(), &recipe).unwrap();
    let of_file = dapo(&["config", "check", path(&mine)]).success();
    assert!(of_file.stdout.contains("builtin:tiny"), "{}", of_file.stdout);
    assert!(of_file.stderr.contains("all settings are valid"), "{}", of_file.stderr);
    dapo(&["recipes", "nope"]).failure(1, &["there is no recipe nope, expected one of ", "tiny"]);
}

#[test]
fn checks_name_file_line_and_the_nearest_key() {
    let broken = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(broken.path(), "seed = 1\n\n[optimizer]\nlerning_rate = 1e-6\n").unwrap();
    let place = format!("{}:4", path(&broken));
    dapo(&["config", "check", path(&broken)]).failure(1, &[&place, "optimizer.lerning_rate"]);
    fs::write(broken.path(), "[optimizer]\nbeta2 = 1.5\n").unwrap();
    let place = format!("{}:2", path(&broken));
    dapo(&["config", "check", path(&broken)])
        .failure(1, &[&place, "optimizer.beta2 is 1.5, expected at least 0 and below 1"]);
}

#[test]
fn the_schema_describes_every_key() {
    let table = dapo(&["config", "schema"]).success().stdout;
    for (section, key) in
        [("[optimizer]", "lr"), ("[sampler]", "max_gen_rounds"), ("[rewards.soft_overlong]", "cache_len")]
    {
        let of_section = table.split_once(section).unwrap_or_else(|| panic!("no {section}")).1;
        let of_section = of_section.split("\n[").next().unwrap();
        assert!(of_section.contains(&format!("\n  {key} = ")), "no {key} in {of_section}");
    }
    let schema: Value = serde_json::from_str(&dapo(&["config", "schema", "--json"]).success().stdout).unwrap();
    assert!(schema["properties"]["optimizer"].is_object());
}

#[test]
fn an_import_that_is_not_whole_is_written_and_says_so() {
    let recipe =
        file("model_name_or_path: a/b\nloss_type: vespo\nnum_generations: 4\nbeta: 0.01\nnum_train_epochs: 2\n");
    let folder = folder();
    let toml = folder.path().join("imported.toml");
    let toml = toml.to_str().unwrap();
    let args = ["config", "import", path(&recipe), "--from", "trl", "--out", toml];
    let run = dapo(&args).failure(2, &["loss_type is `vespo`, expected one of dapo, bnpo"]);
    assert!(!run.stderr.contains(": :"), "{}", run.stderr);
    let checked = dapo(&["config", "check", toml]).success();
    assert!(checked.stdout.contains("coef = 0.01") && checked.stdout.contains("passes = 2.0"), "{}", checked.stdout);
}

#[test]
fn what_has_no_effect_is_one_line() {
    let recipe = file(
        "model_name_or_path: a/b\nreward_funcs: [accuracy]\nlogging_steps: 1\nbf16: true\nuse_vllm: true\n\
         off_policy_mask_threshold: 0.5\n",
    );
    let run = dapo(&["config", "import", path(&recipe), "--from", "trl"]).success();
    let left_out: Vec<&str> = run.stderr.lines().filter(|line| line.contains("not carried over")).collect();
    assert_eq!(left_out.len(), 2, "{}", run.stderr);
    assert!(
        left_out[0].contains("off_policy_mask_threshold")
            && left_out[1].contains("without an effect here (3): logging_steps, bf16, use_vllm")
    );
    assert!(run.stdout.contains("# - bf16 = true"), "{}", run.stdout);
}

#[test]
fn imported_settings_run_on_the_tiny_model() {
    let recipe = file(
        "model_name_or_path: Qwen/Qwen3-0.6B\nbeta: 0.0\nepsilon: 0.2\nepsilon_high: 0.28\nloss_type: bnpo\n\
         mask_truncated_completions: true\nnum_generations: 4\nper_device_train_batch_size: 8\nlearning_rate: 1.0e-06\n\
         reward_funcs:\n- accuracy\n- soft_overlong_punishment\nreward_weights: [1.0, 0.5]\nuse_vllm: true\n",
    );
    let folder = folder();
    let toml = folder.path().join("imported.toml");
    let (toml, out) = (toml.to_str().unwrap(), folder.path().join("run"));
    let run = dapo(&["config", "import", path(&recipe), "--from", "trl", "--out", toml]).success();
    assert!(run.stderr.contains("use_vllm") && run.stderr.contains("bnpo"), "{}", run.stderr);
    let small = [
        "model.path=builtin:tiny",
        "data.train=builtin:addition",
        "rollout.max_new_tokens=72",
        "sampler.train_batch=4",
        "train.steps=1",
        "eval.every=none",
        "rewards.soft_overlong.max_len=72",
        "rewards.soft_overlong.cache_len=8",
        "--out",
    ];
    dapo(&[&["train", toml][..], &small, &[out.to_str().unwrap()]].concat()).success();
    let resolved = fs::read_to_string(out.join("config.resolved.toml")).unwrap();
    assert!(resolved.contains("\nhigh = 0.28") && resolved.contains("filter = \"mask\""), "{resolved}");
    dapo(&["config", "import", path(&recipe), "--out", toml]).failure(1, &["imported.toml"]);
}

#[test]
fn one_setting_is_described_with_bounds_and_an_example() {
    let shown = dapo(&["config", "schema", "rollout.group_size"]).success().stdout;
    for line in [
        "rollout.group_size",
        "  type         an integer of at least 0",
        "  default      8",
        "  bounds       at least 2: a group of one has no baseline without a critic",
        "  example      dapo train dapo rollout.group_size=2",
    ] {
        assert!(shown.lines().any(|found| found == line), "no {line:?} in {shown}");
    }
    assert!(shown.contains("  description  G, completions of each prompt."), "{shown}");
    let table = dapo(&["config", "schema", "optimizer"]).success().stdout;
    assert!(table.starts_with("[optimizer]  ") && table.contains("\n  lr = ") && !table.contains("[train]"), "{table}");
    let own = dapo(&["config", "schema", "rewards.mine.command"]).success().stdout;
    assert!(own.starts_with("rewards.mine.command\n"), "{own}");
    let old = dapo(&["config", "schema", "kl.coef"]).success().stdout;
    assert!(old.starts_with("loss.kl.coef\n  instead of   kl.coef\n"), "{old}");
    dapo(&["config", "schema", "lr"]).failure(1, &["unknown key lr; did you mean optimizer.lr"]);
    dapo(&["config", "schema", "zzzzz"]).failure(1, &["unknown key zzzzz; `dapo config schema` lists all"]);
}

/// Every example is one that the command accepts.
#[test]
fn every_example_of_a_setting_is_valid() {
    for key in dapo_run::keys() {
        let text = dapo_run::describe_key(&key.path).unwrap();
        let example = text.lines().find_map(|line| line.strip_prefix("  example      dapo train dapo ")).unwrap();
        // What a key belongs to comes before it.
        let (condition, setting) = match example.split_once(' ') {
            Some((condition, setting)) if condition.contains(".name=") => (Some(condition), setting),
            _ => (None, example),
        };
        let words = ["dapo"].into_iter().chain(condition).map(str::to_owned).chain([setting.replace('\'', "")]);
        let layers: Vec<dapo_run::Layer> = words.map(|word| dapo_run::Layer::parse(&word).unwrap()).collect();
        let resolved = dapo_run::resolve(&layers);
        resolved.unwrap_or_else(|error| panic!("{example}: {error}"));
    }
}
