//! Imported settings run.
#![allow(clippy::unwrap_used)]

use dapo_import::import;
use dapo_run::{Layer, Run, RunFolder, resolve};
use std::fs;
use std::path::Path;

const SMALL: [&str; 12] = [
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "data.validation=builtin:addition",
    "data.system=",
    "rollout.group_size=4",
    "rollout.max_new_tokens=48",
    "rollout.cache_mib=64",
    "sampler.train_batch=4",
    "sampler.gen_batch=adaptive",
    "sampler.on_exhausted=keep-zero-std",
    "train.steps=1",
    "eval.every=0",
];

fn overrides<'a>(settings: impl IntoIterator<Item = &'a str>) -> Vec<Layer> {
    settings.into_iter().map(|setting| Layer::Override(setting.to_owned())).collect()
}

/// Makes all steps; gives the run's folder.
fn finish(layers: &[Layer], dir: &Path) -> RunFolder {
    let mut run = Run::create(&resolve(layers).unwrap(), dir).unwrap();
    while !run.is_finished() {
        run.step().unwrap();
    }
    run.folder().clone()
}

/// Settings of verl, TRL and ms-swift in every form they have, shrunk to the tiny model, and what of them must be in force.
#[test]
fn imported_settings_run_on_the_tiny_model() {
    let temp = tempfile::tempdir().unwrap();
    for (file, in_force) in [
        ("verl_dapo.sh", &["\nhigh = 0.28", "dual_clip = 10.0", "name = \"dapo\"", "surplus = \"discard\""][..]),
        ("verl_dapo.yaml", &["\nhigh = 0.28", "surplus = \"discard\""]),
        ("verl_overrides.txt", &["dynamic = false"]),
        ("trl_dapo.yaml", &["\nhigh = 0.28", "filter = \"mask\"", "name = \"token-mean\"", "dynamic = false"]),
        ("swift_dapo.sh", &["\nhigh = 0.28", "filter = \"mask\"", "name = \"token-mean\"", "dynamic = true"]),
        ("swift_dapo.json", &["\nhigh = 0.28"]),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/imports").join(file);
        let imported = import(&fs::read_to_string(&path).unwrap(), &path, None).unwrap();
        let toml = temp.path().join(format!("{file}.toml"));
        fs::write(&toml, &imported.toml).unwrap();
        let mut layers = vec![Layer::File(toml)];
        layers.extend(overrides(SMALL));
        let small = ["train.mini_batches=2", "optimizer.warmup_steps=0", "eval.max_new_tokens=0", "lora.rank=0"];
        layers.extend(overrides(small));
        if imported.config.rewards.soft_overlong.is_some() {
            layers.extend(overrides(["rewards.soft_overlong.max_len=48", "rewards.soft_overlong.cache_len=12"]));
        }
        let folder = finish(&layers, &temp.path().join(file));
        let resolved = fs::read_to_string(folder.config_file()).unwrap();
        for setting in in_force {
            assert!(resolved.contains(setting), "{file}: no {setting} in\n{resolved}");
        }
        let metrics = fs::read_to_string(folder.path().join(RunFolder::METRICS)).unwrap();
        assert_eq!(metrics.lines().count(), 1, "{file}");
    }
}
