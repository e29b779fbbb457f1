//! What people see of a training.

use crate::samples::{json, panel};
use crate::screen::{Area, Size, size};
use crate::state::State;
use crate::status::{area, curves};
use crate::table::{Row, Table};
use crate::voice::Voice;
use dapo_eval::EvalReport;
use dapo_trainer::{Activity, GroupRecord, StepMetrics, StepTimings};
use serde_json::json as object;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::state::Shape;

/// Rows of the table below one header.
const ROWS: usize = 20;

/// Follows a training: a transient area and a table on a terminal, else plain lines or JSON lines.
#[derive(Debug)]
pub struct Monitor {
    voice: Voice,
    state: Arc<Mutex<State>>,
    area: Option<Area>,
    samples_every: Option<u64>,
    /// Rows since the header, and the width for which it was made.
    header: Option<(usize, usize)>,
    best: f64,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Monitor {
    /// Begins to follow a training. After every `samples_every` steps, and after the first, sample completions are shown.
    pub fn start(voice: Voice, shape: Shape, samples_every: Option<u64>) -> Self {
        let state = Arc::new(Mutex::new(State::new(shape)));
        let (shown, paint) = (Arc::clone(&state), voice.paint());
        let lines = move |size: Size| area(&lock(&shown), size, paint);
        let area = voice.is_live().then(|| Area::show(lines)).flatten();
        Self { voice, state, area, samples_every, header: None, best: f64::NEG_INFINITY }
    }

    /// What the trainer shows its activities to. It only takes note of them.
    pub fn observer(&self) -> impl FnMut(Activity) + Send + 'static + use<> {
        let state = Arc::clone(&self.state);
        move |activity| lock(&state).see(activity)
    }

    /// Shows words in place of what is being done, such as that the training is about to stop. Parts that are separated by
    /// two blanks are left out from the end where the terminal is narrow.
    pub fn notices(&self) -> impl Fn(&str) + Send + 'static + use<> {
        let state = Arc::clone(&self.state);
        move |text| lock(&state).notice = Some(text.to_owned())
    }

    /// An evaluation.
    pub fn evaluation(&mut self, step: u64, when: &str, report: &EvalReport) {
        {
            let mut state = lock(&self.state);
            // That before the first step is no part of it.
            if state.made == state.shape.made { state.before_step() } else { state.idle() }
        }
        if self.voice.is_json() {
            self.voice.event("evaluation", object!({ "step": step, "report": report }));
        } else {
            self.voice.note(format_args!("evaluation {when}: {}", report.summary()));
            self.header = None;
        }
    }

    /// A checkpoint.
    pub fn checkpoint(&mut self, step: u64, path: &Path) {
        if self.voice.is_json() {
            self.voice.event("checkpoint", object!({ "step": step, "path": path.display().to_string() }));
        } else {
            self.voice.detail(format_args!("  checkpoint: {}", path.display()));
        }
    }

    /// A step was made.
    pub fn step(&mut self, metrics: &StepMetrics, timings: &StepTimings, groups: &[GroupRecord]) {
        let (left, elapsed, steps) = {
            let mut state = lock(&self.state);
            state.step(metrics);
            (state.seconds_left(), state.elapsed(), state.shape.steps)
        };
        let is_best = metrics.accuracy.is_some_and(|accuracy| accuracy > self.best);
        if let Some(accuracy) = metrics.accuracy.filter(|_| is_best) {
            self.best = accuracy;
        }
        if self.voice.is_json() {
            let seconds = |seconds: f64| (seconds * 10.0).round() / 10.0;
            self.voice.event(
                "step",
                object!({
                    "step": metrics.step,
                    "steps": steps,
                    "elapsed": seconds(elapsed),
                    "left": left.map(seconds),
                    "metrics": metrics,
                    "timings": timings,
                }),
            );
        } else if self.area.is_some() {
            self.row(&Row { metrics, timings, steps, is_best });
        } else {
            self.voice.note(plain(metrics, timings, steps));
        }
        let terms = metrics.dynamic_sampling.terms();
        let terms = terms.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}"));
        if !self.voice.is_json() {
            self.voice.detail(format_args!("  groups: {}", terms.collect::<Vec<_>>().join(", ")));
        }
        let is_due =
            self.samples_every.is_some_and(|every| metrics.step == 1 || metrics.step.is_multiple_of(every.max(1)));
        if is_due {
            self.samples(metrics.step, groups);
        }
    }

    fn row(&mut self, row: &Row<'_>) {
        let width = size().columns;
        let table = Table::new(width, row.steps, row.metrics.critic.is_some(), self.voice.paint());
        let rows = match self.header {
            Some((rows, of)) if rows < ROWS && of == width => rows,
            _ => {
                self.voice.lines(&[table.header()]);
                0
            }
        };
        self.header = Some((rows + 1, width));
        self.voice.lines(&[table.row(row)]);
    }

    /// Sample completions of a step.
    fn samples(&mut self, step: u64, groups: &[GroupRecord]) {
        if self.voice.is_json() {
            self.voice.event("samples", object!({ "step": step, "samples": json(groups) }));
            return;
        }
        let width = if self.voice.is_live() { size().columns } else { 100 };
        self.voice.lines(&panel(step, groups, width, self.voice.paint()));
        self.header = None;
    }

    /// Ends it: the area is gone, the curves stay.
    pub fn finish(mut self) {
        if self.area.take().is_some() {
            let lines = curves(&lock(&self.state), size().columns, self.voice.paint());
            self.voice.lines(&lines);
        }
    }
}

/// A step on one line.
fn plain(metrics: &StepMetrics, timings: &StepTimings, steps: u64) -> String {
    let StepMetrics { step, reward, accuracy, entropy, mean_length, clipped_ratio, .. } = metrics;
    let groups = &metrics.dynamic_sampling;
    // A step that generated nothing has nothing to show there.
    let shown = |value: &Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let of_critic = metrics.critic.as_ref().map_or(String::new(), |critic| {
        let (loss, explained) = (shown(&critic.loss, 3), shown(&critic.explained_variance, 3));
        format!("value loss {loss}, explained variance {explained}, ")
    });
    format!(
        "step {step}/{steps}: reward {}, accuracy {}, entropy {}, length {}, truncated {}, groups {} trained and {} drawn, \
         {of_critic}{:.0} tokens/s",
        shown(reward, 3),
        shown(accuracy, 3),
        shown(entropy, 3),
        shown(mean_length, 1),
        shown(clipped_ratio, 3),
        groups.trained + groups.filled,
        groups.generated,
        timings.tokens_per_second
    )
}
