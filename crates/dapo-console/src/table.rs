//! The table of steps, as wide as the terminal allows.

use crate::numbers::{count, figure, seconds};
use crate::style::{BOLD, DIM, GOOD, NOTABLE, Paint};
use anstyle::Style;
use dapo_trainer::{CriticMetrics, StepMetrics, StepTimings};

/// A step in the table.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) metrics: &'a StepMetrics,
    pub(crate) timings: &'a StepTimings,
    /// Steps of the run.
    pub(crate) steps: u64,
    /// Whether the accuracy is the highest so far.
    pub(crate) is_best: bool,
}

/// A column.
struct Column {
    title: &'static str,
    /// Characters of its figures.
    width: usize,
    /// Columns of lower rank are left out first, from the highest number down.
    rank: u8,
    cell: fn(&Row<'_>) -> String,
    style: fn(&Row<'_>) -> Option<Style>,
    /// Whether it is of PPO's critic, and left out of runs without one.
    of_critic: bool,
}

const fn column(title: &'static str, width: usize, rank: u8, cell: fn(&Row<'_>) -> String) -> Column {
    Column { title, width, rank, cell, style: |_| None, of_critic: false }
}

const fn of_critic(title: &'static str, width: usize, cell: fn(&Row<'_>) -> String) -> Column {
    Column { of_critic: true, ..column(title, width, 8, cell) }
}

/// All columns, in order.
const COLUMNS: [Column; 19] = [
    Column { style: |_| Some(BOLD), ..column("step", 5, 0, |row| format!("{}/{}", row.metrics.step, row.steps)) },
    column("reward", 7, 1, |row| figure(row.metrics.reward, 3)),
    Column {
        style: |row| row.is_best.then_some(GOOD),
        ..column("accuracy", 8, 2, |row| figure(row.metrics.accuracy, 3))
    },
    column("entropy", 7, 4, |row| figure(row.metrics.entropy, 3)),
    column("length", 6, 3, |row| figure(row.metrics.mean_length, 1)),
    Column {
        style: |row| row.metrics.clipped_ratio.is_some_and(|share| share >= 0.5).then_some(NOTABLE),
        ..column("truncated", 9, 7, |row| figure(row.metrics.clipped_ratio, 3))
    },
    Column {
        style: |row| (row.metrics.updates == 0).then_some(NOTABLE),
        ..column("kept/drawn", 10, 5, |row| {
            let groups = &row.metrics.dynamic_sampling;
            format!("{}/{}", groups.trained + groups.filled, groups.generated)
        })
    },
    column("all correct", 11, 10, |row| row.metrics.dynamic_sampling.all_correct.to_string()),
    column("all incorrect", 13, 11, |row| row.metrics.dynamic_sampling.all_incorrect.to_string()),
    column("grad norm", 9, 9, |row| figure(row.metrics.grad_norm, 3)),
    column("clip low", 8, 13, |row| figure(row.metrics.clip_low, 4)),
    column("clip high", 9, 12, |row| figure(row.metrics.clip_high, 4)),
    column("kl", 8, 14, |row| figure(row.metrics.kl, 5)),
    column("probability", 11, 15, |row| figure(row.metrics.mean_token_prob, 3)),
    of_critic("value loss", 10, |row| figure(critic(row, |of| of.loss), 3)),
    of_critic("explained", 9, |row| figure(critic(row, |of| of.explained_variance), 3)),
    column("lr", 8, 16, |row| format!("{:.1e}", row.metrics.lr)),
    Column { style: |_| Some(DIM), ..column("tok/s", 6, 8, |row| count(row.timings.tokens_per_second)) },
    Column { style: |_| Some(DIM), ..column("time", 6, 6, |row| seconds(row.timings.step_time)) },
];

fn critic(row: &Row<'_>, of: fn(&CriticMetrics) -> Option<f64>) -> Option<f64> {
    row.metrics.critic.as_ref().and_then(of)
}

/// Blanks between two columns.
const GAP: usize = 2;

/// The columns that fit into a width for a run of some steps.
pub(crate) struct Table {
    columns: Vec<(&'static Column, usize)>,
    paint: Paint,
}

impl Table {
    pub(crate) fn new(width: usize, steps: u64, has_critic: bool, paint: Paint) -> Self {
        static ALL: [Column; 19] = COLUMNS;
        let digits = steps.to_string().len();
        let width_of = |column: &Column| {
            column.width.max(column.title.len()).max(if column.rank == 0 { 2 * digits + 1 } else { 0 })
        };
        let all = || ALL.iter().filter(|column| has_critic || !column.of_critic);
        let mut ranked: Vec<&Column> = all().collect();
        ranked.sort_by_key(|column| column.rank);
        let mut left = width + GAP;
        let mut last = None;
        for column in ranked {
            match left.checked_sub(width_of(column) + GAP) {
                Some(rest) => (left, last) = (rest, Some(column.rank)),
                None => break,
            }
        }
        let columns = all().filter(|column| last.is_some_and(|last| column.rank <= last));
        Self { columns: columns.map(|column| (column, width_of(column))).collect(), paint }
    }

    /// The titles.
    pub(crate) fn header(&self) -> String {
        self.join(|column| (column.title.to_owned(), Some(DIM)))
    }

    pub(crate) fn row(&self, row: &Row<'_>) -> String {
        self.join(|column| ((column.cell)(row), (column.style)(row)))
    }

    fn join(&self, cell: impl Fn(&Column) -> (String, Option<Style>)) -> String {
        let cells = self.columns.iter().map(|(column, width)| {
            let (text, style) = cell(column);
            let text = format!("{text:>width$}");
            style.map_or(text.clone(), |style| self.paint.with(style, text))
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP))
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Table};
    use crate::style::Paint;
    use console::{measure_text_width, strip_ansi_codes};
    use dapo_trainer::{StepMetrics, StepTimings};

    #[test]
    fn rows_are_aligned_and_fit_whole_columns_into_any_width() {
        let metrics = StepMetrics {
            step: 7,
            reward: Some(-0.25),
            accuracy: Some(0.5),
            clipped_ratio: Some(0.75),
            ..StepMetrics::default()
        };
        let timings = StepTimings { step_time: 1.5, tokens_per_second: 12_345.0, ..StepTimings::default() };
        let row = Row { metrics: &metrics, timings: &timings, steps: 1000, is_best: true };
        let widths = [12, 20, 40, 79, 80, 120, 200, 400];
        for (width, critic) in widths.iter().flat_map(|width| [(*width, false), (*width, true)]) {
            let [plain, painted] = [false, true].map(|color| Table::new(width, 1000, critic, Paint(color)));
            let (header, line) = (plain.header(), plain.row(&row));
            assert_eq!(measure_text_width(&header), measure_text_width(&line), "{width}");
            assert!(measure_text_width(&line) <= width, "{width}: {line}");
            assert!(line.trim_start().starts_with("7/1000"));
            assert_eq!(strip_ansi_codes(&painted.row(&row)), line);
            assert_ne!(painted.header(), header);
        }
        let titles = |width| Table::new(width, 1000, false, Paint(false)).header();
        assert_eq!(titles(40), "     step   reward  accuracy  length");
        assert!(titles(80).contains("accuracy") && titles(80).contains("kept/drawn") && titles(80).contains("time"));
        assert!(titles(200).contains("all incorrect") && titles(200).contains("lr"), "{}", titles(200));
    }
}
