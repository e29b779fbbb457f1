//! Runs from every kind of model.
#![allow(clippy::unwrap_used)]

use dapo_run::{Layer, ModelSource, Run, RunFolder, resolve};
use std::fs;
use std::path::{Path, PathBuf};

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

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(path)
}

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

#[test]
fn a_model_can_be_a_folder_a_run_a_checkpoint_or_an_adapter() {
    let temp = tempfile::tempdir().unwrap();
    let train = |name: &str, model: &str, extra: &[&str]| {
        let path = format!("model.path={model}");
        let settings = SMALL.iter().copied().chain([path.as_str()]).chain(extra.iter().copied());
        finish(&overrides(settings), &temp.path().join(name))
    };
    let weights = |model: &str| {
        let (policy, _) = ModelSource::find(model, "main").unwrap().load().unwrap();
        let tensors = policy.tensors().unwrap();
        tensors["model.layers.0.self_attn.q_proj.weight"].to_vec2::<f32>().unwrap()
    };
    let folder = testdata("tiny-qwen3");
    let folder = folder.to_str().unwrap();
    assert_eq!(weights("builtin:tiny"), weights(folder));
    let first = train("first", folder, &["optimizer.lr=1e-3", "optimizer.warmup_steps=0"]);
    let of_run = weights(first.path().to_str().unwrap());
    assert_ne!(of_run, weights(folder));
    assert_eq!(of_run, weights(first.checkpoint(1).to_str().unwrap()));
    assert_eq!(of_run, weights(first.checkpoint(1).join("model").to_str().unwrap()));
    // A run can begin where another ended, and with adapters.
    let adapted = train("adapted", first.path().to_str().unwrap(), &["lora.rank=2", "optimizer.lr=0.0"]);
    assert_eq!(weights(adapted.path().to_str().unwrap()), of_run);
    let adapter = adapted.checkpoint(1).join("adapter");
    assert_eq!(weights(adapter.to_str().unwrap()), of_run);
    // The adapter names the very checkpoint it was trained on, and goes on to do so when it is trained further.
    let further = train("further", adapted.path().to_str().unwrap(), &["optimizer.lr=0.0"]);
    assert_eq!(weights(further.path().to_str().unwrap()), of_run);
    let base = |run: &RunFolder| dapo_policy::adapter_base(&run.checkpoint(1).join("adapter")).unwrap();
    assert_eq!(Path::new(&base(&adapted)), fs::canonicalize(first.checkpoint(1).join("model")).unwrap());
    assert_eq!(base(&further), base(&adapted));

    let unknown = ModelSource::find("no/such/model/anywhere", "main").unwrap_err().to_string();
    assert!(unknown.starts_with("model no/such/model/anywhere not found, expected a folder, a GGUF file"), "{unknown}");
    let unset = ModelSource::find("", "main").unwrap_err().to_string();
    assert_eq!(unset, "model.path is not set, expected a folder, a file, a hub id, or builtin:tiny");
    let empty = temp.path().join("empty/checkpoints");
    fs::create_dir_all(&empty).unwrap();
    let error = ModelSource::find(empty.parent().unwrap().to_str().unwrap(), "main").unwrap_err().to_string();
    assert!(error.contains("a run without a checkpoint"), "{error}");
}

#[test]
fn every_recipe_for_a_model_at_hand_starts() {
    let temp = tempfile::tempdir().unwrap();
    for recipe in dapo_run::recipes() {
        let mut layers = vec![Layer::Recipe("tiny".into()), Layer::Recipe(recipe.name.into())];
        layers.extend(overrides(SMALL));
        let small = [
            "sampler.gen_batch_min=0",
            "sampler.gen_batch_max=0",
            "train.mini_batches=2",
            "lora.rank=0",
            "rewards.soft_overlong.max_len=48",
            "rewards.soft_overlong.cache_len=12",
            "eval.max_new_tokens=0",
            "sampler.max_gen_rounds=10",
            "data.suffix=",
            // This program is no launcher of sandboxes.
            "rewards.code=",
            "rewards.correct=",
            "rewards.accuracy.weight=1",
        ];
        layers.extend(overrides(small));
        finish(&layers, &temp.path().join(recipe.name));
    }
}

#[test]
fn as_many_completions_of_a_step_as_asked_for_have_their_tokens() {
    let temp = tempfile::tempdir().unwrap();
    let lines = |name: &str, setting: &str| -> Vec<serde_json::Value> {
        let more = ["seed=1", "rollout.max_new_tokens=20", setting];
        let run = finish(&overrides(SMALL.into_iter().chain(more)), &temp.path().join(name));
        let text = fs::read_to_string(run.completions_file(1)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (mut some, none) = (lines("some", "output.token_logprobs=5"), lines("none", "output.token_logprobs=0"));
    let mut outcomes = std::collections::BTreeSet::new();
    let mut logged = 0;
    for line in &mut some {
        let line = line.as_object_mut().unwrap();
        let Some(texts) = line.shift_remove("token_texts") else { continue };
        let logprobs = line.shift_remove("token_logprobs").unwrap();
        let texts: Vec<_> = texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let logprobs: Vec<_> = logprobs.as_array().unwrap().iter().map(|logprob| logprob.as_f64().unwrap()).collect();
        assert!(texts.len() == logprobs.len() && texts.len() as u64 == line["tokens"].as_u64().unwrap(), "{line:?}");
        assert!(logprobs.iter().all(|logprob| *logprob <= 0.0));
        // What follows the text is the end token.
        let whole = texts.concat();
        let rest = whole.strip_prefix(line["completion"].as_str().unwrap()).unwrap();
        assert_eq!(rest.is_empty(), line["finish_reason"] == "length", "{rest}");
        outcomes.insert(format!("{} {}", line["correct"], line["finish_reason"]));
        logged += 1;
    }
    assert_eq!(logged, 5);
    let all = some.iter().map(|line| format!("{} {}", line["correct"], line["finish_reason"]));
    assert_eq!(outcomes, all.collect(), "every outcome is among them");
    assert_eq!(some, none, "nothing else changes");
}
