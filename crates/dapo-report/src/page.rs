//! The page: parts of this crate, and the runs' data between them.

use crate::blocks::{Block, Budget};
use crate::log::Row;
use crate::report_error::ReportError;
use crate::run::Run;
use crate::settings::{Settings, groups};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// How a page begins; this sets a report apart from other files.
const START: &str = "<!doctype html><!-- dapo report -->\n";

/// How much of the completions a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportOptions {
    /// Most completions of a step; `None` for all. By default 64.
    pub per_step: Option<usize>,
    /// Most bytes of the page for completions; `None` for as many as they need. By default 50 MB. Steps share them evenly.
    pub bytes: Option<usize>,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self { per_step: Some(64), bytes: Some(50_000_000) }
    }
}

impl ReportOptions {
    /// Every completion, whatever its size.
    pub fn all() -> Self {
        Self { per_step: None, bytes: None }
    }
}

/// A page and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The page.
    pub html: String,
    /// What is wrong with the runs, each with the name of its run. The page shows them, too.
    pub warnings: Vec<String>,
    /// Completions that the page holds.
    pub shown: usize,
    /// Completions that the runs hold.
    pub total: usize,
}

#[derive(Serialize)]
struct PageData<'a> {
    runs: Vec<RunData<'a>>,
}

#[derive(Serialize)]
struct RunData<'a> {
    name: &'a str,
    /// The first run that differs by its seed alone, counted from 0.
    group: usize,
    planned: Option<u64>,
    warnings: &'a [String],
    settings: Option<&'a Settings>,
    steps: Vec<u64>,
    metrics: BTreeMap<&'a str, Vec<Option<f64>>>,
    timed_steps: Vec<u64>,
    timings: BTreeMap<&'a str, Vec<Option<f64>>>,
    evaluations: Vec<&'a Row>,
    blocks: &'a [Block],
}

/// Reads run folders and makes one page of them.
///
/// # Errors
/// [`ReportError::NoRuns`] without folders, [`ReportError::Folder`] for a folder that holds no run, [`ReportError::Io`] for
/// a file that cannot be read.
pub fn report(folders: &[PathBuf], options: &ReportOptions) -> Result<Report, ReportError> {
    if folders.is_empty() {
        return Err(ReportError::NoRuns);
    }
    let mut runs = folders.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let files = runs.iter().map(|run| run.files.len()).sum();
    let mut budget = Budget { per_step: options.per_step, bytes: options.bytes, files };
    let mut blocks = Vec::new();
    for run in &mut runs {
        let (found, warnings) = run.blocks(&mut budget)?;
        run.warnings.extend(warnings);
        blocks.push(found);
    }
    let names = names(folders);
    let json = json(&runs, &names, &blocks)?;
    let warned = |(run, name): (&Run, &String)| -> Vec<String> {
        run.warnings.iter().map(|warning| format!("{name}: {warning}")).collect()
    };
    let all = || blocks.iter().flatten();
    Ok(Report {
        html: html(&names, &json, &Place::Inside(&blocks)),
        warnings: runs.iter().zip(&names).flat_map(warned).collect(),
        shown: all().map(|block| block.shown).sum(),
        total: all().map(|block| block.total).sum(),
    })
}

/// The page of runs whose completions a server gives, at a version of the runs' files.
///
/// # Errors
/// When the page's data cannot be written.
pub(crate) fn served(
    folders: &[PathBuf],
    runs: &[Run],
    blocks: &[Vec<Block>],
    version: &str,
) -> Result<String, ReportError> {
    let names = names(folders);
    Ok(html(&names, &json(runs, &names, blocks)?, &Place::Served(version)))
}

fn json(runs: &[Run], names: &[String], blocks: &[Vec<Block>]) -> Result<String, ReportError> {
    let settings: Vec<_> = runs.iter().map(|run| run.settings.as_ref()).collect();
    let groups = groups(&settings);
    let run = |place: usize| run_data(&runs[place], &names[place], groups[place], &blocks[place]);
    let data = PageData { runs: (0..runs.len()).map(run).collect() };
    serde_json::to_string(&data).map_err(std::io::Error::from).map_err(ReportError::io("the page".as_ref()))
}

/// Whether a text begins as a report does.
pub fn is_report(text: &[u8]) -> bool {
    text.starts_with(START.as_bytes())
}

fn run_data<'a>(run: &'a Run, name: &'a str, group: usize, blocks: &'a [Block]) -> RunData<'a> {
    RunData {
        name,
        group,
        planned: run.planned(),
        warnings: &run.warnings,
        settings: run.settings.as_ref(),
        steps: run.metrics.rows.keys().copied().collect(),
        metrics: run.metrics.columns(),
        timed_steps: run.timings.rows.keys().copied().collect(),
        timings: run.timings.columns(),
        evaluations: run.evaluations.rows.values().collect(),
        blocks,
    }
}

/// The folders' last names; as they were given where two are the same.
fn names(folders: &[PathBuf]) -> Vec<String> {
    let last = |folder: &Path| folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = |folder: &PathBuf| match last(folder) {
        Some(name) if folders.iter().filter(|other| last(other).as_ref() == Some(&name)).count() == 1 => name,
        _ => folder.display().to_string(),
    };
    folders.iter().map(name).collect()
}

/// Where a page has its completions.
enum Place<'a> {
    /// In itself.
    Inside(&'a [Vec<Block>]),
    /// On the server that gives the page, at this version of the runs.
    Served(&'a str),
}

fn html(names: &[String], json: &str, place: &Place<'_>) -> String {
    let blocks = match place {
        Place::Inside(blocks) => *blocks,
        Place::Served(_) => &[],
    };
    let size = json.len() + blocks.iter().flatten().map(|block| block.data.len() + 80).sum::<usize>();
    let mut html = String::with_capacity(size + (1 << 18));
    html.push_str(START);
    let loads = if matches!(place, Place::Served(_)) { " connect-src 'self';" } else { "" };
    let head = include_str!("../assets/head.html").replace("{loads}", loads);
    html.push_str(&head.replace("{title}", &escaped(&names.join(", "))));
    for style in [include_str!("../vendor/uPlot.min.css"), include_str!("../assets/report.css")] {
        let _ = write!(html, "<style>\n{style}</style>\n");
    }
    html.push_str(include_str!("../assets/body.html"));
    let _ = writeln!(html, "<script type=\"application/json\" id=\"data\">{}</script>", in_script(json));
    if let Place::Served(version) = place {
        let _ = writeln!(html, "<script type=\"text/plain\" id=\"live\" data-version=\"{version}\"></script>");
    }
    let _ = write!(html, "<script>\n/*\n{}*/\n</script>\n", include_str!("../vendor/uPlot.LICENSE"));
    let source = match place {
        Place::Inside(_) => include_str!("../assets/inline.js"),
        Place::Served(_) => include_str!("../assets/live.js"),
    };
    for script in [
        include_str!("../vendor/uPlot.iife.min.js"),
        include_str!("../assets/text.js"),
        source,
        include_str!("../assets/charts.js"),
        include_str!("../assets/tables.js"),
        include_str!("../assets/browser.js"),
    ] {
        let _ = write!(html, "<script>\n{script}</script>\n");
    }
    // Behind everything else: a browser shows the page while it reads them.
    for (run, blocks) in blocks.iter().enumerate() {
        for Block { step, data, .. } in blocks {
            let _ = writeln!(html, "<script type=\"text/plain\" id=\"block-{run}-{step}\">{data}</script>");
        }
    }
    html.push_str("</body>\n</html>\n");
    html
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// JSON that no tag or comment inside it can end: such characters stand in strings alone, where escapes mean the same.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
