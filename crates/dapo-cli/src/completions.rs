//! `dapo completions`: completion scripts for shells.

use anyhow::Result;
use clap::Command;
use clap_complete::Shell;
use std::io;

/// Print a completion script for a shell.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dapo completions bash > ~/.local/share/bash-completion/completions/dapo
  dapo completions zsh > ~/.zfunc/_dapo")]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &Completions, mut command: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "dapo", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(())
}
