//! `dapo config`: checks settings, imports them from other trainers, describes them.

use crate::candidates;
use crate::talk::Talk;
use crate::terminal::Stdout;
use crate::train::{locate, settings};
use anyhow::{Context, Result, anyhow};
use clap_complete::ArgValueCompleter;
use dapo_files::read_text;
use dapo_import::{ConfigFormat, Imported, Skipped, import};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check, import or describe settings.
#[derive(clap::Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Check(Check),
    Import(Import),
    Schema(Schema),
}

/// Check settings, and print each with its source.
#[derive(clap::Args)]
struct Check {
    /// Recipes, TOML files and settings, as for `dapo train`.
    #[arg(value_name = "RECIPE | FILE.toml | KEY=VALUE", required = true, add = ArgValueCompleter::new(candidates::layers))]
    layers: Vec<String>,
}

/// Turn another trainer's DAPO settings into a TOML file.
///
/// Reads verl's YAML, override lists and scripts, TRL's and open-r1's recipes, and ms-swift's argument lists. Prints
/// the TOML, which `dapo config check` accepts. Keys that could not be carried over are named on stderr, with the reason
/// if training may differ without them. The exit code is 0 even if keys are left out. It is 2 if dapo does not offer a
/// key's value, such as a loss that it lacks; the TOML is then written without that key.
#[derive(clap::Args)]
struct Import {
    /// The file to read.
    file: PathBuf,
    /// The trainer that the settings are for: verl, trl (or open-r1) or ms-swift (or swift) [default: detected from the
    /// file]
    #[arg(long, value_name = "TRAINER")]
    from: Option<ConfigFormat>,
    /// Write the TOML to this file, which must be new.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Describe settings: one, those of a table, or all.
///
/// For one setting, print its type, default, bounds, meaning and an example.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dapo config schema optimizer.lr
  dapo config schema sampler
  dapo config schema --json > dapo.schema.json")]
struct Schema {
    /// A setting or a table [default: all settings]
    #[arg(conflicts_with = "json", add = ArgValueCompleter::new(candidates::key))]
    key: Option<String>,
    /// Print a JSON Schema of all settings, for use in an editor, instead of a list.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Config, talk: Talk) -> Result<ExitCode> {
    match &args.command {
        Command::Check(args) => check(args, talk)?,
        Command::Import(args) => return import_file(args, talk),
        Command::Schema(args) => schema(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &Check, talk: Talk) -> Result<()> {
    let settings = settings(&args.layers, talk)?;
    settings.config.validate().map_err(|error| locate(error, &settings))?;
    writeln!(Stdout::new(), "{}", settings.to_annotated_toml()?)?;
    talk.note("all settings are valid");
    Ok(())
}

fn import_file(args: &Import, talk: Talk) -> Result<ExitCode> {
    let text = read_text(&args.file).with_context(|| args.file.display().to_string())?;
    let imported = import(&text, &args.file, args.from)?;
    let Imported { toml, source, carried, notes, skipped, refused, .. } = &imported;
    match &args.out {
        Some(file) => {
            let mut out = fs::File::create_new(file).with_context(|| file.display().to_string())?;
            out.write_all(toml.as_bytes()).with_context(|| file.display().to_string())?;
        }
        None => write!(Stdout::new(), "{toml}")?,
    }
    talk.note(format_args!("{source}: {} settings carried over, {} not", carried.len(), skipped.len()));
    for note in notes {
        talk.note(format_args!("note: {note}"));
    }
    for Skipped { key, value, line, reason, .. } in skipped.iter().filter(|skipped| skipped.changes_training) {
        talk.note(format_args!("not carried over: line {line}, {key} = {value}: {reason}"));
    }
    let harmless: Vec<&str> =
        skipped.iter().filter(|skipped| !skipped.changes_training).map(|skipped| skipped.key.as_str()).collect();
    if !harmless.is_empty() {
        talk.note(format_args!(
            "not carried over, without an effect here ({}): {}",
            harmless.len(),
            harmless.join(", ")
        ));
    }
    for error in refused {
        talk.failure(&anyhow::anyhow!("{error}"));
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn schema(args: &Schema) -> Result<()> {
    let mut stdout = Stdout::new();
    if let Some(key) = &args.key {
        write!(stdout, "{}", dapo_run::describe_key(key).map_err(|nearest| unknown(key, &nearest))?)?;
    } else if args.json {
        writeln!(stdout, "{}", serde_json::to_string_pretty(&dapo_run::schema())?)?;
    } else {
        write!(stdout, "{}", dapo_run::key_table())?;
    }
    Ok(())
}

fn unknown(key: &str, nearest: &[String]) -> anyhow::Error {
    match nearest {
        [] => anyhow!("unknown key {key}; `dapo config schema` lists all"),
        [one] => anyhow!("unknown key {key}; did you mean {one}?"),
        [first @ .., last] => anyhow!("unknown key {key}; did you mean {} or {last}?", first.join(", ")),
    }
}
