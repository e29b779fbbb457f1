//! `dapo`: trains language models with DAPO, evaluates them, samples from them, and judges answers.
//!
//! Every subcommand is a file of its own that composes the library crates; nothing here computes. Results go to stdout,
//! everything else to stderr. Exit codes: 0 for success, 1 for a failure, 2 for a usage error.

mod args;
mod eval;
mod generate;
mod talk;
mod train;
mod verify;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io;
use std::process::ExitCode;
use talk::{Talk, TalkArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// DAPO for language models: train, evaluate, generate, verify.
#[derive(Parser)]
#[command(name = "dapo", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten, next_help_heading = "Messages")]
    talk: TalkArgs,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Train),
    Eval(eval::Eval),
    Generate(generate::Generate),
    Verify(verify::Verify),
}

fn main() -> ExitCode {
    let command = Cli::command().color(talk::color_choice(std::env::args_os()));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let talk = Talk::new(cli.talk);
    let outcome = match &cli.command {
        Command::Train(args) => train::run(args, talk),
        Command::Eval(args) => eval::run(args, talk),
        Command::Generate(args) => generate::run(args, talk),
        Command::Verify(args) => verify::run(args, talk),
    };
    match outcome {
        Err(error) if !is_broken_pipe(&error) => {
            talk.failure(&error);
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Whether the reader of stdout has gone, as `head` does when it has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
