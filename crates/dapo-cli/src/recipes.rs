//! `dapo recipes`: the settings that come with the program.

use crate::candidates::recipe;
use crate::terminal::Stdout;
use anyhow::{Result, bail};
use clap_complete::ArgValueCompleter;
use std::io::Write;

/// List the recipes, or print one.
///
/// A recipe is a named set of settings for `dapo train`. To make your own, print one to a file and edit it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dapo recipes
  dapo recipes tiny > mine.toml")]
pub(crate) struct Recipes {
    /// The recipe to print.
    #[arg(add = ArgValueCompleter::new(recipe))]
    name: Option<String>,
}

pub(crate) fn run(args: &Recipes) -> Result<()> {
    let recipes = dapo_run::recipes();
    let mut stdout = Stdout::new();
    if let Some(name) = &args.name {
        let Some(recipe) = recipes.iter().find(|recipe| recipe.name == name) else {
            let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name).collect();
            bail!("there is no recipe {name}, expected one of {}", names.join(", "));
        };
        write!(stdout, "{}", recipe.text)?;
        return Ok(());
    }
    let width = recipes.iter().map(|recipe| recipe.name.len()).max().unwrap_or(0);
    for recipe in recipes {
        writeln!(stdout, "{:width$}  {}", recipe.name, recipe.summary)?;
    }
    Ok(())
}
