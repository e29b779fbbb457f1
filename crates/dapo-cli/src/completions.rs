//! `dapo completions`: completion scripts for shells. They ask the program itself, so they know its recipes and settings.

use crate::terminal::Stdout;
use anyhow::{Context, Result};
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;
use std::io::Write;

/// Print a shell script that completes commands, flags, recipes, settings and their values.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  mkdir -p ~/.local/share/bash-completion/completions ~/.zfunc ~/.config/fish/completions
  dapo completions bash > ~/.local/share/bash-completion/completions/dapo
  dapo completions zsh > ~/.zfunc/_dapo       # with fpath+=~/.zfunc before compinit in ~/.zshrc
  dapo completions fish > ~/.config/fish/completions/dapo.fish

Then, for example: dapo train ti<TAB>, dapo train tiny optimizer.<TAB>, dapo train tiny optimizer.schedule=<TAB>.")]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// What a script sets to have its words completed.
const VARIABLE: &str = "_DAPO_COMPLETE";

/// Bash takes settings apart, at `=` and `:`; here they are whole again.
const BASH: &str = r#"# dapo: completion for bash
_dapo() {
    local line=${COMP_LINE:0:COMP_POINT} words=() current typed= breaks dapo
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]}-1]}
    dapo=${words[0]}
    command -v -- "$dapo" > /dev/null || dapo=dapo
    local IFS=$'\013'
    COMPREPLY=($(_CLAP_IFS=$IFS _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) _DAPO_COMPLETE=bash \
        "$dapo" -- "${words[@]}" 2> /dev/null))
    breaks=${COMP_WORDBREAKS//[^=:]/}
    [[ -n $breaks ]] && typed=${current%"${current##*[$breaks]}"}
    COMPREPLY=("${COMPREPLY[@]#"$typed"}")
    [[ ${COMPREPLY-} == *[=/] ]] && compopt -o nospace 2> /dev/null
    return 0
}
complete -o bashdefault -o default -F _dapo dapo
"#;

/// Zsh's script adds a space behind `KEY=`, but for this.
const ZSH: (&str, &str) = (
    r"[[ -n $other ]] && _describe -V 'values' other",
    r"local -a settings=(${(M)other:#*=} ${(M)other:#*=:*})
        other=(${other:|settings})
        [[ -n $settings ]] && _describe -V 'settings' settings -S ''
        [[ -n $other ]] && _describe -V 'values' other",
);

/// Answers a completion script, and ends, where one asks.
pub(crate) fn answer_if_asked(command: impl Fn() -> clap::Command) {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

pub(crate) fn run(args: &Completions) -> Result<()> {
    let script = match args.shell {
        Shell::Bash => BASH.to_owned(),
        Shell::Zsh => registration("zsh")?.replace(ZSH.0, ZSH.1),
        Shell::Fish => registration("fish")?,
        Shell::Elvish => registration("elvish")?,
        Shell::Powershell => registration("powershell")?,
    };
    Stdout::new().write_all(script.as_bytes())?;
    Ok(())
}

fn registration(shell: &str) -> Result<String> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell).with_context(|| format!("{shell} is not known"))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "dapo", "dapo", "dapo", &mut script)?;
    Ok(String::from_utf8(script)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_in_zshs_script_is_there() {
        assert!(registration("zsh").unwrap().contains(ZSH.0));
    }
}
