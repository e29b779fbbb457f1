//! `dapo runs`: lists runs, compares two, and deletes what they do not need.

mod diff;

use crate::talk::Talk;
use crate::terminal::Stdout;
use anyhow::{Result, bail};
use dapo_run::{BestAccuracy, Leftover, RunSummary, clean, find_runs, interrupted_starts, leftovers, summarize};
use diff::Diff;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// List runs, compare two runs, or delete files that runs do not need.
///
/// Without a subcommand, list the runs in and below the folders, with state (running, finished, stopped, damaged), steps,
/// best accuracy, size and time since the last change. Damaged files are named on stderr.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  dapo runs
  dapo runs experiments --json
  dapo runs diff runs/a runs/b
  dapo runs clean runs --checkpoints"
)]
pub(crate) struct Runs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    places: Places,
    /// Print one JSON object per run.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Places {
    /// Run folders, or folders of them [default: runs, or the working directory if there is no such folder]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    Diff(Diff),
    Clean(Clean),
}

/// List files that runs do not need; with --yes, delete them.
///
/// Only what dapo itself wrote is listed: the completions of failed steps, and files and folders whose names end in
/// `.part`, which interrupted starts, writes and deletions leave. With --checkpoints, all checkpoints are listed except
/// the last and the best. The best one has the highest value of the metric that `output.keep_best` names, or of avg@k
/// if that setting is unset. If no checkpoint was evaluated, only the last one stays. A run is not touched if it is
/// being trained, if its settings or logs are damaged, or, with --checkpoints, if its last checkpoint is damaged.
#[derive(clap::Args)]
struct Clean {
    #[command(flatten)]
    places: Places,
    /// Delete them; without this flag they are only listed.
    #[arg(long)]
    yes: bool,
    /// Include all checkpoints except the last and the best.
    #[arg(long)]
    checkpoints: bool,
    /// Print a JSON object for each file or folder.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Runs, talk: Talk) -> Result<()> {
    match &args.command {
        Some(Command::Diff(args)) => args.run(),
        Some(Command::Clean(args)) => clean_up(args, talk),
        None => list(args, talk),
    }
}

impl Places {
    fn dirs(&self) -> Vec<PathBuf> {
        if !self.dirs.is_empty() {
            return self.dirs.clone();
        }
        let usual = PathBuf::from("runs");
        vec![if usual.is_dir() { usual } else { PathBuf::from(".") }]
    }

    /// Every run once.
    fn runs(&self) -> Result<Vec<PathBuf>> {
        let mut all: Vec<PathBuf> = Vec::new();
        for dir in self.dirs() {
            let found = find_runs(&dir)?;
            all.extend(found.into_iter().filter(|run| !all.contains(run)).collect::<Vec<_>>());
        }
        Ok(all)
    }

    fn say_none(&self, talk: Talk) {
        let dirs: Vec<String> = self.dirs().iter().map(|dir| dir.display().to_string()).collect();
        talk.note(format_args!("no run in {}", dirs.join(", ")));
    }
}

fn list(args: &Runs, talk: Talk) -> Result<()> {
    let mut stdout = Stdout::new();
    let runs = args.places.runs()?;
    if runs.is_empty() {
        args.places.say_none(talk);
        return Ok(());
    }
    let mut rows = vec![["state", "steps", "best", "size", "changed", "run"].map(str::to_owned)];
    for path in runs {
        let run = summarize(&path)?;
        if args.json {
            writeln!(stdout, "{}", serde_json::to_string(&run)?)?;
        } else {
            rows.push(row(&run));
        }
        for damage in &run.damage {
            talk.warning(format_args!("{}: {damage}", path.display()));
        }
    }
    if !args.json {
        write!(stdout, "{}", table(&rows))?;
    }
    Ok(())
}

fn row(run: &RunSummary) -> [String; 6] {
    let planned = run.planned.map_or("?".to_owned(), |planned| planned.to_string());
    [
        run.state.name().to_owned(),
        format!("{}/{planned}", run.steps),
        run.best.as_ref().map_or("-".to_owned(), best),
        bytes(run.bytes),
        age(run.changed),
        run.path.display().to_string(),
    ]
}

/// Accuracies of training are over other problems than those of evaluations.
fn best(best: &BestAccuracy) -> String {
    let from = if best.figure.starts_with("eval/") { "" } else { " (train)" };
    format!("{:.3} @ {}{from}", best.value, best.step)
}

/// Rows with aligned columns; the last one may be of any length.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (0..units.len() - 1).find(|step| bytes >> (10 * step) < 1024).unwrap_or(units.len() - 1);
    let value = bytes as f64 / (1_u64 << (10 * step)) as f64;
    let digits = usize::from(step > 0 && value < 99.95);
    format!("{value:.digits$} {}", units[step])
}

/// How long ago a time is, in seconds since 1970.
fn age(time: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match now.saturating_sub(time) {
        seconds @ ..120 => format!("{seconds} s ago"),
        seconds @ ..7200 => format!("{} min ago", seconds / 60),
        seconds @ ..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

fn clean_up(args: &Clean, talk: Talk) -> Result<()> {
    let mut stdout = Stdout::new();
    let runs = args.places.runs()?;
    let mut all: Vec<Leftover> = Vec::new();
    let mut left_alone = 0;
    for run in &runs {
        let found = if args.yes { clean(run, args.checkpoints) } else { leftovers(run, args.checkpoints) };
        match found {
            Ok(found) => all.extend(found),
            Err(error) => {
                talk.warning(format_args!("left alone: {error}"));
                left_alone += 1;
            }
        }
    }
    // Starts stand beside runs.
    let beside = runs.iter().filter_map(|run| run.parent().map(Path::to_owned));
    let mut folders: Vec<PathBuf> = args.places.dirs().into_iter().chain(beside).collect();
    folders.sort();
    folders.dedup();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let found = interrupted_starts(folder, args.yes)?;
        all.extend(found.into_iter().filter(|new| !all.iter().any(|old| old.path == new.path)).collect::<Vec<_>>());
    }
    let mut rows = Vec::new();
    for leftover in &all {
        if args.json {
            writeln!(stdout, "{}", serde_json::to_string(leftover)?)?;
        } else {
            let Leftover { path, kind, bytes: size } = leftover;
            rows.push([kind.name().to_owned(), bytes(*size), path.display().to_string()]);
        }
    }
    write!(stdout, "{}", table(&rows))?;
    let total = bytes(all.iter().map(|leftover| leftover.bytes).sum());
    match (all.len(), args.yes) {
        (0, _) => talk.note("nothing to delete"),
        (count, true) => talk.note(format_args!("deleted: {count} files and folders, {total}")),
        (count, false) => talk.note(format_args!("{count} files and folders, {total}: --yes deletes them")),
    }
    if args.yes && left_alone > 0 {
        bail!("{left_alone} of {} runs were left alone", runs.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1536 << 10, 200 << 20, 3 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "200 MiB", "3.0 TiB"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bb", "c"], ["ää", "b", "a long path"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "a   bb  c\nää  b   a long path\n");
    }
}
