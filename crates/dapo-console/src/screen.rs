//! The transient area at the end of what is on the terminal, and what is written above it.

use console::{Term, measure_text_width, truncate_str};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two drawings at least: at most ten in a second.
const SPACING: Duration = Duration::from_millis(100);
/// Time between two looks at what is shown.
const TICK: Duration = Duration::from_millis(125);

/// Columns and rows of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// What an area shows, as lines for a terminal of a size.
type Lines = Box<dyn Fn(Size) -> Vec<String> + Send>;

struct Screen {
    lines: Option<Lines>,
    drawn: Vec<String>,
    columns: usize,
    /// Lines that belong above the area.
    pending: String,
    last: Option<Instant>,
}

static SCREEN: Mutex<Screen> =
    Mutex::new(Screen { lines: None, drawn: Vec::new(), columns: 0, pending: String::new(), last: None });

fn screen() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the terminal behind stderr.
pub(crate) fn size() -> Size {
    let (rows, columns) = Term::stderr().size();
    let or = |size: u16, default| if size == 0 { default } else { usize::from(size) };
    Size { columns: or(columns, 80), rows: or(rows, 24) }
}

/// Writes lines to stderr, above the area where there is one; there they may wait for the next drawing. A closed stderr is
/// no reason to fail.
pub(crate) fn print(lines: &str) {
    let mut screen = screen();
    if screen.lines.is_none() {
        let _ = io::stderr().lock().write_all(lines.as_bytes());
    } else {
        screen.pending.push_str(lines);
        screen.draw_if_due();
    }
}

/// Removes the area, for a panic hook or before an exit that runs no destructors. It gives up where the terminal does not
/// take it in a fifth of a second; every line of the area is a whole one.
pub fn restore() {
    // A thread of its own: this one may hold the lock, or be stopped by a terminal that takes nothing.
    let restoring = thread::spawn(|| {
        for _ in 0..20 {
            match SCREEN.try_lock() {
                Ok(mut screen) => return screen.close(),
                Err(TryLockError::Poisoned(screen)) => return screen.into_inner().close(),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            }
        }
    });
    for _ in 0..40 {
        if restoring.is_finished() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

impl Screen {
    fn draw_if_due(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= SPACING) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let Some(lines) = &self.lines else { return };
        let size = size();
        let mut lines = lines(size);
        lines.truncate(size.rows.saturating_sub(1));
        for line in &mut lines {
            if measure_text_width(line) > size.columns {
                *line = truncate_str(line, size.columns, "…").into_owned();
            }
        }
        if self.pending.is_empty() && lines == self.drawn && size.columns == self.columns {
            return;
        }
        self.replace(lines, size);
    }

    /// Puts the pending lines, and others below them, in the place of what is drawn.
    fn replace(&mut self, lines: Vec<String>, size: Size) {
        let term = Term::buffered_stderr();
        let columns = if breaks_lines() { size.columns } else { usize::MAX };
        let rows: usize = self.drawn.iter().map(|line| measure_text_width(line).max(1).div_ceil(columns)).sum();
        let mut text = std::mem::take(&mut self.pending);
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        let _ = term
            .move_cursor_up(rows.min(size.rows.saturating_sub(1)))
            .and_then(|()| if rows > 0 { term.clear_to_end_of_screen() } else { Ok(()) })
            .and_then(|()| term.write_str(&text))
            .and_then(|()| term.flush());
        (self.drawn, self.columns, self.last) = (lines, size.columns, Some(Instant::now()));
    }

    fn close(&mut self) {
        if self.lines.take().is_some() {
            self.replace(Vec::new(), size());
        }
    }
}

/// Whether a terminal that is made narrower breaks the lines that are on it. Most do; xterm and screen cut them off.
fn breaks_lines() -> bool {
    let is_set = |name| std::env::var_os(name).is_some();
    is_set("TMUX") || !(is_set("XTERM_VERSION") || is_set("STY"))
}

/// The area, for as long as this is alive.
#[derive(Debug)]
pub(crate) struct Area {
    ended: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

impl Area {
    /// Shows lines at the end of the terminal. `None` where there is an area already.
    pub(crate) fn show(lines: impl Fn(Size) -> Vec<String> + Send + 'static) -> Option<Self> {
        let mut screen = screen();
        if screen.lines.is_some() {
            return None;
        }
        screen.lines = Some(Box::new(lines));
        drop(screen);
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = Arc::clone(&ended);
        let tick = move || {
            while !is_ended.load(Ordering::Relaxed) {
                self::screen().draw_if_due();
                thread::park_timeout(TICK);
            }
        };
        // Without a thread, the area is drawn with what is written above it.
        let ticker = thread::Builder::new().name("console".into()).spawn(tick).ok();
        Some(Self { ended, ticker })
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            // It panics only where the lines do.
            let _ = ticker.join();
        }
        screen().close();
    }
}
