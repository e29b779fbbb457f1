//! What a terminal shows of a training: one transient area, a table of steps, sample completions.
//!
//! [`Voice`] says what happens, on stderr, in the form that was asked for. [`Monitor`] follows a training: it is shown
//! what the trainer is doing ([`Monitor::observer`]) and its steps. [`Meter`] follows anything else that takes long.
//!
//! Where stderr is a terminal, its last lines are an area. A thread draws it at most ten times a second, and it is gone
//! when the monitor or meter is dropped. All that is written meanwhile has to go through this crate.
//! Every line of the area ends with a line feed and the cursor is never hidden, so nothing is left to restore when the
//! process is killed; [`restore`] removes the area in a panic hook, and before an exit that runs no destructors.
//!
//! Text of models, data and files is shown with visible escapes ([`visible`]): it cannot control the terminal.
//!
//! When not to use it: where stderr belongs to another progress display.

// Modules use those above them in this list, and never in a circle.
mod eta;
mod numbers;
mod spark;
mod visible;
mod wrap;

mod screen;

mod event;
mod style;
mod voice;

mod meter;
mod samples;
mod state;
mod status;
mod table;

mod monitor;

pub use anstream::ColorChoice;
pub use eta::{Estimator, Left};
pub use meter::Meter;
pub use monitor::{Monitor, Shape};
pub use numbers::duration;
pub use screen::restore;
pub use visible::visible;
pub use voice::{Level, LogFormat, Voice};
