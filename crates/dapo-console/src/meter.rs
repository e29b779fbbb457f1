//! Progress of something that is no training.

use crate::numbers::duration;
use crate::screen::{Area, Size};
use crate::status::{bar, fit};
use crate::style::{BOLD, DIM, Paint};
use crate::visible::visible;
use crate::voice::Voice;
use dapo_trainer::Activity;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Progress of something with a known end, such as an evaluation or a download, as a bar on a terminal. It is gone when
/// this is dropped.
#[derive(Debug)]
pub struct Meter {
    state: Arc<Mutex<State>>,
    _area: Option<Area>,
}

#[derive(Debug)]
struct State {
    name: String,
    done: f64,
    total: f64,
    /// What was done when the clock started.
    before: f64,
    text: String,
    started: Instant,
}

impl State {
    fn seconds_left(&self) -> Option<f64> {
        let made = self.done - self.before;
        (made > 0.0).then(|| self.started.elapsed().as_secs_f64() / made * (self.total - self.done).max(0.0))
    }

    fn line(&self, width: usize, paint: Paint) -> String {
        let share = if self.total > 0.0 { self.done / self.total } else { 0.0 };
        let elapsed = paint.with(DIM, format!("elapsed {}", duration(self.started.elapsed().as_secs_f64())));
        let left = self.seconds_left().map_or(String::new(), |left| format!("left {}", duration(left)));
        let percent = format!("{:3.0} %", 100.0 * share);
        let parts = [paint.with(BOLD, &self.name), bar(share, if width < 60 { 10 } else { 24 }, paint), percent, left];
        fit(&[&parts[..], &[self.text.clone(), elapsed]].concat(), width)
    }
}

impl Meter {
    /// Shows a bar on a terminal. `name` may be anyone's text.
    pub fn start(voice: Voice, name: &str) -> Self {
        let (name, text) = (visible(name), String::new());
        let state = State { name, done: 0.0, total: 0.0, before: 0.0, text, started: Instant::now() };
        let state = Arc::new(Mutex::new(state));
        let (shown, paint) = (Arc::clone(&state), voice.paint());
        let lines =
            move |size: Size| vec![shown.lock().unwrap_or_else(PoisonError::into_inner).line(size.columns, paint)];
        let area = voice.is_live().then(|| Area::show(lines)).flatten();
        Self { state, _area: area }
    }

    /// How much is done of how much, with a text of one's own. What is done at the first call counts as done before.
    pub fn set(&self, done: f64, total: f64, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.total == 0.0 {
            (state.before, state.started) = (done, Instant::now());
        }
        (state.done, state.total) = (done, total);
        state.text = visible(text);
    }

    /// How much is done.
    pub fn reach(&self, done: f64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).done = done;
    }

    /// What a trainer is doing, of which an evaluation is shown.
    pub fn see(&self, activity: Activity) {
        match activity {
            Activity::Evaluation { done, problems, .. } => {
                self.set(done as f64, problems as f64, &format!("{done}/{problems} problems"));
            }
            Activity::Scoring { completions } => self.say(&format!("scoring {completions} completions")),
            _ => {}
        }
    }

    /// A text of one's own.
    fn say(&self, text: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).text = visible(text);
    }

    /// Seconds since the first call of [`set`](Self::set).
    pub fn seconds(&self) -> f64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).started.elapsed().as_secs_f64()
    }

    /// Seconds that the rest may take, once something was done.
    pub fn seconds_left(&self) -> Option<f64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).seconds_left()
    }
}
