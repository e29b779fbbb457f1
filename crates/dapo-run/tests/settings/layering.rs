//! What wins over what, and where values come from.

use crate::{Files, words};
use dapo_loss::{ClipRange, PolicyLoss};
use dapo_policy::LoraTarget;
use dapo_run::{Layer, RunConfig, Source, resolve};
use dapo_trainer::{CriticConfig, Schedule};

fn clip(config: &RunConfig) -> ClipRange {
    match config.loss.policy_loss {
        PolicyLoss::Ppo { clip, .. } | PolicyLoss::Gspo { clip } => clip,
        other => panic!("{other}"),
    }
}

#[test]
fn no_layers_give_the_defaults() {
    let resolved = resolve(&[]).unwrap();
    assert_eq!(resolved.config, RunConfig::default());
    assert_eq!(resolved.source_of("optimizer.lr"), &Source::Default);
}

#[test]
fn words_are_overrides_files_or_recipes() {
    let parse = |word| Layer::parse(word).unwrap();
    assert_eq!(parse("dapo"), Layer::Recipe("dapo".into()));
    assert_eq!(parse("dapo.toml"), Layer::File("dapo.toml".into()));
    assert_eq!(parse("./dapo"), Layer::File("./dapo".into()));
    assert_eq!(parse("runs/lr=3/a.toml"), Layer::File("runs/lr=3/a.toml".into()));
    assert_eq!(parse("model.path=runs/a.toml"), Layer::Override("model.path=runs/a.toml".into()));
    assert_eq!(parse("data.suffix=a = b"), Layer::Override("data.suffix=a = b".into()));
    assert_eq!(parse("seed="), Layer::Override("seed=".into()));
    let error = |word| Layer::parse(word).unwrap_err().to_string();
    assert_eq!(
        error("clip-hihger"),
        "\"clip-hihger\" is no recipe, no TOML file (a path ends in .toml or has a separator) and no override \
         (key=value); did you mean clip-higher?"
    );
    assert!(error("zzz").contains("the recipes are dapo, grpo, "));
    assert!(error("=3").contains("is no recipe"));
}

#[test]
fn later_layers_win_key_by_key() {
    let files = Files::new();
    let first = files.write(
        "a.toml",
        "seed = 1\n[optimizer]\nlr = 1e-4\nwarmup_steps = 7\n[data]\ntrain = [\"a.jsonl\", \"b.jsonl\"]\n",
    );
    let second = files.write("b.toml", "optimizer.lr = 3e-4\n[data]\ntrain = [\"c.jsonl\"]\n");
    let layers = [Layer::File(first.clone()), Layer::File(second.clone()), Layer::Override("seed=5".into())];
    let resolved = resolve(&layers).unwrap();
    let config = &resolved.config;
    assert_eq!((config.seed, config.optimizer.lr, config.optimizer.warmup_steps), (5, 3e-4, 7));
    // A list is one value.
    assert_eq!(config.data.train, ["c.jsonl"]);
    assert_eq!(resolved.source_of("seed"), &Source::CommandLine);
    assert_eq!(resolved.source_of("optimizer.lr"), &Source::File { path: second, line: 1 });
    assert_eq!(resolved.source_of("optimizer.warmup_steps"), &Source::File { path: first.clone(), line: 4 });
    assert_eq!(resolved.source_of("optimizer.eps"), &Source::Default);
    // The other way round.
    let resolved = resolve(&[layers[2].clone(), layers[1].clone(), layers[0].clone()]).unwrap();
    assert_eq!((resolved.config.seed, resolved.config.optimizer.lr), (1, 1e-4));
}

#[test]
fn recipes_and_files_layer_like_everything_else() {
    let files = Files::new();
    let file = files.write("mine.toml", "[loss]\npolicy_loss = { clip = { high = 0.3 } }\n");
    let over = words(&["dapo", file.to_str().unwrap()]).unwrap();
    assert_eq!(clip(&over.config), ClipRange { low: 0.2, high: 0.3 });
    assert_eq!(over.source_of("loss.policy_loss.clip.low"), &Source::Recipe { name: "dapo".into() });
    let under = words(&[file.to_str().unwrap(), "dapo"]).unwrap();
    assert_eq!(clip(&under.config).high, 0.28);
}

#[test]
fn overrides_are_toml_values_or_bare_words() {
    let config = words(&[
        "optimizer.lr=1e-5",
        "optimizer.schedule=cosine",
        "loss.policy_loss=gspo",
        "loss.policy_loss.clip.high=0.3",
        "model.path=out/x y",
        "model.revision=1234567",
        "sampler.dynamic=false",
        "sampler.gen_batch=adaptive",
        "rollout.temperature=1",
        "data.system=\"He said \\\"no\\\"\"",
        "data.train=['a.jsonl', 'b.jsonl']",
        "data.validation=c.jsonl",
        "rewards.format={ weight = 0.5, pattern = 'think' }",
        "loss.kl.coef = 0.1 ",
    ]);
    let config = config.unwrap().config;
    assert_eq!((config.optimizer.lr, config.optimizer.schedule), (1e-5, Schedule::Cosine));
    assert_eq!(config.loss.policy_loss, PolicyLoss::Gspo { clip: ClipRange { low: 3e-4, high: 0.3 } });
    assert_eq!((config.model.path.as_str(), config.model.revision.as_str()), ("out/x y", "1234567"));
    assert_eq!((config.sampler.enabled, config.rollout.sampling.temperature, config.loss.kl.coef), (false, 1.0, 0.1));
    assert_eq!(config.data.style.system.as_deref(), Some("He said \"no\""));
    assert_eq!((config.data.train.len(), config.data.validation), (2, vec!["c.jsonl".to_owned()]));
    assert_eq!(config.rewards.format.unwrap().weight, 0.5);
}

#[test]
fn one_string_stands_for_a_list_of_one() {
    let files = Files::new();
    let file = files.write("a.toml", "data.train = 'a.jsonl'\nlora.targets = [\"q_proj\"]\n");
    let config = words(&[file.to_str().unwrap(), "lora.targets=v_proj", "data.validation='2024'"]).unwrap().config;
    assert_eq!((config.data.train, config.data.validation), (vec!["a.jsonl".to_owned()], vec!["2024".to_owned()]));
    assert_eq!(config.lora.unwrap().targets, [LoraTarget::Value]);
    // A number is a file's name where files are meant.
    assert_eq!(words(&["data.train=2024"]).unwrap().config.data.train, ["2024"]);
}

#[test]
fn an_empty_override_takes_values_and_tables_out_again() {
    let resolved = words(&[
        "dapo-paper",
        "rollout.group_size=",
        "sampler=",
        "loss.policy_loss.clip.high=0.5",
        "loss.policy_loss.clip.high=",
    ]);
    let resolved = resolved.unwrap();
    let defaults = RunConfig::default();
    assert_eq!(resolved.config.rollout.group_size, defaults.rollout.group_size);
    assert_eq!(resolved.config.rollout.max_new_tokens, 20_480);
    assert_eq!(resolved.config.sampler, defaults.sampler);
    assert_eq!(clip(&resolved.config).high, 0.28);
    assert_eq!(resolved.source_of("sampler.train_batch"), &Source::Default);
    // What follows sets anew.
    assert_eq!(words(&["dapo", "rewards.soft_overlong="]).unwrap().config.rewards.soft_overlong, None);
    let anew = words(&["dapo", "rewards.soft_overlong=", "rewards.soft_overlong.weight=2"]).unwrap().config;
    assert_eq!(anew.rewards.soft_overlong.unwrap().weight, 2.0);
}

#[test]
fn an_optional_table_is_there_when_it_or_a_key_of_it_is_set() {
    let files = Files::new();
    let file = files.write("a.toml", "[rewards.tag_count]\n[rewards.repetition]\nngram_size = 4\n");
    let config = resolve(&[Layer::File(file)]).unwrap().config;
    assert_eq!(config.rewards.tag_count.unwrap().weight, 1.0);
    assert_eq!(config.rewards.repetition.unwrap().reward.ngram_size, 4);
    assert_eq!(config.rewards.length, None);
    // Taking its only key out leaves the table with its defaults.
    let config = words(&["rewards.format.weight=0.5", "rewards.format.weight="]).unwrap().config;
    assert_eq!(config.rewards.format.unwrap().weight, 1.0);
}

#[test]
fn a_key_of_an_inner_table_leaves_the_others_defaults() {
    let critic = words(&["critic.optimizer.lr=1e-3"]).unwrap().config.critic.unwrap();
    let mut expected = CriticConfig::default();
    expected.optimizer.lr = 1e-3;
    assert_eq!((critic, critic.optimizer.warmup_steps), (expected, 0));
    assert_eq!(words(&["critic.optimizer.lr=1e-3", "critic=none"]).unwrap().config.critic, None);
    assert_eq!(words(&["critic.optimizer.lr=1e-3", "critic="]).unwrap().config.critic, None);
}

#[test]
fn second_names_of_tables_mean_the_same() {
    let files = Files::new();
    let file = files.write("a.toml", "[rewards.soft_overlong_punishment]\ncache_len = 100\n");
    let path = file.to_str().unwrap();
    let resolved = words(&[path, "rewards.soft_overlong.max_len=500"]).unwrap();
    let overlong = resolved.config.rewards.soft_overlong.as_ref().unwrap().reward;
    assert_eq!((overlong.cache_len, overlong.max_len), (Some(100), Some(500)));
    assert_eq!(resolved.source_of("rewards.soft_overlong_punishment.cache_len").to_string(), format!("{path}:2"));
    let removed = words(&[path, "rewards.soft_overlong_punishment="]).unwrap();
    assert_eq!(removed.config.rewards.soft_overlong, None);
}

#[test]
fn the_annotated_file_names_every_origin_and_reads_back_equal() {
    let files = Files::new();
    let file = files.write("a.toml", "[optimizer]\n\nlr = 2e-5\n");
    let resolved = words(&["tiny", file.to_str().unwrap(), "train.steps=3"]).unwrap();
    let text = resolved.to_annotated_toml().unwrap();
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert_eq!(line("seed"), format!("{:36}  # default", "seed = 0"));
    assert_eq!(line("path"), format!("{:36}  # from recipe tiny", "path = \"builtin:tiny\""));
    assert_eq!(line("lr"), format!("{:36}  # from {}:3", "lr = 2e-5", file.display()));
    assert_eq!(line("steps"), format!("{:36}  # from command line", "steps = 3"));
    assert_eq!(line("# dual_clip"), "# dual_clip is not set");
    let copy = files.write("copy.toml", &text);
    assert_eq!(resolve(&[Layer::File(copy)]).unwrap().config, resolved.config);
}

#[test]
fn of_steps_and_passes_the_later_layer_counts_and_one_layer_has_one() {
    let files = Files::new();
    let passes = files.write("passes.toml", "[train]\npasses = 2\n[optimizer]\nwarmup_ratio = 0.1\n");
    let passes = passes.to_str().unwrap();
    // The recipe has 80 steps.
    let config = words(&["tiny", passes]).unwrap().config;
    assert_eq!((config.train.steps, config.train.passes), (100, Some(2.0)));
    assert_eq!(config.steps_on(500), (1000_u64).div_ceil(config.sampler.train_batch as u64));
    let text = config.to_toml().unwrap();
    assert!(text.contains("\n# steps is not set\npasses = 2.0\n"), "{text}");
    assert!(text.contains("\n# warmup_steps is not set\nwarmup_ratio = 0.1\n"), "{text}");
    let config = words(&["tiny", passes, "train.steps=7", "optimizer.warmup_steps=3"]).unwrap().config;
    assert_eq!((config.train.steps, config.train.passes, config.steps_on(500)), (7, None, 7));
    assert_eq!((config.optimizer.warmup_steps, config.optimizer.warmup_ratio), (3, None));
    let config = words(&["train.steps=7", passes]).unwrap().config;
    assert_eq!(config.train.passes, Some(2.0));
    let both = files.write("both.toml", "[train]\nsteps = 5\npasses = 2\n");
    let error = words(&[both.to_str().unwrap()]).unwrap_err().to_string();
    assert!(error.ends_with("both.toml:3: train.passes is 2, expected unset beside train.steps"), "{error}");
    let error = words(&["train.passes=2", "train.steps=5"]).unwrap_err().to_string();
    assert_eq!(error, "command line: train.passes is 2, expected unset beside train.steps");
}

#[test]
fn passes_are_above_0() {
    for passes in ["0", "-1", "inf", "nan"] {
        let config = words(&["tiny", &format!("train.passes={passes}")]).unwrap().config;
        let error = config.validate().unwrap_err().to_string();
        assert!(error.starts_with("train.passes is "), "{error}");
    }
}

#[test]
fn an_item_of_a_list_comes_from_where_the_list_does() {
    let resolved = resolve(&[Layer::Override("rollout.stop=a".into())]).unwrap();
    assert_eq!(resolved.source_of("rollout.stop[0]"), &Source::CommandLine);
    assert_eq!(resolved.source_of("eval.stop[0]"), &Source::Default);
}
