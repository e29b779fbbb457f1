//! `dapo`: trains language models with DAPO, evaluates them, samples from them, and judges answers.
//!
//! Every subcommand is a file of its own that composes the library crates; nothing here computes. Results go to stdout,
//! everything else to stderr. Exit codes: 0 for success, 1 for a failure, 2 for a usage error or an import that is not
//! whole, and for a training run that a signal ended 128 and its number.

mod args;
mod candidates;
mod chat;
mod completions;
mod config;
mod doctor;
mod downloads;
mod eval;
mod export;
mod failed_step;
mod fields;
mod generate;
mod hints;
mod interrupt;
mod job;
mod line_input;
mod recipes;
mod report;
mod reward;
mod runs;
mod show;
mod signals;
mod stream;
mod talk;
mod terminal;
mod train;
mod verify;
mod wrap;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use dapo_kernels::allocator::{MiMalloc, hold_freed_memory};
use job::Refused;
use signals::Stopped;
use std::io;
use std::process::ExitCode;
use talk::{Talk, TalkArgs};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The end of `dapo --help`, and a page of the book.
const EXIT_CODES: &str = "\
Exit codes:
  0              Done; also if a run has nothing left to learn
  1              Failure; also invalid settings
  2              Invalid flags or arguments; also if an import finds a value that dapo does not offer, or if mpirun \
                 started more processes than train.shards, or started them with different arguments
  75             One of several processes was lost (mpirun); resume the run
  129, 130, 143  SIGHUP, SIGINT or SIGTERM ended a training run; its finished steps are saved, unless a second \
                 signal ended it at once";

/// DAPO for language models: train, evaluate, chat, verify.
#[derive(Parser)]
#[command(name = "dapo", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten, next_help_heading = "Messages")]
    talk: TalkArgs,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Train),
    Recipes(recipes::Recipes),
    Config(config::Config),
    Eval(eval::Eval),
    Generate(generate::Generate),
    Chat(chat::Chat),
    Verify(verify::Verify),
    Reward(reward::Reward),
    Export(export::Export),
    Report(report::Report),
    Runs(runs::Runs),
    Show(show::Show),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    // The program is its own launcher of sandboxes.
    dapo_code::run_launcher_if_asked();
    hold_freed_memory();
    completions::answer_if_asked(Cli::command);
    std::panic::set_hook(Box::new(report_panic));
    let command = Cli::command().color(talk::color_choice(std::env::args_os()));
    let matches = command.clone().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = matches.unwrap_or_else(|error| usage_error(error, command));
    let talk = Talk::new(cli.talk);
    downloads::show(talk);
    let outcome = match &cli.command {
        Command::Train(args) => return train::run(args, talk),
        Command::Recipes(args) => recipes::run(args),
        Command::Config(args) => {
            return config::run(args, talk).unwrap_or_else(|error| finish(Err(error), talk).into());
        }
        Command::Eval(args) => eval::run(args, talk),
        Command::Chat(args) => chat::run(args, talk),
        Command::Export(args) => export::run(args, talk),
        Command::Report(args) => report::run(args, talk),
        Command::Runs(args) => runs::run(args, talk),
        Command::Show(args) => show::run(args, talk),
        Command::Doctor(args) => doctor::run(args, talk),
        Command::Completions(args) => completions::run(args),
        Command::Generate(args) => generate::run(args, talk),
        Command::Reward(args) => reward::run(args, talk),
        Command::Verify(args) => verify::run(args, talk),
    };
    finish(outcome, talk).into()
}

/// Shows help or what is wrong with the arguments, and ends the program. Arguments may hold text of others, which is shown
/// as it is read with visible escapes.
fn usage_error(error: clap::Error, command: clap::Command) -> ! {
    let given: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let shown: Vec<String> = given.iter().map(|arg| dapo_console::visible(arg)).collect();
    if shown != given {
        if let Err(error) = command.try_get_matches_from(shown) {
            hints::with_hint(error).exit();
        }
        terminal::to_stderr(error.render());
        std::process::exit(error.exit_code());
    }
    hints::with_hint(error).exit();
}

/// The exit code of a command, its failure shown.
fn finish(outcome: anyhow::Result<()>, talk: Talk) -> u8 {
    let code = exit_code(&outcome);
    if let Err(error) = outcome
        && !is_broken_pipe(&error)
        && !error.is::<Stopped>()
    {
        talk.failure(&error);
    }
    code
}

/// The exit code of a command.
fn exit_code(outcome: &anyhow::Result<()>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(error) if is_broken_pipe(error) => 0,
        Err(error) if error.is::<Refused>() => 2,
        Err(error) => error.downcast_ref::<Stopped>().map_or(1, |stopped| stopped.exit_code()),
    }
}

/// A fault of the program; its words may hold text of a file.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    dapo_console::restore();
    let trace = std::backtrace::Backtrace::capture();
    terminal::to_stderr(format_args!("internal error: {panic}\n"));
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        terminal::to_stderr(format_args!("{trace}\n"));
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
