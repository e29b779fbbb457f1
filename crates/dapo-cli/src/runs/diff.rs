//! `dapo runs diff`: two runs side by side.

use crate::terminal::{Stdout, columns};
use crate::wrap::wrap;
use anyhow::Result;
use dapo_run::{Difference, difference};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use unicode_width::UnicodeWidthStr;

/// Compare two runs: settings, the means of their last 10 steps, their last evaluations.
#[derive(clap::Args)]
pub(super) struct Diff {
    /// A run folder.
    #[arg(value_name = "A")]
    one: PathBuf,
    /// Another run folder.
    #[arg(value_name = "B")]
    other: PathBuf,
    /// Print one JSON object, with every figure.
    #[arg(long)]
    json: bool,
}

/// The steps' figures that people look at first.
const SHOWN: [&str; 11] = [
    "train/reward",
    "train/accuracy",
    "train/entropy",
    "train/kl",
    "train/clip_ratio/region_mean",
    "train/grad_norm",
    "train/lr",
    "train/completions/mean_length",
    "train/completions/clipped_ratio",
    "train/sampling/stale_fraction",
    "train/num_tokens",
];

/// A line of the comparison.
#[derive(Debug)]
enum Row {
    /// A line of its own.
    Heading(String),
    /// A name and what each of the two runs has.
    Pair(String, [String; 2]),
}

impl Diff {
    pub(super) fn run(&self) -> Result<()> {
        let difference = difference(&self.one, &self.other)?;
        let mut stdout = Stdout::new();
        if self.json {
            writeln!(stdout, "{}", serde_json::to_string(&difference)?)?;
            return Ok(());
        }
        let names = [&self.one, &self.other].map(|run| run.display().to_string());
        write!(stdout, "{}", laid_out(&rows(names, difference), columns()))?;
        Ok(())
    }
}

fn rows(names: [String; 2], difference: Difference) -> Vec<Row> {
    let Difference { settings, steps, averaged, figures, evaluated, evaluations } = difference;
    let unset = |value: Option<String>| value.unwrap_or_else(|| "unset".to_owned());
    let number = |value: Option<f64>| value.map_or("-".to_owned(), figure);
    let pair = |name: &str, values| Row::Pair(format!("  {name}"), values);
    let mut rows = vec![Row::Pair(String::new(), names), Row::Heading("settings that differ".to_owned())];
    if settings.is_empty() {
        rows.push(Row::Heading("  none".to_owned()));
    }
    rows.extend(settings.into_iter().map(|(key, values)| pair(&key, values.map(unset))));
    rows.push(Row::Heading(format!("means of the last {} and {} steps", averaged[0], averaged[1])));
    rows.push(pair("steps", steps.map(|steps| steps.to_string())));
    let shown = SHOWN.iter().filter_map(|name| Some((name, figures.get(*name)?)));
    rows.extend(shown.map(|(name, values)| pair(name.trim_start_matches("train/"), values.map(number))));
    if evaluated != [None, None] {
        rows.push(Row::Heading("last evaluations".to_owned()));
        rows.push(pair("after step", evaluated.map(|step| step.map_or("-".to_owned(), |step| step.to_string()))));
        let is_shown =
            |name: &&String| !name.ends_with("/low") && !name.ends_with("/high") && !is_repeated(name, &evaluations);
        for name in evaluations.keys().filter(is_shown) {
            rows.push(pair(name.trim_start_matches("eval/"), [0, 1].map(|run| estimate(&evaluations, name, run))));
        }
    }
    rows
}

type Figures = BTreeMap<String, [Option<f64>; 2]>;

/// Whether a figure is avg@k under another name: so are pass@1 and maj@1 of one completion for each problem.
fn is_repeated(name: &str, evaluations: &Figures) -> bool {
    let has_several =
        || evaluations.keys().any(|key| key.starts_with("eval/pass_at_") && key.split('/').nth(1) != Some("pass_at_1"));
    ["eval/pass_at_1", "eval/maj_at_k"].contains(&name) && !has_several()
}

/// A figure of one run with its interval, where it has one.
fn estimate(evaluations: &Figures, name: &str, run: usize) -> String {
    let value = |name: &str| evaluations.get(name).and_then(|values| values[run]);
    match (value(name), value(&format!("{name}/low")), value(&format!("{name}/high"))) {
        (Some(mean), Some(low), Some(high)) => format!("{} ({} to {})", figure(mean), end(low), end(high)),
        (mean, ..) => mean.map_or("-".to_owned(), figure),
    }
}

/// Four digits, and as many places as these take.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1e-3 => format!("{value:.3e}"),
        size if size < 100.0 => format!("{value:.4}"),
        size if size < 1e5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The end of an interval, with one place less.
fn end(value: f64) -> String {
    if (1e-3..100.0).contains(&value.abs()) { format!("{value:.3}") } else { figure(value) }
}

/// Fewest columns of a value.
const NARROWEST: usize = 8;

/// Rows with aligned columns, whose values are broken where the lines would be wider than `width`.
fn laid_out(rows: &[Row], width: Option<usize>) -> String {
    let mut widths = [0; 3];
    for row in rows {
        let Row::Pair(name, [one, other]) = row else { continue };
        for (width, cell) in widths.iter_mut().zip([name, one, other]) {
            *width = (*width).max(cell.width());
        }
    }
    let [name, one, other] = widths;
    if let Some(rest) = width.map(|width| width.saturating_sub(name + 4))
        && one + other > rest
    {
        let half = (rest / 2).max(NARROWEST);
        widths = [name, one.min(half.max(rest.saturating_sub(other))), other.min(half.max(rest.saturating_sub(one)))];
    }
    let mut text = String::new();
    for row in rows {
        let cells = match row {
            Row::Heading(heading) => {
                text.push_str(heading);
                text.push('\n');
                continue;
            }
            Row::Pair(name, [one, other]) => [name, one, other],
        };
        // Names are never broken.
        let limits = width.map(|_| widths);
        let cells: Vec<Vec<String>> = cells
            .into_iter()
            .enumerate()
            .map(|(at, cell)| if at == 0 { vec![cell.clone()] } else { wrap(cell, limits.map(|limits| limits[at])) })
            .collect();
        for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut columns = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                let part = cell.get(line).map_or("", String::as_str);
                columns.push_str(part);
                columns.extend(std::iter::repeat_n(' ', (width + 2).saturating_sub(part.width())));
            }
            text.push_str(columns.trim_end());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let figures = [0.0, 1e-6, -0.25, 12.5, 1234.56, 3e7].map(figure);
        assert_eq!(figures, ["0", "1.000e-6", "-0.2500", "12.5000", "1234.6", "30000000"]);
        assert_eq!([0.0, 0.125, -2.5, 1234.56, 1e-5].map(end), ["0", "0.125", "-2.500", "1234.6", "1.000e-5"]);
    }

    fn compared() -> Vec<Row> {
        let two = |one: &str, other: &str| [one, other].map(str::to_owned);
        let evaluations: Figures = [("", 0.227), ("/low", 0.1924), ("/high", 0.2651)]
            .iter()
            .flat_map(|(end, value)| {
                ["avg_at_k", "maj_at_k", "pass_at_1"].map(|name| (format!("eval/{name}{end}"), [Some(*value); 2]))
            })
            .collect();
        let difference = Difference {
            settings: [
                ("data.train".to_owned(), [Some("[\"problems/of/the/first/run.jsonl\"]".to_owned()), None]),
                ("loss.policy_loss.clip.high".to_owned(), [Some("0.28".to_owned()), Some("0.2".to_owned())]),
            ]
            .into(),
            steps: [80, 80],
            averaged: [10, 10],
            figures: [("train/completions/clipped_ratio".to_owned(), [Some(0.015_625), Some(0.0)])].into(),
            evaluated: [Some(80), Some(80)],
            evaluations,
        };
        rows(two("runs/a", "runs/b"), difference)
    }

    #[test]
    fn a_comparison_fits_the_terminal() {
        let expected = "                              runs/a                     runs/b
settings that differ
  data.train                  [\"problems/of/the/first/r  unset
                              un.jsonl\"]
  loss.policy_loss.clip.high  0.28                       0.2
means of the last 10 and 10 steps
  steps                       80                         80
  completions/clipped_ratio   0.0156                     0
last evaluations
  after step                  80                         80
  avg_at_k                    0.2270 (0.192 to 0.265)    0.2270 (0.192 to 0.265)
";
        assert_eq!(laid_out(&compared(), Some(80)), expected);
        for width in [60, 70, 200] {
            let text = laid_out(&compared(), Some(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}: {text}");
        }
        // A file or a pipe gets each value whole.
        let whole = laid_out(&compared(), None);
        assert!(whole.contains("[\"problems/of/the/first/run.jsonl\"]  unset\n"), "{whole}");
    }

    #[test]
    fn figures_of_one_completion_each_are_shown_once() {
        let mut evaluations = Figures::from([("eval/pass_at_1".to_owned(), [Some(0.5); 2])]);
        evaluations.insert("eval/maj_at_k".to_owned(), [Some(0.5); 2]);
        assert!(is_repeated("eval/pass_at_1", &evaluations) && is_repeated("eval/maj_at_k", &evaluations));
        assert!(!is_repeated("eval/avg_at_k", &evaluations));
        evaluations.insert("eval/pass_at_8".to_owned(), [None, Some(0.75)]);
        assert!(!is_repeated("eval/pass_at_1", &evaluations) && !is_repeated("eval/maj_at_k", &evaluations));
    }
}
