//! `dapo report`: runs as one HTML page.

use crate::talk::Talk;
use crate::terminal::Stdout;
use anyhow::{Context, Result, bail};
use dapo_files::open_file;
use dapo_report::{ReportOptions, Watch, is_report, report};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Write runs as one HTML page with curves, evaluations, settings and completions.
///
/// The page needs no network. The curves of several runs are overlaid; runs that differ only in their seed become one line
/// with a band.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dapo report runs/mine
  dapo report runs/mine runs/other --out compared.html
  dapo report runs/mine --all
  dapo report runs/mine --watch")]
pub(crate) struct Report {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page to write; an earlier report is replaced. By default report.html in the first run's folder.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Include every completion; by default at most 64 per step, and 50 MB in total.
    #[arg(long)]
    all: bool,
    /// Serve the page, with all completions, to this machine only, and refresh it as the runs advance, until Ctrl-C.
    #[arg(long, conflicts_with_all = ["out", "all"])]
    watch: bool,
    /// The port of --watch; by default a free one.
    #[arg(long, value_name = "PORT", requires = "watch", default_value_t = 0, hide_default_value = true)]
    port: u16,
}

pub(crate) fn run(args: &Report, talk: Talk) -> Result<()> {
    if args.watch {
        return watch(args, talk);
    }
    let out = args.out.clone().unwrap_or_else(|| args.runs[0].join("report.html"));
    refuse_to_overwrite(&out)?;
    let options = if args.all { ReportOptions::all() } else { ReportOptions::default() };
    let page = report(&args.runs, &options)?;
    for warning in &page.warnings {
        talk.warning(warning);
    }
    if page.shown < page.total {
        talk.note(format!("{} of {} completions are in the page; --all takes in the rest", page.shown, page.total));
    }
    fs::write(&out, &page.html).with_context(|| format!("{}, given for --out", out.display()))?;
    writeln!(Stdout::new(), "{}", out.display())?;
    Ok(())
}

/// Serves the page until a signal comes.
fn watch(args: &Report, talk: Talk) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // A second signal ends the process at once.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    let watch = Watch::bind(&args.runs, args.port)?;
    let mut stdout = Stdout::new();
    writeln!(stdout, "{}", watch.address())?;
    stdout.flush()?;
    drop(stdout);
    talk.note("the page follows the runs; Ctrl-C ends it");
    Ok(watch.serve(&stop)?)
}

fn refuse_to_overwrite(out: &Path) -> Result<()> {
    let mut start = Vec::new();
    match open_file(out).and_then(|file| file.take(64).read_to_end(&mut start)) {
        Ok(_) if is_report(&start) => Ok(()),
        Ok(_) => bail!("{} is no report, expected a new file or an earlier report for --out", out.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{}, given for --out", out.display())),
    }
}
