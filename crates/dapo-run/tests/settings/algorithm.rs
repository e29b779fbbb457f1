//! The key `algorithm`: its recipe's settings lie beneath all layers.

use crate::{Files, words};
use dapo_run::{Algorithm, Layer, RunConfig, Source, recipes, resolve};
use dapo_trainer::{CriticConfig, CriticLayers};

fn config(layers: &[&str]) -> RunConfig {
    words(layers).unwrap().config
}

#[test]
fn an_algorithm_is_the_recipe_of_its_name() {
    for algorithm in Algorithm::ALL {
        assert!(recipes().iter().any(|recipe| recipe.name == algorithm.recipe_name()));
        let of_key = words(&["tiny", &format!("algorithm={}", algorithm.name())]).unwrap();
        assert_eq!(of_key.config.algorithm, Some(algorithm));
        let mut expected = config(&[algorithm.recipe_name(), "tiny"]);
        expected.algorithm = Some(algorithm);
        assert_eq!(of_key.config, expected);
        let source = of_key.source_of("loss.policy_loss.clip.high");
        assert_eq!(source.to_string(), format!("algorithm {}", algorithm.name()));
        of_key.config.validate().unwrap();
    }
    assert_eq!((config(&[]), config(&["algorithm=none"])), (RunConfig::default(), RunConfig::default()));
}

#[test]
fn every_layer_wins_over_an_algorithm_wherever_its_key_stands() {
    let files = Files::new();
    let file = files.write("a.toml", "algorithm = 'ppo'\ncritic.lambda = 0.9\n");
    let file = file.to_str().unwrap();
    for layers in [&[file, "loss.entropy_coef=0.1"][..], &["loss.entropy_coef=0.1", file]] {
        let resolved = words(layers).unwrap();
        let critic = resolved.config.critic.unwrap();
        assert_eq!((critic.lambda, critic.gamma, resolved.config.loss.entropy_coef), (0.9, 1.0, 0.1));
        assert_eq!(resolved.source_of("critic.gamma"), &Source::Algorithm { name: "ppo" });
        assert_eq!(resolved.source_of("loss.entropy_coef"), &Source::CommandLine);
    }
    // A recipe is a layer like any other.
    let over = config(&["grpo", "algorithm=ppo"]);
    assert_eq!((over.critic, over.algorithm), (None, Some(Algorithm::Ppo)));
    // Of several the last one counts, alone.
    let last = config(&[file, "critic=", "algorithm=rloo"]);
    assert_eq!(last, config(&["algorithm=rloo"]));
    assert_eq!(config(&[file, "algorithm=", "critic="]), RunConfig::default());
}

#[test]
fn what_is_taken_out_again_is_the_algorithms() {
    let resolved = words(&[
        "algorithm=ppo",
        "critic.gamma=0.5",
        "critic.layers=shared",
        "loss.policy_loss.clip.high=0.9",
        "critic.gamma=",
        "critic=",
        "loss=",
    ]);
    let resolved = resolved.unwrap();
    assert_eq!(resolved.config, config(&["algorithm=ppo"]));
    assert_eq!(resolved.source_of("critic.gamma").to_string(), "algorithm ppo");
    let none = config(&["algorithm=ppo", "critic=none", "rewards.soft_overlong=none"]);
    assert_eq!((none.critic, none.rewards.soft_overlong), (None, None));
    let anew = config(&["algorithm=ppo", "critic=none", "critic.layers=shared"]);
    let shared = CriticConfig { layers: CriticLayers::Shared, ..CriticConfig::default() };
    assert_eq!(anew.critic, Some(shared));
}

#[test]
fn another_loss_has_none_of_the_algorithms_constants_and_no_warning() {
    let resolved = words(&["algorithm=grpo", "loss.policy_loss=sapo"]).unwrap();
    assert_eq!(resolved.config.loss.policy_loss, dapo_loss::PolicyLoss::sapo());
    assert_eq!(resolved.warnings(), &[] as &[String]);
    // Nor does taking one out bring it back.
    let sapo = config(&["algorithm=grpo", "loss.policy_loss=sapo", "loss.policy_loss.clip.high="]);
    assert_eq!(sapo.loss.policy_loss, dapo_loss::PolicyLoss::sapo());
    let back = config(&["algorithm=grpo", "loss.policy_loss=sapo", "loss.policy_loss="]);
    assert_eq!(back, config(&["algorithm=grpo"]));
}

#[test]
fn what_is_unset_over_an_algorithm_is_written_as_none() {
    let files = Files::new();
    let resolved = words(&["algorithm=ppo", "critic=none", "rewards.soft_overlong=none", "seed=4"]).unwrap();
    let text = resolved.to_toml().unwrap();
    assert!(text.starts_with("seed = 4\nalgorithm = \"ppo\"\ncritic = \"none\"\n"), "{text}");
    assert!(text.contains("\nsoft_overlong = \"none\"\n"), "{text}");
    let back = resolve(&[Layer::File(files.write("a.toml", &text))]).unwrap();
    assert_eq!(back.config, resolved.config);
    let text = words(&["algorithm=ppo"]).unwrap().to_annotated_toml().unwrap();
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert_eq!(line("algorithm"), format!("{:36}  # from command line", "algorithm = \"ppo\""));
    assert_eq!(line("gamma"), format!("{:36}  # from algorithm ppo", "gamma = 1.0"));
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_one() {
    for (name, nearest) in [("reinforce-plus-plus", "reinforce++"), ("rlo", "rloo"), ("GRPO", "")] {
        let error = words(&[&format!("algorithm={name}")]).unwrap_err().to_string();
        let start = format!(
            "command line: algorithm is \"{name}\" (a string), expected one of dapo, grpo, ppo, rloo, reinforce++"
        );
        let hint = if nearest.is_empty() { String::new() } else { format!("; did you mean {nearest}?") };
        assert_eq!(error, start + &hint);
    }
}

#[test]
fn accuracy_of_an_algorithm_gives_way_to_an_external_reward() {
    let of = |more: &[&str]| config(&[&["algorithm=ppo", "rewards.mine.url=http://127.0.0.1:1"], more].concat());
    assert_eq!(of(&[]).rewards.accuracy, None);
    assert!(of(&["rewards.accuracy.weight=1"]).rewards.accuracy.is_some());
}

#[test]
fn groups_of_one_need_a_critic() {
    config(&["algorithm=ppo", "rollout.group_size=1"]).validate().unwrap();
    let error = config(&["algorithm=grpo", "rollout.group_size=1"]).validate().unwrap_err().to_string();
    assert!(error.starts_with("rollout.group_size is 1, expected at least 2"), "{error}");
}
