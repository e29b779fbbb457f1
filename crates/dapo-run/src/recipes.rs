//! Recipes: settings that belong together, by name.

use crate::settings::Algorithm;

/// A recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Name of the recipe.
    pub name: &'static str,
    /// What it is, in a line: its first comment.
    pub summary: &'static str,
    /// The TOML.
    pub text: &'static str,
}

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        &[$(recipe($name, include_str!(concat!("../recipes/", $name, ".toml")))),*]
    };
}

/// The preset to use and the paper's ladder first, then whole runs from small to large.
static RECIPES: &[Recipe] = recipes![
    "dapo",
    "grpo",
    "ppo",
    "rloo",
    "reinforce-plus-plus",
    "overlong-filter",
    "clip-higher",
    "soft-overlong",
    "token-loss",
    "dynamic-sampling",
    "tiny",
    "smollm2-cpu",
    "rust-coder",
    "qwen3-0.6b-one-gpu",
    "qwen3-4b-lora",
    "dapo-paper",
    "verl-dapo",
    "verl-dapo-wo-ds",
    "verl-dapo-early",
];

/// All recipes.
pub fn recipes() -> &'static [Recipe] {
    RECIPES
}

/// The settings of an algorithm, as TOML.
pub(crate) fn text_of(algorithm: Algorithm) -> &'static str {
    let recipe = RECIPES.iter().find(|recipe| recipe.name == algorithm.recipe_name());
    recipe.map_or("", |recipe| recipe.text)
}

const fn recipe(name: &'static str, text: &'static str) -> Recipe {
    let (_, comment) = text.split_at(2);
    let mut end = 0;
    while comment.as_bytes()[end] != b'\n' {
        end += 1;
    }
    Recipe { name, summary: comment.split_at(end).0, text }
}
